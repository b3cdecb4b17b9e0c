"""``/v5/{project_id}/snapshots``: snapshots, alone or as members of a group."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from onecut.api.auth import project_caller
from onecut.api.chains import ChainDetail, chain_detail
from onecut.api.dependencies import Archived, Reading, Store, Time, Writing
from onecut.api.fields import (
    Body,
    EnterpriseProjectFilter,
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
from onecut.api.tags import add_routes
from onecut.clock import time_text
from onecut.db.archives import Archive, SnapshotChain
from onecut.db.snapshots import Snapshot
from onecut.service import chains, changed_blocks, snapshots, tags
from onecut.service.listing import Page
from onecut.service.snapshots import NewSnapshot, SnapshotFilter

router = APIRouter(prefix="/v5/{project_id}/snapshots", tags=["snapshots"], dependencies=[Depends(project_caller)])
add_routes(router, snapshots.TAGGED, "snapshot_id")


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


class ShownSnapshot(BaseModel):
    """One snapshot with what became of it."""

    snapshot: SnapshotShown


class OneSnapshot(BaseModel):
    """One snapshot."""

    snapshot: SnapshotDetail


class ChangedBlocksQuery(Filters):
    """What is compared, and which page of it."""

    base: Annotated[str | None, Field(description="A snapshot of the same volume; without one, zeros.")] = None
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
def list_snapshots(project_id: str, query: Annotated[SnapshotListQuery, Query()], session: Reading) -> SnapshotPage:
    """List snapshots, the newest first unless sorted otherwise."""
    page = Page(query.sort_key, query.sort_dir, query.limit, query.offset, query.marker)
    found = snapshots.list_page(session, project_id, _filter(query), page)
    return SnapshotPage(snapshots=_details(session, found))


@router.get("/count")
def count_snapshots(
    project_id: str, query: Annotated[SnapshotCountQuery, Query()], session: Reading
) -> SnapshotCount:
    """Count snapshots."""
    return SnapshotCount(count=snapshots.count(session, project_id, _filter(query)))


@router.get("/{snapshot_id}")
def show_snapshot(project_id: str, snapshot_id: str, session: Reading) -> ShownSnapshot:
    """Show one snapshot, and what became of it."""
    snapshot = snapshots.find(session, project_id, snapshot_id)
    detail = _shown(session, snapshot)
    return ShownSnapshot(snapshot=SnapshotShown(**detail.model_dump(), onecut=_extension(snapshot)))


@router.get("/{snapshot_id}/changed-blocks", openapi_extra={"x-onecut-extension": True})
def list_changed_blocks(
    *,
    project_id: str,
    snapshot_id: str,
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


def _filter(query: SnapshotCountQuery) -> SnapshotFilter:
    given = query.model_dump(include={field for field in SnapshotFilter.__dataclass_fields__ if field != "ids"})
    return SnapshotFilter(ids=_ids(query), **given)


def _ids(query: SnapshotCountQuery) -> Sequence[str] | None:
    if isinstance(query, SnapshotListQuery) and query.ids is not None:
        return [snapshot_id.strip() for snapshot_id in query.ids.split(",")]
    return None if query.id is None else [query.id]


def _shown(session: Session, snapshot: Snapshot) -> SnapshotDetail:
    return _details(session, [snapshot])[0]


def _details(session: Session, found: Sequence[Snapshot]) -> list[SnapshotDetail]:
    tags_of = tags.of(session, [snapshot.id for snapshot in found])
    in_chains = {chain.id for snapshot in found if (chain := _chain(snapshot)) is not None}
    numbers = chains.snapshot_counts(session, in_chains)
    return [_detail(snapshot, tags_of[snapshot.id], numbers) for snapshot in found]


def _chain(snapshot: Snapshot) -> SnapshotChain | None:
    """Return the chain of a snapshot that is archived."""
    archive = snapshot.archive
    return None if archive is None or archive.archived_at is None else archive.chain


def _extension(snapshot: Snapshot) -> SnapshotExtension:
    archive = snapshot.archive or Archive()
    return SnapshotExtension(
        legacy=snapshot.legacy,
        in_engine=snapshot.point == "held",
        archived_at=_optional_time(archive.archived_at),
        root=archive.root,
        stored_bytes=archive.stored_bytes,
        full_because=archive.full_because,
        failure=archive.failure,
        fault=snapshot.fault,
    )


def _optional_time(moment: datetime | None) -> str | None:
    return None if moment is None else time_text(moment)


def _detail(snapshot: Snapshot, its_tags: Mapping[str, str], numbers: Mapping[str, int]) -> SnapshotDetail:
    chain = _chain(snapshot)
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
        retention_at=_optional_time(snapshot.retention_at),
        instant_access_retention_at=_optional_time(snapshot.instant_access_retention_at),
        incremental=snapshot.incremental,
        snapshot_type=snapshot.snapshot_type,
        progress=f"{snapshot.progress_percent}%",
        snapshot_chains=[] if chain is None else [chain_detail(chain, numbers[chain.id])],
        snapshot_group_id=snapshot.snapshot_group_id,
    )
