"""What ends by itself: snapshots whose retention has passed, and Instant Snapshot Restore."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session, aliased

from onecut.db.session import Database
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.errors import Refused
from onecut.jobs import points, queue
from onecut.service import groups, snapshots

log = structlog.get_logger()

RETRY_AFTER: Final = timedelta(hours=1)
"""How long after a deletion that failed it is tried again."""


def enforce(database: Database, now: datetime) -> int:
    """
    Order everything that is due, and return how much that was.

    A snapshot is ordered to be deleted once: from then on it is `deleting`. What can't be done now, because a volume
    is being made from it, say, is looked at again the next time. A group whose members are all due goes as a whole.
    """
    with database.reading() as session:
        due, switched = _due(session, now), _instant_due(session, now)
        groups_due = _groups_due(session, now)
        stranded = points.volumes_with_needless(session)
    ordered = sum([_delete_group(database, *group, now) for group in groups_due])
    ordered += sum([_delete(database, *snapshot, now) for snapshot in due])
    ordered += sum([_switch_off(database, snapshot_id, now) for snapshot_id in switched])
    return ordered + sum([_release(database, volume_id, now) for volume_id in stranded])


def _due(session: Session, now: datetime) -> Sequence[tuple[str, str]]:
    """Return the snapshots that go alone: those in no group, and members of one that others stay in."""
    query = (
        select(Snapshot.project_id, Snapshot.id)
        .where(
            Snapshot.retention_at <= now,
            _may_go(Snapshot, now),
            or_(Snapshot.snapshot_group_id.is_(None), _has_member_that_stays(now)),
        )
        .order_by(Snapshot.retention_at, Snapshot.id)
    )
    return [(project_id, snapshot_id) for project_id, snapshot_id in session.execute(query)]


def _groups_due(session: Session, now: datetime) -> Sequence[tuple[str, str]]:
    """Return the groups none of whose members stays."""
    query = (
        select(SnapshotGroup.project_id, SnapshotGroup.id)
        .join(Snapshot, Snapshot.snapshot_group_id == SnapshotGroup.id)
        .where(Snapshot.retention_at <= now, _may_go(SnapshotGroup, now), ~_has_member_that_stays(now))
        .distinct()
        .order_by(SnapshotGroup.id)
    )
    return [(project_id, group_id) for project_id, group_id in session.execute(query)]


def _may_go(model: type[Snapshot | SnapshotGroup], now: datetime) -> ColumnElement[bool]:
    return or_(
        model.status.in_(("available", "error")),
        (model.status == "error_deleting") & (model.updated_at <= now - RETRY_AFTER),
    )


def _has_member_that_stays(now: datetime) -> ColumnElement[bool]:
    """Say of a snapshot that another member of its group is not due yet, or never."""
    member = aliased(Snapshot)
    stays = or_(member.retention_at.is_(None), member.retention_at > now)
    return select(member.id).where(member.snapshot_group_id == Snapshot.snapshot_group_id, stays).exists()


def _delete_group(database: Database, project_id: str, group_id: str, now: datetime) -> bool:
    order = partial(groups.order_deletion, project_id=project_id, group_id=group_id, now=now)
    return _order(database, order, snapshot_group_id=group_id)


def _delete(database: Database, project_id: str, snapshot_id: str, now: datetime) -> bool:
    order = partial(snapshots.order_deletion, project_id=project_id, snapshot_id=snapshot_id, now=now)
    return _order(database, order, snapshot_id=snapshot_id)


def _order(database: Database, order: Callable[[Session], object], **what: str) -> bool:
    """Order a deletion, unless it is refused now; *what* it is of stands in the log."""
    try:
        with database.writing() as session:
            order(session)
    except Refused as refused:
        log.info("retention_waits", **what, reason=refused.message)
        return False
    log.info("retention_passed", **what)
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
