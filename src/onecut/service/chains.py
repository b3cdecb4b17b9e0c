"""The chains of archived snapshots: which there are, and how much they hold."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, ScalarSelect, bindparam, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from onecut.db.archives import Archive, SnapshotChain
from onecut.db.session import Asker
from onecut.service import listing
from onecut.service.listing import Page
from onecut.units import GiB

SORT_COLUMNS = {"created_at": SnapshotChain.created_at}


@dataclass(frozen=True)
class ChainFilter:
    """Which chains a list holds; None lets every chain pass."""

    id: str | None = None
    volume_id: str | None = None
    category: str | None = None
    availability_zone: str | None = None


def list_page(session: Session, project_id: str, wanted: ChainFilter, page: Page) -> Sequence[SnapshotChain]:
    """
    Return one page of the project's chains that pass a filter.

    Raises:
        BadRequest: The marker is unknown (EVS.1024).
    """
    query = select(SnapshotChain).where(*_conditions(project_id, wanted))
    return listing.rows(
        session, query, page, project_id=project_id, row_id=SnapshotChain.id, sort_columns=SORT_COLUMNS
    )


def count(session: Session, project_id: str, wanted: ChainFilter) -> int:
    """Return how many of the project's chains pass a filter."""
    query = select(func.count()).select_from(SnapshotChain).where(*_conditions(project_id, wanted))
    return session.scalar(query) or 0


def archived_in(chain_id: InstrumentedAttribute[str]) -> ScalarSelect[int]:
    """Count the archived snapshots of a chain, as a column beside *chain_id*."""
    counted = aliased(Archive)
    archived = (counted.chain_id == chain_id, counted.archived_at.is_not(None))
    return select(func.count()).select_from(counted).where(*archived).scalar_subquery()


_COUNTS: Final = (
    select(Archive.chain_id, func.count())
    .where(Archive.chain_id.in_(bindparam("chain_ids", expanding=True)), Archive.archived_at.is_not(None))
    .group_by(Archive.chain_id)
)


def snapshot_counts(asker: Asker, chain_ids: Collection[str]) -> dict[str, int]:
    """Return how many archived snapshots each chain has."""
    if not chain_ids:
        return {}
    counted = asker.execute(_COUNTS, {"chain_ids": list(chain_ids)})
    return {chain_id: number for chain_id, number in counted if chain_id is not None}


def capacity_gib(stored_bytes: int) -> int | float:
    """Return *stored_bytes*, which a chain holds in the repository, in GiB: a whole number where it is one."""
    whole, rest = divmod(max(stored_bytes, 0), GiB)
    return whole + round(rest / GiB, 9) if rest else whole


def _conditions(project_id: str, wanted: ChainFilter) -> list[ColumnElement[bool]]:
    # A chain is begun with the first archive's first attempt; it is one when that archive is whole.
    begun = exists().where(Archive.chain_id == SnapshotChain.id, Archive.archived_at.is_not(None))
    return [
        SnapshotChain.project_id == project_id,
        begun,
        *(
            column == value
            for column, value in (
                (SnapshotChain.id, wanted.id),
                (SnapshotChain.volume_id, wanted.volume_id),
                (SnapshotChain.category, wanted.category),
                (SnapshotChain.availability_zone, wanted.availability_zone),
            )
            if value is not None
        ),
    ]
