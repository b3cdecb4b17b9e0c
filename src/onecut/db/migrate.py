"""Bringing a database to the schema of this release."""

from pathlib import Path

from alembic import command
from alembic.config import Config

from onecut.db.session import Database


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
