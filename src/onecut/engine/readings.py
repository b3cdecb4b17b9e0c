"""
The exports to readers: of points that are archived or looked into, and of layers that are being filled.

They are not in the ledger: when the service dies its readers die with it, and the exports it leaves are ended by the
next one. While a layer still has a source below, its export is left until the layer is filled or not needed any more:
the end of an export waits for the reads of others, and those may wait for the source (see `Nodes.end_reading`).
"""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from onecut.engine.forest import source_below
from onecut.engine.ledger import Holdings
from onecut.engine.nodes import Nodes

END_LIMIT_S: Final = 2.0
"""How long an export may take to end; one whose own request waits for a source ends when that answers."""


class Readings:
    """Begins and ends exports to readers, and remembers which are in use."""

    def __init__(self, nbd_socket: Path) -> None:
        self._nbd_socket = nbd_socket
        self._used: set[str] = set()

    @asynccontextmanager
    async def of(self, nodes: Nodes, layer_id: str) -> AsyncIterator[str]:
        """Serve a layer until the block ends, and yield the NBD URI; `end_unused` ends the export."""
        name = await nodes.begin_reading(layer_id)
        self._used.add(name)
        try:
            yield f"nbd+unix:///{name}?socket={quote(str(self._nbd_socket))}"
        finally:
            self._used.discard(name)

    async def end_unused(self, nodes: Nodes, holdings: Holdings, needless: Collection[str]) -> bool:
        """End exports that nobody uses, and say whether none is left that should have ended."""
        complete = True
        for name, layer_id in (await nodes.readings()).items():
            needed = layer_id in holdings.layers and layer_id not in needless
            if name in self._used or (needed and source_below(holdings.layers, layer_id) is not None):
                continue
            try:
                async with asyncio.timeout(END_LIMIT_S):
                    await nodes.end_reading(name)
            except TimeoutError:
                complete = False
        return complete
