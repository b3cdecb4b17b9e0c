"""``/v5/{project_id}/snapshots``: snapshots, alone or as members of a group."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from onecut.api.auth import project_caller
from onecut.api.dependencies import Reading, Time, Writing
from onecut.api.fields import (
    Body,
    EnterpriseProjectId,
    Filters,
    Limit,
    Offset,
    SortDir,
    TagFilter,
    Tags,
    Text64,
    Text85,
    Text255,
    Uuid,
)
from onecut.api.tags import TagsInUse, TagsToAdd, TagsToRemove, tags_in_use
from onecut.clock import time_text
from onecut.db.snapshots import Snapshot
from onecut.service import snapshots, tags
from onecut.service.listing import Page
from onecut.service.snapshots import NewSnapshot, SnapshotFilter

router = APIRouter(prefix="/v5/{project_id}/snapshots", tags=["snapshots"], dependencies=[Depends(project_caller)])


class SnapshotWanted(Body):
    """A snapshot that is asked for."""

    volume_id: Uuid
    name: Text64 | None = None
    description: Text85 | None = None
    tags: Tags | None = None
    enterprise_project_id: EnterpriseProjectId | None = None
    instant_access: bool | None = None
    incremental: bool | None = None
    retention_days: Annotated[int, Field(ge=1, le=65536)] | None = None


class CreateSnapshot(Body):
    """The body of a creation."""

    snapshot: SnapshotWanted


class SnapshotChange(Body):
    """What of a snapshot may change; a field that is left out stays."""

    name: Text64 | None = None
    description: Text85 | None = None
    instant_access: bool | None = None


class UpdateSnapshot(Body):
    """The body of an update."""

    snapshot: SnapshotChange


class RollbackTarget(Body):
    """The volume to be rolled back: the snapshot's own source."""

    volume_id: Uuid
    name: Annotated[
        Text255 | None, Field(description="Name of the volume; accepted as EVS does, without an effect.")
    ] = None


class RollBackSnapshot(Body):
    """The body of a rollback."""

    rollback: RollbackTarget


class SnapshotCountQuery(Filters):
    """Filters of the count."""

    id: str | None = None
    name: Text255 | None = None
    status: str | None = None
    volume_id: str | None = None
    availability_zone: str | None = None
    snapshot_type: str | None = None
    snapshot_chain_id: str | None = None
    enterprise_project_id: str | None = None
    tag_key: str | None = None
    tags: TagFilter | None = None


class SnapshotListQuery(SnapshotCountQuery):
    """Filters, sorting and paging of the list."""

    ids: Annotated[str | None, Field(description="Ids with commas between; `id` is ignored then.")] = None
    snapshot_group_id: str | None = None
    marker: Annotated[str | None, Field(description="Id of the last item of the page before.")] = None
    limit: Limit = 1000
    offset: Offset = 0
    sort_key: Literal["id", "status", "size", "created_at"] = "created_at"
    sort_dir: SortDir = "desc"


class SnapshotDetail(BaseModel):
    """A snapshot as EVS shows it (`SnapshotDetailV5`)."""

    id: str
    name: str
    description: str
    created_at: str
    updated_at: str
    volume_id: str
    size: Annotated[int, Field(description="GiB of the volume at the cut.")]
    status: str
    project_id: str
    enterprise_project_id: str
    encrypted: bool = False
    cmk_id: str | None = None
    category: Annotated[str, Field(description="`flash`: the data is kept beside the volume's.")]
    availability_zone: str
    tags: dict[str, str]
    instant_access: bool
    retention_at: str | None = None
    instant_access_retention_at: str | None = None
    incremental: bool
    snapshot_type: str
    progress: str
    encrypt_algorithm: str | None = None
    snapshot_chains: list[dict[str, Any]] = []
    snapshot_group_id: str | None


class OneSnapshot(BaseModel):
    """One snapshot."""

    snapshot: SnapshotDetail


class SnapshotPage(BaseModel):
    """One page of snapshots."""

    snapshots: list[SnapshotDetail]


class SnapshotCount(BaseModel):
    """How many snapshots there are."""

    count: int


class SnapshotOrdered(BaseModel):
    """A snapshot that is being created."""

    job_id: str
    snapshot_id: str


class JobOrdered(BaseModel):
    """The job to poll."""

    job_id: str


@router.post("", status_code=202)
def create_snapshot(project_id: str, body: CreateSnapshot, session: Writing, clock: Time) -> SnapshotOrdered:
    """Take a snapshot of one volume while it is written to."""
    wanted = NewSnapshot(**body.snapshot.model_dump(exclude_none=True))
    job_id, snapshot_id = snapshots.create(session, project_id, wanted, clock.now())
    return SnapshotOrdered(job_id=job_id, snapshot_id=snapshot_id)


@router.get("/detail")
def list_snapshots(project_id: str, query: Annotated[SnapshotListQuery, Query()], session: Reading) -> SnapshotPage:
    """List snapshots, the newest first unless sorted otherwise."""
    page = Page(query.sort_key, query.sort_dir, query.limit, query.offset, query.marker)
    found = snapshots.list_page(session, project_id, _filter(query), page)
    tags_of = tags.of(session, [snapshot.id for snapshot in found])
    return SnapshotPage(snapshots=[_detail(snapshot, tags_of[snapshot.id]) for snapshot in found])


@router.get("/count")
def count_snapshots(
    project_id: str, query: Annotated[SnapshotCountQuery, Query()], session: Reading
) -> SnapshotCount:
    """Count snapshots."""
    return SnapshotCount(count=snapshots.count(session, project_id, _filter(query)))


@router.get("/tags")
def list_snapshot_tags(project_id: str, session: Reading) -> TagsInUse:
    """List all tags of all snapshots of the project."""
    return tags_in_use(tags.list_all(session, project_id, "snapshot"))


@router.get("/{snapshot_id}")
def show_snapshot(project_id: str, snapshot_id: str, session: Reading) -> OneSnapshot:
    """Show one snapshot."""
    return OneSnapshot(snapshot=_shown(session, snapshots.find(session, project_id, snapshot_id)))


@router.put("/{snapshot_id}")
def update_snapshot(
    project_id: str, snapshot_id: str, body: UpdateSnapshot, session: Writing, clock: Time
) -> OneSnapshot:
    """Change name, description or Instant Snapshot Restore."""
    change = body.snapshot
    snapshot = snapshots.update(
        session,
        project_id,
        snapshot_id,
        clock.now(),
        name=change.name,
        description=change.description,
        instant_access=change.instant_access,
    )
    return OneSnapshot(snapshot=_shown(session, snapshot))


@router.delete("/{snapshot_id}", status_code=202)
def delete_snapshot(project_id: str, snapshot_id: str, session: Writing, clock: Time) -> JobOrdered:
    """Delete a snapshot; a member of a group leaves it."""
    return JobOrdered(job_id=snapshots.order_deletion(session, project_id, snapshot_id, clock.now()))


@router.post("/{snapshot_id}/rollback", status_code=202)
def roll_back_snapshot(
    project_id: str, snapshot_id: str, body: RollBackSnapshot, session: Writing, clock: Time
) -> JobOrdered:
    """Give a detached volume the content of its snapshot again."""
    volume_id = body.rollback.volume_id
    job_id = snapshots.order_rollback(session, project_id, snapshot_id, clock.now(), volume_id=volume_id)
    return JobOrdered(job_id=job_id)


@router.post("/{snapshot_id}/tags/create", status_code=204)
def create_snapshot_tags(project_id: str, snapshot_id: str, body: TagsToAdd, session: Writing) -> None:
    """Add tags; a key that is there already gets the new value."""
    snapshots.put_tags(session, project_id, snapshot_id, body.table())


@router.post("/{snapshot_id}/tags/delete", status_code=204)
def delete_snapshot_tags(project_id: str, snapshot_id: str, body: TagsToRemove, session: Writing) -> None:
    """Remove tags by key."""
    snapshots.remove_tags(session, project_id, snapshot_id, body.keys())


def _filter(query: SnapshotCountQuery) -> SnapshotFilter:
    given = query.model_dump(include={field for field in SnapshotFilter.__dataclass_fields__ if field != "ids"})
    return SnapshotFilter(ids=_ids(query), **given)


def _ids(query: SnapshotCountQuery) -> Sequence[str] | None:
    if isinstance(query, SnapshotListQuery) and query.ids is not None:
        return [snapshot_id.strip() for snapshot_id in query.ids.split(",")]
    return None if query.id is None else [query.id]


def _shown(session: Reading, snapshot: Snapshot) -> SnapshotDetail:
    return _detail(snapshot, tags.of(session, [snapshot.id])[snapshot.id])


def _detail(snapshot: Snapshot, its_tags: Mapping[str, str]) -> SnapshotDetail:
    return SnapshotDetail(
        id=snapshot.id,
        name=snapshot.name,
        description=snapshot.description,
        created_at=time_text(snapshot.created_at),
        updated_at=time_text(snapshot.updated_at),
        volume_id=snapshot.volume_id,
        size=snapshot.size_gib,
        status=snapshot.status,
        project_id=snapshot.project_id,
        enterprise_project_id=snapshot.enterprise_project_id,
        category=snapshot.category,
        availability_zone=snapshot.availability_zone,
        tags=dict(its_tags),
        instant_access=snapshot.instant_access,
        incremental=snapshot.incremental,
        snapshot_type=snapshot.snapshot_type,
        progress=f"{snapshot.progress_percent}%",
        snapshot_group_id=snapshot.snapshot_group_id,
    )
