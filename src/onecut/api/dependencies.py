"""What handlers ask for by type: a transaction, the database, the repository, the clock, the settings."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from onecut.api.routing import Opening
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


async def _reading(request: Request) -> Opening:
    database: Database = request.app.state.database
    return Opening(database.reading)


async def _asking(request: Request) -> Opening:
    database: Database = request.app.state.database
    return Opening(database.asking)


async def _writing(request: Request) -> Opening:
    database: Database = request.app.state.database
    return Opening(database.writing)


async def _clock(request: Request) -> Clock:
    clock: Clock = request.app.state.clock
    return clock


async def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


async def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


async def _repository(request: Request) -> Repository:
    repository: Repository = request.app.state.repository
    return repository


# Coroutines, though they wait for nothing: FastAPI sends every other dependency through its thread pool.
Reading = Annotated[Session, Depends(_reading)]
Asking = Annotated[Connection, Depends(_asking)]
Writing = Annotated[Session, Depends(_writing)]
Time = Annotated[Clock, Depends(_clock)]
Configured = Annotated[Settings, Depends(_settings)]
Store = Annotated[Database, Depends(_database)]
Archived = Annotated[Repository, Depends(_repository)]
