"""
Write numbered stamps to several disks in turn.

Each stamp is acknowledged by its disk before the next is sent to another, so the stamps have one order that every
true cut must respect. Acknowledged, not flushed: the run is there to judge cuts, not power failures. The region of
each disk that takes the stamps is overwritten; with load, so is everything behind it.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, Self

from onecut.errors import OnecutError
from onecut.nbd.client import NbdClient
from onecut.nbd.errors import NbdError
from onecut.units import KiB, MiB, size_text
from onecut.witness.stamps import STAMP_BYTES, Region, Run, build_stamp

MOST_LOAD_THREADS: Final = 64
"""More would only wait for the interpreter."""

_LOAD_BYTES = 4 * KiB
_PROGRESS_EVERY_S = 0.5


class DiskFailed(OnecutError):
    """A disk can't be used, or failed in the middle. The run is over."""

    def __init__(self, disk: int, uri: str, reason: str) -> None:
        super().__init__(f"disk {disk} ({uri}): {reason}")
        self.disk, self.uri = disk, uri


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    seconds: float
    stamps_written: int


@dataclass(frozen=True)
class RunReport:
    """What a run did; `dataclasses.asdict` makes JSON of it."""

    run_id: str
    """In hexadecimal; the stamps carry it."""
    disks: int
    stamps_written: int
    last_sequence: int | None
    """The last stamp that was acknowledged; None when the run ended before the first."""
    seconds: float
    longest_write_ms: Sequence[float]
    """For each disk, the longest that one stamp took: what a client feels of a cut."""
    load_writes: int


def run(
    uris: Sequence[str],
    *,
    duration_s: float | None = None,
    writes: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    region: Region | None = None,
    load_threads: int = 0,
    timeout_s: float | None = 30,
) -> RunReport:
    """
    Write stamps until the first limit given is reached; without one, until *stop* is set.

    Args:
        uris: NBD URIs of the disks, each once. **The region of each is overwritten.**
        duration_s: Seconds after which to end.
        writes: Number of stamps after which to end.
        stop: Set by another thread to end the run after the stamp in progress.
        on_progress: Called about twice a second, between two stamps.
        region: Where the stamps go; by default the first 64 KiB of each disk.
        load_threads: Writers of random blocks of 4 KiB behind the region, on connections of their own, spread over
            the disks. **Everything behind the region is overwritten.**
        timeout_s: Seconds that one write may take.

    Raises:
        DiskFailed: A disk is not reachable, read-only or too small (nothing was written), or failed later.
        ValueError: The arguments contradict each other; nothing was written.
    """
    region = region or Region()
    _check_arguments(uris, (duration_s, writes, stop), load_threads)
    identity = Run(os.urandom(16), time.time_ns(), len(uris), region.slots)
    with ExitStack() as stack:
        disks = [
            stack.enter_context(_open(disk, uri, region, timeout_s, with_load=load_threads > 0))
            for disk, uri in enumerate(uris)
        ]
        load = stack.enter_context(_Load(uris, region, load_threads, timeout_s))
        writer = _Writer(identity, region, uris, disks)
        started = time.monotonic()
        deadline = None if duration_s is None else started + duration_s
        next_progress = started + _PROGRESS_EVERY_S
        while not load.failed and (stop is None or not stop.is_set()):
            now = time.monotonic()
            if (deadline is not None and now >= deadline) or writer.written == writes:
                break
            if on_progress is not None and now >= next_progress:
                on_progress(Progress(now - started, writer.written))
                next_progress = now + _PROGRESS_EVERY_S
            writer.write_next()
        seconds = time.monotonic() - started
    return RunReport(
        run_id=identity.run_id.hex(),
        disks=len(uris),
        stamps_written=writer.written,
        last_sequence=writer.written - 1 if writer.written else None,
        seconds=seconds,
        longest_write_ms=writer.longest_write_ms,
        load_writes=load.writes,
    )


def _check_arguments(uris: Sequence[str], ends: Sequence[object], load_threads: int) -> None:
    if not uris or len(set(uris)) != len(uris):
        raise ValueError("the witness needs at least one disk, and each disk once")
    if all(end is None for end in ends):
        raise ValueError("the witness needs a duration, a number of writes, or an event that stops it")
    if not 0 <= load_threads <= MOST_LOAD_THREADS:
        raise ValueError(f"load_threads is {load_threads}; it must be from 0 to {MOST_LOAD_THREADS}")


class _Writer:
    """Writes the stamps, one after the other."""

    def __init__(self, identity: Run, region: Region, uris: Sequence[str], disks: Sequence[NbdClient]) -> None:
        self._identity = identity
        self._region = region
        self._uris = uris
        self._disks = disks
        self.written = 0
        self.longest_write_ms = [0.0] * len(disks)

    def write_next(self) -> None:
        sequence = self.written
        disk = self._identity.disk_of(sequence)
        block = build_stamp(self._identity, sequence)
        offset = self._region.slot_offset_bytes(self._identity.slot_of(sequence))
        sent = time.perf_counter()
        with _naming(disk, self._uris[disk]):
            self._disks[disk].write(block, offset)
        took_ms = (time.perf_counter() - sent) * 1000
        self.longest_write_ms[disk] = max(self.longest_write_ms[disk], took_ms)
        self.written += 1


class _Load:
    """Threads that write random blocks behind the region while the context is open. Leaving it raises their error."""

    def __init__(self, uris: Sequence[str], region: Region, threads: int, timeout_s: float | None) -> None:
        self._region = region
        self._timeout_s = timeout_s
        self._stop = threading.Event()
        self._error: DiskFailed | None = None
        self._counts = [0] * threads
        self._threads = [
            threading.Thread(target=self._write, args=(number, number % len(uris), uris[number % len(uris)]))
            for number in range(threads)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if kind is None and self._error is not None:
            raise self._error

    @property
    def failed(self) -> bool:
        return self._error is not None

    @property
    def writes(self) -> int:
        return sum(self._counts)

    def _write(self, number: int, disk: int, uri: str) -> None:
        chance = random.Random(number)  # noqa: S311 - where to write next is no secret
        noise = chance.randbytes(MiB)
        try:
            with _open(disk, uri, self._region, self._timeout_s, with_load=True) as client:
                first, last = self._region.end_bytes // _LOAD_BYTES, client.size_bytes // _LOAD_BYTES
                while not self._stop.is_set():
                    start = chance.randrange(len(noise) - _LOAD_BYTES)
                    with _naming(disk, uri):
                        client.write(noise[start : start + _LOAD_BYTES], chance.randrange(first, last) * _LOAD_BYTES)
                    self._counts[number] += 1
        except DiskFailed as error:
            self._error = error


@contextmanager
def _open(disk: int, uri: str, region: Region, timeout_s: float | None, *, with_load: bool) -> Iterator[NbdClient]:
    """Connect to a disk and make sure that it can take the stamps."""
    with _naming(disk, uri):
        client = NbdClient.connect(uri, timeout_s=timeout_s, contexts=())
    with client:
        needed_bytes = region.end_bytes + (_LOAD_BYTES if with_load else 0)
        if client.size_bytes < needed_bytes:
            raise DiskFailed(
                disk, uri, f"is {size_text(client.size_bytes)} long; {size_text(needed_bytes)} are needed"
            )
        if client.read_only:
            raise DiskFailed(disk, uri, "is read-only")
        if STAMP_BYTES % client.block_bytes:
            raise DiskFailed(disk, uri, f"takes only blocks of {size_text(client.block_bytes)}")
        yield client


@contextmanager
def _naming(disk: int, uri: str) -> Iterator[None]:
    """Name the disk in errors of its connection."""
    try:
        yield
    except NbdError as error:
        raise DiskFailed(disk, uri, str(error)) from error
