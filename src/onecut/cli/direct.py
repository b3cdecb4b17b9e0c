"""What ``onecut admin`` shares: the service's own database and key, while the service runs or not."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click
from sqlalchemy import make_url
from sqlalchemy.orm import Session

from onecut.cli.settings import load_settings
from onecut.clock import SystemClock
from onecut.config import Settings
from onecut.db.migrate import require_current
from onecut.db.opening import database_url, open_database
from onecut.db.session import Database
from onecut.errors import Misconfigured, Refused
from onecut.service import access_keys
from onecut.service.passwords import Passwords
from onecut.service.secrets import ServiceKey

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of the service (default: ./onecut-data).",
)
password_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from the first line of standard input."
)


@dataclass
class Books:
    """An open transaction on the service's database, and what belongs to it."""

    session: Session
    settings: Settings
    clock: SystemClock

    @property
    def passwords(self) -> Passwords:
        """What hashes passwords."""
        return Passwords(self.clock)

    def service_key(self) -> ServiceKey:
        """
        Return the key that encrypts secret keys.

        Raises:
            Misconfigured: It can't be read, or belongs to another database.
        """
        key = ServiceKey.read(self.settings.data / "secret.key")
        access_keys.check_service_key(self.session, key)
        return key


def changing(data: Path | None) -> AbstractContextManager[Books]:
    """
    Open the database that the settings name; what is changed is committed at the end of the block, or not at all.

    Raises:
        click.ClickException: There is no database yet, or something was refused.
    """
    return _opened(data, Database.writing)


def reading(data: Path | None) -> AbstractContextManager[Books]:
    """Open the database as `changing` does, and change nothing."""
    return _opened(data, Database.reading)


@contextmanager
def _opened(data: Path | None, begin: Callable[[Database], AbstractContextManager[Session]]) -> Iterator[Books]:
    settings = load_settings(data=data)
    try:
        _require_database(settings)
        with open_database(settings, require_current) as database, begin(database) as session:
            yield Books(session, settings, SystemClock())
    except Misconfigured as error:
        raise click.ClickException(str(error)) from error
    except Refused as error:
        raise click.ClickException(error.message) from error


def _require_database(settings: Settings) -> None:
    url = make_url(database_url(settings))
    if url.get_backend_name() == "sqlite" and not (url.database and Path(url.database).exists()):
        raise Misconfigured(f"there is no database {url.database}: name the folder with --data, or start the service")


def read_password(*, from_stdin: bool) -> str:
    """Read a password without showing it; from a terminal it is asked for twice."""
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


@contextmanager
def private_file(path: Path) -> Iterator[IO[str]]:
    """
    Make a file of mode 0600; it is gone again when the block raises.

    Raises:
        click.ClickException: It is there already, or can't be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w") as file:
            yield file
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def enabled_text(*, enabled: bool) -> str:
    """Say it in a word."""
    return "enabled" if enabled else "disabled"


Row = dict[str, Any]
"""One line of a table, and one object of ``--json``."""
