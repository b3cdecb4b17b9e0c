"""
Taking a snapshot, giving it back to its volume, and deleting it.

The group jobs in `groups` do the same for all members at once. What a job's request holds is known to these two
files only: the functions `*_order` write it, the job types read it.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, event, update
from sqlalchemy.orm import Session

from onecut.clock import Clock, time_text
from onecut.db.jobs import Job
from onecut.db.moves import move
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot
from onecut.db.tags import Tag
from onecut.db.volumes import Volume
from onecut.engine.port import Cut, Engine, PointSource
from onecut.jobs.patience import ENGINE_PAUSES_S, persist
from onecut.jobs.queue import JobOrder
from onecut.jobs.worker import JobType, Order


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


def record_cut(session: Session, cut: Cut, clock: Clock) -> None:
    """Note a finished cut on its snapshots, and make them available."""
    session.execute(
        update(Snapshot),
        [
            {
                "id": member.point_id,
                "cut": {"id": cut.id, **facts(cut), "pause_ms": member.pause_ms},
                "progress_percent": 100,
            }
            for member in cut.members
        ],
    )
    move(session, Snapshot, [member.point_id for member in cut.members], to="available", now=clock.now())


def create_order(project_id: str, *, volume_id: str, snapshot_id: str) -> JobOrder:
    """Order one snapshot. Its cut has its id."""
    return JobOrder(
        project_id,
        "createSnapshot",
        {"cut_id": snapshot_id, "points": {volume_id: snapshot_id}},
        entities={"volume_id": volume_id, "snapshot_id": snapshot_id},
    )


def delete_order(project_id: str, *, snapshot_id: str, volume_id: str, unsettled_cut_id: str | None) -> JobOrder:
    """
    Order the end of one snapshot.

    Args:
        project_id: Whose it is.
        snapshot_id: The snapshot.
        volume_id: Its volume, for the job's answer.
        unsettled_cut_id: The cut of a snapshot in error. Its outcome may never have been learnt; settling it keeps
            the engine from finishing it after the snapshot is gone.
    """
    return JobOrder(
        project_id,
        "deleteSnapshot",
        {"snapshot_ids": [snapshot_id], "unsettled_cut_id": unsettled_cut_id},
        entities={"volume_id": volume_id, "snapshot_id": snapshot_id},
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
    """One step: the cut."""

    def __init__(self, cutter: Cutter, clock: Clock) -> None:
        self.steps = {"cut": self._cut}
        self._cutter, self._clock = cutter, clock
        # Between step and end a finished cut waits here; a process that dies loses it and asks the engine again.
        self._made: dict[str, Cut] = {}

    async def _cut(self, order: Order) -> None:
        self._made[order.job_id] = await self._cutter.cut(order.request["cut_id"], order.request["points"])

    def finish(self, session: Session, order: Order) -> None:
        """The snapshots are available, and tell of their cut."""
        cut = self._made[order.job_id]
        record_cut(session, cut, self._clock)
        job = session.get_one(Job, order.job_id)
        job.entities = job.entities | {"cut": {"id": cut.id, **facts(cut)}}
        self.record(session, order, cut)
        # Not before the commit: a transaction that the database refuses is tried again.
        event.listen(session, "after_commit", lambda _session: self._made.pop(order.job_id, None), once=True)

    def record(self, session: Session, order: Order, cut: Cut) -> None:
        """Note the cut where else it belongs; a single snapshot has nothing else."""

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - the job itself tells the reason
        """The snapshots are in error: all of them, because no volume is cut unless all are."""
        self._made.pop(order.job_id, None)
        move(session, Snapshot, order.request["points"].values(), to="error", now=self._clock.now())


class DeleteSnapshot:
    """One step: the engine gives the points up."""

    def __init__(self, engine: Engine, clock: Clock, *, pauses_s: Sequence[float] = ENGINE_PAUSES_S) -> None:
        self.steps = {"release": self._release}
        self._engine, self._clock, self._pauses_s = engine, clock, pauses_s

    async def _release(self, order: Order) -> None:
        snapshot_ids, unsettled_cut_id = order.request["snapshot_ids"], order.request["unsettled_cut_id"]

        async def settle_and_release() -> None:
            if unsettled_cut_id is not None:
                await self._engine.settle(unsettled_cut_id)
            await self._engine.release(snapshot_ids)

        await persist(settle_and_release, self._pauses_s)

    def finish(self, session: Session, order: Order) -> None:
        """The snapshots are gone."""
        remove(session, order.request["snapshot_ids"])

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - the job itself tells the reason
        """The snapshots are still there, and may be deleted again."""
        move(session, Snapshot, order.request["snapshot_ids"], to="error_deleting", now=self._clock.now())


def remove(session: Session, snapshot_ids: Collection[str]) -> None:
    """Remove snapshots and their tags from the database."""
    session.execute(delete(Tag).where(Tag.resource_id.in_(snapshot_ids)))
    session.execute(delete(Snapshot).where(Snapshot.id.in_(snapshot_ids)))


class RollBackSnapshot:
    """One step: the engine gives the content back."""

    def __init__(self, engine: Engine, clock: Clock, *, pauses_s: Sequence[float] = ENGINE_PAUSES_S) -> None:
        self.steps: Mapping[str, Callable[[Order], Awaitable[None]]] = {"roll_back": self._roll_back}
        self._engine, self._clock, self._pauses_s = engine, clock, pauses_s

    async def _roll_back(self, order: Order) -> None:
        sources = {volume_id: PointSource(point_id) for volume_id, point_id in order.request["points"].items()}
        await persist(lambda: self._engine.roll_back(sources), self._pauses_s)

    def finish(self, session: Session, order: Order) -> None:
        """Volumes and snapshots are available again."""
        now = self._clock.now()
        move(session, Volume, order.request["points"], to="available", now=now)
        move(session, Snapshot, order.request["points"].values(), to="available", now=now)

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - the job itself tells the reason
        """The volumes may be rolled back again, or deleted; the snapshots are as they were."""
        now = self._clock.now()
        move(session, Volume, order.request["points"], to="error_rollbacking", now=now)
        move(session, Snapshot, order.request["points"].values(), to="available", now=now)


def job_types(
    engine: Engine,
    _database: Database,
    clock: Clock,
    *,
    cut_deadline_s: float,
    pauses_s: Sequence[float] = ENGINE_PAUSES_S,
) -> dict[str, JobType]:
    """Return the job types of single snapshots, by their names in the job API."""
    return {
        "createSnapshot": CreateSnapshot(Cutter(engine, deadline_s=cut_deadline_s, pauses_s=pauses_s), clock),
        "deleteSnapshot": DeleteSnapshot(engine, clock, pauses_s=pauses_s),
        "rollbackSnapshot": RollBackSnapshot(engine, clock, pauses_s=pauses_s),
    }
