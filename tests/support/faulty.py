"""A memory engine that fails as told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from onecut.clock import Clock
from onecut.engine.memory import MemoryEngine, OpenImage
from onecut.engine.port import Cut, Extent, ExtentKind, Source
from onecut.errors import EngineDown

Result = TypeVar("Result")


class FaultyEngine(MemoryEngine):
    """Does what `MemoryEngine` does, and raises what it was given, once each, before or after doing it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.before: dict[str, list[BaseException]] = {}
        self.after: dict[str, list[BaseException]] = {}
        self.done: list[str] = []
        """The acts that were carried out, by name, in their order."""
        self.down_after_cut = False
        """Whether nothing answers once a cut was made."""
        self.unreadable: dict[str, list[BaseException]] = {}
        """What opening a point raises, once each."""
        self.opening: Callable[[], Awaitable[object]] = _at_once
        """Awaited before a point is opened."""
        self.hide_changes = False
        """Whether everything is reported as unchanged."""
        self.died: Callable[[], object] = lambda: None
        """Called when an act ends its caller."""

    async def cut(self, cut_id: str, points: Mapping[str, str], *, deadline_s: float) -> Cut:
        """See `Engine.cut`."""
        return await self._act("cut", lambda: super(FaultyEngine, self).cut(cut_id, points, deadline_s=deadline_s))

    async def settle(self, cut_id: str) -> Cut | None:
        """See `Engine.settle`."""
        return await self._act("settle", lambda: super(FaultyEngine, self).settle(cut_id))

    async def release(self, point_ids: Sequence[str]) -> None:
        """See `Engine.release`."""
        await self._act("release", lambda: super(FaultyEngine, self).release(point_ids))

    async def roll_back(self, sources: Mapping[str, Source]) -> None:
        """See `Engine.roll_back`."""
        await self._act("roll_back", lambda: super(FaultyEngine, self).roll_back(sources))

    @asynccontextmanager
    async def open_point(self, point_id: str) -> AsyncIterator[OpenImage]:
        """See `Engine.open_point`."""
        await self.opening()
        if self.unreadable.get(point_id):
            raise self.unreadable[point_id].pop(0)
        async with super().open_point(point_id) as point:
            yield point

    async def extents(self, point_id: str, *, since: str | None) -> Sequence[Extent]:
        """See `Engine.extents`."""
        found = await super().extents(point_id, since=since)
        if since is None or not self.hide_changes:
            return found
        return [Extent(0, sum(extent.length for extent in found), ExtentKind.UNCHANGED)]

    async def _act(self, name: str, act: Callable[[], Awaitable[Result]]) -> Result:
        if self.down_after_cut and "cut" in self.done:
            raise EngineDown("no answer")
        if self.before.get(name):
            raise self.before[name].pop(0)
        result = await act()
        self.done.append(name)
        if self.after.get(name):
            error = self.after[name].pop(0)
            if isinstance(error, asyncio.CancelledError):
                self.died()
            raise error
        return result


async def _at_once() -> None:
    """Wait for nothing."""
