"""
Carrying points into the repository, several at a time, each until it is there or there is no hope.

The order that keeps a crash harmless: the run is written down (`archive_runs`), the repository makes it durable, then
the database learns of it. A service that dies in between goes on with the same run, which finds what it stored.

The work is done by threads of its own: hashing and compressing leave the event loop alone, and a store that does not
answer takes no thread from anybody else.
"""

import asyncio
import contextlib
import functools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter
from sqlalchemy.orm import Session

from onecut.clock import Clock
from onecut.db.session import Database
from onecut.engine.port import Engine, ExtentKind, OpenPoint
from onecut.engine.port import Extent as PointExtent
from onecut.errors import EngineDown, EngineError, NoChangeList, OnecutError
from onecut.jobs import archive_runs
from onecut.jobs.archive_runs import Run, Turn
from onecut.jobs.patience import persist
from onecut.jobs.transaction import transact
from onecut.nbd.errors import NbdError
from onecut.repository.archive import Options, Request, archive
from onecut.repository.collector import abandon
from onecut.repository.courtesy import BUSY_BYTES_PER_S, NO_COURTESY, Courtesy
from onecut.repository.errors import (
    ArchiveCancelled,
    ChangeListWrong,
    Damaged,
    NoSuchObject,
    NoSuchSnapshot,
    RepositoryError,
    RunLost,
    StoreDenied,
    StoreFull,
    TryLater,
)
from onecut.repository.extents import Extent, Kind
from onecut.repository.lease import Lease
from onecut.repository.manifest import Chain, SnapshotManifest
from onecut.repository.repository import Repository
from onecut.repository.retry import Backoff

log = structlog.get_logger()

Result = TypeVar("Result")

PROGRESS_S: Final = 1.0
"""How often progress is written to the database."""

TURN_S: Final = 5.0
"""How often a snapshot looks whether its turn has come, even if nobody says so."""

RUNS: Final = 8
"""Runs that a snapshot gets, whatever is wrong with each of them."""

KINDS: Final = {ExtentKind.DATA: Kind.DATA, ExtentKind.ZERO: Kind.ZERO, ExtentKind.UNCHANGED: Kind.UNCHANGED}

STORE_LATER: Final = (TryLater, StoreFull, StoreDenied)
"""What passes, by itself or by somebody's hand: no answer, no space, no permission."""

LATER: Final = (*STORE_LATER, EngineDown, NbdError)
"""The same with the engine's side: a daemon that died runs again soon."""

DECIDED_AGAIN: Final = (NoChangeList, ChangeListWrong, NoSuchSnapshot, RunLost, Damaged)
"""What shows that a run can't be completed as it was decided."""

PATIENCE: Final = Backoff(first_s=1.0, longest_s=60.0, total_s=3600.0)
"""How jobs wait for a repository that is away or full."""


@dataclass(frozen=True)
class ArchiveLimits:
    """How much archiving may take."""

    parallel: int = 4
    """Snapshots at a time."""
    bytes_per_s: float | None = None
    """Bytes read from each disk per second, at most."""
    busy_bytes_per_s: float = BUSY_BYTES_PER_S
    """Bytes read from all disks together per second, at most, while clients use disks; 0: no archive gives way."""
    sampled_chunks: int = 32
    """Chunks reported as unchanged that are read and compared all the same, in each incremental run."""
    patience: Backoff = PATIENCE
    """How to wait while the repository or the engine is away or full; begins anew whenever something was archived."""


class ArchiveMetrics:
    """Counts what was archived, and what was wrong."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.archives = Counter(
            "onecut_archives", "Snapshots archived, by how they were read.", ["read"], registry=registry
        )
        self.stored = Counter(
            "onecut_archived_bytes", "Bytes that archives added to the repository.", registry=registry
        )
        self.waits = Counter(
            "onecut_archive_waits", "Pauses because the repository or the engine could not go on.", registry=registry
        )
        self.wrong_change_lists = Counter(
            "onecut_change_list_wrong", "Blocks found changed that were reported as unchanged.", registry=registry
        )
        self.damages = Counter("onecut_damages", "Damaged objects met in the repository.", registry=registry)


class _Work:
    """One snapshot that is being archived, and how to stop that."""

    def __init__(self, pauses: Iterator[float]) -> None:
        self.stopped = threading.Event()
        self.woken = asyncio.Event()
        self.idle = asyncio.Event()
        """Set while nobody reads the point or writes to the repository for it."""
        self.idle.set()
        self.pauses = pauses
        """How long to wait, time after time, while it can't go on."""
        self.runs: set[str] = set()
        self.retried = False
        self.percent = 0
        self.furthest_bytes = 0
        """How far attempts of this run have come: a full store ends one here, the next there."""

    def stop(self) -> None:
        """Ask it to stop, wherever it is."""
        self.stopped.set()
        self.woken.set()

    def begin(self, run_id: str) -> None:
        """Take note of the run of the next attempt; a new one has to come everywhere once more."""
        if run_id not in self.runs:
            self.runs.add(run_id)
            self.furthest_bytes = 0

    @contextlib.contextmanager
    def attempt(self) -> Iterator[None]:
        """
        Keep who stops it waiting until the block ends, from before the point is opened: nothing is begun after that.

        Raises:
            ArchiveCancelled: It was stopped before.
        """
        if self.stopped.is_set():
            raise ArchiveCancelled("the archive was stopped before it began")
        self.idle.clear()
        try:
            yield
        finally:
            self.idle.set()

    def progress(self, done: int, total: int) -> None:
        """Take note of progress; called by the working thread."""
        self.furthest_bytes = max(self.furthest_bytes, done)
        self.percent = min(99, done * 100 // max(total, 1))


class Archiver:
    """Carries points into the repository, and takes them out of it again."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        clock: Clock,
        repository: Repository,
        *,
        limits: ArchiveLimits | None = None,
        metrics: ArchiveMetrics | None = None,
    ) -> None:
        self._engine, self._database, self._clock, self._repository = engine, database, clock, repository
        self._limits = limits or ArchiveLimits()
        self._metrics = metrics or ArchiveMetrics(CollectorRegistry())
        rate = self._limits.busy_bytes_per_s
        self._courtesy = Courtesy(engine.moved_bytes, rate) if rate else NO_COURTESY
        self._places = asyncio.Semaphore(self._limits.parallel)
        self._threads = ThreadPoolExecutor(self._limits.parallel + 2, "archiver")
        self._works: dict[str, _Work] = {}
        self._changed = asyncio.Condition()

    def close(self) -> None:
        """End the threads, once what they are doing is done."""
        self._threads.shutdown(cancel_futures=True)

    async def archive(self, job_rows: Mapping[str, str]) -> None:
        """
        Archive snapshots, several at a time, and note each that is done.

        One that is deleted meanwhile is left out. When one fails the others go on to their end.

        Args:
            job_rows: For each snapshot's id the id of the job that shows its progress.

        Raises:
            OnecutError: Why the first of those failed that did.
        """
        telling = asyncio.create_task(self._tell_progress(job_rows))
        try:
            ends = await asyncio.gather(*map(self._archive, job_rows), return_exceptions=True)
        finally:
            telling.cancel()
        for end in ends:
            if end is not None:
                raise end

    async def stop(self, snapshot_ids: Collection[str]) -> None:
        """Stop archiving snapshots that are not wanted any more, and wait until nobody reads them."""
        for work in [self._works[each] for each in snapshot_ids if each in self._works]:
            work.stop()
            await work.idle.wait()

    async def _archive(self, snapshot_id: str) -> None:
        work = self._works[snapshot_id] = _Work(self._limits.patience.pauses())
        try:
            await self._archive_patiently(snapshot_id, work)
        except Exception as error:
            # Whatever it is: later snapshots of the volume must not wait for this one.
            reason = str(error) if isinstance(error, OnecutError) else "internal error; the log has the details"
            log.warning("archive_failed", snapshot_id=snapshot_id, reason=reason)
            await self._ask(lambda session: archive_runs.give_up(session, snapshot_id, reason))
            raise
        finally:
            del self._works[snapshot_id]
            async with self._changed:
                self._changed.notify_all()

    async def _archive_patiently(self, snapshot_id: str, work: _Work) -> None:
        while not work.stopped.is_set():
            run = await self._ask(lambda session: archive_runs.decide(session, snapshot_id, self._clock.now()))
            if run is Turn.NOT_WANTED:
                return
            if isinstance(run, Turn):
                await self._wait_for_turn(work)
                continue
            work.begin(run.run_id)
            before = work.furthest_bytes
            try:
                await self._attempt(run, work)
            except ArchiveCancelled:
                return
            except LATER as error:
                if work.furthest_bytes > before:
                    work.pauses = self._limits.patience.pauses()
                await self._pause(work, error)
            except (EngineError, RepositoryError) as error:
                await self._try_otherwise(run, work, error)
            else:
                return

    async def _try_otherwise(self, run: Run, work: _Work, error: OnecutError) -> None:
        """Get ready for another attempt after what no waiting mends, or raise *error*."""
        if isinstance(error, DECIDED_AGAIN) and len(work.runs) < RUNS:
            await self._decide_again(run, error)
        elif work.retried:
            raise error
        else:
            work.retried = True
            log.warning("archive_retried", snapshot_id=run.snapshot_id, reason=str(error))

    async def _wait_for_turn(self, work: _Work) -> None:
        async def anything() -> None:
            async with self._changed:
                await self._changed.wait()

        waits = [asyncio.create_task(anything()), asyncio.create_task(work.woken.wait())]
        try:
            await asyncio.wait(waits, timeout=TURN_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _pause(self, work: _Work, error: OnecutError) -> None:
        """Wait before the next attempt, or raise *error* when there was enough waiting."""
        pause_s = next(work.pauses, None)
        if pause_s is None:
            raise error
        log.warning("archive_waits", reason=str(error), pause_s=pause_s)
        self._metrics.waits.inc()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(work.woken.wait(), pause_s)

    async def _decide_again(self, run: Run, error: OnecutError) -> None:
        """
        Write down another run after one that can't be completed as it was decided, and whose leftovers go.

        In this order: a service that dies in between knows what was found out, and a collector sees to the leftovers.
        """
        reason = str(error)
        log.warning("archive_decided_again", snapshot_id=run.snapshot_id, reason=reason)
        match error:
            case RunLost():
                act = functools.partial(archive_runs.begin_again, snapshot_id=run.snapshot_id)
            case Damaged():
                act = functools.partial(self._leave_damaged_base, run=run, reason=reason)
            case NoSuchSnapshot():
                reason = f"snapshot {run.base_id} before it is not in the repository any more"
                act = functools.partial(
                    archive_runs.build_on_nothing,
                    snapshot_id=run.snapshot_id,
                    reason=reason,
                    now=self._clock.now(),
                )
            case _:
                act = functools.partial(archive_runs.read_all, snapshot_id=run.snapshot_id, reason=reason)
        await self._ask(act)
        if isinstance(error, ChangeListWrong):
            log.error("change_list_wrong", snapshot_id=run.snapshot_id, base_id=run.base_id, offset=error.offset)
            self._metrics.wrong_change_lists.inc()
        if isinstance(error, Damaged):
            log.error("repository_damaged", snapshot_id=run.base_id, path=error.path, reason=error.reason)
            self._metrics.damages.inc()
        await persist(lambda: self._give_up(run), self._limits.patience.pauses(), STORE_LATER)

    async def _give_up(self, run: Run) -> None:
        act = functools.partial(give_run_up, self._repository, run.chain, run.run_id, run.snapshot_id)
        await asyncio.get_running_loop().run_in_executor(self._threads, act)

    def _leave_damaged_base(self, session: Session, run: Run, reason: str) -> None:
        if run.base_id is not None:
            archive_runs.mark_damaged(session, run.base_id, reason)
        archive_runs.build_on_nothing(
            session, run.snapshot_id, f"snapshot {run.base_id} before it is damaged", self._clock.now()
        )

    async def _attempt(self, run: Run, work: _Work) -> None:
        async with self._places:
            with work.attempt():
                async with self._engine.open_point(run.snapshot_id) as point:
                    extents = await self._engine.extents(run.snapshot_id, since=run.since)
                    manifest = await self._in_thread(work, lambda: self._run(run, point, extents, work))
        now = self._clock.now()
        await self._ask(lambda session: archive_runs.record(session, manifest, now))
        self._metrics.archives.labels("changes" if manifest.incremental else "all").inc()
        self._metrics.stored.inc(manifest.added_bytes)
        log.info(
            "archived",
            snapshot_id=run.snapshot_id,
            incremental=manifest.incremental,
            full_because=run.full_because,
            read_bytes=manifest.read_bytes,
            added_bytes=manifest.added_bytes,
        )

    def _run(self, run: Run, point: OpenPoint, extents: Sequence[PointExtent], work: _Work) -> SnapshotManifest:
        request = Request(
            chain=run.chain,
            snapshot_id=run.snapshot_id,
            run_id=run.run_id,
            name=run.name,
            size_bytes=point.size_bytes,
            cut_at=run.cut_at,
            base=run.base_id,
            group_id=run.group_id,
            pause_ms=run.pause_ms,
            extra=run.extra,
        )
        options = Options(
            bytes_per_s=self._limits.bytes_per_s,
            courtesy=self._courtesy,
            sampled_chunks=self._limits.sampled_chunks,
            progress=work.progress,
            stopped=work.stopped,
        )
        known = (Extent(extent.offset, extent.length, KINDS[extent.kind]) for extent in extents)
        return archive(self._repository, request, point.reader, known, options)

    async def _in_thread(self, work: _Work, act: Callable[[], Result]) -> Result:
        """Let a thread work, and when the service stops, let it stop first."""
        working = asyncio.get_running_loop().run_in_executor(self._threads, act)
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            work.stop()
            await asyncio.wait([working])
            working.exception()  # asyncio reports one that nobody has looked at
            raise

    async def _tell_progress(self, job_rows: Mapping[str, str]) -> None:
        told: dict[str, int] = {}
        while True:
            await asyncio.sleep(PROGRESS_S)
            now = {each: self._works[each].percent for each in job_rows if each in self._works}
            if news := {each: percent for each, percent in now.items() if percent != told.get(each)}:
                await self._ask(functools.partial(archive_runs.tell_progress, percents=news, job_rows=job_rows))
                told |= news

    async def _ask(self, act: Callable[[Session], Result]) -> Result:
        return await transact(self._database, act)


def give_run_up(repository: Repository, chain: Chain, run_id: str, snapshot_id: str) -> None:
    """Free what a run stored that is not going to be completed; one that was completed keeps its snapshot."""
    lease = Lease(chain, run_id, "archive", None, snapshot_id)
    try:
        repository.store.head(lease.path)
    except NoSuchObject:  # it has stored nothing
        return
    abandon(repository, lease)
