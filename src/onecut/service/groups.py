"""
What may be done with snapshot groups, and when: above all, which volumes one cut goes through.

A group is all or nothing: its members are cut together, given back together, or in error together. Only deleting
may take a single member away; from then on the group can't be given back as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from onecut.db.moves import move
from onecut.db.rows import write_rows
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.volumes import Attachment
from onecut.errors import BadRequest, NotFound, WrongState
from onecut.jobs import groups as group_jobs
from onecut.jobs import queue
from onecut.service import attachments, catalog, deletions, listing, quotas, snapshots, sources, tags, volumes
from onecut.service.listing import Page
from onecut.service.snapshots import ALL_ENTERPRISE_PROJECTS, CHANGEABLE, NewSnapshot, Source
from onecut.service.volumes import VolumeOrder
from onecut.states import GROUP_MOVES

MEMBERS_MAX: Final = 64
"""Volumes of one group (EVS user guide)."""

NAME_BYTES: Final = 255
"""Longest name of a group, in bytes of UTF-8."""

MEMBER_NAME_CHARS: Final = 64
"""Longest name of a snapshot."""

SORT_COLUMNS: Final = {
    "id": SnapshotGroup.id,
    "status": SnapshotGroup.status,
    "created_at": SnapshotGroup.created_at,
}


@dataclass(frozen=True)
class NewGroup:
    """A group that is asked for."""

    server_id: str | None = None
    volume_ids: Sequence[str] = ()
    name: str = ""
    description: str = ""
    instant_access: bool = False
    incremental: bool = True
    enterprise_project_id: str = "0"
    tags: Mapping[str, str] = field(default_factory=dict)
    retention_days: int | None = None
    """Of the members: EVS has no retention for groups, so that only policies give one."""
    snapshot_type: str = "user"
    """Of the members."""


@dataclass(frozen=True)
class GroupFilter:
    """Which groups a list holds; None lets every group pass."""

    id: str | None = None
    name: str | None = None
    status: str | None = None
    server_id: str | None = None
    enterprise_project_id: str | None = None
    tag_key: str | None = None
    tags: Mapping[str, str] | None = None


def create(session: Session, project_id: str, wanted: NewGroup, now: datetime) -> tuple[str, str]:
    """
    Order one cut across volumes, and return the job's id and the group's.

    The volumes are those in `volume_ids`; without any, all that are attached to the server `server_id` now. With
    both, each volume must be attached to that server. Members are named after the group with ``-0001`` and so on
    behind it; they get its enterprise project and its flags, but neither its description nor its tags.

    Raises:
        BadRequest: No volumes are chosen, too many, one twice, of several availability zones, or one that is not
            attached to the server; there is no such server (EVS.2229); see also `snapshots.check_volumes`.
        NotFound: There is no such volume (404, as for any volume that a request names).
        WrongState, SnapshotInCreation: See `snapshots.check_volumes`.
        QuotaExceeded: The project would have too many snapshots.
    """
    chosen = _choose(session, project_id, wanted)
    snapshots.check_volumes(session, chosen, instant_access=wanted.instant_access)
    group_id, points = _write(session, project_id, wanted, chosen, now)
    tags.put(session, project_id, "snapshot_group", group_id, wanted.tags)
    order = group_jobs.create_order(project_id, group_id, points, instant_access=wanted.instant_access)
    return queue.add(session, order, now), group_id


def _choose(session: Session, project_id: str, wanted: NewGroup) -> list[Source]:
    """Return the volumes to be cut, locked, in the order in which they were named or attached."""
    if not wanted.volume_ids and wanted.server_id is None:
        raise BadRequest("snapshot_group: one of server_id and volume_ids must be given")
    _check_number(wanted.volume_ids)
    attached = None if wanted.server_id is None else _attached(session, project_id, wanted.server_id)
    volume_ids = wanted.volume_ids or attached or ()
    if not wanted.volume_ids:
        if not volume_ids:
            raise BadRequest(f"server_id: server {wanted.server_id} has no volume attached")
        _check_number(volume_ids)
    chosen = snapshots.lock_sources(session, project_id, volume_ids)
    for volume in chosen:
        if attached is not None and volume.id not in attached:
            raise BadRequest(f"volume_ids: volume {volume.id} is not attached to server {wanted.server_id}")
        if volume.availability_zone != (zone := chosen[0].availability_zone):
            raise BadRequest(
                f"volume_ids: must be of one availability zone; volume {chosen[0].id} is in {zone}, "
                f"volume {volume.id} in {volume.availability_zone}"
            )
    return chosen


def _check_number(volume_ids: Sequence[str]) -> None:
    if len(volume_ids) > MEMBERS_MAX:
        raise BadRequest(f"volume_ids: a group has at most {MEMBERS_MAX} volumes, not {len(volume_ids)}")
    volumes.refuse_twice("volume_ids", volume_ids)


def _attached(session: Session, project_id: str, server_id: str) -> Sequence[str]:
    if attachments.locked_server(session, project_id, server_id) is None:
        raise BadRequest(f"server_id: server {server_id} does not exist", code="EVS.2229")
    attached = select(Attachment.volume_id).where(Attachment.server_id == server_id)
    place = (Attachment.attached_at, func.length(Attachment.device), Attachment.device)
    return session.scalars(attached.order_by(*place)).all()


def _write(
    session: Session, project_id: str, wanted: NewGroup, chosen: Sequence[Source], now: datetime
) -> tuple[str, dict[str, str]]:
    """Write a group and its members as `creating`; return its id and, for each volume's id, its snapshot's."""
    group_id = str(uuid4())
    group = {
        "id": group_id,
        "project_id": project_id,
        "name": wanted.name,
        "description": wanted.description,
        "status": "creating",
        "server_id": wanted.server_id,
        "enterprise_project_id": wanted.enterprise_project_id,
        "member_count": len(chosen),
        "created_at": now,
        "updated_at": now,
    }
    write_rows(session, SnapshotGroup, [group])
    members = [
        snapshots.fields(
            volume,
            NewSnapshot(
                volume.id,
                _numbered(wanted.name, number),
                instant_access=wanted.instant_access,
                incremental=wanted.incremental,
                enterprise_project_id=wanted.enterprise_project_id,
                retention_days=wanted.retention_days,
                snapshot_type=wanted.snapshot_type,
            ),
            group_id,
            now,
        )
        for number, volume in enumerate(chosen, start=1)
    ]
    snapshots.add(session, members)
    quotas.check_snapshots(session, project_id, {volume.volume_type for volume in chosen})
    return group_id, {member["volume_id"]: member["id"] for member in members}


def _numbered(name: str, number: int) -> str:
    suffix = f"-{number:04}"
    return name[: MEMBER_NAME_CHARS - len(suffix)] + suffix


def find(session: Session, project_id: str, group_id: str, *, lock: bool = False) -> SnapshotGroup:
    """
    Return a group of the project; with *lock* nobody else changes it before the transaction ends.

    Raises:
        NotFound: There is none of that id in this project.
    """
    query = select(SnapshotGroup).where(SnapshotGroup.id == group_id, SnapshotGroup.project_id == project_id)
    group = session.scalar(query.with_for_update() if lock else query)
    if group is None:
        raise NotFound("snapshot group", group_id)
    return group


TAGGED: Final = tags.TaggedInStates("snapshot_group", find, CHANGEABLE)
"""How tags are put on groups."""


def members(session: Session, group_id: str, *, lock: bool = False) -> Sequence[Snapshot]:
    """Return the members a group has left, in the order of their names."""
    query = select(Snapshot).where(Snapshot.snapshot_group_id == group_id).order_by(Snapshot.name, Snapshot.id)
    return session.scalars(query.with_for_update() if lock else query).all()


def list_page(session: Session, project_id: str, wanted: GroupFilter, page: Page) -> Sequence[SnapshotGroup]:
    """Return one page of the project's groups that pass a filter, whose state must be one (EVS.1031)."""
    query = select(SnapshotGroup).where(SnapshotGroup.project_id == project_id, *_conditions(wanted))
    return listing.rows(
        session, query, page, project_id=project_id, row_id=SnapshotGroup.id, sort_columns=SORT_COLUMNS
    )


def count(session: Session, project_id: str, wanted: GroupFilter) -> int:
    """Return how many of the project's groups pass a filter; refuses as `list_page` does."""
    query = select(func.count()).select_from(SnapshotGroup)
    return session.scalar(query.where(SnapshotGroup.project_id == project_id, *_conditions(wanted))) or 0


def _conditions(wanted: GroupFilter) -> list[ColumnElement[bool]]:
    listing.check_state("snapshot group", wanted.status, GROUP_MOVES)
    conditions: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (SnapshotGroup.id, wanted.id),
            (SnapshotGroup.name, wanted.name),
            (SnapshotGroup.status, wanted.status),
            (SnapshotGroup.server_id, wanted.server_id),
        )
        if value is not None
    ]
    if wanted.enterprise_project_id not in {None, ALL_ENTERPRISE_PROJECTS}:
        conditions.append(SnapshotGroup.enterprise_project_id == wanted.enterprise_project_id)
    return conditions + tags.having(SnapshotGroup.id, tag_key=wanted.tag_key, tags=wanted.tags)


def update(
    session: Session, project_id: str, group_id: str, now: datetime, *, name: str | None, description: str | None
) -> SnapshotGroup:
    """
    Give a group another name or description; None leaves one as it is. Its members keep theirs.

    Raises:
        NotFound: There is no such group.
        WrongState: It is in none of the states in `snapshots.CHANGEABLE`.
    """
    group = TAGGED.changeable(session, project_id, group_id)
    group.name = group.name if name is None else name
    group.description = group.description if description is None else description
    group.updated_at = now
    return group


def order_deletion(session: Session, project_id: str, group_id: str, now: datetime) -> str:
    """
    Order the deletion of a group with its members, and return the job's id.

    Raises:
        NotFound: There is no such group.
        WrongState: Something is being done with it, or with a member (EVS.1047).
        BadRequest: A volume is being made from a member.
    """
    group = find(session, project_id, group_id, lock=True)
    points = {member.volume_id: member.id for member in members(session, group.id, lock=True)}
    move(session, SnapshotGroup, [group.id], to="deleting", now=now)
    move(session, Snapshot, points.values(), to="deleting", now=now, code="EVS.1047")
    deletions.refuse_while_volume_is_made(session, points.values())
    order = group_jobs.delete_order(project_id, group.id, points, unsettled=group.cut is None)
    return queue.add(session, order, now)


def order_rollback(
    session: Session, project_id: str, group_id: str, now: datetime, *, undo: bool
) -> tuple[str, str | None]:
    """
    Order that all volumes of a group get their content again, and return the job's id and the undo group's.

    With *undo* the volumes are cut once more before, into a group named ``undo of`` this one, so that the caller
    can go back; without, what they hold now is lost.

    Raises:
        NotFound: There is no such group.
        BadRequest: A member, or a member's source volume, was deleted; with *undo*, a volume has as many snapshots
            as it may.
        WrongState: The group or a member is not `available`, or a volume neither `available` nor
            `error_rollbacking`; an attached one is `in-use`.
        SnapshotInCreation: A snapshot of a volume is being created.
    """
    group = find(session, project_id, group_id, lock=True)
    whole = _all_members(session, group)
    points = {member.volume_id: member.id for member in whole}
    states_before = snapshots.begin_rollback(session, whole, now)
    if undo:
        snapshots.check_room(session, points, instant_access=False)
    else:
        snapshots.refuse_while_created(session, points)
    undo_order = _write_undo(session, group, list(points), now) if undo else None
    order = group_jobs.roll_back_order(project_id, group.id, points, states_before=states_before, undo=undo_order)
    return queue.add(session, order, now), undo_order[0] if undo_order else None


def _all_members(session: Session, group: SnapshotGroup) -> Sequence[Snapshot]:
    """Return the members of a group that is available and has lost none."""
    if group.status != "available":
        raise WrongState("snapshot group", group.id, group.status, {"available"})
    left = members(session, group.id, lock=True)
    if len(left) < group.member_count:
        raise BadRequest(
            f"snapshot group {group.id} has {len(left)} of its {group.member_count} members left, so it can't be "
            "given back as a whole; use the snapshots one by one"
        )
    return left


def _write_undo(
    session: Session, group: SnapshotGroup, volume_ids: Sequence[str], now: datetime
) -> tuple[str, dict[str, str]]:
    wanted = NewGroup(
        name=f"undo of {group.name or group.id}".encode()[:NAME_BYTES].decode(errors="ignore"),
        description=f"before the rollback to snapshot group {group.id}",
        enterprise_project_id=group.enterprise_project_id,
    )
    sources = snapshots.lock_sources(session, group.project_id, volume_ids)
    return _write(session, group.project_id, wanted, sources, now)


def order_volumes(
    session: Session,
    project_id: str,
    group_id: str,
    now: datetime,
    *,
    name: str | None = None,
    availability_zone: str | None = None,
    volume_type: str | None = None,
    server_id: str | None = None,
) -> tuple[str, dict[str, str]]:
    """
    Order a new volume from each member, and return the job's id and, for each snapshot's id, the volume's.

    A volume is as large as its snapshot. With *name* the volumes are named ``name-0001`` and so on, without like
    their snapshots. With *server_id* they are attached to that server.

    Raises:
        NotFound: There is no such group.
        BadRequest: A member was deleted; the zone or the type is not the snapshots' (EVS.2054, EVS.2096); the
            server is unknown or has no place (see `volumes.order_volumes`).
        WrongState: The group is not `available`, or a member is not (EVS.2043).
    """
    group = find(session, project_id, group_id, lock=True)
    whole = _all_members(session, group)
    for member in whole:
        if member.status != "available":
            raise WrongState("snapshot", member.id, member.status, {"available"}, code="EVS.2043")
        _check_same("availability_zone", member.id, member.availability_zone, availability_zone, code="EVS.2054")
        _check_same("volume_type", member.id, member.volume_type, volume_type, code="EVS.2096")
    orders = [
        _volume_order(session, member, _numbered(name, number) if name else member.name)
        for number, member in enumerate(whole, start=1)
    ]
    job_id, volume_ids = volumes.order_volumes(session, project_id, orders, now, server_id=server_id, together=True)
    return job_id, dict(zip((member.id for member in whole), volume_ids, strict=True))


def _check_same(field_name: str, snapshot_id: str, has: str, wanted: str | None, *, code: str) -> None:
    if wanted is not None and wanted != has:
        raise BadRequest(f"{field_name}: snapshot {snapshot_id} needs {has}, not {wanted}", code=code)


def _volume_order(session: Session, member: Snapshot, name: str) -> VolumeOrder:
    """Order a volume like that of *member*."""
    iops, throughput_mib = sources.performance(session, member)
    catalog.check_type(member.volume_type, iops=iops, throughput_mib=throughput_mib)
    return VolumeOrder(
        name=name,
        description="",
        size_gib=member.size_gib,
        volume_type=member.volume_type,
        availability_zone=member.availability_zone,
        metadata=sources.metadata(member),
        snapshot_id=member.id,
        enterprise_project_id=member.enterprise_project_id,
        iops=iops,
        throughput_mib=throughput_mib,
    )
