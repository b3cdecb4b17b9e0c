"""
Jobs of groups and snapshots, when the service dies in any step and when the engine fails in any way.

A service that dies is a worker whose job ends in the middle with nothing marked; the next one has the same database
and the same engine, and nothing else.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from faulty import FaultyEngine
from running import DEADLINE_S
from sqlalchemy import select
from workshop import Workshop, open_workshop

from onecut.db.jobs import Job
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.volumes import Volume
from onecut.errors import CannotCut, CutFailed, EngineDown, EngineError, OutcomeUnknown, VolumeUnusable
from onecut.service import groups, legacy_snapshots, snapshots
from onecut.service.groups import NewGroup
from onecut.service.legacy_snapshots import NewLegacySnapshot
from onecut.service.snapshots import NewSnapshot


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """Services and jobs over an engine that fails as told."""
    with open_workshop(tmp_path, FaultyEngine) as shop:
        yield shop


@pytest.fixture
def engine(shop: Workshop) -> FaultyEngine:
    """The engine of the workshop."""
    return cast("FaultyEngine", shop.engine)


@pytest.fixture
def disks(shop: Workshop) -> list[str]:
    """Three volumes that hold ``before``."""
    return shop.volumes(3, content=b"before")


def make(shop: Workshop, disks: list[str]) -> str:
    """Make a group of the disks, then write ``after!`` to them."""
    job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=disks, name="nightly", instant_access=True))
    assert shop.job(job_id).status == "SUCCESS"
    for volume_id in disks:
        shop.write(volume_id, b"after!")
    return str(group_id)


def states(shop: Workshop, group_id: str) -> tuple[str, set[str]]:
    """Return a group's state, and those of its members."""
    return shop.get(SnapshotGroup, group_id).status, {member.status for member in shop.members(group_id)}


def disk_states(shop: Workshop, disks: list[str]) -> list[str]:
    """Return the volumes' states."""
    return [shop.get(Volume, volume_id).status for volume_id in disks]


def contents(shop: Workshop, disks: list[str]) -> set[bytes]:
    """Return what the volumes hold."""
    return {shop.read(volume_id, 6) for volume_id in disks}


class Orders:
    """Every job of groups and snapshots: how it is asked for, and what must hold once it has succeeded."""

    @staticmethod
    def create_group(shop: Workshop, disks: list[str]) -> tuple[str, Callable[[], None]]:
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=disks))

        def check() -> None:
            assert states(shop, group_id) == ("available", {"available"})
            assert shop.get(SnapshotGroup, group_id).cut is not None
            assert shop.points() == {member.id for member in shop.members(group_id)}
            assert len(shop.points()) == len(disks)

        return job_id, check

    @staticmethod
    def create_snapshot(shop: Workshop, disks: list[str]) -> tuple[str, Callable[[], None]]:
        job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(disks[0]))

        def check() -> None:
            assert shop.get(Snapshot, snapshot_id).status == "available"
            assert shop.points() == {snapshot_id}

        return job_id, check

    @staticmethod
    def create_legacy_snapshot(shop: Workshop, disks: list[str]) -> tuple[str, Callable[[], None]]:
        snapshot_id = shop.ask(legacy_snapshots.create, NewLegacySnapshot(disks[0])).id

        def check() -> None:
            assert shop.get(Snapshot, snapshot_id).status == "available"
            assert shop.points() == {snapshot_id}

        with shop.database.reading() as session:
            job_id = session.scalars(select(Job.id)).one()  # the call's answer does not name it
        return job_id, check

    @staticmethod
    def delete_group(shop: Workshop, disks: list[str]) -> tuple[str, Callable[[], None]]:
        group_id = make(shop, disks)
        job_id = shop.ask(groups.order_deletion, group_id)

        def check() -> None:
            assert shop.get(SnapshotGroup, group_id) is None
            assert (shop.state()["snapshot"], shop.points()) == ([], set())

        return job_id, check

    @staticmethod
    def delete_snapshot(shop: Workshop, disks: list[str]) -> tuple[str, Callable[[], None]]:
        group_id = make(shop, disks)
        job_id = shop.ask(snapshots.order_deletion, shop.members(group_id)[0].id)

        def check() -> None:
            assert shop.points() == {member.id for member in shop.members(group_id)}
            assert len(shop.points()) == len(disks) - 1

        return job_id, check

    @staticmethod
    def roll_back_group(shop: Workshop, disks: list[str]) -> tuple[str, Callable[[], None]]:
        group_id = make(shop, disks)
        job_id, undo_id = shop.ask(groups.order_rollback, group_id, undo=True)

        def check() -> None:
            assert contents(shop, disks) == {b"before"}
            assert disk_states(shop, disks) == ["available"] * len(disks)
            assert states(shop, group_id) == states(shop, undo_id) == ("available", {"available"})
            assert shop.points() == {member.id for member in shop.members(group_id) + shop.members(undo_id)}
            back_id, _ = shop.ask(groups.order_rollback, undo_id, undo=False)
            assert shop.job(back_id).status == "SUCCESS"
            assert contents(shop, disks) == {b"after!"}

        return job_id, check

    @staticmethod
    def roll_back_group_without_undo(shop: Workshop, disks: list[str]) -> tuple[str, Callable[[], None]]:
        group_id = make(shop, disks)
        job_id, _ = shop.ask(groups.order_rollback, group_id, undo=False)

        def check() -> None:
            assert contents(shop, disks) == {b"before"}
            assert disk_states(shop, disks) == ["available"] * len(disks)
            assert states(shop, group_id) == ("available", {"available"})

        return job_id, check

    @staticmethod
    def roll_back_snapshot(shop: Workshop, disks: list[str]) -> tuple[str, Callable[[], None]]:
        group_id = make(shop, disks)
        member = shop.members(group_id)[0]
        job_id = shop.ask(snapshots.order_rollback, member.id, volume_id=member.volume_id)

        def check() -> None:
            assert contents(shop, disks) == {b"before", b"after!"}
            assert contents(shop, [member.volume_id]) == {b"before"}
            assert disk_states(shop, disks) == ["available"] * len(disks)
            assert states(shop, group_id) == ("available", {"available"})

        return job_id, check


ORDERS = {name: order for name, order in vars(Orders).items() if isinstance(order, staticmethod)}

STEPS = [
    *(("create_group", step) for step in ("cut", "archive", "bind", "release")),
    *(("create_snapshot", step) for step in ("cut", "archive", "release")),
    ("create_legacy_snapshot", "cut"),
    *(("delete_group", step) for step in ("stop", "release", "unbind", "erase")),
    *(("delete_snapshot", step) for step in ("stop", "release", "unbind", "erase")),
    *(("roll_back_group", step) for step in ("find", "cut_undo", "roll_back")),
    *(("roll_back_group_without_undo", step) for step in ("find", "cut_undo", "roll_back")),
    *(("roll_back_snapshot", step) for step in ("find", "roll_back")),
]

ACTS = [
    ("create_group", "settle"),
    ("create_group", "cut"),
    ("create_snapshot", "cut"),
    ("create_legacy_snapshot", "settle"),
    ("create_legacy_snapshot", "cut"),
    ("delete_group", "release"),
    ("delete_snapshot", "release"),
    ("roll_back_group", "cut"),
    ("roll_back_group", "roll_back"),
    ("roll_back_snapshot", "roll_back"),
]


def die_before(shop: Workshop, step: str) -> None:
    """Let a service run until it has written *step* down, and end it there."""

    async def run() -> None:
        def die(_job_type: str, begun: str) -> None:
            if begun == step:
                running.cancel()
                raise asyncio.CancelledError

        running = asyncio.create_task(shop.worker(die).run())
        await ended(running)

    asyncio.run(run())


def die_after(shop: Workshop, engine: FaultyEngine, act: str) -> None:
    """Let a service run until the engine has done *act*, and end it before it knows."""

    async def run() -> None:
        running = asyncio.create_task(shop.worker().run())
        engine.after[act] = [asyncio.CancelledError()]
        engine.died = running.cancel
        await ended(running)

    asyncio.run(run())


async def ended(running: asyncio.Task[None]) -> None:
    """Wait until a cancelled worker has ended."""
    done, _ = await asyncio.wait([running], timeout=DEADLINE_S)
    assert done, "the step was never taken"
    assert running.cancelled()


class TestTheServiceDies:
    def test_every_step_is_tried(self, shop: Workshop) -> None:
        """The list of steps below is complete."""
        ours = {name: kind for name, kind in shop.job_types().items() if "napshot" in name}
        tried = {step for _, step in STEPS}

        assert len(ours) == 9
        assert {step for kind in ours.values() for step in kind.steps} == tried

    @pytest.mark.parametrize(("order", "step"), STEPS)
    def test_before_a_step(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str], order: str, step: str
    ) -> None:
        """Died between writing a step down and taking it: the next service takes it, once."""
        job_id, check = ORDERS[order](shop, disks)
        engine.done.clear()

        die_before(shop, step)
        assert shop.get(Job, job_id).status == "RUNNING"
        shop.work()

        assert shop.get(Job, job_id).status == "SUCCESS"
        assert engine.done.count("cut") == order.startswith("create") + (order == "roll_back_group")
        check()

    @pytest.mark.parametrize(("order", "act"), ACTS)
    def test_after_an_act_of_the_engine(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str], order: str, act: str
    ) -> None:
        """Died after the engine did it and before anything was noted: it is not done twice, nothing is lost."""
        job_id, check = ORDERS[order](shop, disks)
        engine.done.clear()

        die_after(shop, engine, act)
        assert shop.get(Job, job_id).status == "RUNNING"
        shop.work()

        assert shop.get(Job, job_id).status == "SUCCESS"
        assert engine.done.count("cut") == order.startswith("create") + (order == "roll_back_group")
        check()

    def test_the_undo_group_was_deleted_before_the_rollback_went_on(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str]
    ) -> None:
        """An undo group is not cut a second time when its owner deleted it while the service was down."""
        group_id = make(shop, disks)
        job_id, undo_id = shop.ask(groups.order_rollback, group_id, undo=True)
        die_before(shop, "roll_back")
        shop.set(Job, job_id, step="cut_undo")  # died later in this step: after the undo group was marked
        shop.ask(groups.order_deletion, undo_id)

        shop.work()

        assert shop.get(Job, job_id).status == "SUCCESS"
        assert contents(shop, disks) == {b"before"}
        assert shop.get(SnapshotGroup, undo_id) is None
        assert shop.points() == {member.id for member in shop.members(group_id)}
        assert engine.done.count("cut") == 2


class TestTheEngineFails:
    @pytest.mark.parametrize("error", [CannotCut("volume x is unusable"), CutFailed("no space for layers")])
    def test_a_failed_cut_puts_group_and_members_in_error(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str], error: EngineError
    ) -> None:
        """The job fails with the engine's reason, no member has a point, the volumes go on, the group can go."""
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=disks))
        engine.before["cut"] = [error]

        job = shop.job(job_id)

        assert (job.status, job.error_code, job.fail_reason) == ("FAIL", "EVS.2002", str(error))
        assert {sub.status for sub in shop.sub_jobs(job_id)} == {"FAIL"}
        assert states(shop, group_id) == ("error", {"error"})
        assert (shop.points(), disk_states(shop, disks)) == (set(), ["available"] * 3)
        assert shop.job(shop.ask(groups.order_deletion, group_id)).status == "SUCCESS"
        make(shop, disks)

    def test_a_failed_cut_puts_a_single_snapshot_in_error(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str]
    ) -> None:
        """The same for a snapshot without a group; it can be deleted."""
        job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(disks[0]))
        engine.before["cut"] = [CutFailed("no space for layers")]

        assert shop.job(job_id).status == "FAIL"
        assert shop.get(Snapshot, snapshot_id).status == "error"
        assert shop.job(shop.ask(snapshots.order_deletion, snapshot_id)).status == "SUCCESS"
        assert shop.get(Snapshot, snapshot_id) is None

    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize(("order", "act"), ACTS)
    def test_a_broken_line_is_settled_not_guessed(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str], *, order: str, act: str, when: str
    ) -> None:
        """Whether the act was done when the line broke or not, it is done once in the end, and the job succeeds."""
        job_id, check = ORDERS[order](shop, disks)
        engine.done.clear()
        getattr(engine, when)[act] = [OutcomeUnknown("the line broke")]

        assert shop.job(job_id).status == "SUCCESS"
        assert engine.done.count("cut") == order.startswith("create") + (order == "roll_back_group")
        check()

    @pytest.mark.parametrize(("order", "act"), ACTS)
    def test_a_daemon_that_comes_back_is_waited_for(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str], order: str, act: str
    ) -> None:
        """A daemon that is down for a moment fails no job."""
        job_id, check = ORDERS[order](shop, disks)
        engine.before[act] = [EngineDown("no answer"), EngineDown("no answer")]

        assert shop.job(job_id).status == "SUCCESS"
        check()

    def test_a_daemon_that_stays_away_fails_the_job(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str]
    ) -> None:
        """The wait is bounded; then group and members are in error."""
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=disks))
        engine.before["settle"] = [EngineDown("no answer") for _ in range(3)]

        job = shop.job(job_id)

        assert (job.status, job.fail_reason) == ("FAIL", "no answer")
        assert states(shop, group_id) == ("error", {"error"})

    def test_a_cut_that_turns_out_done_after_its_group_failed_leaves_no_point(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str]
    ) -> None:
        """The daemon did it and stayed away until the job had failed; deleting the group settles it first."""
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=disks))
        engine.after["cut"] = [OutcomeUnknown("the line broke")]
        engine.down_after_cut = True
        assert shop.job(job_id).status == "FAIL"
        assert len(shop.points()) == 3
        engine.down_after_cut = False
        engine.done.clear()

        assert shop.job(shop.ask(groups.order_deletion, group_id)).status == "SUCCESS"

        assert engine.done == ["settle", "release"]
        assert shop.points() == set()

    def test_a_failed_deletion_may_be_asked_for_again(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str]
    ) -> None:
        """Group and members are in error_deleting and keep their data; the second time they go."""
        group_id = make(shop, disks)
        engine.before["release"] = [EngineError("the folder is read-only")]
        job = shop.job(shop.ask(groups.order_deletion, group_id))
        assert (job.status, job.fail_reason) == ("FAIL", "the folder is read-only")
        assert states(shop, group_id) == ("error_deleting", {"error_deleting"})
        assert len(shop.points()) == 3

        assert shop.job(shop.ask(groups.order_deletion, group_id)).status == "SUCCESS"
        assert shop.points() == set()

    def test_a_failed_rollback_marks_the_volumes_and_keeps_the_undo_group(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str]
    ) -> None:
        """The volumes are in error_rollbacking, the snapshots available, the undo group holds the state before."""
        group_id = make(shop, disks)
        job_id, undo_id = shop.ask(groups.order_rollback, group_id, undo=True)
        engine.before["roll_back"] = [VolumeUnusable("a layer is missing")]

        job = shop.job(job_id)

        assert (job.status, job.fail_reason) == ("FAIL", "a layer is missing")
        assert disk_states(shop, disks) == ["error_rollbacking"] * 3
        assert states(shop, group_id) == states(shop, undo_id) == ("available", {"available"})
        again_id, _ = shop.ask(groups.order_rollback, group_id, undo=False)
        assert shop.job(again_id).status == "SUCCESS"
        assert contents(shop, disks) == {b"before"}

    def test_a_failed_undo_cut_leaves_the_volumes_as_they_were(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str]
    ) -> None:
        """Nothing was given back: each volume has its state of before, and only the undo group is in error."""
        group_id = make(shop, disks)
        shop.set(Volume, disks[1], status="error_rollbacking")
        job_id, undo_id = shop.ask(groups.order_rollback, group_id, undo=True)
        engine.before["cut"] = [CutFailed("no space for layers")]

        job = shop.job(job_id)

        assert (job.status, job.fail_reason) == ("FAIL", "no space for layers")
        assert disk_states(shop, disks) == ["available", "error_rollbacking", "available"]
        assert contents(shop, disks) == {b"after!"}
        assert states(shop, group_id) == ("available", {"available"})
        assert states(shop, undo_id) == ("error", {"error"})
        assert shop.job(shop.ask(groups.order_deletion, undo_id)).status == "SUCCESS"

    def test_a_failed_single_rollback_marks_the_volume(
        self, shop: Workshop, engine: FaultyEngine, disks: list[str]
    ) -> None:
        """The volume is in error_rollbacking, the snapshot available; trying again works."""
        group_id = make(shop, disks)
        member = shop.members(group_id)[0]
        engine.before["roll_back"] = [VolumeUnusable("a layer is missing")]

        job = shop.job(shop.ask(snapshots.order_rollback, member.id, volume_id=member.volume_id))

        assert job.status == "FAIL"
        assert disk_states(shop, [member.volume_id]) == ["error_rollbacking"]
        again_id = shop.ask(snapshots.order_rollback, member.id, volume_id=member.volume_id)
        assert shop.job(again_id).status == "SUCCESS"
