"""Taking one cut across the members of a group, giving all of them back at once, and deleting them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from onecut.clock import Clock
from onecut.db.moves import move
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.volumes import Volume
from onecut.engine.port import Cut, Engine
from onecut.jobs import queue
from onecut.jobs.archiving import Archiving
from onecut.jobs.images import Images
from onecut.jobs.patience import ENGINE_PAUSES_S
from onecut.jobs.queue import JobOrder, SubJob
from onecut.jobs.snapshots import (
    CreateSnapshot,
    Cutter,
    DeleteSnapshot,
    RollBackSnapshot,
    archive_order,
    facts,
    make_available,
    record_cut,
    remove_groups,
)
from onecut.jobs.transaction import transact
from onecut.jobs.worker import JobType, Order


def create_order(project_id: str, group_id: str, points: Mapping[str, str], *, instant_access: bool) -> JobOrder:
    """
    Order one cut; *points* are the members: for each volume's id its snapshot's. The cut has the group's id.

    With *instant_access* the members are archived by a job of its own, later.
    """
    return JobOrder(
        project_id,
        "createSnapshotGroup",
        {"cut_id": group_id, "points": dict(points), "instant_access": instant_access},
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


def _record_on_group(session: Session, cut: Cut) -> None:
    session.get_one(SnapshotGroup, cut.id).cut = facts(cut)


class CreateSnapshotGroup(CreateSnapshot):
    """As for a single snapshot, with one cut of all members, whose archives are bound together before the end."""

    def __init__(self, cutter: Cutter, database: Database, clock: Clock, archiving: Archiving) -> None:
        super().__init__(cutter, database, clock, archiving)
        self.steps = {"cut": self._cut, "archive": self._archive, "bind": self._bind, "release": self._release}

    async def _bind(self, order: Order) -> None:
        await self._archiving.upkeep.bind(order.request["cut_id"])

    def record(self, session: Session, order: Order, cut: Cut) -> None:
        """Note the cut on the group too, and each member's pause on its sub job."""
        super().record(session, order, cut)
        _record_on_group(session, cut)
        pause_ms = {member.point_id: member.pause_ms for member in cut.members}
        for sub in queue.sub_jobs(session, order.job_id):
            sub.entities = sub.entities | {"pause_ms": pause_ms[sub.entities["snapshot_id"]]}

    def finish(self, session: Session, order: Order) -> None:
        """The group is available with its members."""
        super().finish(session, order)
        move(session, SnapshotGroup, [order.request["cut_id"]], to="available", now=self._clock.now())

    def archive_order(self, order: Order) -> JobOrder:
        """Order what is left to be done behind a group that is available already."""
        return archive_order(order.project_id, order.request["points"], snapshot_group_id=order.request["cut_id"])

    def fail(self, session: Session, order: Order, reason: str) -> None:
        """Group and members are in error; what points and archives there are stay until the group is deleted."""
        super().fail(session, order, reason)
        move(session, SnapshotGroup, [order.request["cut_id"]], to="error", now=self._clock.now())


class DeleteSnapshotGroup(DeleteSnapshot):
    """As for a single snapshot, with all members."""

    def finish(self, session: Session, order: Order) -> None:
        """Group and members are gone."""
        super().finish(session, order)
        remove_groups(session, [order.request["snapshot_group_id"]], self._clock.now())

    def fail(self, session: Session, order: Order, reason: str) -> None:
        """Group and members are still there, and may be deleted again."""
        super().fail(session, order, reason)
        group_id = order.request["snapshot_group_id"]
        move(session, SnapshotGroup, [group_id], to="error_deleting", now=self._clock.now())


class RollBackSnapshotGroup(RollBackSnapshot):
    """
    Cuts what the volumes hold now into the undo group before it gives the members back.

    The undo group is available as soon as it is cut, and archived behind it: it is of use above all when the second
    step fails.
    """

    def __init__(
        self,
        engine: Engine,
        database: Database,
        clock: Clock,
        images: Images,
        cutter: Cutter,
        *,
        pauses_s: Sequence[float],
    ) -> None:
        super().__init__(engine, database, clock, images, pauses_s=pauses_s)
        # Before the cut: when there is nothing to give back, nothing has changed.
        self.steps = {"find": self._find, "cut_undo": self._cut_undo, "roll_back": self._roll_back}
        self._cutter = cutter

    async def _cut_undo(self, order: Order) -> None:
        undo = order.request["undo"]
        # Once it was available its owner may have deleted it; to cut it again would leave points without an owner.
        if undo is None or not await transact(self._database, lambda session: _uncut(session, undo)):
            return
        cut = await self._cutter.cut(undo["cut_id"], undo["points"])
        await transact(self._database, lambda session: self._record_undo(session, order, cut))

    def _record_undo(self, session: Session, order: Order, cut: Cut) -> None:
        points = order.request["undo"]["points"]
        record_cut(session, cut)
        _record_on_group(session, cut)
        make_available(session, points.values(), self._clock)
        move(session, SnapshotGroup, [cut.id], to="available", now=self._clock.now())
        queue.add(session, archive_order(order.project_id, points, snapshot_group_id=cut.id), self._clock.now())

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
    archiving: Archiving,
    *,
    cut_deadline_s: float,
    pauses_s: Sequence[float] = ENGINE_PAUSES_S,
) -> dict[str, JobType]:
    """Return the job types of groups, by their names in the job API."""
    cutter = Cutter(engine, deadline_s=cut_deadline_s, pauses_s=pauses_s)
    return {
        "createSnapshotGroup": CreateSnapshotGroup(cutter, database, clock, archiving),
        "deleteSnapshotGroup": DeleteSnapshotGroup(engine, database, clock, archiving, pauses_s=pauses_s),
        "rollbackSnapshotGroup": RollBackSnapshotGroup(
            engine, database, clock, archiving.images, cutter, pauses_s=pauses_s
        ),
    }
