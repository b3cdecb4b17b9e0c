"""What may be done with points that the engine has, or has no more."""

from collections.abc import Iterable

from onecut.db.snapshots import Snapshot
from onecut.errors import BadRequest


def refuse_departed(chosen: Iterable[Snapshot]) -> None:
    """Raise `BadRequest` when a snapshot's data has left the engine."""
    for snapshot in chosen:
        if snapshot.status == "available" and snapshot.point != "held":
            raise BadRequest(
                f"snapshot {snapshot.id} is in the repository only; `onecut repository export` gives it back"
            )
