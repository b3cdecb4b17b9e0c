"""
What may be done with snapshot policies. What they do by themselves is in `scheduler`.

A volume may have several policies, and a policy volumes of any servers. Whatever changes a policy, or does what it
says, holds its row until the transaction ends: one after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, TypeAlias, get_args
from uuid import uuid4

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.orm import Session, aliased, selectinload

from onecut.db.deleted_rows import remember
from onecut.db.policies import PolicyRun, PolicyShare, PolicyVolume, SnapshotPolicy
from onecut.db.tags import Tag
from onecut.db.volumes import Volume
from onecut.errors import BadRequest, NotFound
from onecut.service import listing, tags, volumes
from onecut.service.listing import Page
from onecut.service.snapshots import ALL_ENTERPRISE_PROJECTS
from onecut.service.timetable import timetable

FOR_EVER: Final = -1
"""As `retention_days`: the snapshots stay (EVS API reference)."""

ShareStatus: TypeAlias = Literal["ordered", "waiting", "skipped"]

SORT_COLUMNS: Final = {
    "id": SnapshotPolicy.id,
    "name": SnapshotPolicy.name,
    "created_at": SnapshotPolicy.created_at,
    "updated_at": SnapshotPolicy.updated_at,
}


@dataclass(frozen=True)
class NewPolicy:
    """A policy that is asked for."""

    name: str
    hours: Sequence[int]
    """In UTC+8."""
    retention_days: int
    weekdays: Sequence[int] | None = None
    interval_days: int | None = None
    enterprise_project_id: str = "0"
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyChange:
    """What of a policy changes; None leaves a field as it is."""

    name: str | None = None
    hours: Sequence[int] | None = None
    retention_days: int | None = None
    weekdays: Sequence[int] | None = None
    interval_days: int | None = None


@dataclass(frozen=True)
class PolicyFilter:
    """Which policies a list holds; None lets every policy pass."""

    id: str | None = None
    name: str | None = None
    enterprise_project_id: str | None = None
    tag_key: str | None = None
    tags: Mapping[str, str] | None = None


def create(session: Session, project_id: str, wanted: NewPolicy, now: datetime) -> SnapshotPolicy:
    """
    Make a policy, as yet without volumes. Its first time point is the next one.

    Raises:
        BadRequest: Neither days of the week nor an interval is given, or both; too many tags (EVS.1061).
    """
    _refuse_both(wanted.weekdays, wanted.interval_days)
    if wanted.weekdays is None and wanted.interval_days is None:
        raise BadRequest("snapshot_policy: one of repeat_weekdays and repeat_interval_days must be given")
    policy = SnapshotPolicy(
        id=str(uuid4()),
        project_id=project_id,
        name=wanted.name,
        retention_days=wanted.retention_days,
        enterprise_project_id=wanted.enterprise_project_id,
        created_at=now,
        updated_at=now,
    )
    _schedule(policy, wanted.hours, wanted.weekdays, wanted.interval_days, now)
    session.add(policy)
    session.flush()
    tags.put(session, project_id, "snapshot_policy", policy.id, wanted.tags)
    return policy


def _refuse_both(weekdays: Sequence[int] | None, interval_days: int | None) -> None:
    if weekdays is not None and interval_days is not None:
        raise BadRequest("snapshot_policy: only one of repeat_weekdays and repeat_interval_days may be given")


def _schedule(
    policy: SnapshotPolicy,
    hours: Sequence[int],
    weekdays: Sequence[int] | None,
    interval_days: int | None,
    now: datetime,
) -> None:
    """Let a policy be due at these hours, counted from now on: what is past is not made up for."""
    policy.hours = list(hours)
    policy.weekdays = None if weekdays is None else list(weekdays)
    policy.interval_days = interval_days
    policy.counted_from = now
    policy.next_at = timetable(policy).after(now)


def find(session: Session, project_id: str, policy_id: str, *, lock: bool = False) -> SnapshotPolicy:
    """
    Return a policy of the project; with *lock* nobody else changes it before the transaction ends.

    Raises:
        NotFound: There is none of that id in this project.
    """
    query = select(SnapshotPolicy).where(SnapshotPolicy.id == policy_id, SnapshotPolicy.project_id == project_id)
    policy = session.scalar(query.with_for_update() if lock else query)
    if policy is None:
        raise NotFound("snapshot policy", policy_id)
    return policy


TAGGED: Final = tags.Tagged("snapshot_policy", find)


def list_page(session: Session, project_id: str, wanted: PolicyFilter, page: Page) -> Sequence[SnapshotPolicy]:
    """Return one page of the project's policies that pass a filter."""
    query = select(SnapshotPolicy).where(SnapshotPolicy.project_id == project_id, *_conditions(wanted))
    return listing.rows(
        session, query, page, project_id=project_id, row_id=SnapshotPolicy.id, sort_columns=SORT_COLUMNS
    )


def count(session: Session, project_id: str, wanted: PolicyFilter) -> int:
    """Return how many of the project's policies pass a filter."""
    query = select(func.count()).select_from(SnapshotPolicy)
    return session.scalar(query.where(SnapshotPolicy.project_id == project_id, *_conditions(wanted))) or 0


def _conditions(wanted: PolicyFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        column == value
        for column, value in ((SnapshotPolicy.id, wanted.id), (SnapshotPolicy.name, wanted.name))
        if value is not None
    ]
    if wanted.enterprise_project_id not in {None, ALL_ENTERPRISE_PROJECTS}:
        conditions.append(SnapshotPolicy.enterprise_project_id == wanted.enterprise_project_id)
    return conditions + tags.having(SnapshotPolicy.id, tag_key=wanted.tag_key, tags=wanted.tags)


def volume_ids(session: Session, policy_id: str) -> Sequence[str]:
    """Return the volumes of a policy."""
    query = select(PolicyVolume.volume_id).where(PolicyVolume.policy_id == policy_id)
    return session.scalars(query.order_by(PolicyVolume.volume_id)).all()


def runs(session: Session, policy_id: str) -> Sequence[PolicyRun]:
    """Return what a policy did lately, with each volume's share, the newest first."""
    query = select(PolicyRun).where(PolicyRun.policy_id == policy_id).options(selectinload(PolicyRun.shares))
    return session.scalars(query.order_by(PolicyRun.due_at.desc())).all()


def share_status(share: PolicyShare, run: PolicyRun) -> ShareStatus:
    """Say what became of a volume in a run; what is ``waiting`` is tried again."""
    return _share_status(ordered=share.snapshot_id is not None, going=run.look_at is not None)


def latest_shares(session: Session) -> Mapping[ShareStatus, int]:
    """Count the volumes of all projects by what became of them in the latest run of each policy."""
    newer = aliased(PolicyRun)
    is_latest = ~exists().where(newer.policy_id == PolicyRun.policy_id, newer.due_at > PolicyRun.due_at)
    of_run = (PolicyShare.policy_id == PolicyRun.policy_id) & (PolicyShare.due_at == PolicyRun.due_at)
    ordered, going = PolicyShare.snapshot_id.is_not(None), PolicyRun.look_at.is_not(None)
    query = select(ordered, going, func.count()).join(PolicyRun, of_run).where(is_latest).group_by(ordered, going)
    found: dict[ShareStatus, int] = dict.fromkeys(get_args(ShareStatus), 0)
    for was_ordered, goes_on, number in session.execute(query):
        found[_share_status(ordered=was_ordered, going=goes_on)] += number
    return found


def _share_status(*, ordered: bool, going: bool) -> ShareStatus:
    return "ordered" if ordered else "waiting" if going else "skipped"


def update(session: Session, project_id: str, policy_id: str, change: PolicyChange, now: datetime) -> SnapshotPolicy:
    """
    Change a policy. Other days or hours count from now on; snapshots that were taken keep their retention.

    Raises:
        NotFound: There is no such policy.
        BadRequest: Both days of the week and an interval are given.
    """
    policy = find(session, project_id, policy_id, lock=True)
    _refuse_both(change.weekdays, change.interval_days)
    policy.name = policy.name if change.name is None else change.name
    policy.retention_days = policy.retention_days if change.retention_days is None else change.retention_days
    weekdays, interval_days = change.weekdays, change.interval_days
    if weekdays is None and interval_days is None:
        weekdays, interval_days = policy.weekdays, policy.interval_days
    hours = policy.hours if change.hours is None else change.hours
    if (hours, weekdays, interval_days) != (policy.hours, policy.weekdays, policy.interval_days):
        _schedule(policy, hours, weekdays, interval_days, now)
    policy.updated_at = now
    return policy


def delete_policy(session: Session, project_id: str, policy_id: str, now: datetime) -> None:
    """
    Delete a policy. Its volumes have it no more; the snapshots it took stay, with their retention.

    Raises:
        NotFound: There is no such policy.
    """
    policy = find(session, project_id, policy_id, lock=True)
    session.execute(delete(Tag).where(Tag.resource_id == policy.id))
    for model in (PolicyShare, PolicyRun, PolicyVolume):
        session.execute(delete(model).where(model.policy_id == policy.id))
    remember(session, SnapshotPolicy, [policy.id], now)
    session.execute(delete(SnapshotPolicy).where(SnapshotPolicy.id == policy.id))


def associate(session: Session, project_id: str, policy_id: str, wanted: Sequence[str]) -> None:
    """
    Let a policy take snapshots of volumes too, from its next time point on. One that it has already stays.

    Raises:
        NotFound: There is no such policy, or no such volume.
        BadRequest: A volume is being deleted.
    """
    policy = find(session, project_id, policy_id, lock=True)
    chosen = volumes.lock_all(session, project_id, wanted)
    for volume in chosen:
        if volume.status == "deleting":
            raise BadRequest(f"volume {volume.id} is being deleted")
    known = set(volume_ids(session, policy.id))
    new = {volume.id for volume in chosen} - known
    session.add_all(PolicyVolume(policy_id=policy.id, volume_id=volume_id) for volume_id in sorted(new))


def disassociate(session: Session, project_id: str, policy_id: str, wanted: Sequence[str]) -> None:
    """
    Let a policy take no more snapshots of volumes; those it took stay. One that it does not have is no error.

    A volume may be in the recycle bin: it has its policies there too, for when it comes back.

    Raises:
        NotFound: There is no such policy, or no such volume.
    """
    policy = find(session, project_id, policy_id, lock=True)
    there = select(Volume.id).where(Volume.project_id == project_id, Volume.id.in_(wanted))
    known = set(session.scalars(there))
    for volume_id in wanted:
        if volume_id not in known:
            raise NotFound("volume", volume_id)
    session.execute(
        delete(PolicyVolume).where(PolicyVolume.policy_id == policy.id, PolicyVolume.volume_id.in_(known))
    )
