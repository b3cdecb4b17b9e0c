"""Opening the database that the settings name."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from onecut.config import Settings
from onecut.db.session import Database
from onecut.errors import Misconfigured


def database_url(settings: Settings) -> str:
    """Return the SQLAlchemy URL of the database."""
    return settings.database or f"sqlite:///{settings.data.absolute() / 'onecut.db'}"


@contextmanager
def open_database(settings: Settings, prepare: Callable[[Database], None]) -> Iterator[Database]:
    """
    Open the database, *prepare* it (see `onecut.db.migrate`), and close it at the end of the block.

    Raises:
        Misconfigured: It can't be opened; the sentence says why.
    """
    try:
        database = Database(database_url(settings))
        prepare(database)
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"the driver {error.name} of the database is not installed; "
            "PostgreSQL's comes with: pip install 'onecut[postgresql]'"
        ) from error
    except (SQLAlchemyError, CommandError) as error:
        # The driver's own sentence, without the statement and the link that SQLAlchemy adds in further lines.
        reason = error.orig if isinstance(error, DBAPIError) else error
        raise Misconfigured(f"the database can't be opened: {reason}") from error
    try:
        yield database
    finally:
        database.close()
