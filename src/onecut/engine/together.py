"""Acts that others do not end: several at once, and one whose caller is broken off."""

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def all_of(acts: Iterable[Awaitable[T]]) -> list[T]:
    """Run all, wait for all, and only then raise what the first one that failed raised."""
    outcomes = await asyncio.gather(*acts, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


async def to_the_end(act: Coroutine[Any, Any, T]) -> T:
    """Wait for an act that is not broken off when its caller is; the caller's end waits for the act's."""
    acting = asyncio.create_task(act)
    try:
        return await asyncio.shield(acting)
    except asyncio.CancelledError:
        await asyncio.wait([acting])
        acting.exception()  # asyncio reports one that nobody has looked at
        raise
