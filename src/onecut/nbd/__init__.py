"""An NBD client: blocking, without copies, and safe against a server that misbehaves."""
