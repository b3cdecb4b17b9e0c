"""What the Cinder calls do with volumes beyond the EVS calls: defaults, metadata, flags, refusals of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume
from onecut.errors import BadRequest, NotFound
from onecut.service import catalog, performance, snapshots, sources, volumes
from onecut.service.volumes import VolumeOrder

REFUSED_ACTIONS: Final[Mapping[str, str]] = {
    "os-attach": "a volume is attached to a server by POST /v1/{project_id}/cloudservers/{server_id}/attachvolume",
    "os-detach": "a volume is detached by DELETE /v1/{project_id}/cloudservers/{server_id}/detachvolume/{volume_id}",
    "os-reserve": "nothing is reserved; attaching is one call",
    "os-unreserve": "nothing is reserved; attaching is one call",
    "os-reset_status": "a state follows from what was done with the volume; it can't be set",
    "os-volume_upload_image": "Onecut keeps no images",
    "os-set_image_metadata": "Onecut keeps no images",
    "os-unset_image_metadata": "Onecut keeps no images",
    "os-show_image_metadata": "Onecut keeps no images",
}
"""Cinder's actions on volumes that make no sense here, and why."""


@dataclass(frozen=True)
class CinderOrder:
    """A volume that is asked for; None leaves a choice to the snapshot, or to the defaults."""

    size_gib: int | None
    name: str = ""
    description: str = ""
    volume_type: str | None = None
    """Name or id."""
    availability_zone: str | None = None
    snapshot_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    multiattach: bool = False


def create(session: Session, project_id: str, wanted: CinderOrder, now: datetime, *, zones: Sequence[str]) -> Volume:
    """
    Order a volume, and return it.

    Raises:
        BadRequest, NotFound, WrongState: As `volumes.create` does; a size must be given unless a snapshot is.
    """
    source = None if wanted.snapshot_id is None else snapshots.find(session, project_id, wanted.snapshot_id)
    size_gib = wanted.size_gib if source is None else wanted.size_gib or source.size_gib
    if size_gib is None:
        raise BadRequest("size: must be given unless snapshot_id is", code="EVS.1010")
    volume_type = _type_name(wanted.volume_type, source)
    alike = source is not None and source.volume_type == volume_type
    iops, throughput_mib = sources.performance(session, source) if source and alike else (None, None)
    order = VolumeOrder(
        name=wanted.name,
        description=wanted.description,
        size_gib=size_gib,
        volume_type=volume_type,
        availability_zone=wanted.availability_zone or (zones[0] if source is None else source.availability_zone),
        multiattach=wanted.multiattach,
        metadata=wanted.metadata,
        snapshot_id=wanted.snapshot_id,
        iops=iops,
        throughput_mib=throughput_mib,
    )
    _, (volume_id,) = volumes.create(session, project_id, order, now, zones=zones)
    return volumes.find(session, project_id, volume_id)


def _type_name(asked: str | None, source: Snapshot | None) -> str:
    if asked is None:
        return catalog.DEFAULT_TYPE if source is None else source.volume_type
    return _named(asked)


def _named(asked: str) -> str:
    """Return the name of the type that a client asks for by name or id; what is neither stays as it is."""
    return next((offered.name for offered in catalog.VOLUME_TYPES.values() if offered.id == asked), asked)


def find_metadata(session: Session, project_id: str, volume_id: str) -> dict[str, str]:
    """Return a volume's metadata; raises `NotFound`."""
    return volumes.find(session, project_id, volume_id).metadata_


def put_metadata(
    session: Session, project_id: str, volume_id: str, now: datetime, wanted: Mapping[str, str]
) -> dict[str, str]:
    """Add metadata to a volume's, and return all of it; raises as `replace_metadata` does."""
    volume = volumes.find(session, project_id, volume_id, lock=True)
    return _set_metadata(volume, volume.metadata_ | dict(wanted), now)


def replace_metadata(
    session: Session, project_id: str, volume_id: str, now: datetime, wanted: Mapping[str, str]
) -> dict[str, str]:
    """
    Let a volume have this metadata and no other, and return it.

    Raises:
        NotFound: There is no such volume.
        BadRequest: A key with a meaning would change (EVS.2047): it says how the volume was made.
    """
    return _set_metadata(volumes.find(session, project_id, volume_id, lock=True), dict(wanted), now)


def remove_metadata(session: Session, project_id: str, volume_id: str, now: datetime, key: str) -> None:
    """Remove one key of a volume's metadata, which must be there (`NotFound`); raises as `replace_metadata` does."""
    volume = volumes.find(session, project_id, volume_id, lock=True)
    if key not in volume.metadata_:
        raise NotFound("metadata key", key)
    _set_metadata(volume, {other: value for other, value in volume.metadata_.items() if other != key}, now)


def _set_metadata(volume: Volume, metadata: dict[str, str], now: datetime) -> dict[str, str]:
    for key in volumes.METADATA_VALUES:
        if volume.metadata_.get(key) != metadata.get(key):
            raise BadRequest(f"metadata.{key}: says how the volume was made, and can't be changed", code="EVS.2047")
    volume.metadata_, volume.updated_at = metadata, now
    return metadata


def set_bootable(session: Session, project_id: str, volume_id: str, now: datetime, *, bootable: bool) -> None:
    """Note whether a system can be started from a volume, for those who ask; raises `NotFound`."""
    volume = volumes.find(session, project_id, volume_id, lock=True)
    volume.bootable, volume.updated_at = bootable, now


def check_read_only(session: Session, project_id: str, volume_id: str, *, read_only: bool) -> None:
    """Refuse a volume that can only be read: every export takes writes. Raises `NotFound` before that."""
    volumes.find(session, project_id, volume_id)
    if read_only:
        raise BadRequest("os-update_readonly_flag.readonly: must be false: Onecut exports every volume writable")


def order_retype(session: Session, project_id: str, volume_id: str, new_type: str, now: datetime) -> None:
    """
    Order another type, by name or id, for a volume, attached or not; raises as `performance.order_retype` does.

    Types that need IOPS can't be had this way: Cinder's call has no place for them.
    """
    performance.order_retype(session, project_id, volume_id, _named(new_type), now, iops=None, throughput_mib=None)


def refuse_action(session: Session, project_id: str, volume_id: str, action: str) -> None:
    """Refuse an action that makes no sense here, or that nobody knows. Raises `NotFound` before that."""
    volumes.find(session, project_id, volume_id)
    raise BadRequest(f"{action}: {REFUSED_ACTIONS.get(action, 'there is no such action on a volume')}")
