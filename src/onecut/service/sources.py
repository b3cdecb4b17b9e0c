"""What a volume that is made from a snapshot has from it, and from the snapshot's own volume (EVS API reference)."""

from sqlalchemy.orm import Session

from onecut.db.snapshots import Snapshot
from onecut.db.volumes import PASSTHROUGH, Volume


def metadata(snapshot: Snapshot) -> dict[str, str]:
    """Return the metadata that says how servers see the volume: as the snapshot's own, which may be gone by now."""
    return {PASSTHROUGH: "true"} if snapshot.passthrough else {}


def performance(session: Session, snapshot: Snapshot) -> tuple[int | None, int | None]:
    """
    Return the IOPS and the throughput that were chosen for the snapshot's own volume, for calls that name none.

    Only that volume knows them: None when it is gone, or has another type by now.
    """
    source = session.get(Volume, snapshot.volume_id)
    if source is None or source.volume_type != snapshot.volume_type:
        return None, None
    return source.iops, source.throughput_mib
