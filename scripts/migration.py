"""
Write the migration that takes the last release's schema to that of `onecut.db`.

    .venv/bin/python scripts/migration.py 0002 "Keep what volumes were made from"

Read what it wrote: a rename looks like a drop and an add, and data is never moved by itself.
"""

import sys
import tempfile
from pathlib import Path

from alembic import command

from onecut.db.migrate import alembic_config, upgrade
from onecut.db.session import Database


def main(revision: str, message: str) -> None:
    """Compare the tables with a database that has all migrations so far, and write the difference down."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'schema.db'}")
        upgrade(database)
        config = alembic_config()
        with database.engine.begin() as connection:
            config.attributes["connection"] = connection
            command.revision(config, message, autogenerate=True, rev_id=revision)
        database.close()


main(*sys.argv[1:])
