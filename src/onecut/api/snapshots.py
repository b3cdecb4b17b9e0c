"""``/v5/{project_id}/snapshots``: snapshots, alone or as members of a group."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy import Row

from onecut.api.auth import project_caller
from onecut.api.chains import ChainDetail
from onecut.api.dependencies import Archived, Asking, Configured, Reading, Store, Time, Writing
from onecut.api.fields import (
    UUID,
    Body,
    EnterpriseProjectFilter,
    EnterpriseProjectId,
    Filters,
    Limit,
    Marker,
    Offset,
    SnapshotId,
    SortDir,
    TagFilter,
    Tags,
    Text64,
    Text85,
    Text255,
    Uuid,
)
from onecut.api.routing import Router
from onecut.api.tags import add_routes
from onecut.clock import time_text
from onecut.config import Settings
from onecut.service import chains, changed_blocks, shown_snapshots, snapshots
from onecut.service.listing import Page
from onecut.service.shown_snapshots import ShownSnapshot
from onecut.service.snapshots import NewSnapshot, SnapshotFilter

router = Router(prefix="/v5/{project_id}/snapshots", tags=["snapshots"], dependencies=[Depends(project_caller)])
add_routes(router, snapshots.TAGGED, "snapshot_id", UUID)


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
    enterprise_project_id: EnterpriseProjectFilter | None = None
    tag_key: str | None = None
    tags: TagFilter | None = None


class SnapshotListQuery(SnapshotCountQuery):
    """Filters, sorting and paging of the list."""

    ids: Annotated[str | None, Field(description="Ids with commas between; `id` is ignored then.")] = None
    snapshot_group_id: str | None = None
    marker: Marker | None = None
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
    category: Annotated[
        str, Field(description="`standard` once it is archived; until then `flash`: it is kept beside the volume.")
    ]
    availability_zone: str
    tags: dict[str, str]
    instant_access: bool
    retention_at: str | None
    instant_access_retention_at: str | None
    incremental: bool
    snapshot_type: str
    progress: str
    encrypt_algorithm: str | None = None
    snapshot_chains: list[ChainDetail]
    snapshot_group_id: str | None


class SnapshotExtension(BaseModel):
    """What Onecut tells of a snapshot beyond EVS."""

    legacy: Annotated[bool, Field(description="Made by the older calls: never archived, and goes with its volume.")]
    in_engine: Annotated[bool, Field(description="Whether it is kept beside the volume, for use at once.")]
    archived_at: Annotated[str | None, Field(description="None until it is in the repository.")]
    root: Annotated[str | None, Field(description="Identity of the disk's content and size in the repository.")]
    stored_bytes: Annotated[int | None, Field(description="What its archive added to the repository.")]
    full_because: Annotated[
        str | None, Field(description="Why all of the disk was read; None when only what had changed was.")
    ]
    failure: Annotated[str | None, Field(description="Why it could not be archived.")]
    fault: Annotated[str | None, Field(description="What is damaged of it in the repository.")]


class SnapshotShown(SnapshotDetail):
    """A snapshot as EVS shows it, and one key of our own."""

    onecut: SnapshotExtension


class OneShownSnapshot(BaseModel):
    """One snapshot with what became of it."""

    snapshot: SnapshotShown


class OneSnapshot(BaseModel):
    """One snapshot."""

    snapshot: SnapshotDetail


class ChangedBlocksQuery(Filters):
    """What is compared, and which page of it."""

    base: Annotated[SnapshotId | None, Field(description="A snapshot of the same volume; without one, zeros.")] = None
    marker: Annotated[int, Field(ge=0, le=2**63 - 1, description="`next_marker` of the page before.")] = 0
    limit: Limit = 1000


class ChangedBlock(BaseModel):
    """A block in which two snapshots differ."""

    offset: Annotated[int, Field(description="Bytes.")]
    length: Annotated[int, Field(description="Bytes.")]
    digest: Annotated[str | None, Field(description="Of the content; None where it is zeros.")]
    base_digest: Annotated[str | None, Field(description="Of the base's content; None where that is zeros.")]


class ChangedBlocks(BaseModel):
    """One page of the blocks in which two snapshots differ."""

    snapshot_id: str
    base: str | None
    size: Annotated[int, Field(description="Bytes of the snapshot's disk.")]
    block_size: Annotated[int, Field(description="Bytes of a block; the disk's last one may be shorter.")]
    changed_blocks: list[ChangedBlock]
    next_marker: Annotated[int | None, Field(description="`marker` of the next page; None at the end.")]


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
def list_snapshots(
    project_id: str, query: Annotated[SnapshotListQuery, Query()], asker: Asking, settings: Configured
) -> SnapshotPage:
    """List snapshots, the newest first unless sorted otherwise."""
    page = Page(query.sort_key, query.sort_dir, query.limit, query.offset, query.marker)
    found = shown_snapshots.list_page(asker, project_id, _filter(query, settings), page)
    return SnapshotPage(snapshots=[SnapshotDetail(**_fields(snapshot)) for snapshot in found])


@router.get("/count")
def count_snapshots(
    project_id: str, query: Annotated[SnapshotCountQuery, Query()], session: Reading, settings: Configured
) -> SnapshotCount:
    """Count snapshots."""
    return SnapshotCount(count=snapshots.count(session, project_id, _filter(query, settings)))


@router.get("/{snapshot_id}")
def show_snapshot(project_id: str, snapshot_id: SnapshotId, asker: Asking) -> OneShownSnapshot:
    """Show one snapshot, and what became of it."""
    snapshot = shown_snapshots.show(asker, project_id, snapshot_id)
    return OneShownSnapshot(snapshot=SnapshotShown(**_fields(snapshot), onecut=_extension(snapshot.row)))


@router.get("/{snapshot_id}/changed-blocks", openapi_extra={"x-onecut-extension": True})
def list_changed_blocks(
    *,
    project_id: str,
    snapshot_id: SnapshotId,
    query: Annotated[ChangedBlocksQuery, Query()],
    database: Store,
    repository: Archived,
    clock: Time,
) -> ChangedBlocks:
    """List the blocks in which an archived snapshot differs from another of its volume, or from zeros."""
    compared = changed_blocks.compare(
        database,
        repository,
        project_id,
        snapshot_id,
        base_id=query.base,
        marker=query.marker,
        limit=query.limit,
        now=clock.now(),
    )
    return ChangedBlocks(
        snapshot_id=snapshot_id,
        base=query.base,
        size=compared.size_bytes,
        block_size=compared.block_bytes,
        changed_blocks=[ChangedBlock(**asdict(block)) for block in compared.found.blocks],
        next_marker=compared.found.marker,
    )


@router.put("/{snapshot_id}")
def update_snapshot(
    project_id: str, snapshot_id: SnapshotId, body: UpdateSnapshot, session: Writing, clock: Time
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
    changed = shown_snapshots.show(session, project_id, snapshot.id)
    return OneSnapshot(snapshot=SnapshotDetail(**_fields(changed)))


@router.delete("/{snapshot_id}", status_code=202)
def delete_snapshot(project_id: str, snapshot_id: SnapshotId, session: Writing, clock: Time) -> JobOrdered:
    """Delete a snapshot; a member of a group leaves it."""
    return JobOrdered(job_id=snapshots.order_deletion(session, project_id, snapshot_id, clock.now()))


@router.post("/{snapshot_id}/rollback", status_code=202)
def roll_back_snapshot(
    project_id: str, snapshot_id: SnapshotId, body: RollBackSnapshot, session: Writing, clock: Time
) -> JobOrdered:
    """Give a detached volume the content of its snapshot again."""
    volume_id = body.rollback.volume_id
    job_id = snapshots.order_rollback(session, project_id, snapshot_id, clock.now(), volume_id=volume_id)
    return JobOrdered(job_id=job_id)


def _filter(query: SnapshotCountQuery, settings: Settings) -> SnapshotFilter:
    given = query.model_dump(include={field for field in SnapshotFilter.__dataclass_fields__ if field != "ids"})
    wanted = SnapshotFilter(ids=_ids(query), **given)
    snapshots.check_filter(wanted, settings.availability_zones)
    return wanted


def _ids(query: SnapshotCountQuery) -> Sequence[str] | None:
    if isinstance(query, SnapshotListQuery) and query.ids is not None:
        return [snapshot_id.strip() for snapshot_id in query.ids.split(",")]
    return None if query.id is None else [query.id]


def _extension(row: Row[*tuple[Any, ...]]) -> SnapshotExtension:
    return SnapshotExtension(
        legacy=row.legacy,
        in_engine=row.point == "held",
        archived_at=_optional_time(row.archived_at),
        root=row.root,
        stored_bytes=row.stored_bytes,
        full_because=row.full_because,
        failure=row.failure,
        fault=row.fault,
    )


def _optional_time(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)


def _fields(snapshot: ShownSnapshot) -> dict[str, Any]:
    """Return the fields of a `SnapshotDetail`."""
    row = snapshot.row
    return {
        "id": row.id,
        "name": row.name,
        "description": row.description,
        "created_at": time_text(row.created_at),
        "updated_at": time_text(row.updated_at),
        "volume_id": row.volume_id,
        "size": row.size_gib,
        "status": row.status,
        "project_id": row.project_id,
        "enterprise_project_id": row.enterprise_project_id,
        "category": row.category,
        "availability_zone": row.availability_zone,
        "tags": snapshot.tags,
        "instant_access": row.instant_access,
        "retention_at": _optional_time(row.retention_at),
        "instant_access_retention_at": _optional_time(row.instant_access_retention_at),
        "incremental": row.incremental,
        "snapshot_type": row.snapshot_type,
        "progress": f"{row.progress_percent}%",
        "snapshot_chains": [] if row.chain_id is None else [_chain(snapshot)],
        "snapshot_group_id": row.snapshot_group_id,
    }


def _chain(snapshot: ShownSnapshot) -> ChainDetail:
    row = snapshot.row
    return ChainDetail(
        id=row.chain_id,
        availability_zone=row.chain_availability_zone,
        snapshot_count=snapshot.chain_count,
        capacity=chains.capacity_gib(row.chain_stored_bytes),
        project_id=row.project_id,
        volume_id=row.chain_volume_id,
        category=row.chain_category,
        created_at=time_text(row.chain_created_at),
        updated_at=time_text(row.chain_updated_at),
    )
