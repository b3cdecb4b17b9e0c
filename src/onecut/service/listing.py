"""
Sorting and paging, the same for every list: a total order (sort column, then id), by offset or after a marker.

A marker is the id of the last item of the page before. That item may have been renamed or deleted since: its place is
looked up in the project, not among what passes the filter, and is known for a day after its end.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal, TypeVar, TypeVarTuple

from sqlalchemy import Select, delete, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from onecut.db.deleted_rows import DeletedRow
from onecut.db.session import Asker, Database
from onecut.errors import BadRequest

Row = TypeVar("Row")
Ts = TypeVarTuple("Ts")

KNOWN_FOR: Final = timedelta(days=1)
"""How long the place of a deleted row is known: longer than anybody takes from one page to the next."""


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted, and in which order."""

    sort_key: str = "created_at"
    sort_dir: Literal["asc", "desc"] = "desc"
    limit: int = 1000
    offset: int = 0
    marker: str | None = None
    """Id of the last item of the page before; the page begins behind it."""


def rows(
    session: Session,
    query: Select[Row],
    page: Page,
    *,
    project_id: str,
    row_id: InstrumentedAttribute[str],
    sort_columns: dict[str, InstrumentedAttribute[Any]],
) -> Sequence[Row]:
    """Return one page of *query*; see `page_of`."""
    narrowed = page_of(session, query, page, project_id=project_id, row_id=row_id, sort_columns=sort_columns)
    return session.scalars(narrowed).all()


def page_of(
    asker: Asker,
    query: Select[*Ts],
    page: Page,
    *,
    project_id: str,
    row_id: InstrumentedAttribute[str],
    sort_columns: dict[str, InstrumentedAttribute[Any]],
) -> Select[*Ts]:
    """
    Narrow *query*, which is about rows of a project, to one page.

    The order is total, so paging by markers neither repeats nor loses a row that keeps its place. A marker that is
    none of the project's rows is refused with EVS.1024; so is a deleted one whose place may have changed before.
    """
    column = sort_columns[page.sort_key]
    if page.marker is not None:
        place = _place(asker, project_id, page.marker, row_id=row_id, column=column)
        order = tuple_(column, row_id)
        query = query.where(order > place if page.sort_dir == "asc" else order < place)
    ordered = (column, row_id) if page.sort_dir == "asc" else (column.desc(), row_id.desc())
    return query.order_by(*ordered).offset(page.offset).limit(page.limit)


def _place(
    asker: Asker,
    project_id: str,
    marker: str,
    *,
    row_id: InstrumentedAttribute[str],
    column: InstrumentedAttribute[Any],
) -> tuple[Any, str]:
    there = select(column, row_id).where(row_id == marker, row_id.class_.project_id == project_id)
    found = asker.execute(there).one_or_none()
    if found is None and column.key in {"id", "created_at"}:
        kept = getattr(DeletedRow, column.key)
        gone = select(kept, DeletedRow.id).where(DeletedRow.id == marker, DeletedRow.project_id == project_id)
        found = asker.execute(gone).one_or_none()
    if found is None:
        raise BadRequest(f"marker: {marker!r} is not an item of this list", code="EVS.1024")
    value, item_id = found
    return value, item_id


def check_state(resource: str, wanted: str | None, states: Collection[str]) -> None:
    """Refuse a list of what is in a state that no such *resource* ever has (EVS.1031)."""
    if wanted is not None and wanted not in states:
        raise BadRequest(f"status: {wanted!r} is no state of a {resource}", code="EVS.1031")


def forget(database: Database, now: datetime) -> None:
    """Remove the places of rows that were deleted so long ago that nobody reads on behind them."""
    with database.writing() as session:
        session.execute(delete(DeletedRow).where(DeletedRow.deleted_at < now - KNOWN_FOR))
