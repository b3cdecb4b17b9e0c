"""Waiting for the database off the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from typing import TypeVar

Result = TypeVar("Result")


async def in_thread(act: Callable[[], Result], threads: Executor | None = None) -> Result:
    """
    Call *act* in one of *threads*, by default the loop's own, with the caller's context.

    A cancellation waits for its end: the database is closed behind it, not under it.
    """
    running = asyncio.get_running_loop().run_in_executor(threads, copy_context().run, act)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.gather(running, return_exceptions=True)
        raise
