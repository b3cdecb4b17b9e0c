"""
Carry one volume's frozen point into the repository.

A crash may come between any two steps, so the order is fixed: lease, chunks, pages, manifest; then the lease goes. A
run that dies leaves a lease, and chunks and pages that no manifest reaches; the same run, begun again, uses them, or
the collector takes them. Objects are written under names of their own run, which is why nothing that is about to be
deleted can be picked up here: a run refers to what it wrote itself, and to what its leased base refers to.
"""

import mmap
import os
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from queue import SimpleQueue
from random import SystemRandom
from typing import Any, Final, Protocol, Self

from onecut.repository.chunk import HEADER, header_digest, seal
from onecut.repository.collector import abandon, sweep
from onecut.repository.courtesy import NO_COURTESY, Courtesy
from onecut.repository.errors import ArchiveCancelled, ChangeListWrong, NoSuchObject, ObjectExists, RunLost
from onecut.repository.extents import Extent, Kind, Span, spans
from onecut.repository.keys import digest
from onecut.repository.lease import Lease, drop_lease, leased_snapshot, put_lease, read_lease
from onecut.repository.manifest import (
    Chain,
    Lineage,
    SnapshotManifest,
    root_digest,
    signed,
    snapshot_path,
    to_bytes,
)
from onecut.repository.page import Entry, Page, Ref
from onecut.repository.repository import Reader, Repository, chunk_path, page_path
from onecut.repository.shares import Shares
from onecut.repository.store import Batch, ObjectStore, PutMode
from onecut.repository.throttle import Throttle
from onecut.repository.tree import Change, Tree, entries, lookup, nth, update
from onecut.units import MiB

READ_BYTES: Final = 1 * MiB
"""Read from the disk in one go: long enough for any disk to be read at its full speed."""

AHEAD_STEPS: Final = 24
"""
So many readings are begun before their turn, and as many are on their way to the store.

Enough for the disk to have work while the processors compress, and the other way round: data that compresses and data
that does not come in stretches. Measured: with half as many, and the same threads for compressing and putting, an
archive takes an eighth longer.
"""

NICENESS: Final = 10
"""
Added to that of the threads that hash and compress: those that serve disks are woken in front of them.

Measured with all cores busy, and a repository in memory: the slowest hundredth of a client's writes took 19 to 25 ms
without it, and 5 to 12 with it and shorter reads.
"""

BATCH_OBJECTS: Final = 512
"""After so many chunks the store is asked to make them durable, while the next are already on their way."""

COMMITS_BEHIND: Final = 4
"""So many batches may wait to be made durable: what a run that is killed then has to send again is bounded."""

INDEXED_CHUNKS: Final = 1 << 16
"""The latest chunks of a run among which repeats are found: 8 GiB of disk in some 16 MiB of memory."""

RENEWAL_S: Final = 60.0
"""Pause between renewals of the lease; collectors wait a thousand times longer."""

SLEPT_S: Final = 24 * 3600.0
"""A run whose lease is older than this does not try to complete: it may have been given up long ago, and the mark of
that be gone (`collector.ABANDONED_FOR`)."""


class Disk(Protocol):
    """One reader of a frozen disk. Used by one thread at a time."""

    @property
    def size_bytes(self) -> int:
        """The disk's length."""
        ...

    def readinto(self, buffer: memoryview, offset: int) -> None:
        """Fill *buffer* with what is at *offset*."""
        ...

    def close(self) -> None:
        """End the reader."""
        ...


@dataclass(frozen=True)
class Request:
    """What is archived, and as what."""

    chain: Chain
    snapshot_id: str
    run_id: str
    """32 hexadecimal digits, chosen once and written down before the first attempt: it lets the next one resume."""
    name: str
    size_bytes: int
    cut_at: datetime
    base: str | None = None
    """A snapshot of the same chain, whose objects may be referred to, and to which `UNCHANGED` refers."""
    group_id: str | None = None
    pause_ms: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """How it is archived."""

    workers: int = 6
    """Threads that read, hash and write, and mostly wait."""
    bytes_per_s: float | None = None
    """Bytes read from the disk per second, at most."""
    courtesy: Courtesy = NO_COURTESY
    """Makes room for those who use the disks."""
    sampled_chunks: int = 32
    """Chunks reported as unchanged that are read and compared all the same."""
    progress: Callable[[int, int], None] = lambda done, total: None  # noqa: ARG005 - the default ignores both
    """Called with the bytes of the disk that are dealt with and the disk's size, by the calling thread."""
    stopped: threading.Event = field(default_factory=threading.Event)
    """Set it from any thread, and the archive raises `ArchiveCancelled` soon."""


def archive(
    repository: Repository,
    request: Request,
    open_disk: Callable[[], Disk],
    extents: Iterable[Extent],
    options: Options | None = None,
) -> SnapshotManifest:
    """
    Archive a disk, and return its manifest once everything is durable.

    A run that was completed before is not done again. After any error but `RunLost` and `ChangeListWrong` the same
    run can be resumed: what it stored is not sent again. What the caller learns from an error it writes down before
    it gives the run up.

    Raises:
        NoSuchSnapshot: The base is gone or being deleted; nothing was written.
        ChangeListWrong: A sampled chunk differs. Give the run up (`collector.abandon`), and archive in full, as a new
            run.
        ArchiveCancelled: `Options.stopped` was set.
        RunLost: A collector gave the run up. Begin a new one.
        Damaged: A page of the base is damaged. Archive without a base, as a new run in a new chain.
        TryLater, StoreFull: The store could not take it.
    """
    options = options or Options()
    lease, done = _begin(repository, request)
    if done is None:
        try:
            base = leased_snapshot(repository, lease)
        except Exception:
            if lease.attempt == 1:
                drop_lease(repository, lease)
            raise
        with _Run(repository, request, options, lease, base) as run:
            try:
                done = run.archived(open_disk, extents)
            except RunLost:
                run.close()
                abandon(repository, lease)
                raise
    if lease.attempt > 1:
        sweep(repository, done)
    drop_lease(repository, lease)
    return done


def _begin(repository: Repository, request: Request) -> tuple[Lease, SnapshotManifest | None]:
    """Put the lease, or put it again; return the manifest too when the run was completed before."""
    lease = Lease(request.chain, request.run_id, "archive", request.base, request.snapshot_id)
    earlier = read_lease(repository, lease.path)
    if earlier is not None:
        lease = Lease(
            request.chain, request.run_id, "archive", request.base, request.snapshot_id, earlier.attempt + 1
        )
    path = snapshot_path(request.chain, request.snapshot_id, request.run_id)
    try:
        repository.store.head(path)
    except NoSuchObject:
        put_lease(repository, lease)
        return lease, None
    done = repository.read_manifest(path)
    if done is None:
        raise RunLost(f"run {request.run_id} was given up")
    return lease, done


@dataclass(slots=True)
class _Chunk:
    """One chunk on its way."""

    number: int
    data: memoryview | None
    digest: bytes | None
    """None for zeros."""
    ordinal: int = -1
    stored_bytes: int = 0


@dataclass(frozen=True)
class _Range:
    """Chunks to be read, from *first* to before *last*."""

    first: int
    last: int
    sample: bool
    """Whether they are only compared with the base."""


@dataclass
class _Step:
    """Some chunks of the disk, in its order, on their way through the stages."""

    work: Sequence[_Range] | Span
    """What is to be read, or a span of zeros."""
    reading: Future[list[_Chunk]] | None = None
    buffer: memoryview | None = None
    """What was read; another step's after this one."""
    changes: list[tuple[_Chunk, _Chunk]] = field(default_factory=list)
    """Chunks that differ from the base, each with the one that was stored for it."""
    storing: Future[Future[None]] | None = None
    """Done when all is compressed; then it has the future that is done when all is put."""


class _Run:
    """
    One run.

    Chunks go through five stages: read and hashed by a worker; compared with base and index by the calling thread,
    in the order of the disk, so that a resumed run numbers its chunks alike; compressed by a compressor, of which
    there are no more than processors; put by a worker; entered into the tree by the calling thread.
    """

    def __init__(
        self, repository: Repository, request: Request, options: Options, lease: Lease, base: SnapshotManifest | None
    ) -> None:
        self._repository, self._request, self._options, self._lease = repository, request, options, lease
        self._base = base
        self._keys = repository.keys(request.chain.project_id)
        self._run = bytes.fromhex(request.run_id)
        storing = options.courtesy if repository.store.uses_local_disks else NO_COURTESY
        self._storing_step = partial(storing.step, 0, options.stopped)
        self._batches = _Batches(repository.store, self._storing_step)
        self._pages = _Pages(repository.reader(request.chain.project_id), self._keys.page, self._run)
        self._base_tree = base.block_tree if base else Tree.over(1)
        self._shares = Shares(self._pages, base.share_tree if base else Tree.over(1 << 64))
        self._chunk_bytes = repository.chunk_bytes
        self._chunk_count = -(-request.size_bytes // self._chunk_bytes)
        self._zeros = memoryview(bytes(self._chunk_bytes)).cast("Q")
        self._index = _Index()
        self._stored_chunks = self._stored_bytes = self._read_bytes = 0
        self._throttle = Throttle(options.bytes_per_s)
        self._renewed = _awake_and_asleep_s()
        self._disks: SimpleQueue[Disk] = SimpleQueue()
        self._chunks_at_once = max(1, READ_BYTES // self._chunk_bytes)
        # New ones would be zeroed first, and while that lasts no other thread runs Python.
        self._buffers: deque[memoryview] = deque()
        self._pool = ThreadPoolExecutor(options.workers, "archive", initializer=_step_back)
        compressors = min(options.workers, len(os.sched_getaffinity(0)))
        self._compressing = ThreadPoolExecutor(compressors, "archive-compress", initializer=_step_back)
        self._trusted = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all threads, and drop what is not durable yet."""
        self._compressing.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)
        self._batches.close()
        while not self._disks.empty():
            self._disks.get().close()

    def archived(self, open_disk: Callable[[], Disk], extents: Iterable[Extent]) -> SnapshotManifest:
        """Do all steps and return the manifest."""
        for _ in range(self._options.workers):
            self._disks.put(open_disk())
        height = Tree.over(self._chunk_count).height
        with self._repository.store.batch() as self._pages.batch:
            blocks = update(self._pages, self._base_tree, self._changes(extents), height)
            shares = self._shares.updated()
            self._batches.commit()
            self._pages.batch.commit()
        self._options.progress(self._request.size_bytes, self._request.size_bytes)
        self._attend()
        return self._completed(blocks, shares)

    def _changes(self, extents: Iterable[Extent]) -> Iterator[Change]:
        """Yield how the tree differs from the base's, in the order of the disk."""
        reading: deque[_Step] = deque()
        storing: deque[_Step] = deque()
        for work in self._work(extents):
            self._attend()
            reading.append(self._begun(work))
            if len(reading) > AHEAD_STEPS:
                storing.append(self._decided(reading.popleft()))
            if len(storing) > AHEAD_STEPS:
                yield from self._finished(storing.popleft())
        storing.extend(self._decided(step) for step in reading)
        for step in storing:
            yield from self._finished(step)

    def _begun(self, work: Sequence[_Range] | Span) -> _Step:
        step = _Step(work)
        if not isinstance(work, Span):
            step.buffer = self._buffers.pop() if self._buffers else self._new_buffer()
            step.reading = self._pool.submit(self._read, work, step.buffer)
        return step

    def _new_buffer(self) -> memoryview:
        # Of whole pages, so that a disk may be read straight into it (open(2), "O_DIRECT").
        return memoryview(mmap.mmap(-1, self._chunks_at_once * self._chunk_bytes))

    def _work(self, extents: Iterable[Extent]) -> Iterator[Sequence[_Range] | Span]:
        """Yield what has to be read, some chunks at a time, and which spans of the base have become zeros."""
        most = self._chunks_at_once
        ranges: list[_Range] = []
        room = most
        for piece in self._pieces(extents):
            if isinstance(piece, Span):
                if ranges:
                    yield ranges
                yield piece
                ranges, room = [], most
                continue
            first = piece.first
            while first < piece.last:
                last = min(piece.last, first + room)
                ranges.append(_Range(first, last, piece.sample))
                room -= last - first
                first = last
                if not room:
                    yield ranges
                    ranges, room = [], most
        if ranges:
            yield ranges

    def _pieces(self, extents: Iterable[Extent]) -> Iterator[_Range | Span]:
        samples = self._sampled()
        for span in spans(extents, self._request.size_bytes, self._chunk_bytes):
            match span.kind:
                case Kind.DATA:
                    yield _Range(span.first, span.last, sample=False)
                case Kind.ZERO if self._base is not None:
                    yield span
                case Kind.UNCHANGED:
                    yield from self._unchanged(span, samples)
        if self._base is not None and self._base.chunk_count > self._chunk_count:
            yield Span(self._chunk_count, self._base.chunk_count, Kind.ZERO)

    def _unchanged(self, span: Span, samples: Sequence[int]) -> Iterator[_Range]:
        if self._base is None:
            raise ValueError("without a base snapshot nothing can be unchanged")
        self._trusted = True
        for number in samples[bisect_left(samples, span.first) : bisect_left(samples, span.last)]:
            yield _Range(number, number + 1, sample=True)
        shrunk = self._base.size_bytes > self._request.size_bytes and self._request.size_bytes % self._chunk_bytes
        if shrunk and span.last == self._chunk_count:
            # The base's chunk goes on beyond the disk's new end, where it must be zeros now.
            yield _Range(span.last - 1, span.last, sample=False)

    def _sampled(self) -> Sequence[int]:
        """
        Choose chunks to be compared with the base.

        Half of them anywhere on the disk, half among those that the base has: on a large, almost empty disk the first
        would hardly ever meet data.
        """
        if self._base is None or not self._chunk_count:
            return ()
        half = self._options.sampled_chunks // 2
        chosen = {SystemRandom().randrange(self._chunk_count) for _ in range(half)}
        if self._base.blocks is not None:
            for _ in range(half):
                rank = SystemRandom().randrange(self._base.blocks.entries)
                chosen.add(nth(self._pages, self._base_tree, rank)[0])
        return sorted(number for number in chosen if number < self._chunk_count)

    def _read(self, ranges: Sequence[_Range], buffer: memoryview) -> list[_Chunk]:
        """Read and hash chunks; in a worker."""
        disk = self._disks.get()
        chunks: list[_Chunk] = []
        try:
            for each in ranges:
                chunks.extend(self._read_range(disk, each, buffer[len(chunks) * self._chunk_bytes :]))
        finally:
            self._disks.put(disk)
        return chunks

    def _read_range(self, disk: Disk, each: _Range, buffer: memoryview) -> Iterator[_Chunk]:
        first = each.first
        while first < each.last:
            last = first + 1 if self._options.courtesy.others_are_busy() else each.last
            length = min(last * self._chunk_bytes, self._request.size_bytes) - first * self._chunk_bytes
            self._throttle.take(length, self._options.stopped)
            with self._options.courtesy.step(length, self._options.stopped):
                yield from self._read_chunks(disk, first, last, buffer[(first - each.first) * self._chunk_bytes :])
            first = last

    def _read_chunks(self, disk: Disk, first: int, last: int, buffer: memoryview) -> Iterator[_Chunk]:
        offset, end = first * self._chunk_bytes, last * self._chunk_bytes
        length = min(end, self._request.size_bytes) - offset
        disk.readinto(buffer[:length], offset)
        buffer[length : end - offset] = bytes(end - offset - length)
        for number in range(first, last):
            begin = number * self._chunk_bytes - offset
            data = buffer[begin : begin + self._chunk_bytes]
            zeros = data.cast("Q") == self._zeros
            yield _Chunk(number, data, None if zeros else digest(self._keys.chunk, data))

    def _decided(self, step: _Step) -> _Step:
        """Find out which chunks differ from the base and which of them are new, and have those stored."""
        if step.reading is None:
            return step
        chunks = step.reading.result()
        ranges = step.work if not isinstance(step.work, Span) else ()
        samples = {each.first for each in ranges if each.sample}
        new = []
        for chunk in chunks:
            self._read_bytes += self._chunk_bytes
            before = lookup(self._pages, self._base_tree, chunk.number)
            if (before.digest if before else None) == chunk.digest:
                continue
            if chunk.number in samples:
                raise ChangeListWrong(chunk.number * self._chunk_bytes)
            if before is not None:
                self._shares.dropped(before)
            original = self._repeated(chunk)
            if original is chunk and chunk.digest is not None:
                chunk.ordinal = self._stored_chunks
                self._stored_chunks += 1
                self._index.add(chunk)
                new.append(chunk)
            step.changes.append((chunk, original))
        if new:
            batch = self._batches.current()
            step.storing = self._compressing.submit(self._seal, batch.batch, new)
            batch.add(step.storing, len(new))
        return step

    def _repeated(self, chunk: _Chunk) -> _Chunk:
        """Return the chunk of this run that has the same data, or the chunk itself."""
        known = self._index.find(chunk.digest)
        if known is None or known.digest is None:
            return chunk
        counted = self._shares.repeated(Entry(known.digest, self._run, known.ordinal, 0))
        return known if counted else chunk

    def _seal(self, batch: Batch, chunks: Sequence[_Chunk]) -> Future[None]:
        """Compress chunks, and have them put; in a compressor."""
        sealed: list[tuple[str, Sequence[bytes | memoryview]]] = []
        for chunk in chunks:
            assert chunk.data is not None  # noqa: S101 - for mypy: the data
            assert chunk.digest is not None  # noqa: S101 - and the digest go away later
            path = chunk_path(self._run, chunk.ordinal)
            chunk.stored_bytes = self._stored_earlier(path, chunk.digest)
            if not chunk.stored_bytes:
                with self._options.courtesy.step(0, self._options.stopped):
                    head, body = seal(chunk.data, chunk.digest)
                sealed.append((path, [head, body]))
                chunk.stored_bytes = len(head) + len(body)
            chunk.data = None
        return self._pool.submit(self._put, batch, sealed)

    def _put(self, batch: Batch, sealed: Sequence[tuple[str, Sequence[bytes | memoryview]]]) -> None:
        """Put sealed chunks; in a worker."""
        for path, parts in sealed:
            with self._storing_step():
                batch.put(path, parts)

    def _stored_earlier(self, path: str, data_digest: bytes) -> int:
        """Return the size of the chunk's object if an earlier attempt of this run has stored it, else 0."""
        if self._lease.attempt == 1:
            return 0
        store = self._repository.store
        try:
            size_bytes = store.head(path).size_bytes
            head = store.get_range(path, 0, HEADER.size)
        except NoSuchObject:
            return 0
        return size_bytes if header_digest(head, size_bytes) == data_digest else 0

    def _finished(self, step: _Step) -> Iterator[Change]:
        """Wait until a step's chunks are put, and yield what becomes of the tree."""
        if isinstance(step.work, Span):
            for number, before in entries(self._pages, self._base_tree, step.work.first, step.work.last):
                self._shares.dropped(before)
                yield number, None
            end = step.work.last
        else:
            if step.storing is not None:
                step.storing.result().result()
            for chunk, original in step.changes:
                yield chunk.number, self._entry(chunk, original)
            if step.buffer is not None:
                self._buffers.append(step.buffer)
            self._stored_bytes += sum(chunk.stored_bytes for chunk, original in step.changes if chunk is original)
            end = step.work[-1].last
        self._options.progress(min(end * self._chunk_bytes, self._request.size_bytes), self._request.size_bytes)

    def _entry(self, chunk: _Chunk, original: _Chunk) -> Entry | None:
        if chunk.digest is None:
            return None
        return Entry(chunk.digest, self._run, original.ordinal, original.stored_bytes)

    def _attend(self) -> None:
        """Stop if asked to; renew the lease when it is time."""
        if self._options.stopped.is_set():
            raise ArchiveCancelled(f"the archive of snapshot {self._request.snapshot_id} was stopped")
        if _awake_and_asleep_s() - self._renewed > RENEWAL_S:
            if _awake_and_asleep_s() - self._renewed > SLEPT_S:
                raise RunLost(f"run {self._request.run_id} slept for more than {SLEPT_S:.0f} s")
            put_lease(self._repository, self._lease)
            self._renewed = _awake_and_asleep_s()

    def _completed(self, blocks: Tree, shares: Tree) -> SnapshotManifest:
        """
        Put the manifest: from now on there is a snapshot.

        It is put as a new object, so that it is decided here whether the run was completed or given up.
        """
        request, base = self._request, self._base
        manifest = signed(
            SnapshotManifest(
                chain=request.chain,
                snapshot_id=request.snapshot_id,
                run_id=request.run_id,
                name=request.name,
                group_id=request.group_id,
                size_bytes=request.size_bytes,
                chunk_bytes=self._chunk_bytes,
                root=root_digest(self._keys, request.size_bytes, self._chunk_bytes, blocks.root),
                blocks=blocks.root,
                shares=shares.root,
                lineage=Lineage(base.snapshot_id, (base.snapshot_id, *base.lineage.ancestors))
                if base
                else Lineage(None),
                cut_at=request.cut_at.astimezone(UTC).isoformat(),
                archived_at=datetime.now(UTC).isoformat(),
                pause_ms=request.pause_ms,
                incremental=self._trusted,
                added_chunks=self._stored_chunks,
                added_pages=self._pages.saved,
                added_bytes=self._stored_bytes + self._pages.saved_bytes,
                read_bytes=self._read_bytes,
                extra=dict(request.extra),
            ),
            self._keys,
        )
        try:
            self._repository.store.put(manifest.path, to_bytes(manifest), PutMode.CREATE)
        except ObjectExists:
            done = self._repository.read_manifest(manifest.path)
            if done is None:
                raise RunLost(f"run {request.run_id} was given up") from None
            return done
        return manifest


def _awake_and_asleep_s() -> float:
    """Return seconds on a clock that nobody sets, and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class _Index:
    """Finds repeats among the latest chunks of a run: two generations, of which the older is forgotten as a whole."""

    def __init__(self) -> None:
        self._young: dict[bytes, _Chunk] = {}
        self._old: dict[bytes, _Chunk] = {}

    def add(self, chunk: _Chunk) -> None:
        """Remember a chunk that is being stored."""
        assert chunk.digest is not None  # noqa: S101 - zeros are not stored
        if len(self._young) >= INDEXED_CHUNKS // 2:
            self._old, self._young = self._young, {}
        self._young[chunk.digest] = chunk

    def find(self, data_digest: bytes | None) -> _Chunk | None:
        """Return the chunk of this digest, if it is remembered."""
        if data_digest is None:
            return None
        return self._young.get(data_digest) or self._old.get(data_digest)


class _OpenBatch:
    """A batch that is being filled."""

    def __init__(self, batch: Batch, step: Callable[[], AbstractContextManager[None]]) -> None:
        self.batch = batch
        self.objects = 0
        self._step = step
        self._storing: list[Future[Future[None]]] = []

    def add(self, storing: Future[Future[None]], objects: int) -> None:
        """Take note of objects that a worker is putting."""
        self._storing.append(storing)
        self.objects += objects

    def commit(self) -> None:
        """Wait for the workers, then make it all durable."""
        for storing in self._storing:
            storing.result().result()
        with self._step():
            self.batch.commit()


class _Batches:
    """Chunks in batches: while the store makes one durable, in a *step* of its own, the next is being filled."""

    def __init__(self, store: ObjectStore, step: Callable[[], AbstractContextManager[None]]) -> None:
        self._store, self._step = store, step
        self._begun = ExitStack()
        self._committer = ThreadPoolExecutor(1, "commit", initializer=_step_back)
        self._commits: list[Future[None]] = []
        self._open: _OpenBatch | None = None

    def close(self) -> None:
        """Drop what was not committed."""
        self._committer.shutdown(cancel_futures=True)
        self._begun.close()

    def current(self) -> _OpenBatch:
        """Return the batch that is to be filled."""
        if self._open is not None and self._open.objects >= BATCH_OBJECTS:
            self._seal()
        if self._open is None:
            self._open = _OpenBatch(self._begun.enter_context(self._store.batch()), self._step)
        return self._open

    def commit(self) -> None:
        """Make everything durable that was put."""
        self._seal()
        for commit in self._commits:
            commit.result()

    def _seal(self) -> None:
        if self._open is not None:
            if len(self._commits) >= COMMITS_BEHIND:
                self._commits[-COMMITS_BEHIND].result()
            self._commits.append(self._committer.submit(self._open.commit))
            self._open = None


def _step_back() -> None:
    # Linux has a niceness for each thread (setpriority(2)). One that can't be had is no reason to archive nothing.
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)


class _Pages:
    """Reads pages of base and run, and stores new ones under the run's name."""

    def __init__(self, reader: Reader, key: bytes, run: bytes) -> None:
        self._reader, self._key, self._run = reader, key, run
        self.batch: Batch
        self.saved = self.saved_bytes = 0

    def page(self, ref: Ref) -> Page:
        """Return the page at *ref*."""
        return self._reader.page(ref)

    def save(self, page: Page, count: int) -> Ref:
        """Store a new page."""
        page_digest, data = page.encoded(self._key)
        ref = Ref(page_digest, self._run, self.saved, count)
        self.batch.put(page_path(self._run, self.saved), [data])
        self.saved += 1
        self.saved_bytes += len(data)
        self._reader.remember(ref, page)
        return ref
