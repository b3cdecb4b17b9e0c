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
        self._opened = asyncio.Event()
        self._inside = 0
        self._left = asyncio.Event()

    @property
    def nodes(self) -> Nodes | None:
        """The present nodes; None while the gate is shut."""
        return self._nodes

    @asynccontextmanager
    async def act(self) -> AsyncIterator[Nodes]:
        """Enter, waiting a while for an opening; raise `EngineDown` when there is none."""
        nodes = await self._wait()
        self._inside += 1
        try:
            yield nodes
        finally:
            self._inside -= 1
            self._left.set()

    async def shut(self, reason: str) -> None:
        """Let nobody in any more, and wait until all are out."""
        self._nodes, self.reason = None, reason
        self._opened.clear()
        while self._inside:
            self._left.clear()
            await self._left.wait()

    def open(self, nodes: Nodes) -> None:
        """Let acts in."""
        self._nodes = nodes
        self._opened.set()

    async def _wait(self) -> Nodes:
        try:
            async with asyncio.timeout(WAIT_S):
                # Whoever is woken may find it shut again.
                while self._nodes is None:
                    await self._opened.wait()
                return self._nodes
        except TimeoutError as shut:
            raise EngineDown(self.reason) from shut
