"""
Layers are filled from the images they were restored from, in the background, while volumes write above them.

A layer with a source reads through to it where it has no data. Its filling asks the daemon over NBD to cache what the
image holds and the layer lacks; the daemon copies it up into the layer. What the image says is zero is never fetched,
so the effort follows the data, not the size. Then the layer is taken off its source, and what it still lacks reads as
zeros. No block job runs, so nothing is blocked; what was fetched is in the layer, so a crash costs at most the pieces
under way.

A source that goes away stalls reads and loses nothing. But a read that waits for it also holds up everything that
stops all I/O for a moment, as the transaction of a cut does, and with it every client of the daemon. So before such
an act no piece may be under way, and each source must answer a read (`Hydration.quiet`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final, NamedTuple, Self, TypeVar

import structlog

from onecut.engine.forest import source_below
from onecut.engine.gate import Gate
from onecut.engine.ledger import Layer, Ledger
from onecut.engine.nodes import ANSWER_S, Nodes
from onecut.engine.port import ImageSource
from onecut.engine.readings import Readings
from onecut.engine.tables import CLUSTER_BYTES
from onecut.engine.together import all_of
from onecut.errors import CannotCut, EngineDown, EngineError, VolumeUnusable
from onecut.nbd.client import ALLOCATION_DEPTH, BASE_ALLOCATION, READS_AS_ZEROS, NbdClient
from onecut.nbd.errors import NbdError, RequestError
from onecut.units import KiB, MiB, size_text

PIECE_BYTES: Final = 1 * MiB
"""Fetched in one request: long enough for little overhead, short enough that a cut hardly waits for it."""

CONNECTIONS: Final = 4
"""Pieces of one layer under way at once; with more, two cores gain nothing."""

ASKED_BYTES: Final = 4 * KiB

_OWN: Final = 1
"""Depth of what lies in the layer itself."""

HEAD_START_S: Final = 0.05
"""Pause before a filling begins: whoever asked for the volume waits for it, and comes first."""

RETRY_S: Final = 1.0
"""Pause before a filling that was interrupted goes on."""

REFUSED_RETRY_S: Final = 30.0
"""Pause before what the image's server refused is asked for again."""

GIVE_UP_S: Final = 2.0
"""How long a filling that nobody needs may take to end."""

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Piece(NamedTuple):
    """A range that is fetched in one request."""

    offset: int
    length: int


class Turns:
    """Lets pieces be fetched, except while they are held up."""

    def __init__(self) -> None:
        self._holders = self._under_way = 0
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Fetch a piece within the block; waits while pieces are held up."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._holders == 0)
            self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            await self._tell()

    @asynccontextmanager
    async def held_up(self) -> AsyncIterator[None]:
        """Wait until no piece is under way, and let none begin until the block ends."""
        self._holders += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: self._under_way == 0)
            yield
        finally:
            self._holders -= 1
            await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class Pace:
    """A speed limit that all fillings share."""

    def __init__(self, bytes_per_s: int) -> None:
        self._bytes_per_s = bytes_per_s
        self._next = 0.0

    async def keep(self, length: int) -> None:
        """Wait until so many bytes more may be fetched."""
        now = asyncio.get_running_loop().time()
        due, self._next = max(now, self._next), max(now, self._next) + length / self._bytes_per_s
        if due > now:
            await asyncio.sleep(due - now)


class Line:
    """A connection to an export whose calls run in a thread of its own, and end when the block does."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._thread = ThreadPoolExecutor(1)
        self._client: NbdClient | None = None

    async def __aenter__(self) -> Self:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connect)
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end()

    async def run(self, act: Callable[[NbdClient], T]) -> T:
        """Have the thread do something with the connection."""
        assert self._client is not None  # noqa: S101 - within the block
        return await asyncio.get_running_loop().run_in_executor(self._thread, act, self._client)

    def _connect(self) -> None:
        # No time limit: a piece may wait for its source for days.
        self._client = NbdClient.connect(self._uri, timeout_s=None)

    def _end(self) -> None:
        if self._client is not None:
            self._client.break_off()
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()


class Missing:
    """What a layer lacks of its source."""

    def __init__(self) -> None:
        self.own_bytes = self.bytes = 0
        self.hole: int | None = None
        """An offset at which the source holds zeros, and the layer most likely nothing."""
        self._spans: list[Piece] = []

    @classmethod
    def find(cls, client: NbdClient, source: ImageSource) -> "Missing":
        """
        Ask the image where it has data, and then the layer's export how much of that lies in the layer. Blocks.

        The image is asked directly: through the layer, each question goes no further than one table of the layer
        (measured for 1 TiB with two spans of data: 2 s, directly 20 ms).
        """
        missing = cls()
        with NbdClient.connect(source.uri, timeout_s=ANSWER_S) as image:
            for span in missing._with_data(image, client.size_bytes):
                for found in client.block_status(*span, ALLOCATION_DEPTH):
                    if found.flags == _OWN:
                        missing.own_bytes += found.length
                    else:
                        missing._spans.append(Piece(found.offset, found.length))
        missing.bytes = sum(span.length for span in missing._spans)
        return missing

    def pieces(self) -> Iterator[Piece]:
        """Go through what is missing."""
        for span in self._spans:
            end = span.offset + span.length
            for offset in range(span.offset, end, PIECE_BYTES):
                yield Piece(offset, min(PIECE_BYTES, end - offset))

    def _with_data(self, image: NbdClient, size_bytes: int) -> Iterator[Piece]:
        """Find the image's data, in whole clusters: the daemon fetches no less."""
        if BASE_ALLOCATION not in image.contexts:
            yield Piece(0, size_bytes)
            return
        pending: Piece | None = None
        for found in image.block_status(0, image.size_bytes, BASE_ALLOCATION):
            start = found.offset // CLUSTER_BYTES * CLUSTER_BYTES
            end = -(-(found.offset + found.length) // CLUSTER_BYTES) * CLUSTER_BYTES
            if found.flags & READS_AS_ZEROS:
                if self.hole is None and end - start > 2 * CLUSTER_BYTES:
                    self.hole = start + CLUSTER_BYTES
                continue
            end = min(end, size_bytes)
            if pending is not None and start <= pending.offset + pending.length:
                start = pending.offset
            elif pending is not None:
                yield pending
            pending = Piece(start, end - start)
        if pending is not None:
            yield pending


class Filling:
    """One layer that is being filled, and what is known of the rest."""

    def __init__(self, layer: Layer, image: ImageSource) -> None:
        self.layer, self.image = layer, image
        self.task: asyncio.Task[None] | None = None
        self.over = False
        """Whether nobody fills the layer any more."""
        self.unwanted = asyncio.Event()
        """Set when nobody needs the layer any more."""
        self.problem: str | None = None
        """What the image's server refused."""
        self.export_uri: str | None = None
        """Opens the layer for reading; None while it is not known what is missing."""
        self.done_bytes = self.total_bytes = 0
        self.under_way = 0
        """Pieces that were asked for and have not come."""
        self._pieces: Iterator[Piece] = iter(())
        self._ahead: Piece | None = None
        self._hole: int | None = None
        self._news = asyncio.Event()

    def begin(self, export_uri: str, missing: Missing) -> None:
        """Begin with what is missing."""
        self.export_uri, self.problem = export_uri, None
        self.done_bytes, self.total_bytes = missing.own_bytes, missing.own_bytes + missing.bytes
        self._pieces, self._hole = missing.pieces(), missing.hole
        self._ahead = next(self._pieces, None)
        self.tell()

    def interrupt(self) -> None:
        """Forget what was known."""
        self.export_uri, self._ahead = None, None
        self.tell()

    def take(self) -> Piece | None:
        """Take the next piece that is to be fetched; None when there is none."""
        piece = None if self.unwanted.is_set() else self._ahead
        if piece is not None:
            self._ahead = next(self._pieces, None)
        return piece

    @property
    def asked_at(self) -> int | None:
        """An offset that only the source can answer for; None when there is none."""
        return self._hole if self._ahead is None else self._ahead.offset

    async def pause(self, seconds: float) -> None:
        """Do nothing for a while, unless it becomes unwanted."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.unwanted.wait(), seconds)

    def tell(self) -> None:
        """Wake those who wait for news."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def news(self) -> None:
        """Wait until something has changed."""
        await self._news.wait()


class Hydration:
    """Fills all layers that have a source, and keeps still when it must."""

    def __init__(
        self, ledger: Ledger, gate: Gate, readings: Readings, *, bytes_per_s: int, on_filled: Callable[[], None]
    ) -> None:
        self._ledger, self._gate, self._readings = ledger, gate, readings
        self._on_filled = on_filled
        self._turns, self._pace = Turns(), Pace(bytes_per_s)
        self._fillings: dict[str, Filling] = {}
        self._given_up: set[str] = set()

    async def go_on(self, nodes: Nodes) -> None:
        """See to it that all layers that can be filled are."""
        await self._all(nodes)

    def begin(self, layers: Iterable[Layer]) -> None:
        """Fill those of new layers, open and written down, that have a source."""
        for layer in layers:
            if layer.source is not None:
                self._filling(layer)

    async def close(self) -> None:
        """Leave all layers as they are."""
        tasks = [filling.task for filling in self._fillings.values() if filling.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def wait(self, volume_id: str, on_progress: Callable[[int, int], None]) -> None:
        """See `Engine.hydrate`."""
        while True:
            async with self._gate.act() as nodes:
                holdings = await asyncio.to_thread(self._ledger.holdings)
                top = holdings.tops.get(volume_id)
                layer = None if top is None else source_below(holdings.layers, top)
                if layer is None:
                    return
                filling = None if layer.id in nodes.broken else self._filling(layer)
            if filling is None:
                await asyncio.sleep(RETRY_S)
            else:
                await _follow(filling, on_progress)

    async def give_up(self, layer_id: str) -> bool:
        """End the filling of a layer that nobody needs, and say whether it has ended; ask again if not."""
        self._given_up.add(layer_id)
        filling = self._fillings.get(layer_id)
        if filling is None or filling.task is None:
            return True
        # It is not cancelled: what is under way must be known to be so until the source has answered.
        filling.unwanted.set()
        await asyncio.wait([filling.task], timeout=GIVE_UP_S)
        return filling.over

    @asynccontextmanager
    async def quiet(self, nodes: Nodes, until: float) -> AsyncIterator[None]:
        """
        Hold up all fillings until the block ends, once every source has answered a read.

        Raises:
            CannotCut: A source has not answered at the loop's time *until*.
        """
        fillings, answered = await self._all(nodes), set[str]()
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(until):
                    if fillings:
                        await stack.enter_async_context(self._turns.held_up())
                    await all_of(_ask(nodes, filling, answered) for filling in fillings)
            except TimeoutError as silence:
                silent = [found.image.uri for found in fillings if found.under_way] or [
                    found.image.uri for found in fillings if found.layer.id not in answered
                ]
                raise CannotCut(
                    f"the image {' and '.join(silent)} does not answer, and a volume that is restored from it may be "
                    "waiting for its data; no volume can be frozen until it answers"
                ) from silence
            yield

    async def _all(self, nodes: Nodes) -> Sequence[Filling]:
        return [
            self._filling(layer)
            for layer in await asyncio.to_thread(self._ledger.sources)
            if layer.id not in nodes.broken and layer.id not in self._given_up
        ]

    def _filling(self, layer: Layer) -> Filling:
        filling = self._fillings.get(layer.id)
        if filling is None:
            assert layer.source is not None  # noqa: S101 - what makes it a layer to be filled
            filling = self._fillings[layer.id] = Filling(layer, layer.source)
            filling.task = asyncio.create_task(self._fill(filling))
        return filling

    async def _fill(self, filling: Filling) -> None:
        layer = filling.layer
        try:
            await filling.pause(HEAD_START_S)
            while not filling.unwanted.is_set() and layer in await asyncio.to_thread(self._ledger.sources):
                await self._try(filling)
        finally:
            del self._fillings[layer.id]
            filling.over = True
            filling.tell()

    async def _try(self, filling: Filling) -> None:
        """Fill a layer, or get as far as possible and pause."""
        try:
            refused = await self._fetch(filling)
        except RequestError:  # not even where the image has data
            refused = filling.layer.size_bytes
        except (EngineError, NbdError) as problem:
            log.info("hydration_interrupted", layer_id=filling.layer.id, problem=str(problem))
            filling.interrupt()
            await filling.pause(RETRY_S)
            return
        except Exception:  # it must live on, for the layer to be filled some day
            log.exception("hydration_failed", layer_id=filling.layer.id)
            filling.interrupt()
            await filling.pause(REFUSED_RETRY_S)
            return
        if refused:
            filling.problem = f"{size_text(refused)} of the image {filling.image.uri} can't be read"
            log.error("image_unreadable", layer_id=filling.layer.id, problem=filling.problem)
            filling.tell()
            await filling.pause(REFUSED_RETRY_S)

    async def _fetch(self, filling: Filling) -> int:
        """Fetch what is missing, take the layer off its source if nothing is, and say how many bytes were refused."""
        async with AsyncExitStack() as stack:
            async with self._gate.act() as nodes:
                if filling.layer.id in nodes.broken:
                    raise VolumeUnusable(nodes.broken[filling.layer.id])
                uri = await stack.enter_async_context(self._readings.of(nodes, filling.layer.id))
            lines = [await stack.enter_async_context(Line(uri)) for _ in range(CONNECTIONS)]
            filling.begin(uri, await lines[0].run(lambda client: Missing.find(client, filling.image)))
            refused = sum(await all_of(self._work(filling, line) for line in lines))
            if not refused and not filling.unwanted.is_set():
                await lines[0].run(NbdClient.flush)
                await self._take_off(filling)
        return refused

    async def _work(self, filling: Filling, line: Line) -> int:
        """Fetch pieces until there are none, and say how many bytes were refused."""
        refused = 0
        while (piece := filling.take()) is not None:
            await self._pace.keep(piece.length)
            async with self._turns.turn():
                filling.under_way += 1
                try:
                    await line.run(lambda client, piece=piece: client.cache(*piece))  # type: ignore[misc]
                    filling.done_bytes += piece.length
                except RequestError:
                    refused += piece.length
                finally:
                    filling.under_way -= 1
            filling.tell()
        return refused

    async def _take_off(self, filling: Filling) -> None:
        layer = filling.layer
        async with self._gate.act() as nodes:
            # The layer's I/O is stopped for a moment: reads of zeros may be waiting for the source.
            await _ask(nodes, filling, set())
            await nodes.cut_off(layer)
            await asyncio.to_thread(self._ledger.forget_source, layer.id)
            await nodes.close_source(layer.id)
        log.info("layer_filled", layer_id=layer.id, bytes=filling.total_bytes)
        self._on_filled()


async def _follow(filling: Filling, on_progress: Callable[[int, int], None]) -> None:
    while not filling.over:
        if filling.problem is not None:
            raise VolumeUnusable(filling.problem)
        if filling.export_uri is not None:
            on_progress(filling.done_bytes, filling.total_bytes)
        await filling.news()


async def _ask(nodes: Nodes, filling: Filling, answered: set[str]) -> None:
    """Wait until a source has answered a read; an error is an answer too, as it keeps nobody waiting."""
    while filling.export_uri is None and filling.problem is None and not filling.over:
        await filling.news()
        if nodes.monitor.lost.is_set():
            raise EngineDown("the daemon is gone")
    offset = filling.asked_at
    if offset is not None and filling.export_uri is not None:
        length = min(ASKED_BYTES, filling.layer.size_bytes - offset)
        with suppress(NbdError):
            async with Line(filling.export_uri) as line:
                await line.run(lambda client: client.read(offset, length))
    answered.add(filling.layer.id)
