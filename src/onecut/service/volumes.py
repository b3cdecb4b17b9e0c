"""
What may be done with volumes, and when. Attaching and detaching is in `servers`.

A change writes the new state and the job in the caller's transaction; nothing is done to the data here.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import uuid4

from sqlalchemy import ColumnElement, exists, false, func, select
from sqlalchemy.orm import Session

from onecut.db.moves import move
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import PASSTHROUGH, Attachment, Volume
from onecut.errors import BadRequest, NotFound, SnapshotInCreation, WrongState
from onecut.jobs import queue, recycle_bin
from onecut.jobs.queue import JobOrder, SubJob
from onecut.service import attachments, catalog, deletions, limits, listing, quotas, recycle_policy, sources, tags
from onecut.service.listing import Page
from onecut.states import VOLUME_ASIDE, VOLUME_DELETABLE, VOLUME_MOVES

Found = TypeVar("Found")

SOURCE_DECIDES: Final = frozenset({"__system__encrypted", "__system__cmkid", PASSTHROUGH})
"""Metadata that a volume made from a snapshot has from its source."""

METADATA_VALUES: Final[Mapping[str, tuple[frozenset[str], str]]] = {
    "full_clone": (frozenset({"0", "1"}), "EVS.1063"),
    PASSTHROUGH: (frozenset({"true", "false"}), "EVS.1057"),
    "create_for_volume_id": (frozenset({"true", "false"}), "EVS.5400"),
    "__system__encrypted": (frozenset({"0"}), "EVS.2041"),  # there is no key service
    "__system__cmkid": (frozenset(), "EVS.2041"),
}
"""Metadata keys with a meaning: the values that are taken, and the error code of any other."""

COPIES_MAX: Final = 128
"""Volumes that are there at the same time from one legacy snapshot (EVS user guide)."""

BATCH_NAME_BYTES: Final = 250
"""Longest name, in bytes of UTF-8, of volumes that get a number behind it."""

SEARCHABLE: Final = re.compile(r'[^"\\\x00-\x1f]*')
"""Metadata keys that a JSON path can name: it has no way to write the characters that JSON escapes."""

STATES: Final = frozenset(VOLUME_MOVES) | {
    "backing-up", "restoring-backup", "error_restoring", "uploading", "downloading",
}  # fmt: skip
"""Every state that EVS documents; a volume of Onecut never has the latter ones."""

TAGS_CHANGEABLE: Final = frozenset(VOLUME_MOVES) - {"deleting", "deleted"}
"""States in which tags may change: tags of a volume that is going are forgotten with it."""

EXTENDABLE_SHARED: Final = frozenset({"available", "error_extending"})
"""States in which a shared volume may be extended (EVS.1065); another may be `in-use` as well (EVS.1064)."""

SORT_COLUMNS: Final = {
    "id": Volume.id,
    "status": Volume.status,
    "size": Volume.size_gib,
    "created_at": Volume.created_at,
}


@dataclass(frozen=True)
class VolumeOrder:
    """A volume that is about to be made."""

    name: str
    description: str
    size_gib: int
    volume_type: str
    availability_zone: str
    multiattach: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    snapshot_id: str | None = None
    enterprise_project_id: str = "0"
    iops: int | None = None
    throughput_mib: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VolumeFilter:
    """Which volumes a list holds; None lets every volume pass."""

    ids: Sequence[str] | None = None
    name: str | None = None
    status: str | None = None
    availability_zone: str | None = None
    multiattach: bool | None = None
    bootable: bool | None = None
    volume_type_id: str | None = None
    enterprise_project_id: str | None = None
    server_id: str | None = None
    metadata: str | None = None
    """JSON text of an object: volumes that have all of these."""
    not_metadata: str | None = None
    """JSON text of an object: volumes that have none of these."""
    service_type: str | None = None
    dedicated_storage: str | None = None
    """Name or id of a dedicated pool; Onecut has none."""
    name_part: str | None = None
    """A part of the name, in upper or lower case."""
    tags: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Volumes that have all of these keys, each with one of its values; no values are any value."""


def create(
    session: Session,
    project_id: str,
    order: VolumeOrder,
    now: datetime,
    *,
    zones: Sequence[str],
    count: int = 1,
    server_id: str | None = None,
) -> tuple[str, list[str]]:
    """
    Order *count* volumes that are alike, and return the job's id and theirs.

    Several volumes are named `name-0001` and so on. EVS documents one volume per request only for those from a
    backup, so several may be made from one snapshot.

    Raises:
        BadRequest: With the code EVS documents for the field: EVS.1036 zone, EVS.2070 and EVS.2072 type, EVS.1010
            size, EVS.1021 count, EVS.1003 name, EVS.1043 and others metadata, EVS.2054 and EVS.2096 zone and type
            unlike the snapshot's, EVS.2131 and EVS.2134 server.
        NotFound: The snapshot does not exist.
        WrongState: The snapshot is not `available` (EVS.2043).
        QuotaExceeded: The project's quotas have no room for them; see `quotas.check_volumes`.
    """
    catalog.check_zone(order.availability_zone, zones)
    catalog.check_type(order.volume_type, iops=order.iops, throughput_mib=order.throughput_mib)
    catalog.check_size("size", order.size_gib, code="EVS.1010")
    limits.check(order.volume_type, order.size_gib, iops=order.iops, throughput_mib=order.throughput_mib)
    if not 1 <= count <= catalog.BATCH_MAX:
        raise BadRequest(f"count: must be 1 to {catalog.BATCH_MAX}, not {count}", code="EVS.1021")
    _check_metadata(order.metadata, from_snapshot=order.snapshot_id is not None)
    if order.snapshot_id is not None:
        source = _check_source(session, project_id, order, order.snapshot_id, count)
        order = replace(order, metadata={**order.metadata, **sources.metadata(source)})
    return order_volumes(session, project_id, _numbered(order, count), now, server_id=server_id)


def refuse_other_sources(
    snapshot_id: str | None, backup_id: str | None, image_id: str | None, volume_id: str | None = None
) -> None:
    """
    Refuse a volume with several sources (EVS.1016), from a backup (EVS.1006), from an image (EVS.2046).

    Refuse one from a volume too, which only Cinder's clients ask for.
    """
    sources = {"snapshot_id": snapshot_id, "backup_id": backup_id, "imageRef": image_id, "source_volid": volume_id}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise BadRequest(f"{given[-1]}: a volume has at most one source, not {' and '.join(given)}", code="EVS.1016")
    if backup_id is not None:
        raise BadRequest(f"backup_id: there is no backup {backup_id!r}; Onecut keeps no backups", code="EVS.1006")
    if image_id is not None:
        raise BadRequest(f"imageRef: there is no image {image_id!r}; Onecut keeps no images", code="EVS.2046")
    if volume_id is not None:
        raise BadRequest("source_volid: volumes are not copied; take a snapshot, and make the volume from that")


def order_volumes(
    session: Session,
    project_id: str,
    orders: Sequence[VolumeOrder],
    now: datetime,
    *,
    server_id: str | None = None,
    together: bool = False,
) -> tuple[str, list[str]]:
    """
    Write volumes as `creating` and one job that makes them, and return the job's id and theirs, in order.

    The orders must be sound: what `create` checks of a type, a zone, a size or a snapshot is not checked again.
    With *server_id* each volume is attached to that server as soon as it is made. With *together* all of them can
    be used at the same moment, or none ever.

    Raises:
        BadRequest: The server does not exist (EVS.2131), lies in another zone or has no place left (EVS.2134).
        QuotaExceeded: The project's quotas have no room for the volumes; see `quotas.check_volumes`.
    """
    volumes = [_row(project_id, order, now) for order in orders]
    session.add_all(volumes)
    session.flush()
    for volume, order in zip(volumes, orders, strict=True):
        tags.put(session, project_id, "volume", volume.id, order.tags)
    volume_ids = [volume.id for volume in volumes]
    request: dict[str, Any] = {"volume_ids": volume_ids, "attachment_ids": [], "together": together}
    if server_id is not None:
        places = attachments.place_new(session, project_id, server_id, volumes, now)
        request["attachment_ids"] = [place.id for place in places]
    quotas.check_volumes(session, project_id, volumes)
    job = JobOrder(project_id, "createVolume", request, job_entities(volumes[0]))
    if len(volumes) > 1:
        sub_jobs = [SubJob("createVolume", job_entities(volume)) for volume in volumes]
        job = JobOrder(project_id, "batchCreateVolume", request, sub_jobs=sub_jobs)
    return queue.add(session, job, now), volume_ids


def job_entities(volume: Volume) -> dict[str, str | int]:
    """Return what the job API says of a volume."""
    return {
        "volume_id": volume.id,
        "volume_type": volume.volume_type,
        "size": volume.size_gib,
        "name": volume.name,
    }


def find(session: Session, project_id: str, volume_id: str, *, lock: bool = False, in_bin: bool = False) -> Volume:
    """
    Return a volume of the project; with *lock* nobody else changes it before the transaction ends.

    A volume is either in the recycle bin or not, and *in_bin* says where it is looked for.

    Raises:
        NotFound: There is none of that id in this project.
    """
    query = select(Volume).where(Volume.id == volume_id, *_place(project_id, in_bin=in_bin))
    volume = session.scalar(query.with_for_update(of=Volume) if lock else query)
    if volume is None:
        raise NotFound("volume", volume_id)
    return volume


def lock_all(session: Session, project_id: str, volume_ids: Sequence[str]) -> list[Volume]:
    """
    Return volumes of the project in the order of *volume_ids*; nobody else changes them before the transaction ends.

    Raises:
        NotFound: One of them does not exist in this project.
    """
    query = select(Volume).where(Volume.id.in_(volume_ids), *_place(project_id, in_bin=False))
    rows = session.scalars(query.order_by(Volume.id).with_for_update(of=Volume))
    return in_order(volume_ids, {volume.id: volume for volume in rows})


def in_order(volume_ids: Sequence[str], found: Mapping[str, Found]) -> list[Found]:
    """Return what was *found* of volumes in the order of their ids; raise `NotFound` for the first that was not."""
    for volume_id in volume_ids:
        if volume_id not in found:
            raise NotFound("volume", volume_id)
    return [found[volume_id] for volume_id in volume_ids]


def refuse_twice(field_name: str, volume_ids: Sequence[str]) -> None:
    """Refuse a request that names a volume twice."""
    seen: set[str] = set()
    for volume_id in volume_ids:
        if volume_id in seen:
            raise BadRequest(f"{field_name}: volume {volume_id} is named twice")
        seen.add(volume_id)


TAGGED: Final = tags.TaggedInStates("volume", find, TAGS_CHANGEABLE)
"""How tags are put on volumes."""


def _place(project_id: str, *, in_bin: bool) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    binned = Volume.pre_deleted_at.is_not(None)
    return Volume.project_id == project_id, binned if in_bin else ~binned


@dataclass(frozen=True)
class Listed:
    """One page of a list of volumes."""

    volumes: Sequence[Volume]
    total: int
    """How many volumes pass the filter, on this page or not."""
    more: bool
    """Whether there is a page behind this one."""


def list_page(
    session: Session,
    project_id: str,
    wanted: VolumeFilter,
    page: Page,
    *,
    zones: Sequence[str],
    in_bin: bool = False,
) -> Listed:
    """
    Return one page of the project's volumes that pass a filter: those in the recycle bin, or all others.

    Raises:
        BadRequest: No volume ever has that state (EVS.1031), there is no such zone (EVS.1041), a metadata filter
            can't be read (EVS.1025), or the marker is unknown (EVS.1024).
    """
    listing.check_state("volume", wanted.status, STATES)
    catalog.check_zone_filter(wanted.availability_zone, zones)
    query = select(Volume).where(*_place(project_id, in_bin=in_bin), *_conditions(wanted))
    one_more = replace(page, limit=page.limit + 1)
    found = listing.rows(session, query, one_more, project_id=project_id, row_id=Volume.id, sort_columns=SORT_COLUMNS)
    total = count(session, project_id, wanted, in_bin=in_bin)
    return Listed(found[: page.limit], total, len(found) > page.limit)


def count(session: Session, project_id: str, wanted: VolumeFilter, *, in_bin: bool = False) -> int:
    """Return how many of the project's volumes pass a filter: those in the recycle bin, or all others."""
    query = select(func.count()).select_from(Volume)
    return session.scalar(query.where(*_place(project_id, in_bin=in_bin), *_conditions(wanted))) or 0


def update(
    session: Session, project_id: str, volume_id: str, now: datetime, *, name: str | None, description: str | None
) -> Volume:
    """
    Give a volume another name or description; None leaves one as it is.

    Raises:
        NotFound: There is no such volume.
        BadRequest: Neither is given (EVS.1007).
    """
    if name is None and description is None:
        raise BadRequest("volume: one of name and description must be given", code="EVS.1007")
    volume = find(session, project_id, volume_id, lock=True)
    volume.name = volume.name if name is None else name
    volume.description = volume.description if description is None else description
    volume.updated_at = now
    return volume


def order_deletion(session: Session, project_id: str, volume_id: str, now: datetime) -> str:
    """
    Order the deletion of a volume, and return the job's id. Its standard snapshots stay, its legacy ones go.

    With the recycle bin on a volume that is `available` goes there at once, and the job has succeeded already. One
    in an error state does not: nobody could promise that it comes back `available`. A volume whose data can't be
    opened is deleted with its attachments: there is nothing left to detach from.

    Raises:
        NotFound: There is no such volume.
        WrongState: It is in use, or something is being done with it (EVS.1046).
        SnapshotInCreation: A snapshot of it is being created.
        BadRequest: A volume is being made from a legacy snapshot of it.
    """
    volume = find(session, project_id, volume_id, lock=True)
    in_bin = begin_deletion(session, volume, now)
    job_id = queue.add(session, _deletion(volume), now)
    if in_bin:
        queue.begin(session, job_id, "recycle", now)
        queue.finish(session, job_id, now)
    return job_id


def _deletion(volume: Volume) -> JobOrder:
    return JobOrder(volume.project_id, "deleteVolume", {"volume_ids": [volume.id]}, job_entities(volume))


def begin_deletion(session: Session, volume: Volume, now: datetime) -> bool:
    """
    Put a volume that the transaction holds into the recycle bin, or mark it as being deleted.

    Returns whether it went to the bin, where nothing is left to do; raises as `order_deletion` does.
    """
    policy = recycle_policy.show(session, volume.project_id)
    if volume.status != "available" or not policy.takes(volume, now):
        _begin_destruction(session, volume, now, only_from=VOLUME_DELETABLE)
        return False
    refuse_while_snapshot_is_created(session, volume.id)
    recycle_bin.put_in(session, [volume.id], now, keep_days=policy.keep_days)
    return True


def order_destruction(session: Session, volume: Volume, now: datetime, *, only_from: Collection[str]) -> str:
    """
    Order that a volume, which the transaction holds, end with its data, and return the job's id.

    Raises:
        WrongState: It is in none of the states *only_from* (EVS.1046).
        SnapshotInCreation: A snapshot of it is being created.
    """
    _begin_destruction(session, volume, now, only_from=only_from)
    return queue.add(session, _deletion(volume), now)


def _begin_destruction(session: Session, volume: Volume, now: datetime, *, only_from: Collection[str]) -> None:
    move(session, Volume, [volume.id], to="deleting", now=now, only_from=only_from, code="EVS.1046")
    refuse_while_snapshot_is_created(session, volume.id)
    deletions.order_with_volumes(session, [volume.id], now)


def state_at_rest(volume: Volume) -> str:
    """Return the state of a detached volume that comes back from where nothing was done with it."""
    return "available" if volume.fault is None else "error"


def refuse_while_snapshot_is_created(session: Session, volume_id: str) -> None:
    """Raise `SnapshotInCreation` when a snapshot of the volume is being created: its data is still needed."""
    creating = exists().where(Snapshot.volume_id == volume_id, Snapshot.status == "creating")
    if session.scalar(select(creating)):
        raise SnapshotInCreation(volume_id)


def order_extension(session: Session, project_id: str, volume_id: str, size_gib: int, now: datetime) -> str:
    """
    Order a larger size, and return the job's id.

    The clients of an attached volume see it when they are attached the next time: an NBD export holds the size that
    the disk had when the export was made.

    Raises:
        NotFound: There is no such volume.
        WrongState: Something is being done with it (EVS.1064), or it is shared and in use (EVS.1065).
        BadRequest: The size is not larger, or too large (EVS.1015).
        QuotaExceeded: The project's quotas have no room for it (EVS.1042).
    """
    volume = find(session, project_id, volume_id, lock=True)
    begin_extension(session, volume, size_gib, now)
    request = {"volume_id": volume.id, "size_gib": size_gib}
    entities = job_entities(volume) | {"size": size_gib}
    return queue.add(session, JobOrder(project_id, "extendVolume", request, entities), now)


def begin_extension(session: Session, volume: Volume, size_gib: int, now: datetime) -> None:
    """Mark a volume that the transaction holds as being extended; raises as `order_extension` does."""
    shared = volume.multiattach and volume.status == "in-use"
    only_from, code = (EXTENDABLE_SHARED, "EVS.1065") if shared else (None, "EVS.1064")
    move(session, Volume, [volume.id], to="extending", now=now, only_from=only_from, code=code)
    if size_gib <= volume.size_gib:
        raise BadRequest(
            f"new_size: must be more than the present {volume.size_gib} GiB, not {size_gib}", code="EVS.1015"
        )
    catalog.check_size("new_size", size_gib, code="EVS.1015")
    volume.growth_gib = size_gib - volume.size_gib
    quotas.check_volumes(session, volume.project_id, [volume], new=False)


def mark_unusable(session: Session, faults: Mapping[str, str], now: datetime) -> None:
    """
    Show which volumes can't be opened, after the engine's start.

    A volume that is at rest and named in *faults* (with a sentence each) goes to `error`; one that had gone there
    for that reason, and is no longer named, is usable again. A volume that a job works on is left to the job; of one
    that is set aside it is noted, and shows when it comes back.
    """
    aside = Volume.status.in_(VOLUME_ASIDE)
    for volume in session.scalars(select(Volume).where(aside).with_for_update(of=Volume)):
        volume.fault = faults.get(volume.id)
    at_rest = Volume.status.in_(("available", "in-use"))
    for volume in session.scalars(select(Volume).where(at_rest, Volume.id.in_(faults)).with_for_update(of=Volume)):
        move(session, Volume, [volume.id], to="error", now=now)
        volume.fault = faults[volume.id]
    mended = select(Volume).where(Volume.status == "error", Volume.fault.is_not(None), Volume.id.not_in(faults))
    for volume in session.scalars(mended.with_for_update(of=Volume)):
        move(session, Volume, [volume.id], to="in-use" if volume.attachments else "available", now=now)
        volume.fault = None


def _row(project_id: str, order: VolumeOrder, now: datetime) -> Volume:
    return Volume(
        id=str(uuid4()),
        project_id=project_id,
        name=order.name,
        description=order.description,
        status="creating",
        size_gib=order.size_gib,
        volume_type=order.volume_type,
        availability_zone=order.availability_zone,
        multiattach=order.multiattach,
        metadata_=dict(order.metadata),
        snapshot_id=order.snapshot_id,
        enterprise_project_id=order.enterprise_project_id,
        iops=order.iops,
        throughput_mib=order.throughput_mib,
        created_at=now,
        updated_at=now,
    )


def _numbered(order: VolumeOrder, count: int) -> list[VolumeOrder]:
    if count == 1:
        return [order]
    if (length := len(order.name.encode())) > BATCH_NAME_BYTES:
        limit = f"at most {BATCH_NAME_BYTES} bytes of UTF-8 when count is more than 1"
        raise BadRequest(f"name: must be {limit}, is {length}", code="EVS.1003")
    return [replace(order, name=f"{order.name}-{number:04}") for number in range(1, count + 1)]


def _check_metadata(metadata: Mapping[str, str], *, from_snapshot: bool) -> None:
    for key, value in metadata.items():
        if from_snapshot and key in SOURCE_DECIDES:
            raise BadRequest(f"metadata.{key}: a volume from a snapshot has it from its source", code="EVS.1043")
        taken, code = METADATA_VALUES.get(key, (frozenset({value}), ""))
        if value not in taken:
            needed = f"must be {' or '.join(sorted(taken))}" if taken else "is not supported"
            raise BadRequest(f"metadata.{key}: {needed}; got {value!r}", code=code)


def _check_source(session: Session, project_id: str, order: VolumeOrder, snapshot_id: str, count: int) -> Snapshot:
    # Locked, so that its deletion, which looks for volumes in creation, comes before or after this order.
    query = select(Snapshot).where(Snapshot.id == snapshot_id, Snapshot.project_id == project_id)
    snapshot = session.scalar(query.with_for_update())
    if snapshot is None:
        raise NotFound("snapshot", snapshot_id)
    if snapshot.status != "available":
        raise WrongState("snapshot", snapshot_id, snapshot.status, {"available"}, code="EVS.2043")
    for name, wanted, given, code in (
        ("availability_zone", snapshot.availability_zone, order.availability_zone, "EVS.2054"),
        ("volume_type", snapshot.volume_type, order.volume_type, "EVS.2096"),
    ):
        if wanted != given:
            raise BadRequest(f"{name}: snapshot {snapshot_id} needs {wanted}, not {given}", code=code)
    if order.size_gib < snapshot.size_gib:
        least = f"at least the snapshot's {snapshot.size_gib} GiB"
        raise BadRequest(f"size: must be {least}, not {order.size_gib}", code="EVS.1010")
    if snapshot.legacy:
        _check_copies(session, snapshot_id, count)
    return snapshot


def _check_copies(session: Session, snapshot_id: str, count: int) -> None:
    made = session.scalar(select(func.count()).select_from(Volume).where(Volume.snapshot_id == snapshot_id)) or 0
    if made + count > COPIES_MAX:
        raise BadRequest(
            f"snapshot_id: {made} volumes were made from legacy snapshot {snapshot_id}; the limit is {COPIES_MAX}"
        )


def _conditions(wanted: VolumeFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        column == value
        for column, value in (
            (Volume.name, wanted.name),
            (Volume.status, wanted.status),
            (Volume.availability_zone, wanted.availability_zone),
            (Volume.multiattach, wanted.multiattach),
            (Volume.bootable, wanted.bootable),
            (Volume.enterprise_project_id, wanted.enterprise_project_id),
        )
        if value is not None
    ]
    if wanted.service_type not in {None, "EVS"} or wanted.dedicated_storage is not None:
        conditions.append(false())
    if wanted.ids is not None:
        conditions.append(Volume.id.in_(wanted.ids))
    if wanted.volume_type_id is not None:
        names = [offered.name for offered in catalog.VOLUME_TYPES.values() if offered.id == wanted.volume_type_id]
        conditions.append(Volume.volume_type.in_(names))
    if wanted.server_id is not None:
        conditions.append(exists().where(Attachment.volume_id == Volume.id, Attachment.server_id == wanted.server_id))
    if wanted.name_part is not None:
        conditions.append(Volume.name.icontains(wanted.name_part, autoescape=True))
    conditions += tags.having_among(Volume.id, wanted.tags)
    conditions += _having("metadata", wanted.metadata)
    conditions += [~condition for condition in _having("not_metadata", wanted.not_metadata)]
    return conditions


def _having(field_name: str, text: str | None) -> list[ColumnElement[bool]]:
    """Build the conditions that a volume has each of the metadata in a JSON text."""
    return [
        func.coalesce(Volume.metadata_[key].as_string() == value, false())
        for key, value in _metadata_filter(field_name, text).items()
    ]


def _metadata_filter(field_name: str, text: str | None) -> dict[str, str]:
    if text is None:
        return {}
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()  # no lone surrogates: no database takes them
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(_searchable(key, value) for key, value in found.items()):
        needed = (
            'JSON text like {"key": "value"}, without quotation marks, backslashes and control characters in keys'
        )
        raise BadRequest(f"{field_name}: must be {needed}", code="EVS.1025")
    return found


def _searchable(key: str, value: object) -> bool:
    return isinstance(value, str) and "\0" not in value and SEARCHABLE.fullmatch(key) is not None
