"""Tables and sessions: constraints, no behaviour. One file per subject."""
