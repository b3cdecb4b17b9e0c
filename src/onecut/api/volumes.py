"""Volumes, volume types and availability zones."""

import functools
import math
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Query, Request
from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from onecut.api import links
from onecut.api.auth import project_caller
from onecut.api.billing import CamelBssParam
from onecut.api.client_tokens import Named
from onecut.api.dependencies import Configured, Reading, Time, Writing
from onecut.api.fields import (
    UUID,
    Body,
    Check,
    EnterpriseProjectFilter,
    EnterpriseProjectId,
    Filters,
    Limit,
    Marker,
    Offset,
    OneKey,
    SnapshotId,
    SortDir,
    Tags,
    Text64,
    Text255,
    Uuid,
    absent,
    between,
    bytes_limit,
    uuid_check,
)
from onecut.api.links import Link
from onecut.api.routing import Router
from onecut.clock import time_text
from onecut.db.volumes import Attachment, Volume
from onecut.service import catalog, idempotency, tags, volumes
from onecut.service.catalog import VolumeType
from onecut.service.listing import Page
from onecut.service.volumes import VolumeFilter, VolumeOrder

router = Router(tags=["volumes"], dependencies=[Depends(project_caller)])

IDS_MAX: Final = 60
_ID: Final = UUID.strip("^$")
IDS: Final = rf"""^\[? *['"]?{_ID}['"]?( *, *['"]?{_ID}['"]?){{0,{IDS_MAX - 1}}} *\]?$"""
"""As EVS writes a list of ids in a query: ``['id1','id2']``; the quotes may be double, or missing."""

VolumeName = Annotated[str, bytes_limit(255, code="EVS.1003")]
VolumeDescription = Annotated[str, bytes_limit(255, code="EVS.1004")]
ServerId = Annotated[str, uuid_check("EVS.2131")]
Performance = Annotated[int, Field(ge=1, le=2**31 - 1)]


def _cut_off_fraction(value: Any) -> Any:  # noqa: ANN401 - a validator sees what came
    return math.trunc(value) if isinstance(value, float) and math.isfinite(value) else value


Whole = Annotated[int, BeforeValidator(_cut_off_fraction)]
SizeGib = Annotated[
    Whole, Field(description="GiB; a fraction is cut off.", json_schema_extra=between(catalog.VOLUME_GIB))
]


def _no_pool(storage_id: str | None) -> str | None:
    if storage_id:
        raise PydanticCustomError("no_pool", "there is no dedicated storage pool; leave it out")
    return storage_id


class _SchedulerHints(Body):
    dedicated_storage_id: Annotated[str | None, Check(_no_pool, {"maxLength": 0})] = None


class _NewVolume(Body):
    availability_zone: Text64
    volume_type: Text64
    size: SizeGib
    name: VolumeName | None = None
    description: VolumeDescription | None = None
    count: Whole = Field(
        default=1, description="A fraction is cut off.", json_schema_extra=between(range(1, catalog.BATCH_MAX + 1))
    )
    snapshot_id: SnapshotId | None = None
    backup_id: Text255 | None = None
    image_id: Text255 | None = Field(default=None, alias="imageRef")
    multiattach: bool = False
    metadata: dict[Text255, Text255] | None = None
    tags: Tags | None = None
    enterprise_project_id: EnterpriseProjectId | None = None
    iops: Performance | None = None
    throughput: Performance | None = Field(default=None, description="MiB/s.")

    def order(self) -> VolumeOrder:
        """Say it in the service's words."""
        return VolumeOrder(
            name=self.name or "",
            description=self.description or "",
            size_gib=self.size,
            volume_type=self.volume_type,
            availability_zone=self.availability_zone,
            multiattach=self.multiattach,
            metadata=self.metadata or {},
            snapshot_id=self.snapshot_id,
            enterprise_project_id=self.enterprise_project_id or "0",
            iops=self.iops,
            throughput_mib=self.throughput,
            tags=self.tags or {},
        )


class CreateVolume(OneKey):
    """The body that asks for volumes."""

    key, absent_code, malformed_code = "volume", "EVS.1008", "EVS.1009"

    volume: _NewVolume
    server_id: ServerId | None = Field(default=None, description="Attach to this server as soon as they are made.")
    bss_param: CamelBssParam | None = Field(default=None, alias="bssParam")
    scheduler_hints: _SchedulerHints | None = Field(default=None, alias="OS-SCH-HNT:scheduler_hints")


class _VolumeChange(Body):
    name: VolumeName | None = None
    description: VolumeDescription | None = None


class UpdateVolume(OneKey):
    """The body that renames a volume."""

    key, absent_code, malformed_code = "volume", "EVS.1001", "EVS.1001"

    volume: _VolumeChange


class NewSize(Body):
    """A larger size."""

    new_size: SizeGib


class ActOnVolume(OneKey):
    """The body of an action: a larger size."""

    key, absent_code, malformed_code = "os-extend", "EVS.1011", "EVS.1011"

    os_extend: NewSize = Field(alias="os-extend")
    bss_param: CamelBssParam | None = Field(default=None, alias="bssParam")


def _split_ids(text: str) -> list[str]:
    """Read ``['id1','id2']``; the quotes may be double, or missing."""
    return [part.strip(" '\"") for part in re.sub(r"^\[|\]$", "", text.strip()).split(",")]


def _check_ids(text: str) -> str:
    if re.fullmatch(IDS, text) is None:
        raise PydanticCustomError(
            "ids_invalid", "must be 1 to {limit} UUIDs like ['id1','id2']", {"code": "EVS.1032", "limit": IDS_MAX}
        )
    return text


class ListVolumes(Filters):
    """The query of the volume list."""

    marker: Marker | None = None
    limit: Limit = 1000
    offset: Offset = 0
    sort_key: Literal["id", "status", "size", "created_at"] = "created_at"
    sort_dir: SortDir = "desc"
    name: Text255 | None = None
    status: str | None = None
    metadata: Text255 | None = Field(default=None, description='`{"key": "value"}`')
    not_metadata: Text255 | None = Field(default=None, description='`{"key": "value"}`')
    availability_zone: str | None = None
    multiattach: bool | None = None
    service_type: str | None = None
    dedicated_storage_id: str | None = None
    dedicated_storage_name: str | None = None
    volume_type_id: str | None = None
    id: Annotated[str, uuid_check("EVS.1032")] | None = None
    ids: Annotated[str, Check(_check_ids, {"pattern": IDS})] | None = Field(
        default=None, description="`['id1','id2']`, at most 60; goes before `id`."
    )
    enterprise_project_id: EnterpriseProjectFilter | None = None
    server_id: Uuid | None = None

    def wanted(self) -> VolumeFilter:
        """Say it in the service's words."""
        any_enterprise_project = self.enterprise_project_id == "all_granted_eps"
        one = [self.id] if self.id else None
        return VolumeFilter(
            ids=_split_ids(self.ids) if self.ids else one,
            name=self.name,
            status=self.status,
            availability_zone=self.availability_zone,
            multiattach=self.multiattach,
            volume_type_id=self.volume_type_id,
            enterprise_project_id=None if any_enterprise_project else self.enterprise_project_id,
            server_id=self.server_id,
            metadata=self.metadata,
            not_metadata=self.not_metadata,
            service_type=self.service_type,
            dedicated_storage=self.dedicated_storage_id or self.dedicated_storage_name,
        )

    def page(self) -> Page:
        """Say which part is wanted."""
        return Page(self.sort_key, self.sort_dir, self.limit, self.offset, self.marker)


class AttachmentView(BaseModel):
    """A volume's place at a server."""

    id: str = Field(description="The volume's id, as in Cinder.")
    attachment_id: str
    volume_id: str
    server_id: str
    device: str
    host_name: str
    attached_at: str
    uri: str | None = Field(
        description="The NBD URI that opens the disk; null until the disk is attached.",
        json_schema_extra={"x-onecut-extension": True},
    )


class PerformanceView(BaseModel):
    """What a volume was given."""

    frozened: bool = Field(description="EVS spells it so.")
    id: str
    total_val: int


class UpdatedVolume(BaseModel):
    """A volume as the update answers it."""

    id: str
    name: str
    description: str
    status: str
    size: int = Field(description="GiB.")
    volume_type: str
    availability_zone: str
    attachments: list[AttachmentView]
    bootable: str
    multiattach: bool
    shareable: str
    metadata: dict[str, str]
    snapshot_id: str | None
    source_volid: str | None = None
    volume_image_metadata: dict[str, Any] | None = None
    created_at: str
    links: list[Link]
    host: str | None = Field(default=None, serialization_alias="os-vol-host-attr:host")
    tenant_id: str = Field(serialization_alias="os-vol-tenant-attr:tenant_id")
    extended_status: str | None = Field(default=None, serialization_alias="os-volume-replication:extended_status")


class HydrationView(BaseModel):
    """How far a restored volume is filled. It can be used meanwhile; what it lacks is read from the repository."""

    snapshot_id: str = Field(description="What it was restored from; it may have been deleted since.")
    job_id: str
    progress: str = Field(description="Of the data, as `37%`.")
    fault: str | None = Field(
        description="What can't be read: such reads of the volume fail. Null if nothing is known."
    )


class VolumeExtension(BaseModel):
    """What Onecut tells of a volume beyond EVS."""

    hydration: HydrationView | None = Field(description="Null when the volume needs nothing of the repository.")
    attached_size: int | None = Field(
        description="GiB that servers see of a volume that was extended while it was attached: its disk grows to "
        "`size` when it is detached, and the next attachment shows that. Null when they see `size`."
    )


class VolumeView(UpdatedVolume):
    """A volume."""

    updated_at: str
    tags: dict[str, str]
    encrypted: bool = False
    service_type: str = "EVS"
    enterprise_project_id: str
    iops: PerformanceView | None = Field(exclude_if=absent)
    throughput: PerformanceView | None = Field(exclude_if=absent, description="MiB/s.")
    wwn: str | None = Field(
        exclude_if=absent, description="Of a SCSI disk: what whoever runs the server lets it tell of itself."
    )
    serial_number: str | None = Field(exclude_if=absent, description="The same; it is the volume's id.")
    consistencygroup_id: str | None = None
    replication_status: str | None = None
    user_id: str | None = None
    migstat: str | None = Field(default=None, serialization_alias="os-vol-mig-status-attr:migstat")
    name_id: str | None = Field(default=None, serialization_alias="os-vol-mig-status-attr:name_id")
    onecut: VolumeExtension = Field(json_schema_extra={"x-onecut-extension": True})


class CreatedVolumes(BaseModel):
    """The job that makes the volumes, and the volumes."""

    job_id: str
    volume_ids: list[str]


class VolumeEnvelope(BaseModel):
    """One volume."""

    volume: VolumeView


class VolumeList(BaseModel):
    """One page of volumes."""

    count: int = Field(description="Volumes that pass the filter, on this page or not.")
    volumes: list[VolumeView]
    volumes_links: list[Link]


class JobId(BaseModel):
    """The job that does what was asked for."""

    job_id: str


class TypeView(BaseModel):
    """A volume type."""

    id: str
    name: str
    description: str
    is_public: bool = True
    qos_specs_id: str | None = None
    extra_specs: dict[str, str]


class TypeList(BaseModel):
    """The volume types."""

    volume_types: list[TypeView]


class ZoneState(BaseModel):
    """Whether a zone can be used."""

    available: bool = True


class ZoneView(BaseModel):
    """An availability zone."""

    name: str = Field(serialization_alias="zoneName")
    state: ZoneState = Field(default_factory=ZoneState, serialization_alias="zoneState")


class ZoneList(BaseModel):
    """The availability zones."""

    zones: list[ZoneView] = Field(serialization_alias="availabilityZoneInfo")


@router.post("/v2.1/{project_id}/cloudvolumes", status_code=HTTPStatus.ACCEPTED, summary="Create volumes")
@router.post("/v2/{project_id}/cloudvolumes", summary="Create volumes")
@router.post("/v3/{project_id}/cloudvolumes", summary="Create volumes")
def create_volumes(
    *, project_id: str, body: CreateVolume, named: Named, session: Writing, clock: Time, settings: Configured
) -> CreatedVolumes:
    """Make one volume or several alike, empty or from a snapshot, and attach them when a server is named."""
    asked, now = body.volume, clock.now()
    volumes.refuse_other_sources(asked.snapshot_id, asked.backup_id, asked.image_id)
    create = functools.partial(
        volumes.create,
        session,
        project_id,
        asked.order(),
        now,
        zones=settings.availability_zones,
        count=asked.count,
        server_id=body.server_id,
    )
    job_id, volume_ids = create() if named is None else idempotency.once(session, project_id, named, now, create)
    return CreatedVolumes(job_id=job_id, volume_ids=volume_ids)


@router.get("/v2/{project_id}/cloudvolumes/detail", summary="List volumes")
def list_volumes(
    project_id: str, query: Annotated[ListVolumes, Query()], session: Reading, settings: Configured, request: Request
) -> VolumeList:
    """List the project's volumes that pass every filter."""
    listed = volumes.list_page(session, project_id, query.wanted(), query.page(), zones=settings.availability_zones)
    tags_of = tags.of(session, [volume.id for volume in listed.volumes])
    return VolumeList(
        count=listed.total,
        volumes=[VolumeView(**view_fields(request, volume, tags_of[volume.id])) for volume in listed.volumes],
        volumes_links=links.next_page(request, listed.volumes[-1].id if listed.more else None),
    )


@router.get("/v2/{project_id}/cloudvolumes/{volume_id}", summary="Show a volume")
def show_volume(project_id: str, volume_id: Uuid, session: Reading, request: Request) -> VolumeEnvelope:
    """Show a volume with its attachments."""
    volume = volumes.find(session, project_id, volume_id)
    its_tags = tags.of(session, [volume_id])[volume_id]
    return VolumeEnvelope(volume=VolumeView(**view_fields(request, volume, its_tags)))


@router.put("/v2/{project_id}/cloudvolumes/{volume_id}", summary="Rename a volume")
def update_volume(
    *, project_id: str, volume_id: Uuid, body: UpdateVolume, session: Writing, clock: Time, request: Request
) -> UpdatedVolume:
    """Give a volume another name or description."""
    asked = body.volume
    volume = volumes.update(
        session, project_id, volume_id, clock.now(), name=asked.name, description=asked.description
    )
    return UpdatedVolume(**core(request, volume))


@router.delete("/v2/{project_id}/cloudvolumes/{volume_id}", summary="Delete a volume")
def delete_volume(project_id: str, volume_id: Uuid, session: Writing, clock: Time) -> JobId:
    """Delete a detached volume. Its standard snapshots stay, its legacy ones go."""
    return JobId(job_id=volumes.order_deletion(session, project_id, volume_id, clock.now()))


@router.post(
    "/v2.1/{project_id}/cloudvolumes/{volume_id}/action", status_code=HTTPStatus.ACCEPTED, summary="Extend a volume"
)
@router.post("/v2/{project_id}/cloudvolumes/{volume_id}/action", summary="Extend a volume")
def act_on_volume(project_id: str, volume_id: Uuid, body: ActOnVolume, session: Writing, clock: Time) -> JobId:
    """Make a volume larger. The servers of an attached one see that when it is attached the next time."""
    job_id = volumes.order_extension(session, project_id, volume_id, body.os_extend.new_size, clock.now())
    return JobId(job_id=job_id)


@router.get("/v2/{project_id}/types", summary="List the volume types")
@router.get("/v3/{project_id}/types", summary="List the volume types")
def list_types(project_id: str, settings: Configured) -> TypeList:  # noqa: ARG001 - named in the path
    """Name every volume type, and the zones where it is offered and where it is sold out."""
    zones = settings.availability_zones
    return TypeList(volume_types=[type_view(offered, zones) for offered in catalog.VOLUME_TYPES.values()])


def type_view(offered: VolumeType, zones: Sequence[str]) -> TypeView:
    """Show a volume type, and where it is offered."""
    everywhere = ",".join(zones)
    return TypeView(
        id=offered.id,
        name=offered.name,
        description=offered.description,
        extra_specs={
            "volume_backend_name": offered.name,
            "availability-zone": zones[0],
            "HW:availability_zone": zones[0],
            "RESKEY:availability_zones": everywhere,
            "os-vendor-extended:sold_out_availability_zones": everywhere if offered.sold_out else "",
        },
    )


@router.get("/v2/{project_id}/os-availability-zone", summary="List the availability zones")
@router.get("/v3/{project_id}/os-availability-zone", summary="List the availability zones")
def list_zones(project_id: str, settings: Configured) -> ZoneList:  # noqa: ARG001 - named in the path
    """Name every availability zone."""
    return ZoneList(zones=[ZoneView(name=zone) for zone in settings.availability_zones])


def view_fields(request: Request, volume: Volume, its_tags: dict[str, str]) -> dict[str, Any]:
    """Return what a `VolumeView` says of a volume."""
    return core(request, volume) | {
        "updated_at": time_text(volume.updated_at),
        "tags": its_tags,
        "enterprise_project_id": volume.enterprise_project_id,
        "iops": _performance(volume, volume.iops),
        "throughput": _performance(volume, volume.throughput_mib),
        "wwn": wwn(volume),
        "serial_number": volume.id if volume.passthrough else None,
        "onecut": VolumeExtension(hydration=_hydration(volume), attached_size=volume.attached_gib),
    }


def wwn(volume: Volume) -> str | None:
    """Name a SCSI disk as T10 does: 3 begins a name of 128 bits that a place gives (SPC-5, NAA locally assigned)."""
    return f"3{volume.id.replace('-', '')[1:]}" if volume.passthrough else None


def _hydration(volume: Volume) -> HydrationView | None:
    known = volume.hydration
    if known is None:
        return None
    return HydrationView(
        snapshot_id=known["snapshot_id"],
        job_id=known["job_id"],
        progress=f"{known['percent']}%",
        fault=known["fault"],
    )


def core(request: Request, volume: Volume) -> dict[str, Any]:
    """Show what every answer about a volume has, as `UpdatedVolume`."""
    return {
        "id": volume.id,
        "name": volume.name,
        "description": volume.description,
        "status": volume.status,
        "size": volume.size_gib,
        "volume_type": volume.volume_type,
        "availability_zone": volume.availability_zone,
        "attachments": [attachment_view(attachment) for attachment in volume.attachments],
        "bootable": str(volume.bootable).lower(),
        "multiattach": volume.multiattach,
        "shareable": str(volume.multiattach).lower(),
        "metadata": volume.metadata_,
        "snapshot_id": volume.snapshot_id,
        "created_at": time_text(volume.created_at),
        "links": links.of_resource(request, "v2", volume.project_id, "cloudvolumes", volume.id),
        "tenant_id": volume.project_id,
    }


def attachment_view(attachment: Attachment) -> AttachmentView:
    """Show a volume's place at a server."""
    return AttachmentView(
        id=attachment.volume_id,
        attachment_id=attachment.id,
        volume_id=attachment.volume_id,
        server_id=attachment.server_id,
        device=attachment.device,
        host_name=attachment.server.name,
        attached_at=time_text(attachment.attached_at),
        uri=attachment.uri,
    )


def _performance(volume: Volume, total: int | None) -> PerformanceView | None:
    return None if total is None else PerformanceView(frozened=False, id=volume.id, total_val=total)
