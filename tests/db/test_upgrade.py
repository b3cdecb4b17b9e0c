"""Databases of earlier releases are brought to the schema of this one with all that is in them."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import JSON, Column, MetaData, func, insert, select

from onecut.db.migrate import alembic_config, upgrade
from onecut.db.session import Database
from onecut.errors import Misconfigured


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Database]:
    """A database of the first release, with a row in each table, each referring to another wherever it can."""
    database = Database(f"sqlite:///{tmp_path / 'onecut.db'}")
    config = alembic_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    with database.engine.begin() as connection:
        tables = MetaData()
        tables.reflect(connection)
        rows: dict[str, dict[str, Any]] = {}
        for table in tables.sorted_tables:
            if table.name != "alembic_version":
                rows[table.name] = {column.name: _value(column, rows) for column in table.columns}
                connection.execute(insert(table).values(rows[table.name]))
    yield database
    database.close()


def _value(column: Column[Any], rows: dict[str, dict[str, Any]]) -> Any:
    """Make up a value, or name the row that is there already."""
    for key in column.foreign_keys:
        return rows.get(key.column.table.name, {}).get(key.column.name)
    if isinstance(column.type, JSON):
        return {}
    made: dict[type, Any] = {int: 1, bool: False, str: "x", bytes: b"x", float: 1.0, datetime: datetime(2026, 1, 1)}  # noqa: DTZ001 - stored as UTC
    return made[column.type.python_type]


def test_every_row_is_kept(first: Database) -> None:
    """Tables are copied while others refer to them, and nothing is lost."""
    before = _counts(first)

    upgrade(first)

    after = _counts(first)
    assert {name: after[name] for name in before} == before
    with first.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_row_that_refers_to_nothing_ends_the_upgrade(first: Database) -> None:
    """Somebody's hand in the database is told, and nothing is changed."""
    with first.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys = OFF")
        connection.exec_driver_sql("DELETE FROM server")
        connection.commit()
        driver.execute("PRAGMA foreign_keys = ON")
    before = _counts(first)

    with pytest.raises(Misconfigured, match="refer to none of server"):
        upgrade(first)

    assert _counts(first) == before


def _counts(database: Database) -> dict[str, int]:
    with database.engine.connect() as connection:
        tables = MetaData()
        tables.reflect(connection)
        names = [table for table in tables.sorted_tables if table.name != "alembic_version"]
        return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in names}
