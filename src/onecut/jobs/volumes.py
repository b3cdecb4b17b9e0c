"""How volumes are made, deleted and extended."""

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from onecut.clock import Clock
from onecut.db.deleted_rows import remember
from onecut.db.moves import move
from onecut.db.policies import PolicyVolume
from onecut.db.session import Database
from onecut.db.tags import Tag
from onecut.db.volumes import Attachment, Volume
from onecut.engine.port import Engine, ImageSource, Source
from onecut.errors import EngineError
from onecut.jobs import hydration, queue
from onecut.jobs.exports import Exports, write_uri
from onecut.jobs.images import Images
from onecut.jobs.patience import ENGINE_PAUSES_S, persist
from onecut.jobs.performance import Following
from onecut.jobs.points import Points
from onecut.jobs.transaction import read, transact
from onecut.jobs.worker import JobType, Order
from onecut.units import GiB

Steps = Mapping[str, Callable[[Order], Awaitable[None]]]


@dataclass(frozen=True)
class _Made:
    """A volume that was made, and is still to be shown."""

    uris: Mapping[str, str]
    """Of its exports, by the ids of the attachments."""
    filled_from: str | None
    """The snapshot that it is still being filled from."""


class CreateVolumes:
    """
    Makes volumes one after the other, each usable as soon as it is made, attached at once when a server waits.

    The first failure ends the job: that volume and those after it go to `error`, and can only be deleted. Volumes
    that are made from a group are shown together, or all of them go there.
    """

    def __init__(
        self,
        engine: Engine,
        database: Database,
        clock: Clock,
        images: Images,
        following: Following,
        *,
        pauses_s: Sequence[float],
    ) -> None:
        self._engine, self._database, self._clock, self._pauses_s = engine, database, clock, pauses_s
        self._images, self._following = images, following
        self._exports = Exports(engine, database, clock, pauses_s=pauses_s)

    @property
    def steps(self) -> Steps:
        """Find what the volumes begin as, in the repository if need be, and make what is not made yet."""
        return {"find": self._find, "create": self._create}

    async def _find(self, order: Order) -> None:
        order.notes["sources"] = await self._sources(order)

    async def _sources(self, order: Order) -> Mapping[str, Source]:
        query = select(Volume.snapshot_id).where(
            Volume.id.in_(order.request["volume_ids"]), Volume.status == "creating", Volume.snapshot_id.is_not(None)
        )
        snapshot_ids = await read(self._database, lambda session: session.scalars(query.distinct()).all())
        return await self._images.sources([each for each in snapshot_ids if each is not None])

    async def _create(self, order: Order) -> None:
        sources = order.notes["sources"] if "sources" in order.notes else await self._sources(order)
        create = self._create_together if order.request.get("together") else self._create_in_turn
        order.notes["made"] = await create(order, sources)

    async def _create_in_turn(self, order: Order, sources: Mapping[str, Source]) -> Mapping[str, _Made]:
        """Show each volume but the last, which is shown as the job ends."""
        attachment_ids = order.request["attachment_ids"]
        made: dict[str, _Made] = {}
        for position, volume_id in enumerate(order.request["volume_ids"]):
            volume = await read(self._database, functools.partial(_unmade, volume_id=volume_id))
            if volume is None:
                continue
            if made:
                await transact(self._database, functools.partial(self._show, order=order, made=made))
            try:
                made = {volume_id: await self._make(volume, sources, attachment_ids[position : position + 1])}
            except EngineError:
                for given_up in attachment_ids[position:]:
                    await self._exports.end(given_up)
                raise
        return made

    async def _create_together(self, order: Order, sources: Mapping[str, Source]) -> Mapping[str, _Made]:
        volume_ids, attachment_ids = order.request["volume_ids"], order.request["attachment_ids"]
        made: dict[str, _Made] = {}
        try:
            for position, volume_id in enumerate(volume_ids):
                volume = await read(self._database, functools.partial(_unmade, volume_id=volume_id))
                if volume is not None:
                    places = attachment_ids[position : position + 1]
                    made[volume_id] = await self._make(volume, sources, places)
        except EngineError:
            for attachment_id in attachment_ids:
                await self._exports.end(attachment_id)
            for volume_id in volume_ids:
                await persist(functools.partial(self._engine.delete_volume, volume_id), self._pauses_s)
            raise
        return made

    async def _make(self, volume: Volume, sources: Mapping[str, Source], attachment_ids: Sequence[str]) -> _Made:
        """Make and export a volume."""
        size_bytes = volume.size_gib * GiB
        source = None if volume.snapshot_id is None else sources[volume.snapshot_id]
        create = functools.partial(self._engine.create_volume, volume.id, size_bytes)
        limits = self._following.of(volume)
        await persist(lambda: create(source=source, limits=limits), self._pauses_s)
        attachments = {attachment.id: attachment for attachment in volume.attachments}
        uris = {each: await self._exports.make(each, attachments.get(each)) for each in attachment_ids}
        # A point may be of a volume that is being filled itself.
        filled = isinstance(source, ImageSource) or (source is not None and bool(await self._engine.images()))
        return _Made(uris, volume.snapshot_id if filled else None)

    def _show(self, session: Session, order: Order, made: Mapping[str, _Made]) -> None:
        """Let volumes be used."""
        now = self._clock.now()
        for volume_id, of_volume in made.items():
            for attachment_id, uri in of_volume.uris.items():
                write_uri(session, attachment_id, uri)
            to = "in-use" if of_volume.uris else "available"
            move(session, Volume, [volume_id], to=to, now=now, only_from={"creating"})
            queue.finish_member(session, order.job_id, order.request["volume_ids"].index(volume_id), now)
            if of_volume.filled_from is not None:
                source, project_id = of_volume.filled_from, order.project_id
                hydration.begin(session, self._clock, volume_id, source, project_id=project_id)

    def finish(self, session: Session, order: Order) -> None:
        """Let those volumes be used that are not yet."""
        self._show(session, order, order.notes["made"])

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - JobType's signature
        """Give up the volumes that were not made. A place whose export may exist stays theirs, and goes with them."""
        query = select(Volume.id).where(Volume.id.in_(order.request["volume_ids"]), Volume.status == "creating")
        move(session, Volume, session.scalars(query).all(), to="error", now=self._clock.now())


def _unmade(session: Session, volume_id: str) -> Volume | None:
    """Return a volume; None for one that was made before a crash, and may have been deleted since."""
    return session.scalar(select(Volume).where(Volume.id == volume_id, Volume.status == "creating"))


class DeleteVolumes:
    """Deletes volumes' data, then their rows."""

    def __init__(self, engine: Engine, database: Database, clock: Clock, *, pauses_s: Sequence[float]) -> None:
        self._engine, self._clock, self._pauses_s = engine, clock, pauses_s
        self._exports = Exports(engine, database, clock, pauses_s=pauses_s)
        self._points = Points(engine, database, pauses_s=pauses_s)

    @property
    def steps(self) -> Steps:
        """End the exports that a failure left, then the data, then the point that the next snapshot had needed."""
        return {"unexport": self._unexport, "delete": self._delete, "release": self._release}

    async def _release(self, order: Order) -> None:
        await self._points.release_needless(order.request["volume_ids"])

    async def _unexport(self, order: Order) -> None:
        for attachment_id in await self._exports.of_volumes(order.request["volume_ids"]):
            await self._exports.end(attachment_id)

    async def _delete(self, order: Order) -> None:
        for volume_id in order.request["volume_ids"]:
            await persist(functools.partial(self._engine.delete_volume, volume_id), self._pauses_s)

    def finish(self, session: Session, order: Order) -> None:
        """Forget the volumes."""
        forget(session, order.request["volume_ids"], self._clock.now())

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - JobType's signature
        """Let the caller ask again."""
        move(session, Volume, order.request["volume_ids"], to="error_deleting", now=self._clock.now())


class ExtendVolume:
    """Makes a volume larger; the disk of an attached one follows when it is detached."""

    def __init__(self, exports: Exports, clock: Clock, following: Following) -> None:
        self._exports, self._clock, self._following = exports, clock, following

    @property
    def steps(self) -> Steps:
        """Extend the data, and let it be as fast as a volume of that size may be."""
        return {"extend": self._extend, "limit": self._limit}

    async def _limit(self, order: Order) -> None:
        await self._following.follow(order.request["volume_id"], size_gib=order.request["size_gib"])

    async def _extend(self, order: Order) -> None:
        await self._exports.extend(order.request["volume_id"], order.request["size_gib"])

    def finish(self, session: Session, order: Order) -> None:
        """Show the new size."""
        _show_extended(session, order.request["volume_id"], order.request["size_gib"], self._clock.now())

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - JobType's signature
        """Let the caller ask again."""
        _give_up(session, [order.request["volume_id"]], self._clock.now())


class BatchExtendVolumes:
    """
    Makes volumes larger one after the other, as `ExtendVolume` does, each usable as soon as it is done.

    The first failure ends the job: that volume goes to `error_extending`, those after it stay as they were.
    """

    def __init__(self, exports: Exports, database: Database, clock: Clock, following: Following) -> None:
        self._exports, self._database, self._clock, self._following = exports, database, clock, following

    @property
    def steps(self) -> Steps:
        """Extend the data of those that are not done yet, and let each be as fast as one of that size may be."""
        return {"extend": self._extend}

    async def _extend(self, order: Order) -> None:
        for volume_id, size_gib in await read(self._database, functools.partial(_unextended, order=order)):
            await self._exports.extend(volume_id, size_gib)
            await self._following.follow(volume_id, size_gib=size_gib)
            await self._show(order, volume_id, size_gib)

    async def _show(self, order: Order, volume_id: str, size_gib: int) -> None:
        def show(session: Session) -> None:
            now = self._clock.now()
            _show_extended(session, volume_id, size_gib, now)
            queue.finish_member(session, order.job_id, order.request["sizes_gib"].index([volume_id, size_gib]), now)

        await transact(self._database, show)

    def finish(self, session: Session, order: Order) -> None:
        """Nothing is left to do: each volume was shown when it was extended."""

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - JobType's signature
        """Let the caller ask again for the volume that failed, and use those that were not tried."""
        _give_up(session, [volume_id for volume_id, _ in _unextended(session, order)], self._clock.now())


def _unextended(session: Session, order: Order) -> list[tuple[str, int]]:
    """Return volumes and sizes whose sub jobs have not ended: one that has may be worked on by another job by now."""
    return [
        (volume_id, size_gib)
        for sub_job, (volume_id, size_gib) in zip(
            queue.sub_jobs(session, order.job_id), order.request["sizes_gib"], strict=True
        )
        if sub_job.status in queue.OPEN
    ]


def _show_extended(session: Session, volume_id: str, size_gib: int, now: datetime) -> None:
    volume = session.get_one(Volume, volume_id)
    if volume.attachments:
        volume.attached_gib = volume.attached_gib or volume.size_gib
    at_rest = "in-use" if volume.attachments else "available"
    move(session, Volume, [volume_id], to=at_rest, now=now, only_from={"extending"})
    volume.size_gib, volume.growth_gib = size_gib, 0


def _give_up(session: Session, volume_ids: Sequence[str], now: datetime) -> None:
    """Bring volumes to rest with the size they had; of detached ones the first may be larger than it shows."""
    for volume_id in sorted(volume_ids):
        volume = session.get_one(Volume, volume_id)
        detached = "error_extending" if volume_id == volume_ids[0] else "available"
        at_rest = "in-use" if volume.attachments else detached
        move(session, Volume, [volume_id], to=at_rest, now=now, only_from={"extending"})
        volume.growth_gib = 0


def forget(session: Session, volume_ids: list[str], now: datetime) -> None:
    """Remove the rows of volumes whose data is gone. Their snapshots stay."""
    remember(session, Volume, volume_ids, now)
    for model, column in (
        (Tag, Tag.resource_id),
        (Attachment, Attachment.volume_id),
        (PolicyVolume, PolicyVolume.volume_id),
        (Volume, Volume.id),
    ):
        session.execute(delete(model).where(column.in_(volume_ids)))


def job_types(
    engine: Engine,
    database: Database,
    clock: Clock,
    images: Images,
    following: Following,
    *,
    pauses_s: Sequence[float] = ENGINE_PAUSES_S,
) -> dict[str, JobType]:
    """Return how each type of job about volumes is carried out."""
    create = CreateVolumes(engine, database, clock, images, following, pauses_s=pauses_s)
    delete_volumes = DeleteVolumes(engine, database, clock, pauses_s=pauses_s)
    exports = Exports(engine, database, clock, pauses_s=pauses_s)
    return {
        "createVolume": create,
        "batchCreateVolume": create,
        "deleteVolume": delete_volumes,
        "bulkDeleteVolume": delete_volumes,
        "extendVolume": ExtendVolume(exports, clock, following),
        "batchExtendVolume": BatchExtendVolumes(exports, database, clock, following),
    }
