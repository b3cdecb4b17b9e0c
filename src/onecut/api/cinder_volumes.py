"""Cinder's ``/v2|v3/{project_id}/volumes``: what OpenStack clients call a volume is EVS's disk."""

import ast
import json
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, BeforeValidator, Field

from onecut.api import links
from onecut.api.auth import project_caller
from onecut.api.cinder import Action, CinderPage, version
from onecut.api.cinder_metadata import Metadata, router_of
from onecut.api.dependencies import Configured, Reading, Time, Writing
from onecut.api.fields import Body, SnapshotId, Text255, absent
from onecut.api.links import Link
from onecut.api.routing import Router
from onecut.api.volumes import (
    NewSize,
    SizeGib,
    UpdatedVolume,
    VolumeDescription,
    VolumeName,
    core,
)
from onecut.clock import time_text
from onecut.db.volumes import Volume
from onecut.service import cinder_volumes, volumes
from onecut.service.cinder_volumes import CinderOrder
from onecut.service.volumes import VolumeFilter

router = Router(prefix="/volumes", tags=["Cinder volumes"], dependencies=[Depends(project_caller)])


class CinderVolumeWanted(Body):
    """A volume that is asked for."""

    size: SizeGib | None = None
    name: VolumeName | None = None
    description: VolumeDescription | None = None
    volume_type: Annotated[
        Text255 | None, Field(description="Name or id; `GPSSD`, or the snapshot's, without one.")
    ] = None
    availability_zone: Text255 | None = None
    snapshot_id: SnapshotId | None = None
    source_volid: Text255 | None = None
    backup_id: Text255 | None = None
    image_id: Text255 | None = Field(default=None, alias="imageRef")
    metadata: Metadata | None = None
    multiattach: bool | None = None

    def order(self) -> CinderOrder:
        """Say it in the service's words."""
        return CinderOrder(
            size_gib=self.size,
            name=self.name or "",
            description=self.description or "",
            volume_type=self.volume_type,
            availability_zone=self.availability_zone,
            snapshot_id=self.snapshot_id,
            metadata=self.metadata or {},
            multiattach=self.multiattach or False,
        )


class CreateCinderVolume(Body):
    """The body that asks for a volume."""

    volume: CinderVolumeWanted


class CinderVolumeChange(Body):
    """What of a volume may change; a field that is left out stays."""

    name: VolumeName | None = None
    description: VolumeDescription | None = None


class UpdateCinderVolume(Body):
    """The body of an update."""

    volume: CinderVolumeChange


class Bootable(Body):
    """Whether a system can be started from the volume."""

    bootable: bool


class ReadOnly(Body):
    """Whether the volume can only be read."""

    readonly: bool


class Retype(Body):
    """The volume type that a volume is to have."""

    new_type: Annotated[Text255, Field(description="Name or id; of a type that needs no IOPS.")]
    migration_policy: Annotated[
        Literal["never", "on-demand"] | None, Field(description="No effect: the data stays where it is.")
    ] = None


class ActOnCinderVolume(Action):
    """The body of an action on a volume."""

    os_extend: NewSize | None = Field(default=None, alias="os-extend")
    os_retype: Retype | None = Field(default=None, alias="os-retype")
    os_set_bootable: Bootable | None = Field(default=None, alias="os-set_bootable")
    os_update_readonly_flag: ReadOnly | None = Field(default=None, alias="os-update_readonly_flag")
    os_force_delete: None = Field(default=None, alias="os-force_delete")


def _json_text(text: str) -> str:
    """Read ``{'key': 'value'}``, as OpenStack's clients write a filter by metadata, and return it as JSON text."""
    try:
        return json.dumps(ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text


class ListCinderVolumes(CinderPage):
    """The query of the volume lists."""

    name: Text255 | None = None
    status: Text255 | None = None
    availability_zone: Text255 | None = None
    bootable: bool | None = None
    metadata: Annotated[Text255, BeforeValidator(_json_text)] | None = Field(
        default=None, description="`{'key': 'value'}`, in Python's quotes or JSON's."
    )

    def wanted(self) -> VolumeFilter:
        """Say it in the service's words."""
        return VolumeFilter(
            name=self.name,
            status=self.status,
            availability_zone=self.availability_zone,
            bootable=self.bootable,
            metadata=self.metadata,
        )


class CinderVolume(UpdatedVolume):
    """A volume as Cinder shows it."""

    updated_at: str
    encrypted: bool = False
    user_id: str | None = None
    consistencygroup_id: str | None = None
    replication_status: str | None = None
    migration_status: str | None = None
    migstat: str | None = Field(default=None, serialization_alias="os-vol-mig-status-attr:migstat")
    name_id: str | None = Field(default=None, serialization_alias="os-vol-mig-status-attr:name_id")


class OneCinderVolume(BaseModel):
    """One volume."""

    volume: CinderVolume


class CinderVolumeName(BaseModel):
    """A volume in the short list."""

    id: str
    name: str
    links: list[Link]


class CinderVolumeNames(BaseModel):
    """One page of the short list."""

    volumes: list[CinderVolumeName]
    volumes_links: list[Link] | None = Field(default=None, exclude_if=absent)


class CinderVolumes(BaseModel):
    """One page of volumes."""

    volumes: list[CinderVolume]
    volumes_links: list[Link] | None = Field(default=None, exclude_if=absent)


@router.post("", status_code=HTTPStatus.ACCEPTED)
def create_volume(
    *,
    project_id: str,
    body: CreateCinderVolume,
    session: Writing,
    clock: Time,
    settings: Configured,
    request: Request,
) -> OneCinderVolume:
    """Make a volume, empty or from a snapshot; its state tells when it is there."""
    asked = body.volume
    volumes.refuse_other_sources(asked.snapshot_id, asked.backup_id, asked.image_id, asked.source_volid)
    zones = settings.availability_zones
    volume = cinder_volumes.create(session, project_id, asked.order(), clock.now(), zones=zones)
    return OneCinderVolume(volume=_view(request, volume))


@router.get("")
def list_volume_names(
    project_id: str,
    query: Annotated[ListCinderVolumes, Query()],
    session: Reading,
    settings: Configured,
    request: Request,
) -> CinderVolumeNames:
    """List the project's volumes by id and name."""
    page = _page(project_id, query, session, settings, request)
    return CinderVolumeNames(
        volumes=[CinderVolumeName(id=each.id, name=each.name, links=each.links) for each in page.volumes],
        volumes_links=page.volumes_links,
    )


@router.get("/detail")
def list_volumes(
    project_id: str,
    query: Annotated[ListCinderVolumes, Query()],
    session: Reading,
    settings: Configured,
    request: Request,
) -> CinderVolumes:
    """List the project's volumes."""
    return _page(project_id, query, session, settings, request)


def _page(
    project_id: str, query: ListCinderVolumes, session: Reading, settings: Configured, request: Request
) -> CinderVolumes:
    listed = volumes.list_page(session, project_id, query.wanted(), query.page(), zones=settings.availability_zones)
    following = links.next_page(request, listed.volumes[-1].id if listed.more else None)
    return CinderVolumes(
        volumes=[_view(request, volume) for volume in listed.volumes],
        volumes_links=following or None,
    )


@router.get("/{volume_id}")
def show_volume(project_id: str, volume_id: Text255, session: Reading, request: Request) -> OneCinderVolume:
    """Show a volume."""
    return OneCinderVolume(volume=_view(request, volumes.find(session, project_id, volume_id)))


@router.put("/{volume_id}")
def update_volume(
    *, project_id: str, volume_id: Text255, body: UpdateCinderVolume, session: Writing, clock: Time, request: Request
) -> OneCinderVolume:
    """Give a volume another name or description."""
    asked = body.volume
    volume = volumes.update(
        session, project_id, volume_id, clock.now(), name=asked.name, description=asked.description
    )
    return OneCinderVolume(volume=_view(request, volume))


@router.delete("/{volume_id}", status_code=HTTPStatus.ACCEPTED, response_class=Response)
def delete_volume(project_id: str, volume_id: Text255, session: Writing, clock: Time) -> None:
    """Put a detached volume into the recycle bin, or delete it, and its legacy snapshots with it."""
    volumes.order_deletion(session, project_id, volume_id, clock.now())


@router.post(
    "/{volume_id}/action",
    status_code=HTTPStatus.ACCEPTED,
    response_class=Response,
    responses={200: {"description": "The flag is set (`os-set_bootable`)."}},
)
def act_on_volume(
    *,
    project_id: str,
    volume_id: Text255,
    body: ActOnCinderVolume,
    session: Writing,
    clock: Time,
    response: Response,
) -> None:
    """Extend, retype or delete a volume, or set a flag; an action that makes no sense is refused, and says why."""
    now = clock.now()
    match body:
        case ActOnCinderVolume(os_extend=NewSize(new_size=size_gib)):
            volumes.order_extension(session, project_id, volume_id, size_gib, now)
        case ActOnCinderVolume(os_retype=Retype(new_type=new_type)):
            cinder_volumes.order_retype(session, project_id, volume_id, new_type, now)
        case ActOnCinderVolume(os_set_bootable=Bootable(bootable=bootable)):
            cinder_volumes.set_bootable(session, project_id, volume_id, now, bootable=bootable)
            response.status_code = HTTPStatus.OK
        case ActOnCinderVolume(os_update_readonly_flag=ReadOnly(readonly=read_only)):
            cinder_volumes.check_read_only(session, project_id, volume_id, read_only=read_only)
        case _ if "os_force_delete" in body.model_fields_set:
            volumes.order_deletion(session, project_id, volume_id, now)
        case _:
            cinder_volumes.refuse_action(session, project_id, volume_id, body.name())


router.include_router(router_of(cinder_volumes, "volume"))


def _view(request: Request, volume: Volume) -> CinderVolume:
    own_links = links.of_resource(request, version(request), volume.project_id, "volumes", volume.id)
    return CinderVolume(**core(request, volume) | {"links": own_links}, updated_at=time_text(volume.updated_at))
