"""Transactions from the event loop, for the worker and for the steps of jobs."""

import asyncio
import itertools
from collections.abc import Callable
from typing import TypeVar

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from onecut.db.session import Database
from onecut.db.threads import in_thread

log = structlog.get_logger()

Result = TypeVar("Result")

DATABASE_RETRY_S = (0.1, 0.5, 2.0, 5.0, 15.0)
"""Pauses after the database refused (it is full, or away); the last one repeats. The job stays where it was."""


async def read(database: Database, question: Callable[[Session], Result]) -> Result:
    """Ask *question* in a reading transaction, off the loop, until the database answers."""

    def once() -> Result:
        with database.reading() as session:
            return question(session)

    return await _insist(once)


async def transact(database: Database, act: Callable[[Session], Result]) -> Result:
    """Run *act* in a writing transaction, off the loop, until the database lets it."""

    def once() -> Result:
        with database.writing(job=True) as session:
            return act(session)

    return await _insist(once)


async def _insist(once: Callable[[], Result]) -> Result:
    pauses_s = itertools.chain(DATABASE_RETRY_S, itertools.repeat(DATABASE_RETRY_S[-1]))
    while True:
        try:
            return await in_thread(once)
        except OperationalError:
            pause_s = next(pauses_s)
            log.exception("database_refused", pause_s=pause_s)
            await asyncio.sleep(pause_s)
