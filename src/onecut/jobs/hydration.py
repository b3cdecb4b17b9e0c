"""
Following a restored volume until it needs nothing of the repository any more.

The engine fills volumes by itself; the job makes that visible, on the volume and as its own progress, and says what
could not be read. A volume that is rolled back meanwhile has another job, and this one ends.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from onecut.clock import Clock
from onecut.db.jobs import Job
from onecut.db.session import Database
from onecut.db.volumes import Volume
from onecut.engine.port import Engine
from onecut.errors import EngineDown, EngineError, VolumeUnusable
from onecut.jobs import queue
from onecut.jobs.images import Images
from onecut.jobs.patience import persist
from onecut.jobs.queue import JobOrder
from onecut.jobs.transaction import read, transact
from onecut.jobs.worker import JobType, Order

log = structlog.get_logger()

HEAD_START_S: Final = 0.05
"""Pause before the job asks anything: whoever made the volume is about to read from it, and comes first."""

PROGRESS_S: Final = 1.0
"""How often progress is written to the database."""

ENGINE_PAUSE_S: Final = 5.0
"""Pause while the engine does not answer. Nothing is lost by waiting: it goes on filling when it is back."""

LOOK_EVERY_S: Final = 30.0
"""How often it is looked whether what could not be read can be read now; the engine asks again as often."""

LOOK_S: Final = 2.0
"""How long the engine may take to say that a volume is filled after all."""


def begin(session: Session, clock: Clock, volume_id: str, snapshot_id: str, *, project_id: str) -> None:
    """Show that a volume is filled from now on, and order the job that follows; one of our own."""
    order = JobOrder(
        project_id,
        "hydrateVolume",
        {"volume_id": volume_id, "snapshot_id": snapshot_id},
        entities={"volume_id": volume_id, "snapshot_id": snapshot_id, "progress": "0%"},
    )
    shown = {
        "job_id": queue.add(session, order, clock.now()),
        "snapshot_id": snapshot_id,
        "percent": 0,
        "fault": None,
    }
    session.execute(update(Volume).where(Volume.id == volume_id).values(hydration=shown))


class HydrateVolume:
    """One step: wait for the engine."""

    def __init__(self, engine: Engine, database: Database, images: Images) -> None:
        self.steps: Mapping[str, Callable[[Order], Awaitable[None]]] = {"hydrate": self._hydrate}
        self._engine, self._database, self._images = engine, database, images

    async def _hydrate(self, order: Order) -> None:
        await asyncio.sleep(HEAD_START_S)
        progress = _Progress()
        filled = asyncio.create_task(self._filled(order, progress))
        superseded = asyncio.create_task(self._tell(order, progress))
        try:
            await asyncio.wait([filled, superseded], return_when=asyncio.FIRST_COMPLETED)
            for task in (filled, superseded):
                if task.done():
                    await task
        finally:
            filled.cancel()
            superseded.cancel()
            await asyncio.gather(filled, superseded, return_exceptions=True)
            self._images.wake()

    async def _filled(self, order: Order, progress: "_Progress") -> None:
        volume_id = order.request["volume_id"]
        try:
            await persist(
                lambda: self._engine.hydrate(volume_id, on_progress=progress.take),
                itertools.repeat(ENGINE_PAUSE_S),
                (EngineDown,),
            )
        except VolumeUnusable as refused:
            damage = (await self._images.note_damage()).get(order.request["snapshot_id"])
            raise EngineError(damage or str(refused)) from refused

    async def _tell(self, order: Order, progress: "_Progress") -> None:
        """Show progress; end when the volume is gone, or was restored once more."""
        told = 0
        while await read(self._database, partial(_followed, order=order)):
            if progress.percent != told:
                told = progress.percent
                await transact(self._database, partial(_show, order=order, percent=told))
            await asyncio.sleep(PROGRESS_S)

    def finish(self, session: Session, order: Order) -> None:
        """The volume needs nothing any more."""
        volume = _volume(session, order)
        if volume is not None:
            volume.hydration = None
        job = session.get_one(Job, order.job_id)
        job.entities = job.entities | {"progress": "100%"}

    def fail(self, session: Session, order: Order, reason: str) -> None:
        """The volume goes on as it is: what can't be read is an error of its clients' reads, too."""
        volume = _volume(session, order)
        if volume is not None and volume.hydration is not None:
            volume.hydration = volume.hydration | {"fault": reason}


class _Progress:
    """How far the engine is."""

    def __init__(self) -> None:
        self.percent = 0

    def take(self, done_bytes: int, total_bytes: int) -> None:
        """Take note of it; all is there only when the engine says that it is done."""
        self.percent = min(99, done_bytes * 100 // max(total_bytes, 1))


def _volume(session: Session, order: Order) -> Volume | None:
    """Return the volume while this job is the one that follows it."""
    volume = session.get(Volume, order.request["volume_id"], with_for_update={"of": Volume})
    return volume if _follows(order, volume) else None


def _followed(session: Session, order: Order) -> bool:
    return _follows(order, session.get(Volume, order.request["volume_id"]))


def _follows(order: Order, volume: Volume | None) -> bool:
    return volume is not None and volume.hydration is not None and volume.hydration["job_id"] == order.job_id


def _show(session: Session, order: Order, percent: int) -> None:
    volume = _volume(session, order)
    if volume is not None and volume.hydration is not None:
        volume.hydration = volume.hydration | {"percent": percent}
    job = session.get_one(Job, order.job_id)
    job.entities = job.entities | {"progress": f"{percent}%"}


async def look_again(engine: Engine, database: Database) -> None:
    """Clear the faults of volumes that were filled after all: the engine tries on, and somebody may mend a store."""
    faulty = select(Volume.id, Volume.hydration).where(Volume.hydration.is_not(None)).order_by(Volume.id)
    rows: Any = await read(database, lambda session: session.execute(faulty).all())
    for volume_id, hydration in rows:
        if hydration is None or hydration["fault"] is None:
            continue
        with suppress(TimeoutError, EngineError):
            await asyncio.wait_for(engine.hydrate(volume_id, on_progress=_ignore), LOOK_S)
            await transact(database, partial(_clear, volume_id=volume_id, job_id=hydration["job_id"]))


async def look_again_for_ever(engine: Engine, database: Database) -> None:
    """Do so now and then."""
    while True:
        await look_again(engine, database)
        await asyncio.sleep(LOOK_EVERY_S)


def _clear(session: Session, volume_id: str, job_id: str) -> None:
    volume = session.get(Volume, volume_id, with_for_update={"of": Volume})
    if volume is not None and volume.hydration is not None and volume.hydration["job_id"] == job_id:
        volume.hydration = None


def _ignore(_done_bytes: int, _total_bytes: int) -> None:
    """Nobody is told."""


def job_types(engine: Engine, database: Database, images: Images) -> dict[str, JobType]:
    """Return the job types of hydration."""
    return {"hydrateVolume": HydrateVolume(engine, database, images)}
