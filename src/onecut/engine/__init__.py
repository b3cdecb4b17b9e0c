"""What keeps volumes and makes cuts. `port` is the contract; `qemu` and `memory` fulfil it."""
