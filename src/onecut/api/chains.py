"""``/v5/{project_id}/snapshot-chains``: what archived snapshots build upon each other, and how much they hold."""

from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from onecut.api.auth import project_caller
from onecut.api.dependencies import Configured, Reading
from onecut.api.fields import Filters, Limit, Marker
from onecut.api.routing import Router
from onecut.clock import time_text
from onecut.db.archives import SnapshotChain
from onecut.service import catalog, chains
from onecut.service.chains import ChainFilter
from onecut.service.listing import Page

router = Router(
    prefix="/v5/{project_id}/snapshot-chains", tags=["snapshot chains"], dependencies=[Depends(project_caller)]
)


class ChainDetail(BaseModel):
    """A chain as EVS shows it."""

    id: str
    availability_zone: str
    snapshot_count: int
    capacity: Annotated[
        int | float, Field(description="GiB that the chain's snapshots hold in the repository, compressed.")
    ]
    project_id: str
    volume_id: str
    category: str
    created_at: str
    updated_at: str


class ChainPage(BaseModel):
    """One page of chains."""

    snapshot_chains: list[ChainDetail]


class ChainCount(BaseModel):
    """How many chains there are."""

    count: int


class ChainListQuery(Filters):
    """Filters and paging of the list."""

    id: str | None = None
    volume_id: str | None = None
    category: str | None = None
    marker: Marker | None = None
    limit: Limit = 1000


class ChainCountQuery(Filters):
    """Filters of the count."""

    id: str | None = None
    volume_id: str | None = None
    category: str | None = None
    availability_zone: str | None = None


@router.get("")
def list_chains(project_id: str, query: Annotated[ChainListQuery, Query()], session: Reading) -> ChainPage:
    """List chains, the newest first."""
    wanted = ChainFilter(id=query.id, volume_id=query.volume_id, category=query.category)
    found = chains.list_page(session, project_id, wanted, Page(limit=query.limit, marker=query.marker))
    numbers = chains.snapshot_counts(session, [chain.id for chain in found])
    return ChainPage(snapshot_chains=[chain_detail(chain, numbers[chain.id]) for chain in found])


@router.get("/count")
def count_chains(
    project_id: str, query: Annotated[ChainCountQuery, Query()], session: Reading, settings: Configured
) -> ChainCount:
    """Count chains."""
    catalog.check_zone_filter(query.availability_zone, settings.availability_zones)
    return ChainCount(count=chains.count(session, project_id, ChainFilter(**query.model_dump())))


def chain_detail(chain: SnapshotChain, snapshot_count: int) -> ChainDetail:
    """Show a chain."""
    return ChainDetail(
        id=chain.id,
        availability_zone=chain.availability_zone,
        snapshot_count=snapshot_count,
        capacity=chains.capacity_gib(chain.stored_bytes),
        project_id=chain.project_id,
        volume_id=chain.volume_id,
        category=chain.category,
        created_at=time_text(chain.created_at),
        updated_at=time_text(chain.updated_at),
    )
