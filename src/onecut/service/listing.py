"""Sorting and paging, the same for every list: a total order (sort column, then id), by offset or after a marker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, TypeVarTuple

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from onecut.db.session import Asker
from onecut.errors import BadRequest

Row = TypeVar("Row")
Ts = TypeVarTuple("Ts")


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
    row_id: InstrumentedAttribute[str],
    sort_columns: dict[str, InstrumentedAttribute[Any]],
) -> Sequence[Row]:
    """Return one page of *query*; see `page_of`."""
    return session.scalars(page_of(session, query, page, row_id=row_id, sort_columns=sort_columns)).all()


def page_of(
    asker: Asker,
    query: Select[*Ts],
    page: Page,
    *,
    row_id: InstrumentedAttribute[str],
    sort_columns: dict[str, InstrumentedAttribute[Any]],
) -> Select[*Ts]:
    """
    Narrow *query* to one page.

    The order is total, so paging neither repeats nor loses a row that stays; a marker that is gone, or that the
    query does not hold, is refused with EVS.1024.
    """
    column = sort_columns[page.sort_key]
    if page.marker is not None:
        query = query.where(_behind(asker, query, page, row_id=row_id, column=column))
    order = (column, row_id) if page.sort_dir == "asc" else (column.desc(), row_id.desc())
    return query.order_by(*order).offset(page.offset).limit(page.limit)


def _behind(
    asker: Asker,
    query: Select[*Ts],
    page: Page,
    *,
    row_id: InstrumentedAttribute[str],
    column: InstrumentedAttribute[Any],
) -> Any:  # noqa: ANN401 - a row comparison has no public type
    last = asker.execute(query.with_only_columns(column, row_id).where(row_id == page.marker)).one_or_none()
    if last is None:
        raise BadRequest(f"marker: {page.marker!r} is not an item of this list", code="EVS.1024")
    place = tuple_(column, row_id)
    return place > tuple(last) if page.sort_dir == "asc" else place < tuple(last)
