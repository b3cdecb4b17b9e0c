"""What ends by itself: snapshots whose retention has passed, and Instant Snapshot Restore."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from onecut.db.session import Database
from onecut.db.snapshots import Snapshot
from onecut.errors import Refused
from onecut.jobs import points, queue
from onecut.service import snapshots

log = structlog.get_logger()

RETRY_AFTER: Final = timedelta(hours=1)
"""How long after a deletion that failed it is tried again."""


def enforce(database: Database, now: datetime) -> int:
    """
    Order everything that is due, and return how much that was.

    A snapshot is ordered to be deleted once: from then on it is `deleting`. What can't be done now, because a volume
    is being made from it, say, is looked at again the next time.
    """
    with database.reading() as session:
        due, switched = _due(session, now), _instant_due(session, now)
        stranded = points.volumes_with_needless(session)
    ordered = sum([_delete(database, *snapshot, now) for snapshot in due])
    ordered += sum([_switch_off(database, snapshot_id, now) for snapshot_id in switched])
    return ordered + sum([_release(database, volume_id, now) for volume_id in stranded])


def _due(session: Session, now: datetime) -> Sequence[tuple[str, str]]:
    query = (
        select(Snapshot.project_id, Snapshot.id)
        .where(
            Snapshot.retention_at <= now,
            or_(
                Snapshot.status.in_(("available", "error")),
                (Snapshot.status == "error_deleting") & (Snapshot.updated_at <= now - RETRY_AFTER),
            ),
        )
        .order_by(Snapshot.retention_at, Snapshot.id)
    )
    return [(project_id, snapshot_id) for project_id, snapshot_id in session.execute(query)]


def _delete(database: Database, project_id: str, snapshot_id: str, now: datetime) -> bool:
    try:
        with database.writing() as session:
            snapshots.order_deletion(session, project_id, snapshot_id, now)
    except Refused as refused:
        log.info("retention_waits", snapshot_id=snapshot_id, reason=refused.message)
        return False
    log.info("retention_passed", snapshot_id=snapshot_id)
    return True


def _instant_due(session: Session, now: datetime) -> Sequence[str]:
    query = select(Snapshot.id).where(
        Snapshot.instant_access_retention_at <= now, Snapshot.instant_access, Snapshot.status == "available"
    )
    return session.scalars(query.order_by(Snapshot.id)).all()


def _switch_off(database: Database, snapshot_id: str, now: datetime) -> bool:
    with database.writing() as session:
        snapshot = session.scalar(
            select(Snapshot)
            .where(Snapshot.id == snapshot_id, Snapshot.instant_access, Snapshot.status == "available")
            .with_for_update(of=Snapshot)
        )
        if snapshot is None:
            return False
        points.switch_off(session, snapshot, now)
        return True


def _release(database: Database, volume_id: str, now: datetime) -> bool:
    """Order that needless points go: those that somebody had still used when they became needless."""
    with database.writing() as session:
        if queue.is_open(session, "releasePoints", {"volume_id": volume_id}):
            return False
        project_id = session.scalar(select(Snapshot.project_id).where(Snapshot.volume_id == volume_id).limit(1))
        if project_id is None:
            return False
        queue.add(session, points.release_order(project_id, volume_id), now)
        return True
