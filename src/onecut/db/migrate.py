"""Bringing a database to the schema of this release."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from onecut.db.session import Database
from onecut.errors import Misconfigured


def alembic_config() -> Config:
    """Return Alembic's configuration, for the packaged migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def upgrade(database: Database) -> None:
    """Run the migrations that are missing; none when the schema is of this release already."""
    config = alembic_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


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
