"""
Life cycles of the EVS resources, as tables. A move is a compare-and-swap on the state before it.

Sources: EVS API reference, disk status, snapshot status and snapshot group status pages.
"""

from collections.abc import Mapping
from typing import Final

VOLUME_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "creating": frozenset({"available", "in-use", "error"}),  # in use at once when made for a server
    "available": frozenset(
        {
            "attaching",
            "extending",
            "rollbacking",
            "retyping",
            "deleting",
            "error",
            "awaiting-transfer",
            "pending-destroy",
        }
    ),
    "attaching": frozenset({"in-use", "available"}),  # back when the export could not be made
    "in-use": frozenset({"detaching", "attaching", "extending", "retyping", "error"}),  # a shared disk attaches again
    # Still in use by a shared disk's other servers; an error when the disk could not catch up with its size.
    "detaching": frozenset({"available", "in-use", "error_extending"}),
    "extending": frozenset({"available", "in-use", "error_extending"}),
    "error_extending": frozenset({"extending", "deleting"}),  # the caller asks again
    "retyping": frozenset({"available", "in-use"}),  # to where it came from, with the new type or the old
    "rollbacking": frozenset({"available", "error_rollbacking"}),
    "error_rollbacking": frozenset({"rollbacking", "deleting"}),
    "error": frozenset({"available", "in-use", "deleting"}),  # back when data that was away can be opened again
    "awaiting-transfer": frozenset({"available", "error"}),  # accepted, or taken back; error as its data is away
    "pending-destroy": frozenset({"available", "error", "deleting"}),  # in the recycle bin; error as above
    "deleting": frozenset({"deleted", "error_deleting"}),
    "error_deleting": frozenset({"deleting"}),  # the caller asks again
    "deleted": frozenset(),
}

SNAPSHOT_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "creating": frozenset({"available", "error"}),
    "available": frozenset({"rollbacking", "deleting"}),
    "rollbacking": frozenset({"available"}),  # whatever became of the volume, the snapshot is as it was
    "error": frozenset({"deleting"}),
    "deleting": frozenset({"deleted", "error_deleting"}),
    "error_deleting": frozenset({"deleting"}),  # the caller asks again
    "deleted": frozenset(),
}

GROUP_MOVES: Final[Mapping[str, frozenset[str]]] = {
    "creating": frozenset({"available", "error"}),  # the job ended; all members, or none
    "available": frozenset({"deleting"}),
    "error": frozenset({"deleting"}),
    "deleting": frozenset({"deleted", "error_deleting"}),
    "error_deleting": frozenset({"deleting"}),  # the caller asks again
    "deleted": frozenset(),
}

VOLUME_DELETABLE: Final = frozenset({"available", "error", "error_extending", "error_rollbacking", "error_deleting"})
"""EVS.1046, and a retry after a failed deletion."""

VOLUME_ASIDE: Final = frozenset({"awaiting-transfer", "pending-destroy"})
"""Nothing is done with such a volume, and whether its data can be opened shows when it comes back."""

VOLUME_CUTTABLE: Final = frozenset({"available", "in-use"})
"""EVS user guide: only disks in these states can have a snapshot taken."""
