"""Bringing a database to the schema of this release."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from onecut.db.session import Database
from onecut.errors import Misconfigured


def alembic_config() -> Config:
    """Return Alembic's configuration, for the packaged migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade(database: Database) -> None:
    """
    Run the migrations that are missing; none when the schema is of this release already.

    Raises:
        Misconfigured: A row would refer to one that is not there; nothing was changed.
    """
    config = alembic_config()
    with database.engine.connect() as connection, _foreign_keys_checked_at_the_end(connection):
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def _foreign_keys_checked_at_the_end(connection: Connection) -> Iterator[None]:
    """
    Open a transaction in which SQLite lets a table go that others refer to.

    Altering a column there means to copy the table, to drop it and to give the copy its name (SQLite, ALTER TABLE,
    "Making other kinds of table schema changes"), and whether references are checked can't be changed inside a
    transaction.
    """
    if connection.dialect.name != "sqlite":
        with connection.begin():
            yield
        return
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA foreign_keys = OFF")
    try:
        with connection.begin():
            yield
            if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                raise Misconfigured(f"the database has rows of {broken[0]} that refer to none of {broken[2]}")
    finally:
        driver.execute("PRAGMA foreign_keys = ON")


def require_current(database: Database) -> None:
    """
    Check that the schema is of this release, and change nothing.

    Raises:
        Misconfigured: It is of another, or there is none yet.
    """
    with database.engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    wanted = ScriptDirectory.from_config(alembic_config()).get_current_head()
    if found != wanted:
        raise Misconfigured(
            f"the database has the schema {found or 'of no release'}, and this release needs {wanted}: "
            "start the service of this release once"
        )
