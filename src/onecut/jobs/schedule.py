"""What is done again and again while the service runs."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy.exc import OperationalError

from onecut.db.threads import in_thread

log = structlog.get_logger()

EVERY_S: Final = 5.0
"""How often it is looked whether something is due: no more often does a clock have to be right."""


async def repeat(act: Callable[[], object], *, every_s: float = EVERY_S) -> None:
    """Call *act* in a thread, at once and then after each pause; a database that refuses is asked again later."""
    while True:
        try:
            await in_thread(act)
        except OperationalError as error:
            log.warning("schedule_waits", error=str(error))
        await asyncio.sleep(every_s)
