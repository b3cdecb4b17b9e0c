"""What is noted of the images that are served; see `images`."""

from collections.abc import Collection, Sequence
from uuid import uuid4

from sqlalchemy import exists, or_, select
from sqlalchemy.orm import Session

from onecut.db.images import ServedImage
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume
from onecut.units import GiB


def doom(session: Session, snapshot_id: str) -> bool:
    """Let a snapshot's data go when its image is not needed any more; False when it is not served."""
    row = session.get(ServedImage, snapshot_id, with_for_update=True)
    if row is not None:
        row.doomed = True
    return row is not None


def rows(session: Session) -> Sequence[ServedImage]:
    """Return what is noted of all images."""
    return session.scalars(select(ServedImage).order_by(ServedImage.snapshot_id)).all()


def held(session: Session, snapshot_ids: Collection[str]) -> frozenset[str]:
    """Return those of the snapshots whose points the engine has."""
    query = select(Snapshot.id).where(Snapshot.id.in_(snapshot_ids), Snapshot.point == "held")
    return frozenset(session.scalars(query))


def begin(session: Session, snapshot_id: str) -> ServedImage:
    """Return the row of an image that is going to be served."""
    row = session.get(ServedImage, snapshot_id)
    if row is not None:
        return row
    snapshot = session.get_one(Snapshot, snapshot_id)
    archive = snapshot.archive
    assert archive is not None  # noqa: S101 - a snapshot whose point is gone was archived
    row = ServedImage(
        snapshot_id=snapshot_id,
        project_id=snapshot.project_id,
        volume_id=snapshot.volume_id,
        chain_id=archive.chain_id,
        run_id=archive.run_id,
        size_bytes=snapshot.size_gib * GiB,
        lease_id=uuid4().hex,
        leased=False,
        doomed=False,
    )
    session.add(row)
    return row


def leased(session: Session, snapshot_id: str, size_bytes: int) -> None:
    """Note that the lease is there, and what it has shown of the image."""
    row = session.get_one(ServedImage, snapshot_id)
    row.leased, row.size_bytes = True, size_bytes


def unleased(session: Session, snapshot_id: str) -> None:
    """Note that the lease is about to go."""
    session.get_one(ServedImage, snapshot_id).leased = False


def wanted(session: Session, snapshot_id: str) -> bool:
    """Whether a job is about to use the image."""
    creating = exists().where(Volume.snapshot_id == snapshot_id, Volume.status == "creating")
    rollbacking = exists().where(Snapshot.id == snapshot_id, Snapshot.status == "rollbacking")
    return bool(session.scalar(select(or_(creating, rollbacking))))


def forget(session: Session, snapshot_id: str, *, erased: bool = False) -> bool:
    """Remove the row; False when there are data to be erased before."""
    row = session.get(ServedImage, snapshot_id, with_for_update=True)
    if row is not None and row.doomed and not erased:
        return False
    if row is not None:
        session.delete(row)
    return True
