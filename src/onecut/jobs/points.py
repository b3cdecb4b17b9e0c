"""
Giving up points that nobody needs any more.

A point is needed while its data is not in the repository, while Instant Snapshot Restore is on, while something is
being made from it, and, for the newest archived snapshot of a volume, because the next one is compared with it.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Select, exists, or_, select, update
from sqlalchemy.orm import Session, aliased

from onecut.db.archives import Archive
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume
from onecut.engine.port import Engine
from onecut.jobs import queue
from onecut.jobs.patience import ENGINE_PAUSES_S, persist
from onecut.jobs.queue import JobOrder
from onecut.jobs.transaction import transact
from onecut.jobs.worker import JobType, Order

SOUND: Final = frozenset({"creating", "available", "rollbacking"})
"""States of a snapshot that the next one of its volume may build upon."""


class Points:
    """Gives needless points up, each of them once."""

    def __init__(self, engine: Engine, database: Database, *, pauses_s: Sequence[float] = ENGINE_PAUSES_S) -> None:
        self._engine, self._database, self._pauses_s = engine, database, pauses_s

    async def release_needless(self, volume_ids: Collection[str]) -> None:
        """Give up those of the volumes' points that nobody needs, and those whose giving up was interrupted."""
        leaving = await transact(self._database, lambda session: _begin(session, volume_ids))
        if leaving:
            await persist(lambda: self._engine.release(leaving), self._pauses_s)
            await transact(self._database, lambda session: _gone(session, leaving))


def _begin(session: Session, volume_ids: Collection[str]) -> Sequence[str]:
    """Mark needless points, so that nobody begins to use one, and return them with those marked before."""
    marked = needless().where(Snapshot.volume_id.in_(volume_ids)).with_for_update(of=Snapshot)
    for snapshot in session.scalars(marked):
        snapshot.point = "leaving"
    session.flush()
    leaving = select(Snapshot.id).where(Snapshot.point == "leaving", Snapshot.volume_id.in_(volume_ids))
    return session.scalars(leaving.order_by(Snapshot.id)).all()


def _gone(session: Session, snapshot_ids: Collection[str]) -> None:
    leaving = update(Snapshot).where(Snapshot.id.in_(snapshot_ids), Snapshot.point == "leaving")
    session.execute(leaving.values(point="gone"))


def needless() -> Select[Snapshot]:
    """Select the snapshots whose points nobody needs."""
    newer, newer_archive = aliased(Snapshot), aliased(Archive)
    has_newer = exists().where(
        newer.volume_id == Snapshot.volume_id,
        newer.status.in_(SOUND),
        newer_archive.snapshot_id == newer.id,
        newer_archive.archived_at.is_not(None),
        newer_archive.id > Archive.id,
    )
    has_volume = exists().where(Volume.id == Snapshot.volume_id, Volume.status != "deleting")
    is_source = exists().where(Volume.snapshot_id == Snapshot.id, Volume.status == "creating")
    return (
        select(Snapshot)
        .join(Archive, Archive.snapshot_id == Snapshot.id)
        .where(
            Snapshot.point == "held",
            Snapshot.status == "available",
            Snapshot.instant_access.is_(False),
            Archive.archived_at.is_not(None),
            or_(has_newer, ~has_volume),
            ~is_source,
        )
        .order_by(Snapshot.id)
    )


def volumes_with_needless(session: Session) -> Sequence[str]:
    """Return the volumes that have a point which nobody needs, or whose giving up was interrupted."""
    found = needless().with_only_columns(Snapshot.volume_id).order_by(None).distinct()
    leaving = select(Snapshot.volume_id).where(Snapshot.point == "leaving").distinct()
    return sorted({*session.scalars(found), *session.scalars(leaving)})


def release_order(project_id: str, volume_id: str) -> JobOrder:
    """Order that a volume's needless points are given up; a job of our own, which no client asks for."""
    return JobOrder(project_id, "releasePoints", {"volume_id": volume_id}, entities={"volume_id": volume_id})


def switch_off(session: Session, snapshot: Snapshot, now: datetime) -> None:
    """Switch Instant Snapshot Restore off, and let the engine give the point up unless it is needed."""
    snapshot.instant_access = False
    snapshot.updated_at = now
    queue.add(session, release_order(snapshot.project_id, snapshot.volume_id), now)


class ReleasePoints:
    """One step: the engine gives the points up."""

    def __init__(self, points: Points) -> None:
        self.steps = {"release": self._release}
        self._points = points

    async def _release(self, order: Order) -> None:
        await self._points.release_needless([order.request["volume_id"]])

    def finish(self, session: Session, order: Order) -> None:
        """Nothing is left to do."""

    def fail(self, session: Session, order: Order, reason: str) -> None:
        """Leave the points marked: whoever releases next takes them too."""


def job_types(points: Points) -> dict[str, JobType]:
    """Return the job types of points."""
    return {"releasePoints": ReleasePoints(points)}
