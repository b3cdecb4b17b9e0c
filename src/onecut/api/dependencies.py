"""What handlers ask for by type: an open transaction, the database, the repository, the clock, the settings."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.orm import Session

from onecut.clock import Clock
from onecut.config import Settings
from onecut.db.session import Database
from onecut.repository.repository import Repository


async def refuse_nul(request: Request) -> None:
    """Refuse the character U+0000 in ids and filters, as texts of a body do: no database takes it."""
    for place, values in (("path", request.path_params.items()), ("query", request.query_params.multi_items())):
        for name, value in values:
            if "\0" in value:
                message = "must not contain the character U+0000"
                error = {"type": "text_nul", "loc": (place, name), "msg": message, "input": value}
                raise RequestValidationError([error])


def _reading(request: Request) -> Iterator[Session]:
    database: Database = request.app.state.database
    with database.reading() as session:
        yield session


def _writing(request: Request) -> Iterator[Session]:
    database: Database = request.app.state.database
    with database.writing() as session:
        yield session


def _clock(request: Request) -> Clock:
    clock: Clock = request.app.state.clock
    return clock


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _repository(request: Request) -> Repository:
    repository: Repository = request.app.state.repository
    return repository


# Scope "function": the transaction ends before the answer is sent, so a commit that fails is never answered with 202.
Reading = Annotated[Session, Depends(_reading, scope="function")]
Writing = Annotated[Session, Depends(_writing, scope="function")]
Time = Annotated[Clock, Depends(_clock)]
Configured = Annotated[Settings, Depends(_settings)]
Store = Annotated[Database, Depends(_database)]
Archived = Annotated[Repository, Depends(_repository)]
