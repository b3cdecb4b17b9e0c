"""
Snapshots as they are shown: each with what the repository has of it, its chain and its tags.

They are read as rows, in three questions however many there are: lists of a thousand are what clients poll.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, and_, bindparam, select

from onecut.db.archives import Archive, SnapshotChain
from onecut.db.session import Asker
from onecut.db.snapshots import Snapshot
from onecut.errors import NotFound
from onecut.service import chains, listing, snapshots, tags
from onecut.service.listing import Page
from onecut.service.snapshots import SnapshotFilter

_ROWS: Final = (
    select(
        Snapshot.id,
        Snapshot.project_id,
        Snapshot.legacy,
        Snapshot.name,
        Snapshot.description,
        Snapshot.status,
        Snapshot.volume_id,
        Snapshot.snapshot_group_id,
        Snapshot.size_gib,
        Snapshot.availability_zone,
        Snapshot.category,
        Snapshot.instant_access,
        Snapshot.incremental,
        Snapshot.snapshot_type,
        Snapshot.progress_percent,
        Snapshot.enterprise_project_id,
        Snapshot.point,
        Snapshot.fault,
        Snapshot.retention_at,
        Snapshot.instant_access_retention_at,
        Snapshot.created_at,
        Snapshot.updated_at,
        Archive.archived_at,
        Archive.root,
        Archive.stored_bytes,
        Archive.full_because,
        Archive.failure,
        SnapshotChain.id.label("chain_id"),
        SnapshotChain.availability_zone.label("chain_availability_zone"),
        SnapshotChain.volume_id.label("chain_volume_id"),
        SnapshotChain.category.label("chain_category"),
        SnapshotChain.stored_bytes.label("chain_stored_bytes"),
        SnapshotChain.created_at.label("chain_created_at"),
        SnapshotChain.updated_at.label("chain_updated_at"),
    )
    .outerjoin(Archive, Archive.snapshot_id == Snapshot.id)
    .outerjoin(SnapshotChain, and_(SnapshotChain.id == Archive.chain_id, Archive.archived_at.is_not(None)))
)
"""One for each snapshot; ``chain_id`` is None until it is archived."""

_ONE: Final = _ROWS.add_columns(chains.archived_in(SnapshotChain.id).label("chain_count")).where(
    Snapshot.id == bindparam("snapshot_id"), Snapshot.project_id == bindparam("project_id")
)
"""Counted on the way, which is quicker for one; the snapshots of a list may all be of one chain."""


@dataclass(frozen=True, slots=True)
class ShownSnapshot:
    """One snapshot."""

    row: Row[*tuple[Any, ...]]
    """See `_ROWS`."""
    tags: Mapping[str, str]
    chain_count: int
    """How many archived snapshots its chain has; 0 without a chain."""


def show(asker: Asker, project_id: str, snapshot_id: str) -> ShownSnapshot:
    """
    Return a snapshot of the project.

    Raises:
        NotFound: There is none of that id in this project.
    """
    row = asker.execute(_ONE, {"snapshot_id": snapshot_id, "project_id": project_id}).one_or_none()
    if row is None:
        raise NotFound("snapshot", snapshot_id)
    return ShownSnapshot(row, tags.of(asker, [row.id])[row.id], row.chain_count)


def list_page(asker: Asker, project_id: str, wanted: SnapshotFilter, page: Page) -> list[ShownSnapshot]:
    """Return one page of the project's snapshots that pass a filter; raises as `snapshots.list_page` does."""
    query = _ROWS.where(*snapshots.conditions(project_id, wanted))
    page_query = listing.page_of(
        asker, query, page, project_id=project_id, row_id=Snapshot.id, sort_columns=snapshots.SORT_COLUMNS
    )
    rows = asker.execute(page_query).all()
    tags_of = tags.of(asker, [row.id for row in rows])
    counts = chains.snapshot_counts(asker, {row.chain_id for row in rows if row.chain_id is not None})
    return [ShownSnapshot(row, tags_of[row.id], counts.get(row.chain_id, 0)) for row in rows]
