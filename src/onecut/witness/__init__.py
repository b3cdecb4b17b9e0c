"""
The write-order witness: proof that a cut over several disks is one instant.

`run` writes numbered stamps to the disks in turn, each only after the one before it was acknowledged. `verify` looks
at images of those disks: if any of them holds a stamp, every earlier stamp must be on the others.
"""
