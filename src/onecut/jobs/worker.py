"""
Taking jobs from the queue and carrying them out, step by step.

For each job and each of its steps: write the step down, take it; at the end one transaction marks the job and
sets the resources' states. A service that dies leaves the job RUNNING with the step it was in. The next start begins
again with that very step, so every step bears being taken twice. A step that raises ends the job: `fail` undoes, in
the transaction that marks it.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from sqlalchemy.orm import Session

from onecut.clock import Clock
from onecut.db.session import Database
from onecut.errors import OnecutError
from onecut.jobs import queue
from onecut.jobs.queue import OpenJob
from onecut.jobs.transaction import Result, read, transact

log = structlog.get_logger()

STOP_GRACE_S = 5.0
"""How long running jobs may take to end when the service stops; a longer one goes on after the next start."""


@dataclass(frozen=True)
class Order:
    """A job as its steps see it: what was asked for, in ids."""

    job_id: str
    project_id: str
    request: Mapping[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)
    """What one step leaves for the next, or for `finish`. A crash loses it: who misses it finds out once more."""


class JobType(Protocol):
    """How one type of job is carried out. The order of `steps` is the order in which they are taken."""

    @property
    def steps(self) -> Mapping[str, Callable[[Order], Awaitable[None]]]:
        """The steps by name. Each bears being taken again after a crash in its middle."""
        ...

    def finish(self, session: Session, order: Order) -> None:
        """Set the resources' states, in the transaction that marks the job as done."""
        ...

    def fail(self, session: Session, order: Order, reason: str) -> None:
        """Set the resources' states, in the transaction that marks the job as failed."""
        ...


class Worker:
    """
    Carries out jobs on the event loop, up to *limit* at a time, oldest first.

    A job in a patient step, which may take hours, does not count: it must not keep a cut waiting.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        job_types: Mapping[str, JobType],
        *,
        limit: int,
        patient_steps: Collection[str] = (),
        on_step: Callable[[str, str], None] = lambda _job_type, _step: None,
    ) -> None:
        """
        Make a worker; `run` sets it going.

        Args:
            database: Where the jobs are.
            clock: For the times on the jobs.
            job_types: How each type is carried out.
            limit: Most jobs at a time.
            patient_steps: Steps during which a job does not count.
            on_step: Called with type and step after a step was written down and before it is taken.
        """
        self._database, self._clock, self._job_types = database, clock, job_types
        self._limit, self._patient_steps, self._on_step = limit, frozenset(patient_steps), on_step
        self._patient: set[str] = set()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._more_may_wait = True
        """Whether there may be jobs that found no place; each job that is added rings by itself."""
        self._bell = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        queue.ring_when_added(database, self.ring)

    def ring(self) -> None:
        """Say, from any thread, that there may be a job to do."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._bell.set)

    async def run(self) -> None:
        """Carry out jobs until cancelled; then give the running ones a little time to end."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                self._bell.clear()
                await self._start_waiting_jobs()
                await self._bell.wait()
        finally:
            await self._stop()

    async def _start_waiting_jobs(self) -> None:
        # A job that ends while the question is under way may still be in the answer: it was running before it.
        known = frozenset(self._running)
        places = self._limit - (len(known) - len(self._patient))
        self._more_may_wait = True
        if places <= 0:
            return
        found = await read(self._database, functools.partial(queue.open_jobs, but=known, most=places))
        self._more_may_wait = len(found) == places
        for job in found:
            task = asyncio.create_task(self._carry_out(job), name=f"job {job.id}")
            self._running[job.id] = task
            task.add_done_callback(functools.partial(self._ended, job.id))

    def _ended(self, job_id: str, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # Not even its failing could be written down. It keeps its place, so that it is not tried again and
            # again; the next start takes it up.
            log.critical("job_stuck", job_id=job_id, exc_info=error)
            return
        del self._running[job_id]
        self._patient.discard(job_id)
        self._place_is_free()

    async def _stop(self) -> None:
        running = list(self._running.values())
        for job_id in self._patient & self._running.keys():  # it would take too long; the next start goes on with it
            self._running[job_id].cancel()
        if running:
            _, late = await asyncio.wait(running, timeout=STOP_GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _carry_out(self, job: OpenJob) -> None:
        job_type = self._job_types[job.job_type]
        order = Order(job.id, job.project_id, job.request)
        with structlog.contextvars.bound_contextvars(job_id=job.id, job_type=job.job_type):
            try:
                await self._take_steps(job, job_type, order)
                await self._ask(lambda session: self._mark_done(session, job_type, order))
            except OnecutError as error:
                log.warning("job_failed", reason=str(error))
                await self._mark_failed(job_type, order, error, code="EVS.2002", reason=str(error))
            except Exception as error:
                log.exception("job_broken")
                reason = f"internal error; the log has the details under job {job.id}"
                await self._mark_failed(job_type, order, error, code="EVS.5500", reason=reason)
            else:
                log.info("job_done")

    async def _take_steps(self, job: OpenJob, job_type: JobType, order: Order) -> None:
        names = list(job_type.steps)
        begun = job.step if job.step in names else names[0]
        for name in names[names.index(begun) :]:
            now = self._clock.now()
            await self._ask(functools.partial(queue.begin, job_id=job.id, step=name, now=now))
            self._count(job.id, name)
            self._on_step(job.job_type, name)
            await job_type.steps[name](order)

    def _count(self, job_id: str, step: str) -> None:
        if step in self._patient_steps:
            self._patient.add(job_id)
            self._place_is_free()
        else:
            self._patient.discard(job_id)

    def _place_is_free(self) -> None:
        if self._more_may_wait:
            self._bell.set()

    def _mark_done(self, session: Session, job_type: JobType, order: Order) -> None:
        job_type.finish(session, order)
        queue.finish(session, order.job_id, self._clock.now())

    async def _mark_failed(
        self, job_type: JobType, order: Order, error: Exception, *, code: str, reason: str
    ) -> None:
        def mark(session: Session) -> None:
            job_type.fail(session, order, reason)
            queue.fail(session, order.job_id, self._clock.now(), code=code, reason=reason)

        try:
            await self._ask(mark)
        except Exception as second:
            second.add_note(f"while failing job {order.job_id} for {error!r}")
            log.exception("job_fail_broken")
            await self._ask(
                lambda session: queue.fail(session, order.job_id, self._clock.now(), code=code, reason=reason)
            )

    async def _ask(self, act: Callable[[Session], Result]) -> Result:
        return await transact(self._database, act)
