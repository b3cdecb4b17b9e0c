"""Waiting for what does not answer: a daemon, a database or a repository that is back soon."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

import structlog
from sqlalchemy.exc import OperationalError

from onecut.errors import EngineDown

log = structlog.get_logger()

Result = TypeVar("Result")

AWAY: Final = (EngineDown, OperationalError)
"""The engine, or the database that it remembers by, does not answer."""

ENGINE_PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0)
"""Pauses while the engine does not answer. A daemon that died runs again well within their sum."""


async def persist(
    act: Callable[[], Awaitable[Result]],
    pauses_s: Iterable[float],
    meanwhile: tuple[type[Exception], ...] = AWAY,
) -> Result:
    """
    Do *act*, and do it again after each pause while it raises one of the errors *meanwhile*.

    Every act of an engine bears being repeated with the same ids (see `Engine`), and so does every act here.

    Raises:
        OnecutError, OperationalError: One of those came the last time too.
    """
    for pause_s in pauses_s:
        try:
            return await act()
        except meanwhile as error:
            log.warning("act_repeated", reason=str(error), pause_s=pause_s)
        await asyncio.sleep(pause_s)
    return await act()
