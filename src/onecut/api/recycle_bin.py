"""``/v3/{project_id}/recycle-bin-volumes``: volumes that were deleted and may come back."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from onecut.api.auth import project_caller
from onecut.api.dependencies import Configured, Reading, Time, Writing
from onecut.api.fields import Body, Filters, Limit, Offset, OwnMarker, Text64, Uuid
from onecut.api.routing import Router
from onecut.api.volumes import AttachmentView, attachment_view, wwn
from onecut.clock import time_text
from onecut.db.volumes import Volume
from onecut.service import recycle_bin, recycle_policy, tags, volumes
from onecut.service.listing import Page
from onecut.service.recycle_policy import KEEP_DAYS, THRESHOLD_DAYS
from onecut.service.volumes import VolumeFilter

router = Router(
    prefix="/v3/{project_id}/recycle-bin-volumes", tags=["recycle bin"], dependencies=[Depends(project_caller)]
)


class UpdateRecyclePolicy(Body):
    """The body that changes the policy; what is absent stays as it is."""

    switch: bool | None = Field(default=None, description="Whether deleted volumes go to the bin.")
    threshold_time: int | None = Field(
        default=None,
        ge=THRESHOLD_DAYS[0],
        le=THRESHOLD_DAYS[-1],
        description="Days that a volume must be old to go to the bin.",
    )
    keep_time: int | None = Field(
        default=None, ge=KEEP_DAYS[0], le=KEEP_DAYS[-1], description="Days that a volume stays in the bin."
    )


class PolicyView(BaseModel):
    """The policy of a project."""

    switch: bool
    threshold_time: int = Field(description="Days.")
    keep_time: int = Field(description="Days.")


class ListBin(Filters):
    """Filters and paging of the list."""

    name: Text64 | None = None
    status: str | None = None
    marker: OwnMarker | None = None
    limit: Limit = 1000
    offset: Offset = 0
    availability_zone: str | None = None
    service_type: str | None = None

    def wanted(self) -> VolumeFilter:
        """Say it in the service's words."""
        return VolumeFilter(
            name=self.name,
            status=self.status,
            availability_zone=self.availability_zone,
            service_type=self.service_type,
        )


class BinnedVolume(BaseModel):
    """A volume in the bin."""

    id: str
    name: str
    description: str
    status: str = Field(description="`pending-destroy`; `deleting` or `error_deleting` while it is being destroyed.")
    attachments: list[AttachmentView]
    multiattach: bool
    size: int = Field(description="GiB.")
    metadata: dict[str, str]
    bootable: str
    tags: dict[str, str]
    availability_zone: str
    created_at: str
    updated_at: str
    service_type: str = "EVS"
    volume_type: str
    enterprise_project_id: str
    pre_deleted_at: str = Field(description="When it was put into the bin.")
    plan_delete_at: str = Field(description="When it is destroyed by itself.")
    dedicated_storage_id: str | None = None
    dedicated_storage_name: str | None = None
    volume_image_metadata: dict[str, Any] | None = None
    wwn: str | None


class BinnedVolumeEnvelope(BaseModel):
    """One volume in the bin."""

    volume: BinnedVolume


class BinPage(BaseModel):
    """One page of volumes in the bin."""

    count: int = Field(description="Volumes that pass the filter, on this page or not.")
    volumes: list[BinnedVolume]


@router.get("/policy", summary="Show the recycle bin's policy")
def show_policy(project_id: str, session: Reading) -> PolicyView:
    """Tell which deleted volumes go to the bin, and for how long."""
    policy = recycle_policy.show(session, project_id)
    return PolicyView(switch=policy.switch, threshold_time=policy.threshold_days, keep_time=policy.keep_days)


@router.put("/policy", status_code=HTTPStatus.NO_CONTENT, summary="Update the recycle bin's policy")
def update_policy(project_id: str, body: UpdateRecyclePolicy, session: Writing) -> None:
    """Switch the bin on or off, or change its times; volumes in the bin keep the time they were given."""
    recycle_policy.update(
        session, project_id, switch=body.switch, threshold_days=body.threshold_time, keep_days=body.keep_time
    )


@router.get("/detail", summary="List the volumes in the recycle bin")
def list_volumes(
    project_id: str, query: Annotated[ListBin, Query()], session: Reading, settings: Configured
) -> BinPage:
    """List the volumes in the bin that pass every filter, the newest first."""
    page = Page(limit=query.limit, offset=query.offset, marker=query.marker)
    listed = volumes.list_page(
        session, project_id, query.wanted(), page, zones=settings.availability_zones, in_bin=True
    )
    tags_of = tags.of(session, [volume.id for volume in listed.volumes])
    return BinPage(count=listed.total, volumes=[_view(volume, tags_of[volume.id]) for volume in listed.volumes])


@router.get("/{volume_id}", summary="Show a volume in the recycle bin")
def show_volume(project_id: str, volume_id: Uuid, session: Reading) -> BinnedVolumeEnvelope:
    """Show a volume in the bin, and when it is destroyed."""
    volume = volumes.find(session, project_id, volume_id, in_bin=True)
    return BinnedVolumeEnvelope(volume=_view(volume, tags.of(session, [volume_id])[volume_id]))


@router.delete("/{volume_id}", status_code=HTTPStatus.NO_CONTENT, summary="Destroy a volume in the recycle bin")
def delete_volume(project_id: str, volume_id: Uuid, session: Writing, clock: Time) -> None:
    """Destroy a volume before its time. It is in the bin, `deleting`, until its data is gone."""
    recycle_bin.order_destruction(session, project_id, volume_id, clock.now())


@router.post(
    "/{volume_id}/revert", status_code=HTTPStatus.NO_CONTENT, summary="Bring a volume back from the recycle bin"
)
def revert_volume(project_id: str, volume_id: Uuid, session: Writing, clock: Time) -> None:
    """Bring a volume back as it was deleted: detached, with its data, its snapshots and its tags."""
    recycle_bin.revert(session, project_id, volume_id, clock.now())


def _view(volume: Volume, tags_of_volume: dict[str, str]) -> BinnedVolume:
    assert volume.pre_deleted_at is not None  # noqa: S101 - it is in the bin
    assert volume.plan_delete_at is not None  # noqa: S101 - as above
    return BinnedVolume(
        id=volume.id,
        name=volume.name,
        description=volume.description,
        status=volume.status,
        attachments=[attachment_view(attachment) for attachment in volume.attachments],
        multiattach=volume.multiattach,
        size=volume.size_gib,
        metadata=volume.metadata_,
        bootable=str(volume.bootable).lower(),
        tags=tags_of_volume,
        availability_zone=volume.availability_zone,
        created_at=time_text(volume.created_at),
        updated_at=time_text(volume.updated_at),
        volume_type=volume.volume_type,
        enterprise_project_id=volume.enterprise_project_id,
        pre_deleted_at=time_text(volume.pre_deleted_at),
        plan_delete_at=time_text(volume.plan_delete_at),
        wwn=wwn(volume),
    )
