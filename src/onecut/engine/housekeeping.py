"""
Layers that nobody needs any more go away, in the background and from what the ledger says alone.

The order of a removal is node, file, row: whatever has no row and holds data was not left by Onecut, and is kept and
reported. A new layer's file has no row at first, but no data either. So the sweep removes empty files only, and a
ledger that was lost or restored from an old copy costs nobody a layer.

A layer without a point of its own and with one frozen layer on it is merged with that one (see `forest.mergeable`):
the daemon copies the upper into the lower, then the ledger moves the upper's points and children down, and the upper
has become needless. While it is copied the upper has another root above it than the volumes' tops, so no cut,
rollback or export waits for a merge; an act that builds on one of the two layers itself cancels the merge, which
begins again later.

Exports to readers that nobody uses any more are ended here too, before the layers they serve are looked at.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import starmap
from typing import Final

import structlog

from onecut.engine.files import LayerFiles
from onecut.engine.forest import mergeable, needless
from onecut.engine.gate import Gate
from onecut.engine.hydration import Hydration
from onecut.engine.ledger import Holdings, Layer, Ledger, Point
from onecut.engine.monitor import DaemonRefused
from onecut.engine.nodes import Nodes, new_layer_id
from onecut.engine.readings import Readings
from onecut.errors import EngineDown, EngineFull, VolumeUnusable

PAUSE_S: Final = 0.1
"""Before each look. Acts come in bursts, and whoever asked for one waits for its end: not the time to read the whole
ledger."""

AGAIN_S: Final = 2.0
"""Pause before another look at what could not be ended because a read waits for its source."""

log = structlog.get_logger(__name__)


class Merge:
    """A merge that goes on."""

    def __init__(self, layer: Layer, lower: Layer) -> None:
        self.layer, self.lower = layer, lower
        self.unwanted = False
        self.over = asyncio.Event()

    def touches(self, layer_id: str) -> bool:
        """Tell whether it reads or writes a layer."""
        return layer_id in {self.layer.id, self.lower.id}

    async def give_up(self, nodes: Nodes) -> None:
        """Cancel it, wherever it is, and wait until it is over."""
        self.unwanted = True
        while not self.over.is_set():
            await nodes.cancel_merge(self.layer.id)  # again: it may not have begun yet
            with suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), timeout=0.02)


class Housekeeping:
    """Removes, merges and sweeps layers; acts say here what they are building with."""

    def __init__(
        self,
        ledger: Ledger,
        files: LayerFiles,
        gate: Gate,
        *,
        readings: Readings,
        hydration: Hydration,
        merge_bytes_per_s: int,
    ) -> None:
        self._ledger, self._files, self._gate = ledger, files, gate
        self._readings, self._hydration = readings, hydration
        self._merge_bytes_per_s = merge_bytes_per_s
        self._due = asyncio.Event()
        # Held while the ledger is read and a conclusion drawn from it: "nobody needs this", or "I build on this".
        self._deciding = asyncio.Lock()
        self._held: Counter[str] = Counter()
        self._making: set[str] = set()
        # An act failed and left what it was making.
        self._littered = False
        self._merge: Merge | None = None
        # Merges that went wrong are tried again when somebody wakes us, not at once.
        self._failed: set[str] = set()

    def wake(self, *, litter: bool = False) -> None:
        """Have another look soon; with *litter*, for layers too that the ledger does not know."""
        self._failed.clear()
        self._littered |= litter
        self._due.set()

    @contextmanager
    def making(self, count: int) -> Iterator[list[str]]:
        """Make up ids for new layers, which the sweep spares until the block ends."""
        ids = [new_layer_id() for _ in range(count)]
        self._making.update(ids)
        try:
            yield ids
        except BaseException:
            self._littered = True
            self._due.set()
            raise
        finally:
            self._making.difference_update(ids)

    @asynccontextmanager
    async def building_on(self, nodes: Nodes, point_id: str) -> AsyncIterator[Point]:
        """Keep a point's layer as it is until the block ends; raise `VolumeUnusable` if there is none to build on."""
        point = await self._hold(nodes, point_id)
        try:
            yield point
        finally:
            self._held[point.layer.id] -= 1
            self.wake()

    async def run(self) -> None:
        """Look whenever there is reason to, for ever."""
        while True:
            await self._due.wait()
            await asyncio.sleep(PAUSE_S)
            self._due.clear()
            try:
                async with self._gate.act() as nodes:
                    await self.tidy(nodes)
            except EngineDown as down:  # whoever brings the daemon back wakes us
                log.info("housekeeping_interrupted", problem=str(down))
            except Exception:  # it must live on, to free what can be freed when it is woken again
                log.exception("housekeeping_failed")

    async def tidy(self, nodes: Nodes) -> None:
        """Sweep if need be, remove and merge until nothing is left to do."""
        if self._littered:
            self._littered = False
            await self.sweep(nodes)
        await self._remove_needless(nodes)
        while await self._merge_next(nodes):
            await self._remove_needless(nodes)

    async def sweep(self, nodes: Nodes) -> None:
        """Remove nodes, empty files and jobs that the ledger does not know and nobody is making."""
        makings, opened, sources = await nodes.makings(), await nodes.layers(), await nodes.sources()
        files = await asyncio.to_thread(self._files.ids)
        # In this order: what was listed above and is not being made any more is in the ledger by now, or is waste.
        making = frozenset(self._making)
        known = making | await asyncio.to_thread(self._ledger.known_layers)
        for layer_id in makings:
            if layer_id not in making:
                await nodes.end_making(layer_id)
        used = {found for found in reversed(opened) if found not in known and not await nodes.close(found)}
        fed = making | {layer.id for layer in await asyncio.to_thread(self._ledger.sources)}
        for layer_id in sources:
            if layer_id not in fed:
                await nodes.close_source(layer_id)
        for layer_id in files:
            if layer_id not in known and layer_id not in used:
                await asyncio.to_thread(self._remove_waste, layer_id)

    def _remove_waste(self, layer_id: str) -> None:
        if self._files.is_untouched(layer_id):
            self._files.remove(layer_id)
        else:
            log.warning("unknown_layer_kept", path=str(self._files.path(layer_id)))

    async def _remove_needless(self, nodes: Nodes) -> None:
        async with self._deciding:
            holdings = await asyncio.to_thread(self._ledger.holdings)
            held = {layer_id for layer_id, holders in self._held.items() if holders > 0}
            waste = needless(holdings, held)
        await self._stop_readers(nodes, holdings, waste)
        used: set[str | None] = set()
        for layer in waste:
            if layer.id in used or not await nodes.close(layer.id):
                used.add(layer.parent_id)
                continue
            if layer.source is not None:
                await nodes.close_source(layer.id)
            await asyncio.to_thread(self._files.remove, layer.id)
            await asyncio.to_thread(self._ledger.remove_layer, layer.id)
            log.info("layer_removed", layer_id=layer.id)

    async def _stop_readers(self, nodes: Nodes, holdings: Holdings, waste: Sequence[Layer]) -> None:
        stopped = [await self._hydration.give_up(layer.id) for layer in waste if layer.source is not None]
        ended = await self._readings.end_unused(nodes, holdings, {layer.id for layer in waste})
        if not (all(stopped) and ended):
            asyncio.get_running_loop().call_later(AGAIN_S, self._due.set)

    async def _merge_next(self, nodes: Nodes) -> bool:
        async with self._deciding:
            holdings = await asyncio.to_thread(self._ledger.holdings)
            pairs = (pair for pair in mergeable(holdings) if self._may_merge(nodes, *pair))
            merge = self._merge = next(starmap(Merge, pairs), None)
        if merge is None:
            return False
        try:
            await self._carry_out(nodes, merge)
        except (DaemonRefused, EngineFull) as problem:
            self._failed.add(merge.layer.id)
            log.warning("merge_failed", layer_id=merge.layer.id, problem=str(problem))
        finally:
            self._merge = None
            merge.over.set()
        return True

    def _may_merge(self, nodes: Nodes, layer: Layer, lower: Layer) -> bool:
        return layer.id not in self._failed and not any(
            self._held[touched.id] > 0 or touched.id in nodes.broken for touched in (layer, lower)
        )

    async def _carry_out(self, nodes: Nodes, merge: Merge) -> None:
        layer = merge.layer
        await asyncio.to_thread(self._files.require_space, 1)
        with self.making(1) as (root_id,):
            root = Layer(root_id, layer.id, layer.size_bytes)
            await nodes.create(root)
            await nodes.open(root)
            if not merge.unwanted:
                problem = await nodes.merge(layer, merge.lower, root, bytes_per_s=self._merge_bytes_per_s)
                await self._write_down(merge, problem)
                await nodes.forget_merge(layer.id)
            await nodes.close(root_id)
            await asyncio.to_thread(self._files.remove, root_id)

    async def _write_down(self, merge: Merge, problem: str | None) -> None:
        layer = merge.layer
        if problem is None:
            await asyncio.to_thread(self._ledger.absorb, layer.id)
            log.info("layer_merged", layer_id=layer.id, into=merge.lower.id)
        elif not merge.unwanted:
            self._failed.add(layer.id)
            log.warning("merge_failed", layer_id=layer.id, problem=problem)

    async def _hold(self, nodes: Nodes, point_id: str) -> Point:
        while True:
            async with self._deciding:
                point = await asyncio.to_thread(self._ledger.point, point_id)
                if point is None:
                    raise VolumeUnusable(f"there is no point {point_id}")
                if point.layer.id in nodes.broken:
                    raise VolumeUnusable(f"point {point_id} can't be opened: {nodes.broken[point.layer.id]}")
                merge = self._merge
                if merge is None or not merge.touches(point.layer.id):
                    self._held[point.layer.id] += 1
                    return point
            await merge.give_up(nodes)
