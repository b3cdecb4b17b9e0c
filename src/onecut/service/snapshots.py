"""
What may be done with snapshots, and when.

The rules for taking a snapshot of a volume hold for the members of a group too; `groups` asks for them here.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, bindparam, func, select
from sqlalchemy.orm import Session

from onecut.db.archives import Archive
from onecut.db.moves import move
from onecut.db.rows import ask_rows, write_rows
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume, is_passthrough
from onecut.errors import BadRequest, NotFound, SnapshotInCreation, WrongState
from onecut.jobs import points as point_jobs
from onecut.jobs import queue
from onecut.jobs import snapshots as snapshot_jobs
from onecut.service import catalog, deletions, listing, quotas, tags, volumes
from onecut.service.listing import Page
from onecut.states import SNAPSHOT_MOVES, VOLUME_CUTTABLE

SNAPSHOTS_MAX: Final = 256
"""Snapshots of one volume (EVS user guide)."""

INSTANT_MAX: Final = 7
"""Snapshots of one volume with Instant Snapshot Restore on (EVS user guide)."""

SLOW_TYPES: Final = frozenset({"SATA", "SAS"})
"""Volume types without Instant Snapshot Restore: Common I/O and High I/O (EVS user guide)."""

CHANGEABLE: Final = frozenset({"available", "error", "error_deleting"})
"""States in which name, description and tags may change: all in which no job works on the snapshot or group."""

STATES: Final = frozenset(SNAPSHOT_MOVES) | {"backing-up"}
"""Every state that EVS documents; a snapshot of Onecut never has the latter one."""

BACKUP_PREFIX: Final = "autobk_snapshot_"
"""Names of snapshots that the backup service made; they are not for rolling back (EVS API reference)."""

IDS_MAX: Final = 60
"""Ids of one list request (EVS API reference, error code EVS.2228)."""

ALL_ENTERPRISE_PROJECTS: Final = "all_granted_eps"
"""As a filter: the snapshots of every enterprise project."""

SORT_COLUMNS: Final = {
    "id": Snapshot.id,
    "status": Snapshot.status,
    "size": Snapshot.size_gib,
    "created_at": Snapshot.created_at,
}


@dataclass(frozen=True)
class NewSnapshot:
    """A snapshot that is asked for."""

    volume_id: str
    name: str = ""
    description: str = ""
    instant_access: bool = False
    incremental: bool = True
    enterprise_project_id: str = "0"
    tags: Mapping[str, str] = field(default_factory=dict)
    retention_days: int | None = None
    snapshot_type: str = "user"
    """``auto`` for one that a policy takes."""


@dataclass(frozen=True, slots=True)
class Source:
    """A volume that a snapshot is taken of: what the snapshot takes over from it."""

    id: str
    project_id: str
    status: str
    size_gib: int
    volume_type: str
    availability_zone: str
    passthrough: bool


@dataclass(frozen=True)
class SnapshotFilter:
    """Which snapshots a list holds; None lets every snapshot pass."""

    ids: Sequence[str] | None = None
    name: str | None = None
    status: str | None = None
    volume_id: str | None = None
    availability_zone: str | None = None
    snapshot_type: str | None = None
    snapshot_group_id: str | None = None
    snapshot_chain_id: str | None = None
    enterprise_project_id: str | None = None
    tag_key: str | None = None
    tags: Mapping[str, str] | None = None
    legacy: bool | None = None


def create(session: Session, project_id: str, wanted: NewSnapshot, now: datetime) -> tuple[str, str]:
    """
    Order a snapshot of one volume, and return the job's id and the snapshot's.

    Raises:
        NotFound: There is no such volume.
        BadRequest, WrongState, SnapshotInCreation: See `check_volumes`.
        QuotaExceeded: The project would have too many.
    """
    [volume] = lock_sources(session, project_id, [wanted.volume_id])
    check_volumes(session, [volume], instant_access=wanted.instant_access, single=True)
    snapshot = fields(volume, wanted, None, now)
    add(session, [snapshot])
    tags.put(session, project_id, "snapshot", snapshot["id"], wanted.tags)
    quotas.check_snapshots(session, project_id, {volume.volume_type})
    order = snapshot_jobs.create_order(
        project_id, volume_id=volume.id, snapshot_id=snapshot["id"], instant_access=wanted.instant_access
    )
    return queue.add(session, order, now), snapshot["id"]


_SOURCES: Final = (
    select(
        Volume.id,
        Volume.project_id,
        Volume.status,
        func.coalesce(Volume.attached_gib, Volume.size_gib),  # that of the data, which is what is cut
        Volume.volume_type,
        Volume.availability_zone,
        Volume.metadata_,
    )
    .where(
        Volume.id.in_(bindparam("volume_ids", expanding=True)),
        Volume.project_id == bindparam("project_id"),
        Volume.pre_deleted_at.is_(None),
    )
    .order_by(Volume.id)
    .with_for_update(of=Volume)
)


def lock_sources(session: Session, project_id: str, volume_ids: Sequence[str]) -> list[Source]:
    """
    Return what a snapshot takes over from each of the project's volumes, in the order of *volume_ids*.

    Nobody else changes these volumes before the transaction ends. One in the recycle bin is none.

    Raises:
        NotFound: One of them does not exist in this project.
    """
    rows = ask_rows(session, _SOURCES, {"volume_ids": list(volume_ids), "project_id": project_id})
    found = {
        volume_id: Source(volume_id, owner_id, status, size_gib, volume_type, zone, is_passthrough(metadata))
        for volume_id, owner_id, status, size_gib, volume_type, zone, metadata in rows
    }
    return volumes.in_order(volume_ids, found)


def fields(
    volume: Source | Volume, wanted: NewSnapshot, snapshot_group_id: str | None, now: datetime
) -> dict[str, Any]:
    """
    Build the fields of a snapshot that is about to be made.

    Until it is in the repository its data is a point of the engine and nowhere else, which EVS calls ``flash``.
    """
    kept_for = None if wanted.retention_days is None else timedelta(days=wanted.retention_days)
    retention_at = None if kept_for is None else now + kept_for
    return {
        "id": str(uuid4()),
        "project_id": volume.project_id,
        "name": wanted.name,
        "description": wanted.description,
        "status": "creating",
        "volume_id": volume.id,
        "snapshot_group_id": snapshot_group_id,
        "size_gib": volume.size_gib,
        "volume_type": volume.volume_type,
        "availability_zone": volume.availability_zone,
        "passthrough": volume.passthrough,
        "category": "flash",
        "instant_access": wanted.instant_access,
        "instant_access_at_creation": wanted.instant_access,
        "incremental": wanted.incremental,
        "snapshot_type": wanted.snapshot_type,
        "enterprise_project_id": wanted.enterprise_project_id,
        "retention_at": retention_at,
        "instant_access_retention_at": retention_at if wanted.instant_access else None,
        "created_at": now,
        "updated_at": now,
    }


def add(session: Session, chosen: Sequence[Mapping[str, Any]]) -> None:
    """Write snapshots by their `fields`, each with its way into the repository, in their order."""
    write_rows(session, Snapshot, chosen)
    write_rows(session, Archive, [{"snapshot_id": snapshot["id"]} for snapshot in chosen])


def check_volumes(
    session: Session, chosen: Sequence[Source | Volume], *, instant_access: bool, single: bool = False
) -> None:
    """
    Refuse to take a snapshot of volumes that can't have one now.

    What asking again can't mend is refused first, so that nobody waits for a snapshot in creation in vain.

    Raises:
        WrongState: A volume is neither `available` nor `in-use`.
        BadRequest: *instant_access* with a slow volume type, or a volume has as many snapshots as it may.
        SnapshotInCreation: A volume has a snapshot that is being created.
    """
    for volume in chosen:
        if volume.status not in VOLUME_CUTTABLE:
            raise WrongState("volume", volume.id, volume.status, VOLUME_CUTTABLE)
        if instant_access and volume.volume_type in SLOW_TYPES:
            raise BadRequest(
                f"instant_access: must be false for volume {volume.id}, whose type is {volume.volume_type}; "
                "Instant Snapshot Restore needs an SSD type"
            )
    check_room(session, [volume.id for volume in chosen], instant_access=instant_access, single=single)


_ROOM: Final = (
    select(
        Snapshot.volume_id,
        func.count(),
        func.count().filter(Snapshot.instant_access),
        func.count().filter(Snapshot.status == "creating"),
    )
    .where(
        Snapshot.volume_id.in_(bindparam("volume_ids", expanding=True)),
        Snapshot.status != "error",
        ~Snapshot.legacy,
    )
    .group_by(Snapshot.volume_id)
    .order_by(Snapshot.volume_id)
)


def check_room(session: Session, volume_ids: Collection[str], *, instant_access: bool, single: bool = False) -> None:
    """Refuse one more snapshot of volumes that have as many as they may, or one in creation; see `check_volumes`."""
    creating: list[str] = []
    for volume_id, count, instant_count, creating_count in ask_rows(session, _ROOM, {"volume_ids": list(volume_ids)}):
        if count >= SNAPSHOTS_MAX:
            raise BadRequest(f"volume {volume_id} has {count} snapshots; the limit is {SNAPSHOTS_MAX}")
        if instant_access:
            _check_instant(volume_id, instant_count)
        if creating_count:
            creating.append(volume_id)
    if creating:
        raise SnapshotInCreation(creating[0], single=single)


def _check_instant(volume_id: str, count: int) -> None:
    if count >= INSTANT_MAX:
        raise BadRequest(
            f"instant_access: volume {volume_id} has {count} snapshots with Instant Snapshot Restore; "
            f"the limit is {INSTANT_MAX}"
        )


def refuse_while_created(session: Session, volume_ids: Collection[str], *, single: bool = False) -> None:
    """Raise `SnapshotInCreation` when a snapshot of a volume is being created."""
    creating = select(Snapshot.volume_id).where(Snapshot.volume_id.in_(volume_ids), Snapshot.status == "creating")
    volume_id = session.scalar(creating.order_by(Snapshot.volume_id).limit(1))
    if volume_id is not None:
        raise SnapshotInCreation(volume_id, single=single)


def find(session: Session, project_id: str, snapshot_id: str, *, lock: bool = False) -> Snapshot:
    """
    Return a snapshot of the project; with *lock* nobody else changes it before the transaction ends.

    Raises:
        NotFound: There is none of that id in this project.
    """
    query = select(Snapshot).where(Snapshot.id == snapshot_id, Snapshot.project_id == project_id)
    snapshot = session.scalar(query.with_for_update() if lock else query)
    if snapshot is None:
        raise NotFound("snapshot", snapshot_id)
    return snapshot


TAGGED: Final = tags.TaggedInStates("snapshot", find, CHANGEABLE)
"""How tags are put on snapshots."""


def check_filter(wanted: SnapshotFilter, zones: Sequence[str]) -> None:
    """
    Refuse a filter that nothing could ever pass.

    Raises:
        BadRequest: No snapshot ever has that state (EVS.1031), or there is no such zone (EVS.1041).
    """
    listing.check_state("snapshot", wanted.status, STATES)
    catalog.check_zone_filter(wanted.availability_zone, zones)


def list_page(session: Session, project_id: str, wanted: SnapshotFilter, page: Page) -> Sequence[Snapshot]:
    """
    Return one page of the project's snapshots that pass a filter.

    Raises:
        BadRequest: More than `IDS_MAX` ids (EVS.2228), or an unknown marker (EVS.1024).
    """
    query = select(Snapshot).where(*conditions(project_id, wanted))
    return listing.rows(session, query, page, project_id=project_id, row_id=Snapshot.id, sort_columns=SORT_COLUMNS)


def count(session: Session, project_id: str, wanted: SnapshotFilter) -> int:
    """Return how many of the project's snapshots pass a filter."""
    query = select(func.count()).select_from(Snapshot)
    return session.scalar(query.where(*conditions(project_id, wanted))) or 0


def conditions(project_id: str, wanted: SnapshotFilter) -> list[ColumnElement[bool]]:
    """
    Build the conditions that snapshots of the project pass a filter.

    Raises:
        BadRequest: More than `IDS_MAX` ids (EVS.2228).
    """
    passing: list[ColumnElement[bool]] = [Snapshot.project_id == project_id]
    passing += [
        column == value
        for column, value in (
            (Snapshot.name, wanted.name),
            (Snapshot.status, wanted.status),
            (Snapshot.volume_id, wanted.volume_id),
            (Snapshot.availability_zone, wanted.availability_zone),
            (Snapshot.snapshot_type, wanted.snapshot_type),
            (Snapshot.snapshot_group_id, wanted.snapshot_group_id),
            (Snapshot.legacy, wanted.legacy),
        )
        if value is not None
    ]
    if wanted.ids is not None:
        if len(wanted.ids) > IDS_MAX:
            raise BadRequest(f"ids: must be at most {IDS_MAX}, are {len(wanted.ids)}", code="EVS.2228")
        passing.append(Snapshot.id.in_(wanted.ids))
    if wanted.snapshot_chain_id is not None:
        in_chain = select(Archive.snapshot_id).where(
            Archive.chain_id == wanted.snapshot_chain_id, Archive.archived_at.is_not(None)
        )
        passing.append(Snapshot.id.in_(in_chain))
    if wanted.enterprise_project_id not in {None, ALL_ENTERPRISE_PROJECTS}:
        passing.append(Snapshot.enterprise_project_id == wanted.enterprise_project_id)
    return passing + tags.having(Snapshot.id, tag_key=wanted.tag_key, tags=wanted.tags)


def update(
    session: Session,
    project_id: str,
    snapshot_id: str,
    now: datetime,
    *,
    name: str | None,
    description: str | None,
    instant_access: bool | None,
) -> Snapshot:
    """
    Change a snapshot; None leaves a field as it is.

    Raises:
        NotFound: There is no such snapshot.
        WrongState: It is in none of the states in `CHANGEABLE`.
        BadRequest: Instant Snapshot Restore is switched on though it was off at creation, or for too many, or when
            the engine has given the point up.
    """
    snapshot = TAGGED.changeable(session, project_id, snapshot_id)
    if instant_access is not None and instant_access != snapshot.instant_access:
        if instant_access:
            _check_switching_on(session, snapshot)
            snapshot.instant_access = True
        else:
            point_jobs.switch_off(session, snapshot, now)
    snapshot.name = snapshot.name if name is None else name
    snapshot.description = snapshot.description if description is None else description
    snapshot.updated_at = now
    return snapshot


def _check_switching_on(session: Session, snapshot: Snapshot) -> None:
    if not snapshot.instant_access_at_creation:
        raise BadRequest(f"instant_access: snapshot {snapshot.id} was created without it, so it stays false")
    if snapshot.point != "held":
        raise BadRequest(
            f"instant_access: snapshot {snapshot.id} has left the engine since it was switched off, so it stays false"
        )
    others = select(func.count()).select_from(Snapshot)
    same_volume = (Snapshot.volume_id == snapshot.volume_id, Snapshot.instant_access, Snapshot.status != "error")
    _check_instant(snapshot.volume_id, session.scalar(others.where(*same_volume)) or 0)


def order_deletion(session: Session, project_id: str, snapshot_id: str, now: datetime) -> str:
    """
    Order the deletion of a snapshot, and return the job's id. A member of a group leaves it.

    Raises:
        NotFound: There is no such snapshot.
        WrongState: Something is being done with it (EVS.1047).
        BadRequest: A volume is being made from it.
    """
    return deletions.order(session, find(session, project_id, snapshot_id, lock=True), now)


def order_rollback(session: Session, project_id: str, snapshot_id: str, now: datetime, *, volume_id: str) -> str:
    """
    Order that a snapshot's volume gets its content again, and return the job's id.

    Raises:
        NotFound: There is no such snapshot.
        BadRequest: *volume_id* is not its source, or the source is gone, or the backup service made it.
        WrongState: The snapshot is not `available`, or the volume neither `available` nor `error_rollbacking`.
        SnapshotInCreation: A snapshot of the volume is being created.
    """
    snapshot = find(session, project_id, snapshot_id, lock=True)
    if snapshot.name.startswith(BACKUP_PREFIX):
        raise BadRequest(f"snapshot {snapshot.id} is the backup service's ({snapshot.name}); it is not for rollback")
    if volume_id != snapshot.volume_id:
        raise BadRequest(f"volume_id: must be the snapshot's source, {snapshot.volume_id}; got {volume_id!r}")
    begin_rollback(session, [snapshot], now)
    refuse_while_created(session, [volume_id], single=True)
    order = snapshot_jobs.roll_back_order(project_id, volume_id=volume_id, snapshot_id=snapshot.id)
    return queue.add(session, order, now)


def begin_rollback(session: Session, chosen: Sequence[Snapshot], now: datetime) -> dict[str, str]:
    """
    Mark snapshots and their source volumes as rolling back, and return each volume's state before.

    Raises:
        BadRequest: A source volume is gone.
        WrongState: A snapshot is not `available`, or a volume neither `available` nor `error_rollbacking`.
    """
    sources = {snapshot.volume_id: snapshot.id for snapshot in chosen}
    there = Volume.id.in_(sources), Volume.pre_deleted_at.is_(None)
    query = select(Volume).where(*there).order_by(Volume.id).with_for_update(of=Volume)
    states = {volume.id: volume.status for volume in session.scalars(query)}
    for volume_id, snapshot_id in sources.items():
        if volume_id not in states:
            raise BadRequest(f"volume {volume_id}, the source of snapshot {snapshot_id}, was deleted")
    move(session, Volume, sources, to="rollbacking", now=now)
    move(session, Snapshot, sources.values(), to="rollbacking", now=now)
    return states
