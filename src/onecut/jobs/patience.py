"""Waiting for what does not answer: a daemon that died runs again soon, a full store is emptied."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

import structlog

from onecut.errors import EngineDown, OnecutError

log = structlog.get_logger()

Result = TypeVar("Result")

ENGINE_PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0)
"""Pauses while the engine does not answer. A daemon that died runs again well within their sum."""


async def persist(
    act: Callable[[], Awaitable[Result]],
    pauses_s: Iterable[float],
    meanwhile: tuple[type[OnecutError], ...] = (EngineDown,),
) -> Result:
    """
    Do *act*, and do it again after each pause while it raises one of the errors *meanwhile*.

    Every act of an engine bears being repeated with the same ids (see `Engine`), and so does every act here.

    Raises:
        OnecutError: One of those errors came the last time too.
    """
    for pause_s in pauses_s:
        try:
            return await act()
        except meanwhile as error:
            log.warning("act_repeated", reason=str(error), pause_s=pause_s)
        await asyncio.sleep(pause_s)
    return await act()
