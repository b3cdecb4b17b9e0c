"""Opening the database, and the two kinds of transaction: one that reads, one that writes."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from onecut.db.turns import Turns

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for the one before it (SQLite has one writer at a time)."""


Asker = Connection | Session
"""Whom rows may be asked from."""


class Database:
    """
    A database by its SQLAlchemy URL; SQLite by default, PostgreSQL by another URL.

    On SQLite a writing transaction takes the write lock at its beginning: what it has read can't be changed
    under it, and it never has to give up half-way because another writer came first. On PostgreSQL the same
    promise is kept by row locks (``with_for_update``), which SQLite ignores.
    """

    def __init__(self, url: str) -> None:
        self.engine = create_engine(url, pool_pre_ping=not url.startswith("sqlite"), json_serializer=_json)
        self.reading_sessions = sessionmaker(self.engine, expire_on_commit=False)
        self.writing_sessions = sessionmaker(
            self.engine.execution_options(onecut_writes=True), expire_on_commit=False
        )
        self.when_committed: list[Callable[[Session], None]] = []
        """Who is told of each committed session, in its thread. SQLAlchemy's events would keep all of us for ever."""
        self._turns: Turns | None = None
        if self.engine.dialect.name == "sqlite":
            self._turns = Turns()
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a transaction that sees one state of the database and changes nothing."""
        with self.reading_sessions() as session:
            yield session

    @contextmanager
    def asking(self) -> Iterator[Connection]:
        """Open a transaction like `reading`, for rows instead of objects: it costs a third where few are read."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def asking_once(self) -> Iterator[Connection]:
        """
        Let one question be asked, for rows: it sees one state of the database by itself, so no transaction is begun.

        On SQLite a beginning and an end are calls of their own, for each of which a thread waits for its turn.
        """
        with self.engine.connect() as connection:
            yield connection.execution_options(onecut_alone=True)

    @contextmanager
    def writing(self, *, job: bool = False) -> Iterator[Session]:
        """
        Open a transaction that is committed at the end of the block, or leaves no trace when it raises.

        One of a *job* lets those of requests go first, for a while.
        """
        with self._turns.turn(job=job) if self._turns else nullcontext(), self.writing_sessions.begin() as session:
            yield session
        for tell in self.when_committed:
            tell(session)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _json(value: object) -> str:
    # Keys are stored as they are: SQLite's JSON functions do not find one that is written with \\u escapes.
    return json.dumps(value, ensure_ascii=False)


def _prepare_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:  # noqa: ANN401 - a DBAPI connection has no common type
    # pysqlite would begin transactions by its own rules; Onecut begins them itself (see `_begin_sqlite`).
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # an acknowledged request survives a power cut
        "foreign_keys = ON",
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("onecut_alone", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("onecut_writes", False) else "BEGIN")
