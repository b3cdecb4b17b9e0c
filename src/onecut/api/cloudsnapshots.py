"""``/v2/{project_id}/cloudsnapshots``: legacy snapshots, which stay beside their volume."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Query, Request, Response
from pydantic import BaseModel, Field

from onecut.api import links
from onecut.api.auth import project_caller
from onecut.api.dependencies import Configured, Reading, Time, Writing
from onecut.api.fields import Body, EnterpriseProjectFilter, Filters, Limit, Offset, OwnMarker, Text255, Uuid
from onecut.api.links import Link
from onecut.api.routing import Router
from onecut.api.snapshots import RollBackSnapshot
from onecut.clock import time_text
from onecut.db.snapshots import Snapshot
from onecut.service import legacy_snapshots, snapshots
from onecut.service.legacy_snapshots import NewLegacySnapshot
from onecut.service.listing import Page
from onecut.service.snapshots import SnapshotFilter

router = Router(
    prefix="/v2/{project_id}/cloudsnapshots", tags=["legacy snapshots"], dependencies=[Depends(project_caller)]
)


class LegacySnapshotWanted(Body):
    """A legacy snapshot that is asked for."""

    volume_id: Uuid
    name: Text255 | None = None
    description: Text255 | None = None
    metadata: dict[Text255, Text255] | None = None
    force: Annotated[bool | None, Field(description="Whether the volume may be attached.")] = None


class CreateLegacySnapshot(Body):
    """The body of a creation."""

    snapshot: LegacySnapshotWanted


class LegacySnapshotChange(Body):
    """What of a legacy snapshot may change; a field that is left out stays."""

    name: Text255 | None = None
    description: Text255 | None = None


class UpdateLegacySnapshot(Body):
    """The body of an update."""

    snapshot: LegacySnapshotChange


class ListLegacySnapshots(Filters):
    """The query of the list."""

    marker: OwnMarker | None = None
    limit: Limit = 1000
    offset: Offset = 0
    id: list[Text255] | None = Field(default=None, description="May come several times.")
    name: Text255 | None = None
    status: Text255 | None = None
    volume_id: Text255 | None = None
    availability_zone: Text255 | None = None
    enterprise_project_id: EnterpriseProjectFilter | None = None
    service_type: Text255 | None = None
    dedicated_storage_id: Text255 | None = None
    dedicated_storage_name: Text255 | None = None

    def wanted(self) -> SnapshotFilter:
        """Say it in the service's words."""
        elsewhere = self.service_type not in {None, "EVS"} or self.dedicated_storage_id or self.dedicated_storage_name
        return SnapshotFilter(
            ids=[] if elsewhere else self.id,
            name=self.name,
            status=self.status,
            volume_id=self.volume_id,
            availability_zone=self.availability_zone,
            enterprise_project_id=self.enterprise_project_id,
        )


class LegacySnapshotDetail(BaseModel):
    """A legacy snapshot as EVS shows it (`SnapshotDetails`)."""

    id: str
    status: str
    name: str
    description: str
    created_at: str
    updated_at: str
    metadata: dict[str, str]
    volume_id: str
    size: Annotated[int, Field(description="GiB of the volume at the cut.")]
    project_id: Annotated[str, Field(serialization_alias="os-extended-snapshot-attributes:project_id")]
    progress: Annotated[str, Field(serialization_alias="os-extended-snapshot-attributes:progress")]


class LegacySnapshotListed(LegacySnapshotDetail):
    """A legacy snapshot in a list (`SnapshotList`)."""

    dedicated_storage_id: str | None = None
    dedicated_storage_name: str | None = None
    service_type: str = "EVS"


class OneLegacySnapshot(BaseModel):
    """One legacy snapshot."""

    snapshot: LegacySnapshotDetail


class LegacySnapshotPage(BaseModel):
    """One page of legacy snapshots."""

    count: Annotated[int, Field(description="Snapshots that pass the filter, on this page or not.")]
    snapshots: list[LegacySnapshotListed]
    snapshots_links: list[Link] | None


class VolumeRolledBack(BaseModel):
    """The volume that is being rolled back."""

    volume_id: str


class RollbackOrdered(BaseModel):
    """The rollback that was begun; its volume's state tells when it has ended."""

    rollback: VolumeRolledBack


@router.post("", status_code=HTTPStatus.ACCEPTED)
def create_legacy_snapshot(
    project_id: str, body: CreateLegacySnapshot, session: Writing, clock: Time
) -> OneLegacySnapshot:
    """Take a legacy snapshot; its state tells when it is there."""
    wanted = NewLegacySnapshot(**body.snapshot.model_dump(exclude_none=True))
    return OneLegacySnapshot(snapshot=detail(legacy_snapshots.create(session, project_id, wanted, clock.now())))


@router.get("/detail")
def list_legacy_snapshots(
    project_id: str,
    query: Annotated[ListLegacySnapshots, Query()],
    session: Reading,
    settings: Configured,
    request: Request,
) -> LegacySnapshotPage:
    """List legacy snapshots, the newest first."""
    page = Page(limit=query.limit, offset=query.offset, marker=query.marker)
    wanted = query.wanted()
    snapshots.check_filter(wanted, settings.availability_zones)
    listed = legacy_snapshots.list_page(session, project_id, wanted, page)
    return LegacySnapshotPage(
        count=listed.total,
        snapshots=[LegacySnapshotListed(**detail(snapshot).model_dump()) for snapshot in listed.snapshots],
        snapshots_links=links.next_page(request, listed.snapshots[-1].id if listed.more else None) or None,
    )


@router.get("/{snapshot_id}")
def show_legacy_snapshot(project_id: str, snapshot_id: Text255, session: Reading) -> OneLegacySnapshot:
    """Show one legacy snapshot."""
    return OneLegacySnapshot(snapshot=detail(legacy_snapshots.find(session, project_id, snapshot_id)))


@router.put("/{snapshot_id}")
def update_legacy_snapshot(
    project_id: str, snapshot_id: Text255, body: UpdateLegacySnapshot, session: Writing, clock: Time
) -> OneLegacySnapshot:
    """Change name or description."""
    change = body.snapshot
    snapshot = legacy_snapshots.update(
        session, project_id, snapshot_id, clock.now(), name=change.name, description=change.description
    )
    return OneLegacySnapshot(snapshot=detail(snapshot))


@router.delete("/{snapshot_id}", status_code=HTTPStatus.ACCEPTED, response_class=Response)
def delete_legacy_snapshot(project_id: str, snapshot_id: Text255, session: Writing, clock: Time) -> None:
    """Delete a legacy snapshot; volumes that were made from it stay as they are."""
    legacy_snapshots.order_deletion(session, project_id, snapshot_id, clock.now())


@router.post("/{snapshot_id}/rollback", status_code=HTTPStatus.ACCEPTED)
def roll_back_legacy_snapshot(
    project_id: str, snapshot_id: Text255, body: RollBackSnapshot, session: Writing, clock: Time
) -> RollbackOrdered:
    """Give a detached volume the content of its legacy snapshot again."""
    volume_id = body.rollback.volume_id
    legacy_snapshots.order_rollback(session, project_id, snapshot_id, clock.now(), volume_id=volume_id)
    return RollbackOrdered(rollback=VolumeRolledBack(volume_id=volume_id))


def detail(snapshot: Snapshot) -> LegacySnapshotDetail:
    """Show a legacy snapshot as EVS and Cinder do."""
    return LegacySnapshotDetail(
        id=snapshot.id,
        status=snapshot.status,
        name=snapshot.name,
        description=snapshot.description,
        created_at=time_text(snapshot.created_at),
        updated_at=time_text(snapshot.updated_at),
        metadata=snapshot.metadata_,
        volume_id=snapshot.volume_id,
        size=snapshot.size_gib,
        project_id=snapshot.project_id,
        progress=f"{snapshot.progress_percent}%",
    )
