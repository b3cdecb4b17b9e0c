"""
What snapshot policies do by themselves: at each time point, one cut through the volumes of each server.

First the run is written down, with a share for each volume, and in the same transaction the policy's next time point:
whoever looks again finds nothing due. Then each server's volumes are ordered to be cut, in one transaction with the
note on their shares. A service that is killed anywhere goes on with the shares that have no snapshot yet, and never
orders one twice. Time points that passed while nobody looked are one: the latest of them.

A clock that is set back takes nothing again; policies wait until it has come to where they are.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Final, TypeAlias

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from onecut.db.policies import PolicyRun, PolicyShare, PolicyVolume, SnapshotPolicy
from onecut.db.session import Database
from onecut.db.volumes import Attachment, Volume
from onecut.errors import Refused
from onecut.service import groups, snapshots, volumes
from onecut.service.groups import MEMBERS_MAX, NewGroup
from onecut.service.policies import FOR_EVER
from onecut.service.snapshots import NewSnapshot
from onecut.service.timetable import ZONE, timetable

log = structlog.get_logger()

PATIENCE: Final = timedelta(hours=1)
"""How long a volume that can't be cut is tried again; the next time point may come then."""

PAUSE: Final = timedelta(minutes=1)
"""How long it is left alone in between."""

RUNS_KEPT: Final = 30
"""Runs of one policy that are kept to be shown."""

NAME_CHARS: Final = 45
"""What of a policy's name its snapshots have, so that time point and member's number still fit in 64 characters."""

RunKey: TypeAlias = tuple[str, datetime]
"""A policy's id and a time point."""


@dataclass(frozen=True)
class Together:
    """Volumes that are cut together: those of one server, and of servers that share one of them."""

    server_ids: frozenset[str]
    """Empty for a volume that is alone."""
    volume_ids: Sequence[str]


def look(database: Database, now: datetime) -> int:
    """Begin what is due, go on with what waits, and return how many snapshots were ordered."""
    with database.reading() as session:
        due = session.scalars(select(SnapshotPolicy.id).where(SnapshotPolicy.next_at <= now)).all()
    for policy_id in sorted(due):
        with database.writing() as session:
            _begin(session, policy_id, now)
    with database.reading() as session:
        going = select(PolicyRun.policy_id, PolicyRun.due_at).where(PolicyRun.look_at <= now)
        runs: list[RunKey] = [(policy_id, due_at) for policy_id, due_at in session.execute(going)]
    return sum([_go_on(database, run, now) for run in sorted(runs)])


def _begin(session: Session, policy_id: str, now: datetime) -> None:
    """Write down what is to be done at the latest time point, and end what waits since the one before."""
    policy = _held(session, policy_id)
    if policy is None or policy.next_at > now:
        return
    points = timetable(policy)
    due_at = points.latest(now) or policy.next_at
    policy.next_at = points.after(now)
    chosen = _volumes_of(session, policy.id)
    if not chosen or session.get(PolicyRun, (policy.id, due_at)) is not None:
        return
    waiting = select(PolicyRun).where(PolicyRun.policy_id == policy.id, PolicyRun.look_at.is_not(None))
    for earlier in session.scalars(waiting):
        _end(session, earlier)
    session.add(PolicyRun(policy_id=policy.id, due_at=due_at, begun_at=now, look_at=now))
    session.flush()
    session.add_all(PolicyShare(policy_id=policy.id, due_at=due_at, volume_id=volume_id) for volume_id in chosen)
    _forget_old_runs(session, policy.id)
    log.info("policy_run_begun", policy_id=policy.id, due_at=due_at.isoformat(), volumes=len(chosen))


def _volumes_of(session: Session, policy_id: str) -> Sequence[str]:
    """Return a policy's volumes without those in the recycle bin, which keep it for when they come back."""
    theirs = PolicyVolume.policy_id == policy_id, Volume.id == PolicyVolume.volume_id
    query = select(Volume.id).where(*theirs, Volume.pre_deleted_at.is_(None))
    return session.scalars(query.order_by(Volume.id)).all()


def _held(session: Session, policy_id: str) -> SnapshotPolicy | None:
    """Return a policy and hold it, and with it its runs, until the transaction ends; None when it was deleted."""
    return session.get(SnapshotPolicy, policy_id, with_for_update=True)


def _forget_old_runs(session: Session, policy_id: str) -> None:
    runs = select(PolicyRun.due_at).where(PolicyRun.policy_id == policy_id).order_by(PolicyRun.due_at.desc())
    old = session.scalars(runs.offset(RUNS_KEPT)).all()
    for model in (PolicyShare, PolicyRun):
        session.execute(delete(model).where(model.policy_id == policy_id, model.due_at.in_(old)))


def _go_on(database: Database, run: RunKey, now: datetime) -> int:
    """Order what can be ordered of a run, and say when it is looked at again; return the number of snapshots."""
    with database.reading() as session:
        parts = _divide(session, [share.volume_id for share in _waiting(session, run)])
    ordered = sum([_cut(database, run, part, now) for part in parts])
    with database.writing() as session:
        _settle(session, run, now)
    return ordered


def _waiting(session: Session, run: RunKey) -> Sequence[PolicyShare]:
    """Return the shares of a run that may still get a snapshot."""
    policy_id, due_at = run
    of_run = PolicyShare.policy_id == policy_id, PolicyShare.due_at == due_at, PolicyShare.snapshot_id.is_(None)
    going = select(PolicyRun).where(
        PolicyRun.policy_id == policy_id, PolicyRun.due_at == due_at, PolicyRun.look_at.is_not(None)
    )
    return session.scalars(select(PolicyShare).where(*of_run, going.exists()).order_by(PolicyShare.volume_id)).all()


def _divide(session: Session, volume_ids: Collection[str]) -> list[Together]:
    """Divide volumes into those that are cut together, the attached ones in the order of their places."""
    place = (Attachment.attached_at, func.length(Attachment.device), Attachment.device)
    attached = select(Attachment.volume_id, Attachment.server_id).where(Attachment.volume_id.in_(volume_ids))
    servers: dict[str, frozenset[str]] = {}
    for volume_id, server_id in session.execute(attached.order_by(*place)):
        servers[volume_id] = servers.get(volume_id, frozenset()) | {server_id}
    alone = [Together(frozenset(), [volume_id]) for volume_id in volume_ids if volume_id not in servers]
    return [few for part in _joined(servers) for few in _of_limited_size(part)] + alone


def _joined(servers: Mapping[str, frozenset[str]]) -> list[Together]:
    parts: list[Together] = []
    for volume_id, its_servers in servers.items():
        same = [part for part in parts if part.server_ids & its_servers]
        server_ids = its_servers.union(*(part.server_ids for part in same))
        others = chain.from_iterable(part.volume_ids for part in same)
        parts = [part for part in parts if part not in same] + [Together(server_ids, [*others, volume_id])]
    return parts


def _of_limited_size(part: Together) -> list[Together]:
    return [
        Together(part.server_ids, part.volume_ids[first : first + MEMBERS_MAX])
        for first in range(0, len(part.volume_ids), MEMBERS_MAX)
    ]


def _cut(database: Database, run: RunKey, part: Together, now: datetime) -> int:
    try:
        with database.writing() as session:
            return _order(session, run, part, now)
    except Refused as refused:
        # Something changed while it was looked at (a disk was detached, say), or it is about all of them together.
        with database.writing() as session:
            _held(session, run[0])
            for share in _waiting(session, run):
                if share.volume_id in part.volume_ids:
                    _note_obstacle(share, refused.message)
        return 0


def _order(session: Session, run: RunKey, part: Together, now: datetime) -> int:
    """Order snapshots of those volumes that can be cut now, and note on the others why they can't."""
    policy_id, due_at = run
    policy = _held(session, policy_id)
    if policy is None:
        return 0
    waiting = {share.volume_id: share for share in _waiting(session, run)}
    ready = []
    for volume_id in part.volume_ids:
        if volume_id not in waiting:
            continue
        obstacle = _obstacle(session, policy, volume_id)
        if obstacle is None:
            ready.append(volume_id)
        else:
            _note_obstacle(waiting[volume_id], obstacle)
    made = _take(session, policy, Together(part.server_ids, ready), due_at=due_at, now=now)
    for volume_id, snapshot_id in made.items():
        waiting[volume_id].snapshot_id, waiting[volume_id].obstacle = snapshot_id, None
    return len(made)


def _obstacle(session: Session, policy: SnapshotPolicy, volume_id: str) -> str | None:
    """Say why a volume can't be cut now; None when it can."""
    if session.get(PolicyVolume, (policy.id, volume_id)) is None:
        return f"volume {volume_id} was deleted or disassociated"
    if session.get_one(Volume, volume_id).pre_deleted_at is not None:
        return f"volume {volume_id} is in the recycle bin"
    try:
        volume = volumes.find(session, policy.project_id, volume_id)
        snapshots.check_volumes(session, [volume], instant_access=False)
    except Refused as refused:
        return refused.message
    return None


def _note_obstacle(share: PolicyShare, reason: str) -> None:
    if share.obstacle != reason:
        share.obstacle = reason
        log.info("policy_volume_waits", policy_id=share.policy_id, volume_id=share.volume_id, reason=reason)


def _take(
    session: Session, policy: SnapshotPolicy, ready: Together, *, due_at: datetime, now: datetime
) -> Mapping[str, str]:
    """Order a group of a server's volumes, or the snapshot of a volume alone; return each volume's snapshot."""
    if not ready.volume_ids:
        return {}
    name = f"{policy.name[:NAME_CHARS] or 'auto'}-{due_at.astimezone(ZONE):%Y%m%d-%H%M}"
    description = f"snapshot policy {policy.id}"
    retention_days = None if policy.retention_days == FOR_EVER else policy.retention_days
    if not ready.server_ids:
        (volume_id,) = ready.volume_ids
        single = NewSnapshot(
            volume_id,
            name,
            description,
            enterprise_project_id=policy.enterprise_project_id,
            retention_days=retention_days,
            snapshot_type="auto",
        )
        return {volume_id: snapshots.create(session, policy.project_id, single, now)[1]}
    group = NewGroup(
        server_id=min(ready.server_ids) if len(ready.server_ids) == 1 else None,
        volume_ids=ready.volume_ids,
        name=name,
        description=description,
        enterprise_project_id=policy.enterprise_project_id,
        retention_days=retention_days,
        snapshot_type="auto",
    )
    _, group_id = groups.create(session, policy.project_id, group, now)
    return {member.volume_id: member.id for member in groups.members(session, group_id)}


def _settle(session: Session, run_key: RunKey, now: datetime) -> None:
    """Let a run wait for the volumes that have no snapshot yet, or end."""
    _held(session, run_key[0])
    run = session.get(PolicyRun, run_key)
    if run is None or run.look_at is None:
        return
    if _waiting(session, run_key) and now < run.begun_at + PATIENCE:
        run.look_at = now + PAUSE
    else:
        _end(session, run)


def _end(session: Session, run: PolicyRun) -> None:
    for share in _waiting(session, (run.policy_id, run.due_at)):
        share.obstacle = share.obstacle or "the next time point came before it was looked at"
        log.warning(
            "policy_volume_skipped",
            policy_id=share.policy_id,
            volume_id=share.volume_id,
            due_at=share.due_at.isoformat(),
            reason=share.obstacle,
        )
    run.look_at = None
