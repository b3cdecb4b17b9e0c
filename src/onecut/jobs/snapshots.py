"""
Taking a snapshot, giving it back to its volume, and deleting it.

The group jobs in `groups` do the same for all members at once. What a job's request holds is known to these two
files only: the functions `*_order` write it, the job types read it.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import delete, exists, select, update
from sqlalchemy.orm import Session

from onecut.clock import Clock, time_text
from onecut.db.archives import Archive, SnapshotChain
from onecut.db.deleted_rows import remember
from onecut.db.jobs import Job
from onecut.db.moves import move
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.tags import Tag
from onecut.db.volumes import Volume
from onecut.engine.port import Cut, Engine, ImageSource, Source
from onecut.jobs import hydration, queue
from onecut.jobs.archiving import Archiving
from onecut.jobs.images import Images
from onecut.jobs.patience import ENGINE_PAUSES_S, persist
from onecut.jobs.queue import JobOrder, SubJob
from onecut.jobs.transaction import transact
from onecut.jobs.worker import JobType, Order
from onecut.units import GiB

Steps: TypeAlias = Mapping[str, Callable[[Order], Awaitable[None]]]


class Cutter:
    """Makes the cuts that jobs ask for, each of them once, whatever breaks in between."""

    def __init__(self, engine: Engine, *, deadline_s: float, pauses_s: Sequence[float] = ENGINE_PAUSES_S) -> None:
        self._engine, self._deadline_s, self._pauses_s = engine, deadline_s, pauses_s

    async def cut(self, cut_id: str, points: Mapping[str, str]) -> Cut:
        """
        Return the cut of that id, and make it unless it was made already.

        Whether it was made is the engine's to say: before every attempt it settles the one before, which may have
        been an earlier process's.
        """

        async def settle_or_cut() -> Cut:
            made = await self._engine.settle(cut_id)
            return made or await self._engine.cut(cut_id, points, deadline_s=self._deadline_s)

        return await persist(settle_or_cut, self._pauses_s)


def facts(cut: Cut) -> dict[str, Any]:
    """Return what clients are told of a cut; the time is in UTC, as all times of the API are."""
    return {"taken_at": time_text(cut.taken_at), "prepare_ms": cut.prepare_ms, "pause_ms": cut.pause_ms}


def record_cut(session: Session, cut: Cut) -> None:
    """
    Note a finished cut on its snapshots: from now on the engine has their points.

    They get the size of these: a volume may have grown between the order and the cut.
    """
    session.execute(
        update(Snapshot),
        [
            {
                "id": member.point_id,
                "cut": {"id": cut.id, **facts(cut), "pause_ms": member.pause_ms},
                "point": "held",
                "size_gib": member.size_bytes // GiB,
            }
            for member in cut.members
        ],
    )


def make_available(session: Session, snapshot_ids: Collection[str], clock: Clock) -> None:
    """Let snapshots be used."""
    move(session, Snapshot, snapshot_ids, to="available", now=clock.now())
    session.execute(update(Snapshot), [{"id": each, "progress_percent": 100} for each in sorted(snapshot_ids)])


def create_order(project_id: str, *, volume_id: str, snapshot_id: str, instant_access: bool) -> JobOrder:
    """Order one snapshot. Its cut has its id; with *instant_access* it is archived by a job of its own, later."""
    return JobOrder(
        project_id,
        "createSnapshot",
        {"cut_id": snapshot_id, "points": {volume_id: snapshot_id}, "instant_access": instant_access},
        entities={"volume_id": volume_id, "snapshot_id": snapshot_id},
    )


def create_legacy_order(project_id: str, volume_id: str, snapshot_id: str) -> JobOrder:
    """Order one legacy snapshot, which is never archived. Its cut has its id."""
    return JobOrder(
        project_id,
        "createLegacySnapshot",
        {"cut_id": snapshot_id, "points": {volume_id: snapshot_id}},
        entities={"volume_id": volume_id, "snapshot_id": snapshot_id},
    )


def delete_order(
    project_id: str, *, snapshot_id: str, volume_id: str, snapshot_group_id: str | None, unsettled_cut_id: str | None
) -> JobOrder:
    """
    Order the end of one snapshot.

    Args:
        project_id: Whose it is.
        snapshot_id: The snapshot.
        volume_id: Its volume, for the job's answer.
        snapshot_group_id: The group that it leaves.
        unsettled_cut_id: The cut of a snapshot in error. Its outcome may never have been learnt; settling it keeps
            the engine from finishing it after the snapshot is gone.
    """
    return JobOrder(
        project_id,
        "deleteSnapshot",
        {
            "snapshot_ids": [snapshot_id],
            "snapshot_group_id": snapshot_group_id,
            "unsettled_cut_id": unsettled_cut_id,
        },
        entities={"volume_id": volume_id, "snapshot_id": snapshot_id},
    )


def archive_order(project_id: str, points: Mapping[str, str], *, snapshot_group_id: str | None = None) -> JobOrder:
    """Order that snapshots which are available already are archived; a job of our own, which no client asks for."""
    return JobOrder(
        project_id,
        "archiveSnapshot" if snapshot_group_id is None else "archiveSnapshotGroup",
        {"points": dict(points), "snapshot_group_id": snapshot_group_id},
        entities={"snapshot_group_id": snapshot_group_id} if snapshot_group_id else {},
        sub_jobs=[
            SubJob("archiveSnapshot", {"volume_id": volume_id, "snapshot_id": snapshot_id})
            for volume_id, snapshot_id in points.items()
        ],
    )


def roll_back_order(project_id: str, *, volume_id: str, snapshot_id: str) -> JobOrder:
    """Order that a volume gets the content of one of its snapshots again."""
    return JobOrder(
        project_id,
        "rollbackSnapshot",
        {"points": {volume_id: snapshot_id}},
        entities={"volume_id": volume_id, "snapshot_id": snapshot_id},
    )


class CreateSnapshot:
    """
    Cuts, archives, and gives up the points that are not needed any more.

    With Instant Snapshot Restore the snapshots are available after the cut, and a job of its own archives them.
    """

    def __init__(self, cutter: Cutter, database: Database, clock: Clock, archiving: Archiving) -> None:
        self.steps: Steps = {"cut": self._cut, "archive": self._archive, "release": self._release}
        self._cutter, self._database, self._clock, self._archiving = cutter, database, clock, archiving

    async def _cut(self, order: Order) -> None:
        cut = await self._cutter.cut(order.request["cut_id"], order.request["points"])
        await transact(self._database, lambda session: self.record(session, order, cut))

    async def _archive(self, order: Order) -> None:
        if not order.request.get("instant_access"):
            await self._archiving.archive(order.job_id, order.request["points"].values())

    async def _release(self, order: Order) -> None:
        await self._archiving.points.release_needless(order.request["points"])

    def record(self, session: Session, order: Order, cut: Cut) -> None:
        """Note the cut as soon as it is made, on the snapshots and on the job."""
        record_cut(session, cut)
        job = session.get_one(Job, order.job_id)
        job.entities = job.entities | {"cut": {"id": cut.id, **facts(cut)}}

    def finish(self, session: Session, order: Order) -> None:
        """The snapshots are available; those that are not archived yet will be."""
        make_available(session, order.request["points"].values(), self._clock)
        if order.request.get("instant_access"):
            queue.add(session, self.archive_order(order), self._clock.now())

    def archive_order(self, order: Order) -> JobOrder:
        """Order what is left to be done behind a snapshot that is available already."""
        return archive_order(order.project_id, order.request["points"])

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - the job itself tells the reason
        """The snapshots are in error, all of them: one that is alone shows no instant."""
        move(session, Snapshot, order.request["points"].values(), to="error", now=self._clock.now())


class CreateLegacySnapshot(CreateSnapshot):
    """Cuts, and nothing more: the snapshot stays a point of the engine."""

    def __init__(self, cutter: Cutter, database: Database, clock: Clock, archiving: Archiving) -> None:
        super().__init__(cutter, database, clock, archiving)
        self.steps = {"cut": self._cut}


class ArchiveSnapshot:
    """Archives snapshots that are available already. When it fails they stay what they are: in the engine only."""

    def __init__(self, archiving: Archiving) -> None:
        self.steps: Steps = {"archive": self._archive, "bind": self._bind, "release": self._release}
        self._archiving = archiving

    async def _archive(self, order: Order) -> None:
        await self._archiving.archive(order.job_id, order.request["points"].values())

    async def _bind(self, order: Order) -> None:
        if order.request["snapshot_group_id"] is not None:
            await self._archiving.upkeep.bind(order.request["snapshot_group_id"])

    async def _release(self, order: Order) -> None:
        await self._archiving.points.release_needless(order.request["points"])

    def finish(self, session: Session, order: Order) -> None:
        """Each snapshot was noted when it was archived."""

    def fail(self, session: Session, order: Order, reason: str) -> None:
        """Each snapshot that was given up was noted."""


class DeleteSnapshot:
    """Stops archiving what is not wanted, gives the points up, and takes the snapshots out of the repository."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        clock: Clock,
        archiving: Archiving,
        *,
        pauses_s: Sequence[float] = ENGINE_PAUSES_S,
    ) -> None:
        self.steps: Steps = {
            "stop": self._stop,
            "release": self._release,
            "unbind": self._unbind,
            "erase": self._erase,
        }
        self._engine, self._database, self._clock, self._pauses_s = engine, database, clock, pauses_s
        self._archiving = archiving

    async def _stop(self, order: Order) -> None:
        await self._archiving.archiver.stop(order.request["snapshot_ids"])

    async def _release(self, order: Order) -> None:
        snapshot_ids, unsettled_cut_id = order.request["snapshot_ids"], order.request["unsettled_cut_id"]

        async def settle_and_release() -> None:
            if unsettled_cut_id is not None:
                await self._engine.settle(unsettled_cut_id)
            await self._engine.release(snapshot_ids)

        await persist(settle_and_release, self._pauses_s)
        gone = update(Snapshot).where(Snapshot.id.in_(snapshot_ids)).values(point="gone")
        await transact(self._database, lambda session: session.execute(gone))

    async def _unbind(self, order: Order) -> None:
        if order.request.get("snapshot_group_id") is not None:
            await self._archiving.upkeep.bind(order.request["snapshot_group_id"])

    async def _erase(self, order: Order) -> None:
        await self._archiving.upkeep.erase(order.request["snapshot_ids"])

    def finish(self, session: Session, order: Order) -> None:
        """The snapshots are gone."""
        remove(session, order.request["snapshot_ids"], self._clock)

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - the job itself tells the reason
        """The snapshots are still there, and may be deleted again."""
        move(session, Snapshot, order.request["snapshot_ids"], to="error_deleting", now=self._clock.now())


def remove(session: Session, snapshot_ids: Collection[str], clock: Clock) -> None:
    """
    Remove snapshots, their tags and what is known of their archives.

    A chain goes with its last snapshot, and a group that a policy made with its last member: nobody else ends it.
    """
    ours = Archive.snapshot_id.in_(snapshot_ids)
    for archive in session.scalars(select(Archive).where(ours).order_by(Archive.snapshot_id)):
        if archive.chain is not None:
            archive.chain.stored_bytes -= archive.freed_bytes or 0
            archive.chain.updated_at = clock.now()
    session.flush()
    chain_ids = session.scalars(select(Archive.chain_id).where(ours, Archive.chain_id.is_not(None))).all()
    group_ids = _automatic_groups(session, snapshot_ids)
    session.execute(delete(Tag).where(Tag.resource_id.in_(snapshot_ids)))
    session.execute(delete(Archive).where(ours))
    remember(session, Snapshot, snapshot_ids, clock.now())
    session.execute(delete(Snapshot).where(Snapshot.id.in_(snapshot_ids)))
    empty = ~exists().where(Archive.chain_id == SnapshotChain.id)
    ended = session.scalars(select(SnapshotChain.id).where(SnapshotChain.id.in_(chain_ids), empty)).all()
    remember(session, SnapshotChain, ended, clock.now())
    session.execute(delete(SnapshotChain).where(SnapshotChain.id.in_(ended)))
    left = select(Snapshot.snapshot_group_id).where(Snapshot.snapshot_group_id.in_(group_ids))
    remove_groups(session, set(group_ids) - set(session.scalars(left)), clock.now())


def _automatic_groups(session: Session, snapshot_ids: Collection[str]) -> Sequence[str]:
    """Return the groups that policies made of snapshots, and hold them: two may lose their last members at once."""
    theirs = select(Snapshot.snapshot_group_id).where(Snapshot.id.in_(snapshot_ids), Snapshot.snapshot_type == "auto")
    groups = select(SnapshotGroup.id).where(SnapshotGroup.id.in_(theirs)).order_by(SnapshotGroup.id)
    return session.scalars(groups.with_for_update()).all()


def remove_groups(session: Session, group_ids: Collection[str], now: datetime) -> None:
    """Remove groups that have no members any more, and their tags."""
    session.execute(delete(Tag).where(Tag.resource_id.in_(group_ids)))
    remember(session, SnapshotGroup, group_ids, now)
    session.execute(delete(SnapshotGroup).where(SnapshotGroup.id.in_(group_ids)))


class RollBackSnapshot:
    """Finds where the content is, and lets the engine give it back, to all volumes or none."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        clock: Clock,
        images: Images,
        *,
        pauses_s: Sequence[float] = ENGINE_PAUSES_S,
    ) -> None:
        self.steps: Steps = {"find": self._find, "roll_back": self._roll_back}
        self._engine, self._database, self._clock, self._pauses_s = engine, database, clock, pauses_s
        self._images = images

    async def _find(self, order: Order) -> None:
        order.notes["sources"] = await self._sources(order)

    async def _sources(self, order: Order) -> Mapping[str, Source]:
        return await self._images.sources(order.request["points"].values())

    async def _roll_back(self, order: Order) -> None:
        points = order.request["points"]
        found = order.notes["sources"] if "sources" in order.notes else await self._sources(order)
        sources = {volume_id: found[snapshot_id] for volume_id, snapshot_id in points.items()}
        await persist(lambda: self._engine.roll_back(sources), self._pauses_s)
        # A point may be of a time at which its volume was being filled itself.
        all_filled = bool(await self._engine.images())
        order.notes["filled"] = {
            volume_id for volume_id in points if all_filled or isinstance(sources[volume_id], ImageSource)
        }

    def finish(self, session: Session, order: Order) -> None:
        """Volumes and snapshots are available again, and what is filled shows that it is."""
        now = self._clock.now()
        for volume_id, snapshot_id in order.request["points"].items():
            if volume_id in order.notes["filled"]:
                hydration.begin(session, self._clock, volume_id, snapshot_id, project_id=order.project_id)
            else:
                session.execute(update(Volume).where(Volume.id == volume_id).values(hydration=None))
        move(session, Volume, order.request["points"], to="available", now=now)
        move(session, Snapshot, order.request["points"].values(), to="available", now=now)

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - the job itself tells the reason
        """The volumes may be rolled back again, or deleted; the snapshots are as they were."""
        now = self._clock.now()
        move(session, Volume, order.request["points"], to="error_rollbacking", now=now)
        move(session, Snapshot, order.request["points"].values(), to="available", now=now)


def job_types(
    engine: Engine,
    database: Database,
    clock: Clock,
    archiving: Archiving,
    *,
    cut_deadline_s: float,
    pauses_s: Sequence[float] = ENGINE_PAUSES_S,
) -> dict[str, JobType]:
    """Return the job types of single snapshots, by their names in the job API."""
    cutter = Cutter(engine, deadline_s=cut_deadline_s, pauses_s=pauses_s)
    archive = ArchiveSnapshot(archiving)
    return {
        "createSnapshot": CreateSnapshot(cutter, database, clock, archiving),
        "createLegacySnapshot": CreateLegacySnapshot(cutter, database, clock, archiving),
        "archiveSnapshot": archive,
        "archiveSnapshotGroup": archive,
        "deleteSnapshot": DeleteSnapshot(engine, database, clock, archiving, pauses_s=pauses_s),
        "rollbackSnapshot": RollBackSnapshot(engine, database, clock, archiving.images, pauses_s=pauses_s),
    }
