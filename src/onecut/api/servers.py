"""
Servers and what is attached to them: the ECS calls that EVS clients need.

Onecut runs no servers, so what describes a machine (image, flavor, network) is accepted and not kept.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError

from onecut.api import links
from onecut.api.auth import project_caller
from onecut.api.dependencies import Configured, Reading, Time, Writing
from onecut.api.fields import (
    Body,
    Check,
    EnterpriseProjectFilter,
    EnterpriseProjectId,
    Filters,
    Offset,
    Text64,
    Text85,
    between,
    uuid_check,
)
from onecut.api.links import Link
from onecut.api.routing import Router
from onecut.api.volumes import JobId
from onecut.db.servers import Server
from onecut.db.volumes import Attachment
from onecut.service import attachments, servers
from onecut.service.listing import Page
from onecut.service.servers import ServerFilter, ServerOrder, Target

router = Router(tags=["servers"], dependencies=[Depends(project_caller)])

BAD_FIELD = "Ecs.0005"

ServerId = Annotated[str, uuid_check(BAD_FIELD)]
VolumeId = Annotated[str, uuid_check("EVS.1002")]
Device = Annotated[
    str, Field(pattern="^(/dev/(vd|xvd|sd)[a-z]{1,2})?$", description="`/dev/vdb`; empty is the first free one.")
]


def _not_dry(dry_run: bool) -> bool:  # noqa: FBT001 - a validator's signature
    if dry_run:
        raise PydanticCustomError("dry_run", "is not supported", {"code": BAD_FIELD})
    return dry_run


DryRun = Annotated[bool, Check(_not_dry, {"enum": [False]})]


def _no_disks(disks: list[Any]) -> list[Any]:
    if disks:
        raise PydanticCustomError(
            "data_volumes",
            "a server is made without disks; create volumes with its server_id",
            {"code": BAD_FIELD},
        )
    return disks


class _ExtendParam(Body):
    enterprise_project_id: EnterpriseProjectId | None = None


class _NewServer(Body):
    name: Annotated[Text64, Field(min_length=1)]
    description: Text85 | None = None
    availability_zone: Text64 | None = Field(default=None, description="By default the first zone.")
    count: int = Field(default=1, json_schema_extra=between(range(1, servers.BATCH_MAX + 1)))
    data_volumes: Annotated[list[Any], Check(_no_disks, {"maxItems": 0})] | None = None
    extendparam: _ExtendParam | None = None


class CreateServer(Body):
    """The body that asks for servers. Further fields of ECS are accepted and ignored."""

    server: _NewServer
    dry_run: DryRun = False


class _Named(Body):
    id: ServerId


class DeleteServers(Body):
    """The body that deletes servers."""

    servers: Annotated[list[_Named], Field(min_length=1, max_length=1000)]
    delete_publicip: bool = Field(default=False, description="Accepted; a server has no address.")
    delete_volume: bool = Field(default=False, description="Delete the volumes that no other server has.")


class _Attach(Body):
    volume_id: VolumeId = Field(alias="volumeId")
    device: Device | None = None


class AttachVolume(Body):
    """The body that attaches a volume."""

    volume_attachment: _Attach = Field(alias="volumeAttachment")
    dry_run: DryRun = False


class _Target(Body):
    server_id: ServerId
    device: Device | None = None


class AttachToServers(Body):
    """The body that attaches a shared volume to several servers."""

    serverinfo: Annotated[list[_Target], Field(min_length=1, max_length=attachments.SHARED_SERVERS_MAX)]


class DetachFromServers(Body):
    """The body that detaches a shared volume; ECS's own SDK names the servers by bare ids."""

    serverinfo: Annotated[list[_Target | ServerId], Field(min_length=1, max_length=attachments.SHARED_SERVERS_MAX)]

    def server_ids(self) -> list[str]:
        """Return the servers' ids."""
        return [target if isinstance(target, str) else target.server_id for target in self.serverinfo]


class _BlockDevice(Body):
    delete_on_termination: bool


class UpdateBlockDevice(Body):
    """The body that says whether a volume is deleted with its server."""

    block_device: _BlockDevice


class ListServers(Filters):
    """The query of the server list."""

    name: Text64 | None = Field(default=None, description="A part of the name.")
    status: str | None = None
    enterprise_project_id: EnterpriseProjectFilter | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 25
    offset: Offset = Field(default=1, description="Number of the page, as in ECS; 0 and 1 are the first.")

    def wanted(self) -> ServerFilter:
        """Say it in the service's words."""
        any_enterprise_project = self.enterprise_project_id == "all_granted_eps"
        return ServerFilter(
            name=self.name,
            status=self.status,
            enterprise_project_id=None if any_enterprise_project else self.enterprise_project_id,
        )

    def page(self) -> Page:
        """Say which part is wanted."""
        return Page(limit=self.limit, offset=max(self.offset - 1, 0) * self.limit)


class CreatedServers(BaseModel):
    """The job that made the servers, and the servers."""

    job_id: str
    server_ids: list[str] = Field(serialization_alias="serverIds")


class VolumeOfServer(BaseModel):
    """A volume as a server's description names it."""

    id: str
    device: str
    boot_index: str | None = Field(default=None, serialization_alias="bootIndex")
    delete_on_termination: str


class ServerView(BaseModel):
    """A server, as far as one that nobody runs can be described."""

    id: str
    name: str
    description: str
    status: str = servers.STATUS
    task_state: str | None = Field(serialization_alias="OS-EXT-STS:task_state")
    vm_state: str = Field(default="active", serialization_alias="OS-EXT-STS:vm_state")
    power_state: int = Field(default=1, serialization_alias="OS-EXT-STS:power_state")
    availability_zone: str = Field(serialization_alias="OS-EXT-AZ:availability_zone")
    tenant_id: str
    enterprise_project_id: str
    created: str
    updated: str
    volumes_attached: list[VolumeOfServer] = Field(serialization_alias="os-extended-volumes:volumes_attached")
    addresses: dict[str, Any] = Field(default_factory=dict)
    flavor: dict[str, Any] = Field(default_factory=dict)
    image: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, str] = Field(default_factory=dict)
    security_groups: list[Any] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    links: list[Link]


class ServerEnvelope(BaseModel):
    """One server."""

    server: ServerView


class ServerList(BaseModel):
    """One page of servers."""

    count: int = Field(description="Servers that pass the filter, on this page or not.")
    servers: list[ServerView]


class BlockDevice(BaseModel):
    """A volume at its place in a server."""

    id: str
    volume_id: str = Field(serialization_alias="volumeId")
    server_id: str = Field(serialization_alias="serverId")
    device: str
    size: int = Field(description="GiB.")
    boot_index: int | None = Field(default=None, serialization_alias="bootIndex")
    pci_address: str = Field(default="", serialization_alias="pciAddress")
    bus: str = Field(description="`scsi` for a volume with `hw:passthrough`, else `virtio`.")


class BlockDeviceEnvelope(BaseModel):
    """One block device."""

    volume_attachment: BlockDevice = Field(serialization_alias="volumeAttachment")


class AttachableQuantity(BaseModel):
    """How many more volumes a server can have."""

    free_scsi: int
    free_blk: int
    free_disk: int


class BlockDevices(BaseModel):
    """A server's block devices."""

    attachable_quantity: AttachableQuantity = Field(serialization_alias="attachableQuantity")
    volume_attachments: list[BlockDevice] = Field(serialization_alias="volumeAttachments")


class VolumeAttachment(BaseModel):
    """A volume's place at a server, in Nova's words."""

    id: str
    volume_id: str = Field(serialization_alias="volumeId")
    server_id: str = Field(serialization_alias="serverId")
    device: str


class VolumeAttachments(BaseModel):
    """A server's volumes."""

    volume_attachments: list[VolumeAttachment] = Field(serialization_alias="volumeAttachments")


class AppendableQuota(BaseModel):
    """How many volumes a server has, and how many more it can have."""

    count: int
    free_scsi: int
    free_blk: int


@router.post("/v1/{project_id}/cloudservers", summary="Create servers")
def create_servers(
    project_id: str, body: CreateServer, session: Writing, clock: Time, settings: Configured
) -> CreatedServers:
    """Add servers that volumes can be attached to."""
    asked = body.server
    order = ServerOrder(
        name=asked.name,
        description=asked.description or "",
        availability_zone=asked.availability_zone,
        enterprise_project_id=(asked.extendparam and asked.extendparam.enterprise_project_id) or "0",
    )
    job_id, server_ids = servers.create(
        session, project_id, order, clock.now(), zones=settings.availability_zones, count=asked.count
    )
    return CreatedServers(job_id=job_id, server_ids=server_ids)


@router.post("/v1/{project_id}/cloudservers/delete", summary="Delete servers")
def delete_servers(project_id: str, body: DeleteServers, session: Writing, clock: Time) -> JobId:
    """Detach the servers' volumes, and forget the servers."""
    server_ids = [named.id for named in body.servers]
    job_id = servers.order_deletion(session, project_id, server_ids, clock.now(), delete_volumes=body.delete_volume)
    return JobId(job_id=job_id)


@router.get("/v1/{project_id}/cloudservers/detail", summary="List servers")
def list_servers(
    project_id: str, query: Annotated[ListServers, Query()], session: Reading, request: Request
) -> ServerList:
    """List the project's servers that pass every filter, newest first."""
    found, total = servers.list_page(session, project_id, query.wanted(), query.page())
    present = servers.attachments_of(session, [server.id for server in found])
    return ServerList(count=total, servers=[_view(request, server, present[server.id]) for server in found])


@router.get("/v1/{project_id}/cloudservers/{server_id}", summary="Show a server")
def show_server(project_id: str, server_id: ServerId, session: Reading, request: Request) -> ServerEnvelope:
    """Show a server with its volumes."""
    server = servers.find(session, project_id, server_id)
    present = servers.attachments_of(session, [server_id])[server_id]
    return ServerEnvelope(server=_view(request, server, present))


@router.post("/v1/{project_id}/cloudservers/{server_id}/attachvolume", summary="Attach a volume")
def attach_volume(project_id: str, server_id: ServerId, body: AttachVolume, session: Writing, clock: Time) -> JobId:
    """Serve a volume for a server; the volume's attachment then has the NBD URI."""
    asked = body.volume_attachment
    target = Target(server_id, asked.device or None)
    job_id = servers.order_attachment(session, project_id, asked.volume_id, [target], clock.now(), batch=False)
    return JobId(job_id=job_id)


@router.delete("/v1/{project_id}/cloudservers/{server_id}/detachvolume/{volume_id}", summary="Detach a volume")
def detach_volume(
    *,
    project_id: str,
    server_id: ServerId,
    volume_id: VolumeId,
    delete_flag: Literal["0", "1"] = "0",
    session: Writing,
    clock: Time,
) -> JobId:
    """Stop serving a volume for a server. `delete_flag=1` also detaches one whose data can't be opened."""
    job_id = servers.order_detachment(
        session, project_id, volume_id, [server_id], clock.now(), batch=False, force=delete_flag == "1"
    )
    return JobId(job_id=job_id)


@router.post("/v1/{project_id}/batchaction/attachvolumes/{volume_id}", summary="Attach a shared volume to servers")
def attach_to_servers(
    project_id: str, volume_id: VolumeId, body: AttachToServers, session: Writing, clock: Time
) -> JobId:
    """Serve a shared volume for several servers, each with its own URI."""
    targets = [Target(target.server_id, target.device or None) for target in body.serverinfo]
    job_id = servers.order_attachment(session, project_id, volume_id, targets, clock.now(), batch=True)
    return JobId(job_id=job_id)


@router.post("/v1/{project_id}/batchaction/detachvolumes/{volume_id}", summary="Detach a shared volume from servers")
def detach_from_servers(
    project_id: str, volume_id: VolumeId, body: DetachFromServers, session: Writing, clock: Time
) -> JobId:
    """Stop serving a shared volume for several servers."""
    job_id = servers.order_detachment(session, project_id, volume_id, body.server_ids(), clock.now(), batch=True)
    return JobId(job_id=job_id)


@router.get("/v1/{project_id}/cloudservers/{server_id}/block_device", summary="List a server's block devices")
def list_block_devices(project_id: str, server_id: ServerId, session: Reading) -> BlockDevices:
    """List a server's volumes, and how many more it can have."""
    present = _present(session, project_id, server_id)
    free = attachments.SERVER_DISKS_MAX - len(present)
    return BlockDevices(
        attachable_quantity=AttachableQuantity(free_scsi=free, free_blk=free, free_disk=free),
        volume_attachments=[_block_device(attachment) for attachment in present],
    )


@router.get("/v1/{project_id}/cloudservers/{server_id}/block_device/{volume_id}", summary="Show a block device")
def show_block_device(
    project_id: str, server_id: ServerId, volume_id: VolumeId, session: Reading
) -> BlockDeviceEnvelope:
    """Show one volume at its place."""
    attachment = servers.find_attachment(session, project_id, server_id, volume_id)
    return BlockDeviceEnvelope(volume_attachment=_block_device(attachment))


@router.put(
    "/v1/{project_id}/cloudservers/{server_id}/block_device/{volume_id}",
    status_code=HTTPStatus.NO_CONTENT,
    summary="Update a block device",
)
def update_block_device(
    project_id: str, server_id: ServerId, volume_id: VolumeId, body: UpdateBlockDevice, session: Writing
) -> None:
    """Say whether the volume is deleted with the server."""
    wanted = body.block_device.delete_on_termination
    servers.update_attachment(session, project_id, server_id, volume_id, delete_on_termination=wanted)


@router.get("/v1/{project_id}/cloudservers/{server_id}/os-volume_attachments", summary="List a server's volumes")
def list_volume_attachments(project_id: str, server_id: ServerId, session: Reading) -> VolumeAttachments:
    """List a server's volumes as Nova does."""
    return VolumeAttachments(
        volume_attachments=[
            VolumeAttachment(
                id=attachment.volume_id,
                volume_id=attachment.volume_id,
                server_id=attachment.server_id,
                device=attachment.device,
            )
            for attachment in _present(session, project_id, server_id)
        ]
    )


@router.get("/v1/{project_id}/cloudservers/{server_id}/appendvolumequota", summary="Show how many volumes still fit")
def show_appendable_quota(project_id: str, server_id: ServerId, session: Reading) -> AppendableQuota:
    """Say how many more volumes a server can have."""
    count = len(_present(session, project_id, server_id))
    free = attachments.SERVER_DISKS_MAX - count
    return AppendableQuota(count=count, free_scsi=free, free_blk=free)


def _present(session: Reading, project_id: str, server_id: str) -> list[Attachment]:
    servers.find(session, project_id, server_id)
    return servers.attachments_of(session, [server_id])[server_id]


def _view(request: Request, server: Server, present: Iterable[Attachment]) -> ServerView:
    return ServerView(
        id=server.id,
        name=server.name,
        description=server.description,
        task_state=server.task_state,
        availability_zone=server.availability_zone,
        tenant_id=server.project_id,
        enterprise_project_id=server.enterprise_project_id,
        created=_time(server.created_at),
        updated=_time(server.updated_at),
        volumes_attached=[
            VolumeOfServer(
                id=attachment.volume_id,
                device=attachment.device,
                delete_on_termination=str(attachment.delete_on_termination).lower(),
            )
            for attachment in present
        ],
        links=links.of_resource(request, "v1", server.project_id, "cloudservers", server.id),
    )


def _block_device(attachment: Attachment) -> BlockDevice:
    return BlockDevice(
        id=attachment.volume_id,
        volume_id=attachment.volume_id,
        server_id=attachment.server_id,
        device=attachment.device,
        size=attachment.volume.size_gib,
        bus="scsi" if attachment.volume.passthrough else "virtio",
    )


def _time(moment: datetime) -> str:
    """Print a moment as ECS does: ``2026-01-15T22:10:05Z``."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
