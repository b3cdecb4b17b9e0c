"""Waiting for an engine that does not answer: a daemon that died, or a database that went away, is back soon."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

import structlog
from sqlalchemy.exc import OperationalError

from onecut.errors import EngineDown

log = structlog.get_logger()

Result = TypeVar("Result")

ENGINE_PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0)
"""Pauses while the engine does not answer. A daemon that died runs again well within their sum."""


async def persist(act: Callable[[], Awaitable[Result]], pauses_s: Sequence[float]) -> Result:
    """
    Do *act*, and do it again after each pause while the engine, or the database that it remembers by, is away.

    Every act of an engine bears being repeated with the same ids (see `Engine`).

    Raises:
        EngineDown: The engine did not answer the last time either.
        OperationalError: The database did not.
    """
    for pause_s in pauses_s:
        try:
            return await act()
        except (EngineDown, OperationalError) as error:
            log.warning("engine_away", reason=str(error), pause_s=pause_s)
        await asyncio.sleep(pause_s)
    return await act()
