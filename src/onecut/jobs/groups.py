"""Taking one cut across the members of a group, giving all of them back at once, and deleting them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from onecut.clock import Clock
from onecut.db.moves import move
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.tags import Tag
from onecut.db.volumes import Volume
from onecut.engine.port import Cut, Engine
from onecut.jobs import queue
from onecut.jobs.patience import ENGINE_PAUSES_S
from onecut.jobs.queue import JobOrder, SubJob
from onecut.jobs.snapshots import (
    CreateSnapshot,
    Cutter,
    DeleteSnapshot,
    RollBackSnapshot,
    facts,
    record_cut,
)
from onecut.jobs.transaction import transact
from onecut.jobs.worker import JobType, Order


def create_order(project_id: str, group_id: str, points: Mapping[str, str]) -> JobOrder:
    """Order one cut; *points* are the members: for each volume's id its snapshot's. The cut has the group's id."""
    return JobOrder(
        project_id,
        "createSnapshotGroup",
        {"cut_id": group_id, "points": dict(points)},
        entities={"snapshot_group_id": group_id},
        sub_jobs=_sub_jobs("createSnapshot", points),
    )


def delete_order(project_id: str, group_id: str, points: Mapping[str, str], *, unsettled: bool) -> JobOrder:
    """Order the end of a group with the members it has left; *unsettled* says that it is in error."""
    return JobOrder(
        project_id,
        "deleteSnapshotGroup",
        {
            "snapshot_group_id": group_id,
            "snapshot_ids": list(points.values()),
            "unsettled_cut_id": group_id if unsettled else None,
        },
        entities={"snapshot_group_id": group_id},
        sub_jobs=_sub_jobs("deleteSnapshot", points),
    )


def roll_back_order(
    project_id: str,
    group_id: str,
    points: Mapping[str, str],
    *,
    states_before: Mapping[str, str],
    undo: tuple[str, Mapping[str, str]] | None,
) -> JobOrder:
    """
    Order that all members are given back, or none.

    Args:
        project_id: Whose they are.
        group_id: The group to go back to.
        points: For each volume's id its snapshot's.
        states_before: For each volume's id the state to put it back to when nothing was done.
        undo: Group id and points of the cut to be made before; None when the caller declines it.
    """
    return JobOrder(
        project_id,
        "rollbackSnapshotGroup",
        {
            "points": dict(points),
            "states_before": dict(states_before),
            "undo": None if undo is None else {"cut_id": undo[0], "points": dict(undo[1])},
        },
        entities={"snapshot_group_id": group_id} | ({"undo_snapshot_group_id": undo[0]} if undo else {}),
        sub_jobs=_sub_jobs("rollbackSnapshot", points),
    )


def _sub_jobs(job_type: str, points: Mapping[str, str]) -> list[SubJob]:
    return [
        SubJob(job_type, {"volume_id": volume_id, "snapshot_id": snapshot_id})
        for volume_id, snapshot_id in points.items()
    ]


def _record_on_group(session: Session, cut: Cut, clock: Clock) -> None:
    group = session.get_one(SnapshotGroup, cut.id)
    group.cut = facts(cut)
    move(session, SnapshotGroup, [cut.id], to="available", now=clock.now())


class CreateSnapshotGroup(CreateSnapshot):
    """One step, as for a single snapshot: the cut of all members."""

    def record(self, session: Session, order: Order, cut: Cut) -> None:
        """Note the cut on the group, and each member's pause on its sub job."""
        _record_on_group(session, cut, self._clock)
        pause_ms = {member.point_id: member.pause_ms for member in cut.members}
        for sub in queue.sub_jobs(session, order.job_id):
            sub.entities = sub.entities | {"pause_ms": pause_ms[sub.entities["snapshot_id"]]}

    def fail(self, session: Session, order: Order, reason: str) -> None:
        """Group and members are in error."""
        super().fail(session, order, reason)
        move(session, SnapshotGroup, [order.request["cut_id"]], to="error", now=self._clock.now())


class DeleteSnapshotGroup(DeleteSnapshot):
    """One step, as for a single snapshot: the engine gives all points up."""

    def finish(self, session: Session, order: Order) -> None:
        """Group and members are gone."""
        super().finish(session, order)
        group_id = order.request["snapshot_group_id"]
        session.execute(delete(Tag).where(Tag.resource_id == group_id))
        session.execute(delete(SnapshotGroup).where(SnapshotGroup.id == group_id))

    def fail(self, session: Session, order: Order, reason: str) -> None:
        """Group and members are still there, and may be deleted again."""
        super().fail(session, order, reason)
        group_id = order.request["snapshot_group_id"]
        move(session, SnapshotGroup, [group_id], to="error_deleting", now=self._clock.now())


class RollBackSnapshotGroup(RollBackSnapshot):
    """
    Two steps: cut what the volumes hold now into the undo group, then give the members back.

    The undo group is available as soon as it is cut: it is of use above all when the second step fails.
    """

    def __init__(
        self, engine: Engine, database: Database, clock: Clock, cutter: Cutter, *, pauses_s: Sequence[float]
    ) -> None:
        super().__init__(engine, clock, pauses_s=pauses_s)
        self.steps = {"cut_undo": self._cut_undo, **self.steps}
        self._database, self._cutter = database, cutter

    async def _cut_undo(self, order: Order) -> None:
        undo = order.request["undo"]
        # Once it was available its owner may have deleted it; to cut it again would leave points without an owner.
        if undo is None or not await transact(self._database, lambda session: _uncut(session, undo)):
            return
        cut = await self._cutter.cut(undo["cut_id"], undo["points"])
        await transact(self._database, lambda session: self._record_undo(session, cut))

    def _record_undo(self, session: Session, cut: Cut) -> None:
        record_cut(session, cut, self._clock)
        _record_on_group(session, cut, self._clock)

    def fail(self, session: Session, order: Order, reason: str) -> None:
        """When the undo cut failed the volumes are as they were; else see `RollBackSnapshot`."""
        undo, now = order.request["undo"], self._clock.now()
        if undo is None or not _uncut(session, undo):
            super().fail(session, order, reason)
            return
        move(session, Snapshot, undo["points"].values(), to="error", now=now)
        move(session, SnapshotGroup, [undo["cut_id"]], to="error", now=now)
        move(session, Snapshot, order.request["points"].values(), to="available", now=now)
        for volume_id, state in order.request["states_before"].items():
            move(session, Volume, [volume_id], to=state, now=now)


def _uncut(session: Session, undo: Mapping[str, Any]) -> bool:
    """Say whether the undo group still waits for its cut."""
    group = session.get(SnapshotGroup, undo["cut_id"])
    return group is not None and group.status == "creating"


def job_types(
    engine: Engine,
    database: Database,
    clock: Clock,
    *,
    cut_deadline_s: float,
    pauses_s: Sequence[float] = ENGINE_PAUSES_S,
) -> dict[str, JobType]:
    """Return the job types of groups, by their names in the job API."""
    cutter = Cutter(engine, deadline_s=cut_deadline_s, pauses_s=pauses_s)
    return {
        "createSnapshotGroup": CreateSnapshotGroup(cutter, clock),
        "deleteSnapshotGroup": DeleteSnapshotGroup(engine, clock, pauses_s=pauses_s),
        "rollbackSnapshotGroup": RollBackSnapshotGroup(engine, database, clock, cutter, pauses_s=pauses_s),
    }
