"""
The embedded engine: all volumes of one machine in one `qemu-storage-daemon`.

A volume is a chain of qcow2 layers whose top takes the writes; a cut puts a new top on each member in one QMP
`transaction`. The daemon outlives the service and serves clients without it.

The parts: `qsd` is the process, `monitor` the line to it, `nodes` its graph, `files` the folder, `forest` what
follows from the layers' family tree, `recovery` what comes after a crash, `housekeeping` what is freed in the
background, `hydration` what is fetched in the background, `readings` who reads points, `changes` what was written
between two, `throttles` what clients may do in a second, `gate` who may act now.
"""

import asyncio
import contextlib
import fcntl
import os
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import quote
from weakref import WeakValueDictionary

import structlog

from onecut.clock import Clock
from onecut.engine.changes import changes
from onecut.engine.files import LayerFiles
from onecut.engine.gate import Gate
from onecut.engine.housekeeping import Housekeeping
from onecut.engine.hydration import Hydration
from onecut.engine.ledger import CutPlan, KeptVolume, Layer, Ledger, Point
from onecut.engine.monitor import DaemonRefused
from onecut.engine.nodes import Nodes
from onecut.engine.port import (
    NO_LIMITS,
    Cut,
    EngineHealth,
    Extent,
    ExtentKind,
    ImageSource,
    Limits,
    OpenPoint,
    Source,
)
from onecut.engine.qsd import StorageDaemon
from onecut.engine.reader import OpenLayers
from onecut.engine.readings import Readings
from onecut.engine.recovery import recover, reopen, settle
from onecut.engine.tables import ForeignLayer
from onecut.engine.together import all_of
from onecut.errors import (
    CannotCut,
    CutFailed,
    EngineDown,
    EngineError,
    EngineFull,
    Misconfigured,
    NoChangeList,
    OutcomeUnknown,
    VolumeUnusable,
)
from onecut.nbd.client import BASE_ALLOCATION, READS_AS_ZEROS, NbdClient
from onecut.nbd.errors import ConnectionLost, NbdError
from onecut.units import MiB

MERGE_BYTES_PER_S: Final = 64 * MiB
"""Default speed limit of a merge: a tenth of what one SATA SSD moves, so that clients do not feel it."""

HYDRATE_BYTES_PER_S: Final = 512 * MiB
"""Default speed limit of hydration: what one SATA SSD moves; until a restored volume is filled, it is not safe."""

RESTART_MEMORY_S: Final = 60.0
RESTART_PAUSE_LIMIT_S: Final = 30.0
"""A daemon that died once in a minute is started at once; each further time it waits twice as long, up to this."""

MEND_PAUSE_S: Final = 1.0
"""Pause between questions to an image's server that did not answer when the daemon was started."""

_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,35}")

log = structlog.get_logger(__name__)


class Deadline:
    """A moment by which several steps must be done together."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self.at = asyncio.get_running_loop().time() + after_s

    def limit(self) -> asyncio.Timeout:
        """Raise TimeoutError in the block when the moment comes."""
        return asyncio.timeout_at(self.at)


class QemuEngine:
    """
    Fulfils `onecut.engine.port.Engine`.

    Args:
        ledger: Remembers what there is.
        data_dir: Holds the layers, the daemon's log and the engine's lock.
        run_dir: Holds the daemon's sockets and pid file; a short path.
        clock: Tells when a cut was taken.
        program: The daemon's program.
        merge_bytes_per_s: Speed limit of merges in the background.
        hydrate_bytes_per_s: Speed limit of all hydrations in the background, together.
    """

    max_members = 64

    def __init__(
        self,
        ledger: Ledger,
        data_dir: Path,
        run_dir: Path,
        *,
        clock: Clock,
        program: str = "qemu-storage-daemon",
        merge_bytes_per_s: int = MERGE_BYTES_PER_S,
        hydrate_bytes_per_s: int = HYDRATE_BYTES_PER_S,
    ) -> None:
        self._ledger, self._clock = ledger, clock
        self._data_dir, self._run_dir = data_dir.absolute(), run_dir.absolute()
        self._files = LayerFiles(self._data_dir / "layers")
        self._daemon = StorageDaemon(program, self._run_dir, self._data_dir / "qsd.log")
        self._gate = Gate()
        self._readings = Readings(self._daemon.nbd_socket)
        self._hydration = Hydration(
            ledger,
            self._gate,
            self._readings,
            bytes_per_s=hydrate_bytes_per_s,
            on_filled=lambda: self._housekeeping.wake(),  # noqa: PLW0108 - it is made below
        )
        self._housekeeping = Housekeeping(
            ledger,
            self._files,
            self._gate,
            readings=self._readings,
            hydration=self._hydration,
            merge_bytes_per_s=merge_bytes_per_s,
        )
        self._volume_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._lock_file: int | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """See `Engine.start`."""
        self._prepare_folders()
        try:
            nodes = await self._bring_up()
        except EngineDown as down:
            raise Misconfigured(str(down)) from down
        self._tasks = [asyncio.create_task(self._keep_up(nodes)), asyncio.create_task(self._housekeeping.run())]

    async def close(self) -> None:
        """See `Engine.close`."""
        nodes = self._gate.nodes
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._hydration.close()
        await self._gate.shut("the service is stopping")
        if nodes is not None:
            await nodes.monitor.close()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    async def health(self) -> EngineHealth:
        """See `Engine.health`."""
        nodes = self._gate.nodes
        if nodes is None:
            return EngineHealth(ready=False, detail=self._gate.reason, unusable={})
        try:
            tops = (await asyncio.to_thread(self._ledger.holdings)).tops if nodes.broken else {}
        except Exception as problem:  # noqa: BLE001 - to be told, whatever it is
            return EngineHealth(ready=False, detail=f"the ledger can't be read: {problem}", unusable={})
        return EngineHealth(
            ready=True,
            detail=f"qemu-storage-daemon {self._daemon.version}, {nodes.access}",
            unusable={volume: nodes.broken[top] for volume, top in tops.items() if top in nodes.broken},
        )

    def moved_bytes(self) -> int | None:
        """See `Engine.moved_bytes`."""
        return self._daemon.moved_bytes()

    async def create_volume(
        self, volume_id: str, size_bytes: int, *, source: Source | None = None, limits: Limits = NO_LIMITS
    ) -> None:
        """See `Engine.create_volume`."""
        async with AsyncExitStack() as stack:
            nodes = await stack.enter_async_context(self._alone_with([volume_id]))
            if await asyncio.to_thread(self._ledger.volume, volume_id) is not None:
                return
            base = None if source is None else await self._base(nodes, stack, source)
            layers = self._planned(stack, base, size_bytes)
            await self._lay(nodes, [layers])
            await self._reached("laid")
            await asyncio.to_thread(self._ledger.add_volume, volume_id, layers, limits)
            self._hydration.begin(layers)

    async def delete_volume(self, volume_id: str) -> None:
        """See `Engine.delete_volume`."""
        async with self._alone_with([volume_id]):
            await self._require_detached([volume_id])
            await asyncio.to_thread(self._ledger.remove_volume, volume_id)
        self._housekeeping.wake()

    async def extend_volume(self, volume_id: str, size_bytes: int) -> None:
        """See `Engine.extend_volume`."""
        async with self._alone_with([volume_id]) as nodes:
            top = (await self._usable(nodes, volume_id)).top
            await self._require_detached([volume_id])
            # The size is written down first: a cut must never give the volume a shorter top than it has.
            if top.size_bytes < size_bytes:
                await asyncio.to_thread(self._ledger.resize_layer, top.id, size_bytes)
            await self._reached("resize_noted")
            await nodes.resize(top.id, max(top.size_bytes, size_bytes))

    async def limit(self, limits: Mapping[str, Limits]) -> None:
        """
        See `Engine.limit`.

        The daemon comes first, the ledger second, so what failed is undone at the latest when the daemon is started
        again. An export that an older release made has no filter; its limits are in force when it is made anew.
        """
        async with self._alone_with(limits) as nodes:
            known = await asyncio.to_thread(self._ledger.limits_of, limits)
            changed = {volume_id: limits[volume_id] for volume_id in known if limits[volume_id] != known[volume_id]}
            for volume_id in set((await asyncio.to_thread(self._ledger.exports_of, changed)).values()):
                if not await nodes.throttles.tune(volume_id, changed[volume_id]):
                    log.warning("limits_wait_for_export", volume_id=volume_id)
            await self._reached("throttled")
            await asyncio.to_thread(self._ledger.set_limits, changed)

    async def export(self, export_id: str, volume_id: str) -> str:
        """See `Engine.export`."""
        _check_ids([export_id])
        async with self._alone_with([volume_id]) as nodes:
            kept = await self._usable(nodes, volume_id)
            is_new = export_id not in kept.exports
            if is_new:
                await asyncio.to_thread(self._ledger.add_export, export_id, volume_id)
            if is_new or not await nodes.serves(export_id):
                try:
                    await nodes.export(export_id, kept.top.id, volume_id=volume_id, limits=kept.limits)
                except DaemonRefused:
                    await nodes.throttles.remove(volume_id)
                    await asyncio.to_thread(self._ledger.remove_export, export_id)
                    raise
        return self._uri(export_id)

    async def unexport(self, export_id: str) -> None:
        """See `Engine.unexport`."""
        _check_ids([export_id])
        volume_id = await asyncio.to_thread(self._ledger.exported_volume, export_id)
        if volume_id is None:
            return
        async with self._alone_with([volume_id]) as nodes:
            # What waits for its turn must be answered first; at the volume's own speed that may take a while.
            await nodes.throttles.tune(volume_id, NO_LIMITS)
            await nodes.unexport(export_id)
            await asyncio.to_thread(self._ledger.remove_export, export_id)
            kept = await self._kept(volume_id)
            if kept.exports:
                await nodes.throttles.tune(volume_id, kept.limits)
            else:
                await nodes.throttles.remove(volume_id)

    async def cut(self, cut_id: str, points: Mapping[str, str], *, deadline_s: float) -> Cut:
        """
        See `Engine.cut`.

        The pause of each member is the time the daemon takes for the transaction: it stops all I/O before the first
        action and starts it again after the last (QEMU 7.2, blockdev.c `qmp_transaction` calls `bdrv_drain_all`, and
        exports live in the same main loop), so no write can wait longer for the cut.
        """
        began = time.monotonic()
        deadline = Deadline(deadline_s)
        _check_ids([cut_id, *points.values()])
        if not 1 <= len(points) <= self.max_members:
            raise CannotCut(f"a cut has 1 to {self.max_members} volumes, not {len(points)}")
        async with AsyncExitStack() as stack:
            try:
                async with deadline.limit():
                    nodes = await stack.enter_async_context(self._alone_with(points))
            except TimeoutError as late:
                raise CannotCut(f"the volumes were busy for {deadline_s} s") from late
            known = await asyncio.to_thread(self._ledger.cut, cut_id)
            if isinstance(known, Cut):
                if {member.volume_id: member.point_id for member in known.members} != dict(points):
                    raise CannotCut(f"cut {cut_id} was made with other volumes or points")
                return known
            await asyncio.to_thread(self._files.require_space, len(points))
            overlays = stack.enter_context(self._housekeeping.making(len(points)))
            plan = await asyncio.to_thread(self._ledger.plan_cut, cut_id, self._clock.now(), points, overlays)
            cut = await self._carry_out(nodes, plan, began, deadline)
        self._housekeeping.wake()
        log.info("cut_taken", cut_id=cut_id, members=len(points), prepare_ms=cut.prepare_ms, pause_ms=cut.pause_ms)
        return cut

    async def settle(self, cut_id: str) -> Cut | None:
        """See `Engine.settle`."""
        _check_ids([cut_id])
        async with self._gate.act() as nodes:
            return await self._settle(nodes, cut_id)

    async def release(self, point_ids: Sequence[str]) -> None:
        """See `Engine.release`."""
        await asyncio.to_thread(self._ledger.remove_points, point_ids)
        self._housekeeping.wake()

    async def roll_back(self, sources: Mapping[str, Source]) -> None:
        """See `Engine.roll_back`."""
        async with AsyncExitStack() as stack:
            nodes = await stack.enter_async_context(self._alone_with(sources))
            await self._require_detached(sources)
            present = {volume_id: (await self._kept(volume_id)).top for volume_id in sources}
            bases = {volume_id: await self._base(nodes, stack, source) for volume_id, source in sources.items()}
            _require_own(bases)
            layers = {
                volume_id: self._planned(stack, base, present[volume_id].size_bytes)
                for volume_id, base in bases.items()
            }
            await self._lay(nodes, layers.values())
            await self._reached("laid")
            await asyncio.to_thread(self._ledger.switch_tops, layers)
            await self._reached("switched")
            self._hydration.begin(chain.from_iterable(layers.values()))
        self._housekeeping.wake()

    async def hydrate(self, volume_id: str, *, on_progress: Callable[[int, int], None]) -> None:
        """See `Engine.hydrate`."""
        await self._hydration.wait(volume_id, on_progress)

    async def images(self) -> frozenset[str]:
        """See `Engine.images`."""
        layers = await asyncio.to_thread(self._ledger.sources)
        return frozenset(layer.source.uri for layer in layers if layer.source is not None)

    @asynccontextmanager
    async def open_point(self, point_id: str) -> AsyncIterator[OpenPoint]:
        """See `Engine.open_point`."""
        async with AsyncExitStack() as stack:
            async with self._gate.act() as nodes:
                point = await stack.enter_async_context(self._housekeeping.building_on(nodes, point_id))
                opened = await self._open_layers(stack, point.layer) or await self._serve(stack, nodes, point.layer)
            yield opened

    async def extents(self, point_id: str, *, since: str | None) -> Sequence[Extent]:
        """See `Engine.extents`."""
        async with AsyncExitStack() as stack:
            async with self._gate.act() as nodes:
                # While it is held its layer is not merged with the one below.
                point = await stack.enter_async_context(self._housekeeping.building_on(nodes, point_id))
                if since is None:
                    opened = await self._serve(stack, nodes, point.layer)
            if since is not None:
                point, base = await self._neighbours(point_id, since)
                path = self._files.path(point.layer.id)
                return await asyncio.to_thread(changes, path, point.layer.size_bytes, base.layer.size_bytes)
            try:
                return await asyncio.to_thread(_content, opened)
            except ConnectionLost as lost:
                raise EngineDown(f"the daemon was lost while point {point_id} was looked at: {lost}") from lost
            except NbdError as problem:
                raise VolumeUnusable(f"point {point_id} can't be read: {problem}") from problem

    async def _open_layers(self, stack: AsyncExitStack, layer: Layer) -> OpenLayers | None:
        """Open the files of a layer and of those below; None when something else is needed, or they are not ours."""
        while True:
            layers = await asyncio.to_thread(self._ledger.chain, layer.id)
            if layers[-1].source is not None:
                return None
            paths = [self._files.path(each.id) for each in layers]
            try:
                opened = await asyncio.to_thread(OpenLayers, paths, layer.size_bytes)
            except FileNotFoundError:  # merged since the ledger was asked; if it names it still, the file is missing
                if layers == await asyncio.to_thread(self._ledger.chain, layer.id):
                    return None
            except (ForeignLayer, OSError) as problem:
                log.warning("layers_left_to_daemon", layer_id=layer.id, problem=str(problem))
                return None
            else:
                stack.callback(opened.close)
                return opened

    async def _serve(self, stack: AsyncExitStack, nodes: Nodes, layer: Layer) -> "ServedPoint":
        return ServedPoint(layer.size_bytes, await stack.enter_async_context(self._readings.of(nodes, layer.id)))

    async def _neighbours(self, point_id: str, since: str) -> tuple[Point, Point]:
        """Read two points, if it is known what changed between them; otherwise raise `NoChangeList`."""
        # At one moment: a merge may give the lower one another layer between two looks.
        points = await asyncio.to_thread(self._ledger.points, [point_id, since])
        point, base = points.get(point_id), points.get(since)
        if point is None or base is None:
            raise NoChangeList(f"there is no point {point_id if point is None else since}")
        if point.layer.parent_id != base.layer.id:
            raise NoChangeList(f"point {since} is not the one just below point {point_id}")
        for found in (point, base):
            if found.adopted:
                raise NoChangeList(f"point {found.id} was adopted after a crash")
        return point, base

    async def _base(self, nodes: Nodes, stack: AsyncExitStack, source: Source) -> Point | ImageSource:
        """Find what is to be built on, and keep it as it is until *stack* ends."""
        if isinstance(source, ImageSource):
            return source
        return await stack.enter_async_context(self._housekeeping.building_on(nodes, source.point_id))

    def _planned(self, stack: AsyncExitStack, base: Point | ImageSource | None, size_bytes: int) -> list[Layer]:
        """
        Make up the layers of a volume that begins as *base* and is at least so large; the last takes the writes.

        What is fetched from an image goes into a layer of its own below, so no write ever waits for the image.
        """
        layers: list[Layer] = []
        parent: Layer | None = None
        if isinstance(base, ImageSource):
            (layer_id,) = stack.enter_context(self._housekeeping.making(1))
            parent = Layer(layer_id, None, max(size_bytes, base.size_bytes), base)
            layers.append(parent)
        elif base is not None:
            parent = base.layer
        (layer_id,) = stack.enter_context(self._housekeeping.making(1))
        if parent is None:
            return [Layer(layer_id, None, size_bytes)]
        return [*layers, Layer(layer_id, parent.id, max(size_bytes, parent.size_bytes))]

    async def _carry_out(self, nodes: Nodes, plan: CutPlan, began: float, deadline: Deadline) -> Cut:
        """Make a planned cut, or forget the plan: without it, what was made for the cut is waste for the sweep."""
        try:
            return await self._freeze(nodes, plan, began, deadline)
        except EngineDown as down:
            raise OutcomeUnknown(f"the daemon was lost during cut {plan.id}: {down}") from down
        except (CannotCut, EngineFull):
            await asyncio.to_thread(self._ledger.drop_cut, plan.id)
            raise
        except (EngineError, NbdError, TimeoutError) as problem:
            await asyncio.to_thread(self._ledger.drop_cut, plan.id)
            reason = f"it took longer than {deadline.after_s} s" if isinstance(problem, TimeoutError) else problem
            raise CutFailed(f"cut {plan.id} was not made: {reason}") from problem

    async def _freeze(self, nodes: Nodes, plan: CutPlan, began: float, deadline: Deadline) -> Cut:
        async with deadline.limit():
            _require_usable(nodes, plan)
            await self._reached("planned")
            await all_of(self._prepare(nodes, member.overlay) for member in plan.members)
            await self._reached("prepared")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._hydration.quiet(nodes, deadline.at))
            async with deadline.limit():
                await stack.enter_async_context(nodes.steady)
                # What clients wrote is on the disk then, so the transaction has little left to write while it holds
                # them up.
                await all_of([asyncio.to_thread(self._files.sync), self._flush([m.volume_id for m in plan.members])])
            sent, taken_at = time.monotonic(), self._clock.now()
            await nodes.freeze(plan.members)
            pause_s = time.monotonic() - sent
        await self._reached("frozen")
        try:
            return await asyncio.to_thread(
                self._ledger.finish_cut,
                plan.id,
                taken_at=taken_at,
                prepare_ms=(sent - began) * 1000,
                pause_ms=pause_s * 1000,
            )
        except Exception as problem:
            raise OutcomeUnknown(f"cut {plan.id} was made and could not be written down: {problem}") from problem

    async def _prepare(self, nodes: Nodes, overlay: Layer) -> None:
        await nodes.create(overlay)
        await nodes.open_alone(overlay)

    async def _flush(self, volume_ids: Collection[str]) -> None:
        exports = await asyncio.to_thread(self._ledger.exports_of, volume_ids)
        one_of_each = {volume_id: export_id for export_id, volume_id in exports.items()}
        await all_of(asyncio.to_thread(_flush_export, self._uri(export_id)) for export_id in one_of_each.values())

    async def _settle(self, nodes: Nodes, cut_id: str) -> Cut | None:
        known = await asyncio.to_thread(self._ledger.cut, cut_id)
        if not isinstance(known, CutPlan):
            return known
        async with self._locked([member.volume_id for member in known.members]):
            # It may have been finished while it held the locks.
            known = await asyncio.to_thread(self._ledger.cut, cut_id)
            if isinstance(known, CutPlan):
                known = await settle(known, nodes, self._ledger, self._files)
        self._housekeeping.wake(litter=True)
        return known

    async def _lay(self, nodes: Nodes, stacks: Collection[Sequence[Layer]]) -> None:
        """Make layers and open them over their parents; each stack from its lowest layer up."""
        new = [layer for layers in stacks for layer in layers]
        await asyncio.to_thread(self._files.require_space, len(new))
        await all_of([*map(nodes.create, new), *map(nodes.open_source, new)])
        await asyncio.to_thread(self._files.sync)
        await all_of(_open_in_turn(nodes, layers) for layers in stacks)

    async def _kept(self, volume_id: str) -> KeptVolume:
        kept = await asyncio.to_thread(self._ledger.volume, volume_id)
        if kept is None:
            raise VolumeUnusable(f"there is no volume {volume_id}")
        return kept

    async def _usable(self, nodes: Nodes, volume_id: str) -> KeptVolume:
        kept = await self._kept(volume_id)
        if kept.top.id in nodes.broken:
            raise VolumeUnusable(f"volume {volume_id} can't be opened: {nodes.broken[kept.top.id]}")
        return kept

    async def _require_detached(self, volume_ids: Collection[str]) -> None:
        for export_id, volume_id in (await asyncio.to_thread(self._ledger.exports_of, volume_ids)).items():
            raise EngineError(f"volume {volume_id} is exported, as {export_id}")

    @asynccontextmanager
    async def _alone_with(self, volume_ids: Iterable[str]) -> AsyncIterator[Nodes]:
        """Enter with sole say over volumes, once no cut of them is half done."""
        ids = list(volume_ids)
        _check_ids(ids)
        async with self._gate.act() as nodes:
            while True:
                async with self._locked(ids):
                    stale = await asyncio.to_thread(self._ledger.plans_touching, ids)
                    if not stale:
                        yield nodes
                        return
                for cut_id in stale:
                    await self._settle(nodes, cut_id)

    @asynccontextmanager
    async def _locked(self, volume_ids: Iterable[str]) -> AsyncIterator[None]:
        # Always in the same order, so that two acts never wait for each other.
        async with AsyncExitStack() as stack:
            for volume_id in sorted(set(volume_ids)):
                lock = self._volume_locks.setdefault(volume_id, asyncio.Lock())
                await stack.enter_async_context(lock)
            yield

    def _uri(self, export_id: str) -> str:
        return f"nbd+unix:///{export_id}?socket={quote(str(self._daemon.nbd_socket))}"

    def _prepare_folders(self) -> None:
        try:
            for folder in (self._data_dir, self._files.folder, self._run_dir):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._files.folder.chmod(0o700)
            self._run_dir.chmod(0o700)
            self._lock_file = os.open(self._data_dir / "engine.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            raise Misconfigured(f"{self._data_dir} is in use by another onecut") from held
        except OSError as problem:
            raise Misconfigured(f"{self._data_dir} or {self._run_dir} can't be used: {problem}") from problem

    async def _bring_up(self) -> Nodes:
        """Find or start the daemon, recover, and let acts in."""
        monitor = await self._daemon.connect()
        try:
            nodes = Nodes(monitor, self._files)
            await nodes.choose_access()
            await recover(nodes, self._ledger, self._files)
            await self._housekeeping.sweep(nodes)
        except BaseException:
            await monitor.close()
            raise
        self._gate.open(nodes)
        self._housekeeping.wake()
        await self._hydration.go_on(nodes)
        return nodes

    async def _keep_up(self, nodes: Nodes) -> None:
        """Bring the daemon back whenever it is lost."""
        deaths: deque[float] = deque()
        while True:
            mending = asyncio.create_task(self._mend(nodes))
            try:
                await nodes.monitor.lost.wait()
            finally:
                mending.cancel()
            log.error("daemon_lost")
            await self._gate.shut("the daemon ended and is being started again")
            nodes = await self._bring_back(deaths)

    async def _mend(self, nodes: Nodes) -> None:
        """Open the volumes whose images did not answer when the daemon was started, as soon as they do."""
        while waiting := [
            layer for layer in await asyncio.to_thread(self._ledger.sources) if layer.id in nodes.broken
        ]:
            await asyncio.sleep(MEND_PAUSE_S)
            if not any([await nodes.answers(layer) for layer in waiting]):
                continue
            tops = (await asyncio.to_thread(self._ledger.holdings)).tops
            try:
                async with self._alone_with([volume for volume, top in tops.items() if top in nodes.broken]):
                    await reopen(nodes, self._ledger)
                    await self._hydration.go_on(nodes)
            except EngineError as problem:
                log.warning("volumes_not_mended", problem=str(problem))

    async def _bring_back(self, deaths: deque[float]) -> Nodes:
        while True:
            now = time.monotonic()
            deaths.append(now)
            while deaths[0] < now - RESTART_MEMORY_S:
                deaths.popleft()
            if len(deaths) > 1:
                await asyncio.sleep(min(0.1 * 2 ** len(deaths), RESTART_PAUSE_LIMIT_S))
            try:
                return await self._bring_up()
            except Exception as problem:
                self._gate.reason = f"the daemon can't be brought back: {problem}"
                log.exception("daemon_not_back", deaths=len(deaths))

    async def _reached(self, step: str) -> None:
        """Mark a step at which a crash leaves something to recover; the crash tests stop here."""
        log.debug("step_reached", step=step)


class ServedPoint:
    """Fulfils `onecut.engine.port.OpenPoint`: each reader is an NBD connection."""

    def __init__(self, size_bytes: int, uri: str) -> None:
        self.size_bytes = size_bytes
        self._uri = uri

    def reader(self) -> NbdClient:
        """See `OpenPoint.reader`."""
        return NbdClient.connect(self._uri)


async def _open_in_turn(nodes: Nodes, layers: Iterable[Layer]) -> None:
    for layer in layers:
        await nodes.open_over(layer)


def _content(opened: ServedPoint) -> Sequence[Extent]:
    with opened.reader() as client:
        return [
            Extent(found.offset, found.length, ExtentKind.ZERO if found.flags & READS_AS_ZEROS else ExtentKind.DATA)
            for found in client.block_status(0, client.size_bytes, BASE_ALLOCATION)
        ]


def _flush_export(uri: str) -> None:
    try:
        with contextlib.closing(NbdClient.connect(uri)) as client:
            client.flush()
    except ConnectionLost as lost:  # a daemon that dies may show here before it shows on the monitor
        raise EngineDown(f"the daemon was lost during a flush: {lost}") from lost


def _check_ids(ids: Iterable[str]) -> None:
    """Ids become names of exports and rows of the ledger: nothing but letters, digits and dashes."""
    for given in ids:
        if not _ID.fullmatch(given):
            raise EngineError(f"{given!r} is no id")


def _require_usable(nodes: Nodes, plan: CutPlan) -> None:
    for member in plan.members:
        if member.layer.id in nodes.broken:
            raise CannotCut(f"volume {member.volume_id} can't be opened: {nodes.broken[member.layer.id]}")


def _require_own(bases: Mapping[str, Point | ImageSource]) -> None:
    for volume_id, base in bases.items():
        if isinstance(base, Point) and base.volume_id != volume_id:
            raise VolumeUnusable(f"point {base.id} is not of volume {volume_id}")
