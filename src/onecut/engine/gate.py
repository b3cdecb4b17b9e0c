"""Lets acts in while the daemon is up, and its recovery only when no act is left inside."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from onecut.engine.nodes import Nodes
from onecut.errors import EngineDown

WAIT_S: Final = 10.0
"""How long an act waits for a daemon that is being started; a restart takes well under a second."""


class Gate:
    """
    Acts enter with the daemon's present nodes.

    When the daemon is lost, the acts inside fail by themselves at their next command. Recovery waits for the last
    of them, so what it reads in the ledger is not changed behind its back.
    """

    def __init__(self) -> None:
        self.reason = "the daemon has not been started"
        """Why the gate is shut."""
        self._nodes: Nodes | None = None
        self._inside = 0
        self._changed = asyncio.Condition()

    @property
    def nodes(self) -> Nodes | None:
        """The present nodes; None while the gate is shut."""
        return self._nodes

    @asynccontextmanager
    async def act(self) -> AsyncIterator[Nodes]:
        """Enter, waiting a while for an opening; raise `EngineDown` when there is none."""
        nodes = await self._enter()
        try:
            yield nodes
        finally:
            self._inside -= 1
            async with self._changed:
                self._changed.notify_all()

    async def shut(self, reason: str) -> None:
        """Let nobody in any more, and wait until all are out."""
        self._nodes, self.reason = None, reason
        async with self._changed:
            await self._changed.wait_for(lambda: self._inside == 0)

    async def open(self, nodes: Nodes) -> None:
        """Let acts in."""
        async with self._changed:
            self._nodes = nodes
            self._changed.notify_all()

    async def _enter(self) -> Nodes:
        try:
            async with asyncio.timeout(WAIT_S), self._changed:
                await self._changed.wait_for(lambda: self._nodes is not None)
        except TimeoutError as shut:
            raise EngineDown(self.reason) from shut
        if self._nodes is None:
            raise EngineDown(self.reason)
        self._inside += 1
        return self._nodes
