"""What archiving makes of snapshots: how they are read, what they build upon, and what the engine may give up."""

import asyncio
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from faulty import FaultyEngine
from running import DEADLINE_S, wait_until
from sqlalchemy import select
from workshop import Workshop, open_workshop

from onecut.db.archives import Archive, SnapshotChain
from onecut.db.images import ServedImage
from onecut.db.jobs import Job
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.errors import EngineDown, EngineError
from onecut.jobs import served
from onecut.jobs.archiver import ArchiveLimits, Archiver
from onecut.nbd.errors import ConnectionLost
from onecut.repository.errors import Damaged, StoreFull, StoreUnavailable
from onecut.repository.image import Image
from onecut.repository.repository import Repository, chunk_path, page_path
from onecut.repository.retry import Backoff
from onecut.repository.verify import prove_group
from onecut.service import groups, snapshots, volumes
from onecut.service.groups import NewGroup
from onecut.service.snapshots import NewSnapshot


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """Services and jobs over an engine that fails as told, and a repository in a folder."""
    with open_workshop(tmp_path, FaultyEngine) as shop:
        yield shop


@pytest.fixture
def engine(shop: Workshop) -> FaultyEngine:
    """The engine of the workshop."""
    return cast("FaultyEngine", shop.engine)


def take(shop: Workshop, volume_id: str, content: bytes = b"", **wanted: Any) -> str:
    """Write to a volume, take a snapshot of it, and return its id once all jobs have ended."""
    if content:
        shop.write(volume_id, content)
    job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id, **wanted))
    job = shop.job(job_id)
    assert job.status == "SUCCESS", job.fail_reason
    return str(snapshot_id)


def test_archives_look_who_else_uses_the_disks(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is asked by whoever archives, not only at the beginning of the service."""
    looks: list[str] = []
    monkeypatch.setattr(shop.engine, "moved_bytes", lambda: looks.append(threading.current_thread().name))

    take(shop, shop.volume(), b"abcdef")

    assert any(name.startswith("archive") for name in looks)


def archive_of(shop: Workshop, snapshot_id: str) -> Archive:
    """Return what is known of a snapshot's archive."""
    with shop.database.reading() as session:
        return session.scalars(select(Archive).where(Archive.snapshot_id == snapshot_id)).one()


def archived(shop: Workshop, snapshot_id: str, length: int = 6) -> bytes:
    """Read a snapshot's beginning from the repository, past what is cached."""
    data = bytearray(length)
    opened = Repository.open(shop.repository.store)
    Image(opened, opened.find(snapshot_id)).readinto(memoryview(data), 0)
    return bytes(data)


def stored(shop: Workshop) -> set[str]:
    """Return the names of all objects but the marker."""
    return {info.path for info in shop.repository.store.list("")} - {"repository.json"}


def damage(shop: Workshop, path: str) -> None:
    """Flip the bits of an object's last byte."""
    data = bytearray(shop.repository.store.get(path))
    data[-1] ^= 0xFF
    shop.repository.store.put(path, bytes(data))


class TestReading:
    def test_the_first_snapshot_is_full_and_begins_a_chain(self, shop: Workshop) -> None:
        """It builds upon nothing, says so, and is `standard`."""
        snapshot_id = take(shop, shop.volume(), b"first!")

        manifest = shop.repository.find(snapshot_id)
        assert (manifest.incremental, manifest.lineage.base) == (False, None)
        assert "no earlier snapshot" in str(archive_of(shop, snapshot_id).full_because)
        found = shop.get(Snapshot, snapshot_id)
        assert (found.category, found.status, found.progress_percent) == ("standard", "available", 100)
        assert archived(shop, snapshot_id) == b"first!"

    def test_the_next_one_reads_what_changed_only(self, shop: Workshop) -> None:
        """It is in the same chain, builds upon the one before it, and reads one block."""
        volume_id = shop.volume(content=b"first!")
        first = take(shop, volume_id)
        second = take(shop, volume_id, b"second")

        manifest = shop.repository.find(second)
        assert (manifest.incremental, manifest.lineage.base) == (True, first)
        assert archive_of(shop, second).full_because is None
        assert archive_of(shop, second).chain_id == archive_of(shop, first).chain_id
        assert manifest.added_chunks == 1
        assert (archived(shop, first), archived(shop, second)) == (b"first!", b"second")

    def test_a_full_snapshot_begins_another_chain(self, shop: Workshop) -> None:
        """`incremental: false` builds upon nothing; the next incremental one builds upon it."""
        volume_id = shop.volume(content=b"first!")
        first = take(shop, volume_id)
        full = take(shop, volume_id, incremental=False)
        third = take(shop, volume_id, b"third!")

        assert shop.repository.find(full).lineage.base is None
        assert archive_of(shop, full).full_because == "a full snapshot was asked for"
        assert archive_of(shop, full).chain_id != archive_of(shop, first).chain_id
        assert archive_of(shop, third).chain_id == archive_of(shop, full).chain_id
        assert shop.repository.find(third).lineage.base == full

    def test_without_the_point_before_it_all_is_read_and_compared(self, shop: Workshop) -> None:
        """Its newest predecessor was deleted: what did not change is read, but not stored again."""
        volume_id = shop.volume(content=b"first!")
        first = take(shop, volume_id)
        second = take(shop, volume_id)
        assert shop.job(shop.ask(snapshots.order_deletion, second)).status == "SUCCESS"
        third = take(shop, volume_id)

        manifest = shop.repository.find(third)
        assert (manifest.incremental, manifest.lineage.base, manifest.added_chunks) == (False, first, 0)
        assert f"no point of snapshot {first}" in str(archive_of(shop, third).full_because)
        assert archived(shop, third) == b"first!"

    def test_after_a_rollback_all_is_read(self, shop: Workshop) -> None:
        """What changed since the newest archive is not known then; the content is right all the same."""
        volume_id = shop.volume(content=b"first!")
        first = take(shop, volume_id, instant_access=True)
        take(shop, volume_id, b"second")
        job_id = shop.ask(snapshots.order_rollback, first, volume_id=volume_id)
        assert shop.job(job_id).status == "SUCCESS"
        third = take(shop, volume_id)

        assert not shop.repository.find(third).incremental
        assert archive_of(shop, third).full_because is not None
        assert archived(shop, third) == b"first!"

    def test_a_wrong_change_list_is_found_out(self, shop: Workshop, engine: FaultyEngine) -> None:
        """A sampled block differs though it was reported as unchanged: all is read, and there is an alarm."""
        volume_id = shop.volume(content=b"first!")
        take(shop, volume_id)
        engine.hide_changes = True
        second = take(shop, volume_id, b"second")

        assert archived(shop, second) == b"second"
        assert "reported as unchanged" in str(archive_of(shop, second).full_because)
        assert shop.metrics.wrong_change_lists._value.get() == 1


class TestPoints:
    def test_only_the_newest_archived_point_stays(self, shop: Workshop) -> None:
        """The next snapshot is compared with it."""
        volume_id = shop.volume()
        taken = [take(shop, volume_id, content) for content in (b"first!", b"second", b"third!")]

        assert shop.points() == {taken[-1]}
        assert [shop.get(Snapshot, each).point for each in taken] == ["gone", "gone", "held"]

    def test_instant_ones_stay_until_they_are_switched_off(self, shop: Workshop) -> None:
        """Each of them; then all but the newest go."""
        volume_id = shop.volume()
        taken = [take(shop, volume_id, each, instant_access=True) for each in (b"first!", b"second")]
        assert shop.points() == set(taken)

        for snapshot_id in taken:
            shop.ask(snapshots.update, snapshot_id, name=None, description=None, instant_access=False)
        shop.work()
        assert shop.points() == {taken[-1]}

    def test_a_deleted_volume_s_point_goes(self, shop: Workshop) -> None:
        """There is no next snapshot to compare with; the archived one stays and can be read."""
        volume_id = shop.volume(content=b"first!")
        snapshot_id = take(shop, volume_id)
        assert shop.job(shop.ask(volumes.order_deletion, volume_id)).status == "SUCCESS"

        assert (shop.points(), shop.get(Snapshot, snapshot_id).point) == (set(), "gone")
        assert archived(shop, snapshot_id) == b"first!"


class TestInstantAccess:
    def test_it_is_available_before_it_is_archived(self, shop: Workshop) -> None:
        """The snapshot's own job ends after the cut; another one archives it, in the order of the cuts."""
        shop.patience = Backoff(first_s=0.01, longest_s=0.01, total_s=60.0)
        volume_id, store = shop.volume(content=b"first!"), shop.repository.store
        shop.repository.store = cast("Any", Away())
        job_id, first = shop.ask(snapshots.create, NewSnapshot(volume_id, instant_access=True))
        asyncio.run(shop.work_until(lambda: shop.get(Job, job_id).status == "SUCCESS"))

        found = shop.get(Snapshot, first)
        assert (found.status, found.category, found.progress_percent) == ("available", "flash", 100)
        job_id, second = shop.ask(snapshots.create, NewSnapshot(volume_id, instant_access=True))
        asyncio.run(shop.work_until(lambda: shop.get(Job, job_id).status == "SUCCESS"))

        shop.repository.store = store
        shop.work()
        assert [shop.get(Snapshot, each).category for each in (first, second)] == ["standard"] * 2
        assert shop.repository.find(second).lineage.base == first

    def test_when_it_can_not_be_archived_it_stays_in_the_engine(self, shop: Workshop) -> None:
        """The archiving job fails with the reason, which the snapshot shows; a rollback works."""
        volume_id = shop.volume(content=b"first!")
        shop.repository.store = cast("Any", Away())
        job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id, instant_access=True))
        assert shop.job(job_id).status == "SUCCESS"

        assert "away" in str(archive_of(shop, snapshot_id).failure)
        assert (shop.get(Snapshot, snapshot_id).category, shop.points()) == ("flash", {snapshot_id})
        job_id = shop.ask(snapshots.order_rollback, snapshot_id, volume_id=volume_id)
        assert shop.job(job_id).status == "SUCCESS"

    def test_deleting_it_stops_its_archive(self, shop: Workshop) -> None:
        """A snapshot that is deleted while it is archived leaves nothing, neither there nor in the engine."""
        volume_id = shop.volume(content=b"first!")
        gate = Gate(shop.repository.store)
        shop.repository.store = cast("Any", gate)
        _, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id, instant_access=True))

        async def delete() -> None:
            working = asyncio.create_task(shop.work_until(lambda: shop.get(Snapshot, snapshot_id) is None))
            await asyncio.to_thread(gate.reached.wait, 20)
            await asyncio.to_thread(shop.ask, snapshots.order_deletion, snapshot_id)
            gate.opened.set()
            await working

        asyncio.run(delete())
        shop.work()
        assert shop.points() == set()
        assert {path.split("/")[0] for path in stored(shop)} <= {"snapshots"}  # the mark of a run that was given up

    def test_a_deletion_that_waits_for_an_archive_lets_others_pass(self, shop: Workshop) -> None:
        """The older snapshot's deletion waits for the archive that builds on it, the younger's ends that archive."""
        volume_id = shop.volume(content=b"first!")
        older = take(shop, volume_id)
        store = shop.repository.store
        gate = Gate(store)
        shop.repository.store = cast("Any", gate)
        _, younger = shop.ask(snapshots.create, NewSnapshot(volume_id, instant_access=True))

        async def delete_both() -> None:
            worker = shop.worker()
            both_gone = shop.work_until(
                lambda: not any(shop.get(Snapshot, each) for each in (older, younger)), worker
            )
            gone = asyncio.create_task(both_gone)
            await asyncio.to_thread(gate.reached.wait, 20)
            await asyncio.to_thread(shop.ask, snapshots.order_deletion, older)
            worker.ring()
            await asyncio.to_thread(wait_until, lambda: any(store.list("deletions")), "the older one's deletion")
            await asyncio.to_thread(shop.ask, snapshots.order_deletion, younger)
            gate.opened.set()
            await gone

        asyncio.run(delete_both())
        shop.work()
        assert {path.split("/")[0] for path in stored(shop)} <= {"snapshots"}  # the mark of a run that was given up

    def test_stopping_waits_for_an_archive_that_opens_its_point(self, shop: Workshop, engine: FaultyEngine) -> None:
        """Once an archive is stopped nothing of it begins any more: what a deletion frees then stays free."""
        shop.patience = Backoff(first_s=0.01, longest_s=0.01, total_s=60.0)
        volume_id, store = shop.volume(content=b"first!"), shop.repository.store
        shop.repository.store = cast("Any", Away())
        job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id, instant_access=True))
        asyncio.run(shop.work_until(lambda: shop.get(Job, job_id).status == "SUCCESS"))
        shop.repository.store = store
        archiver = shop.archiving().archiver

        async def stop_while_it_opens() -> None:
            reached, goes_on = asyncio.Event(), asyncio.Event()

            async def opening() -> None:
                reached.set()
                await goes_on.wait()

            engine.opening = opening
            working = asyncio.create_task(archiver.archive({snapshot_id: job_id}))
            await reached.wait()
            stopping = asyncio.create_task(archiver.stop([snapshot_id]))
            for _ in range(100):
                await asyncio.sleep(0)
            assert not stopping.done()
            goes_on.set()
            await asyncio.gather(stopping, working)

        asyncio.run(stop_while_it_opens())


class TestLimits:
    def test_no_more_are_archived_at_a_time_than_allowed(self, shop: Workshop, engine: FaultyEngine) -> None:
        """Two of five begin; each that ends makes room for another one."""
        shop.patience = Backoff(first_s=0.01, longest_s=0.01, total_s=60.0)
        store = shop.repository.store
        shop.repository.store = cast("Any", Away())
        chosen = shop.volumes(5, content=b"first!")
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=chosen, instant_access=True))
        asyncio.run(shop.work_until(lambda: shop.get(Job, job_id).status == "SUCCESS"))
        shop.repository.store = store
        limits = ArchiveLimits(parallel=2, patience=shop.patience)
        archiver = Archiver(engine, shop.database, shop.clock, shop.repository, limits=limits)

        async def archive() -> None:
            begun: list[asyncio.Event] = [asyncio.Event() for _ in chosen]
            places = asyncio.Semaphore(0)
            arrivals = iter(begun)

            async def opening() -> None:
                next(arrivals).set()
                await places.acquire()

            engine.opening = opening
            working = asyncio.create_task(archiver.archive({each.id: job_id for each in shop.members(group_id)}))
            for number in range(2, len(chosen)):
                await asyncio.wait_for(begun[number - 1].wait(), 20)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(begun[number].wait(), 0.2)
                places.release()
            for _ in range(2):
                places.release()
            await working

        try:
            asyncio.run(archive())
        finally:
            archiver.close()
        assert {each.category for each in shop.members(group_id)} == {"standard"}


class TestGroups:
    def test_the_digest_binds_the_members(self, shop: Workshop) -> None:
        """The manifest names the members' roots and the cut, and proves them."""
        chosen = shop.volumes(3, content=b"first!")
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=chosen, name="nightly"))
        assert shop.job(job_id).status == "SUCCESS"

        (group,) = shop.repository.groups()
        assert (group.group_id, group.name, group.cut_id) == (group_id, "nightly", group_id)
        assert group.digest == shop.get(SnapshotGroup, group_id).digest
        assert {member.snapshot_id: member.root for member in group.members} == {
            member.id: archive_of(shop, member.id).root for member in shop.members(group_id)
        }
        assert prove_group(shop.repository, group) == []

    def test_a_member_that_leaves_is_not_bound_any_more(self, shop: Workshop) -> None:
        """The manifest is written anew without it, and still proves the others; the last one takes it along."""
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=shop.volumes(2, content=b"first!")))
        shop.job(job_id)
        before = shop.get(SnapshotGroup, group_id).digest
        leaving, staying = shop.members(group_id)

        assert shop.job(shop.ask(snapshots.order_deletion, leaving.id)).status == "SUCCESS"
        (group,) = shop.repository.groups()
        assert [member.snapshot_id for member in group.members] == [staying.id]
        assert before != group.digest == shop.get(SnapshotGroup, group_id).digest
        assert prove_group(shop.repository, group) == []

        assert shop.job(shop.ask(snapshots.order_deletion, staying.id)).status == "SUCCESS"
        assert list(shop.repository.groups()) == []
        assert shop.get(SnapshotGroup, group_id).digest is None

    def test_who_binds_last_has_looked_last(self, shop: Workshop) -> None:
        """A member leaves while the group is being bound: the manifest is without it in the end."""
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=shop.volumes(2, content=b"first!")))
        shop.job(job_id)
        leaving, staying = shop.members(group_id)
        slow = SlowGroups(shop.repository.store)
        shop.repository.store = cast("Any", slow)
        upkeep = shop.archiving().upkeep

        async def bind_twice() -> None:
            first = asyncio.create_task(upkeep.bind(group_id))
            await asyncio.to_thread(slow.reached.wait, 20)
            shop.set(Snapshot, leaving.id, status="deleting")
            second = asyncio.create_task(upkeep.bind(group_id))
            # It does not end before the first one; if it does, it is overwritten.
            await asyncio.wait([second], timeout=0.5)
            slow.opened.set()
            await asyncio.gather(first, second)

        asyncio.run(bind_twice())
        (group,) = shop.repository.groups()
        assert [member.snapshot_id for member in group.members] == [staying.id]
        assert group.digest == shop.get(SnapshotGroup, group_id).digest

    def test_a_member_that_can_not_be_read_fails_the_group_after_a_retry(
        self, shop: Workshop, engine: FaultyEngine
    ) -> None:
        """Group and members are in error, the others' points stay; deleting the group leaves nothing."""
        chosen = shop.volumes(3, content=b"first!")
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=chosen))
        bad = shop.members(group_id)[1].id
        engine.unreadable[bad] = [EngineError("a layer is missing"), EngineError("a layer is missing")]

        job = shop.job(job_id)
        assert (job.status, job.fail_reason) == ("FAIL", "a layer is missing")
        assert shop.get(SnapshotGroup, group_id).status == "error"
        assert {member.status for member in shop.members(group_id)} == {"error"}
        assert len(shop.points()) == 3

        assert shop.job(shop.ask(groups.order_deletion, group_id)).status == "SUCCESS"
        assert (shop.points(), stored(shop)) == (set(), set())

    def test_one_retry_is_enough_for_what_happens_once(self, shop: Workshop, engine: FaultyEngine) -> None:
        """The group is available as if nothing had been."""
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=shop.volumes(2, content=b"first!")))
        engine.unreadable[shop.members(group_id)[0].id] = [EngineError("a layer is missing")]

        assert shop.job(job_id).status == "SUCCESS"
        assert shop.get(SnapshotGroup, group_id).status == "available"


class TestWaiting:
    @pytest.mark.parametrize("error", [EngineDown("no answer"), ConnectionLost("the line broke")])
    def test_an_engine_that_comes_back_is_waited_for(
        self, shop: Workshop, engine: FaultyEngine, error: Exception
    ) -> None:
        """A daemon that dies while its disk is read fails nothing."""
        volume_id = shop.volume(content=b"first!")
        job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id))
        engine.unreadable[snapshot_id] = [error]

        assert shop.job(job_id).status == "SUCCESS"
        assert archived(shop, snapshot_id) == b"first!"

    def test_a_repository_that_stays_away_fails_the_job_and_loses_nothing(self, shop: Workshop) -> None:
        """The wait is bounded; then the reason is told, and the next snapshot is archived when it is back."""
        volume_id = shop.volume(content=b"first!")
        store = shop.repository.store
        shop.repository.store = cast("Any", Away())
        job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id))
        job = shop.job(job_id)
        assert (job.status, job.fail_reason) == ("FAIL", "the store is away")
        assert shop.get(Snapshot, snapshot_id).status == "error"

        shop.repository.store = store
        again = take(shop, volume_id)
        assert archived(shop, again) == b"first!"
        assert shop.job(shop.ask(snapshots.order_deletion, snapshot_id)).status == "SUCCESS"

    def test_to_come_no_further_than_before_is_no_progress(
        self, shop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The wait for a full store ends, though one attempt ends a little later in the disk than the one before."""
        ends = itertools.chain([10], itertools.islice(itertools.cycle([8, 9]), 200))

        def come_to_an_end(*arguments: Any) -> None:
            arguments[-1].progress(next(ends), 100)
            raise StoreFull("no space left")

        monkeypatch.setattr("onecut.jobs.archiver.archive", come_to_an_end)
        job = shop.job(shop.ask(snapshots.create, NewSnapshot(shop.volume(content=b"first!")))[0])

        assert (job.status, job.fail_reason) == ("FAIL", "no space left")


class TestDamage:
    def test_a_damaged_base_is_not_built_upon(self, shop: Workshop) -> None:
        """A page of the base can't be read: the snapshot before shows it, the next one begins a new chain."""
        volume_id = shop.volume(content=b"first!")
        first = take(shop, volume_id)
        blocks = shop.repository.find(first).blocks
        assert blocks is not None
        damage(shop, page_path(*blocks.place))
        second = take(shop, volume_id, b"second")

        assert "is damaged" in shop.get(Snapshot, first).fault
        assert shop.get(Snapshot, first).status == "available"
        assert shop.repository.find(second).lineage.base is None
        assert archive_of(shop, second).full_because == f"snapshot {first} before it is damaged"
        assert archived(shop, second) == b"second"
        third = take(shop, volume_id, b"third!")
        assert shop.repository.find(third).lineage.base == second

    def test_a_chunk_known_to_be_damaged_is_not_referred_to(self, shop: Workshop) -> None:
        """Once a fault is known of a snapshot, nothing is built upon it."""
        volume_id = shop.volume(content=b"first!")
        first = take(shop, volume_id)
        run_id = shop.repository.find(first).run_id
        damage(shop, chunk_path(bytes.fromhex(run_id), 0))
        shop.set(Snapshot, first, fault="chunks are damaged")
        second = take(shop, volume_id)

        assert archived(shop, second) == b"first!"

    def test_nothing_is_built_upon_a_chain_with_damage(self, shop: Workshop) -> None:
        """The damage of the one before the last may be in what both have."""
        volume_id = shop.volume(content=b"first!")
        first = take(shop, volume_id)
        second = take(shop, volume_id, b"second")
        shop.set(Snapshot, first, fault="chunks are damaged")
        third = take(shop, volume_id, b"third!")

        assert shop.repository.find(third).lineage.base is None
        assert archive_of(shop, third).full_because == f"snapshot {first} before it is damaged"
        assert archive_of(shop, third).chain_id != archive_of(shop, second).chain_id

    def test_damage_that_is_met_in_one_is_shown_on_all_that_have_it(self, shop: Workshop) -> None:
        """Others may be needed when the one is gone; another chain's have nothing of it."""
        volume_id = shop.volume(content=b"first!")
        first, second = take(shop, volume_id), take(shop, volume_id)
        other = take(shop, volume_id, incremental=False)
        path = chunk_path(bytes.fromhex(shop.repository.find(first).run_id), 0)

        asyncio.run(shop.archiving().upkeep.follow_damage(second, Damaged(path, "it is missing")))

        faults = [shop.get(Snapshot, each).fault for each in (first, second, other)]
        assert faults == [f"{path} is damaged: it is missing"] * 2 + [None]

    def test_a_damaged_manifest_keeps_no_deletion(self, shop: Workshop) -> None:
        """The other member of its group goes, then its own snapshot; a collection frees what nobody could name."""
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=shop.volumes(2, content=b"first!")))
        assert shop.job(job_id).status == "SUCCESS"
        damaged, sound = shop.members(group_id)
        damage(shop, shop.repository.find(damaged.id).path)

        assert shop.job(shop.ask(snapshots.order_deletion, sound.id)).status == "SUCCESS"
        (group,) = shop.repository.groups()
        assert [(each.snapshot_id, each.root) for each in group.members] == [
            (damaged.id, archive_of(shop, damaged.id).root)
        ]
        assert shop.job(shop.ask(snapshots.order_deletion, damaged.id)).status == "SUCCESS"
        assert {path.split("/")[0] for path in stored(shop)} == {"chunks", "trees", "leftovers"}
        asyncio.run(shop.archiving().upkeep.collect())

        assert stored(shop) == set()

    def test_an_image_whose_data_can_not_go_keeps_no_other(self, shop: Workshop) -> None:
        """A lease in the first one's chain can't be read; the second one's row goes."""
        chosen = shop.volumes(2, content=b"first!")
        taken = sorted(take(shop, volume_id) for volume_id in chosen)
        with shop.database.writing() as session:
            for snapshot_id in taken:
                served.begin(session, snapshot_id).doomed = True
        chain = shop.repository.find(taken[0]).chain
        shop.repository.store.put(f"leases/{chain.path}/{'e' * 32}.json", b"{")

        asyncio.run(shop.archiving().images.drop_needless())

        assert [shop.get(ServedImage, each) is None for each in taken] == [False, True]


class TestDeleting:
    def test_a_deleted_chain_leaves_nothing(self, shop: Workshop) -> None:
        """Neither objects nor rows, in whatever order its snapshots go."""
        volume_id = shop.volume()
        taken = [take(shop, volume_id, content) for content in (b"first!", b"second", b"third!", b"fourth")]
        for position in (1, 3, 0, 2):
            assert shop.job(shop.ask(snapshots.order_deletion, taken[position])).status == "SUCCESS"

        assert (stored(shop), shop.points()) == (set(), set())
        assert shop.state()["snapshot_chain"] == shop.state()["archive"] == []

    def test_the_capacity_follows(self, shop: Workshop) -> None:
        """A chain holds what its snapshots stored, less what was freed."""
        volume_id = shop.volume(content=b"first!")
        first = take(shop, volume_id)
        chain_id = str(archive_of(shop, first).chain_id)
        assert shop.get(SnapshotChain, chain_id).stored_bytes == held_bytes(shop)
        second = take(shop, volume_id, b"second")
        assert shop.get(SnapshotChain, chain_id).stored_bytes == held_bytes(shop)

        shop.job(shop.ask(snapshots.order_deletion, first))
        assert shop.get(SnapshotChain, chain_id).stored_bytes == held_bytes(shop) > 0
        assert archived(shop, second) == b"second"


def held_bytes(shop: Workshop) -> int:
    """Add up the sizes of all chunks and pages."""
    store = shop.repository.store
    return sum(info.size_bytes for room in ("chunks", "trees") for info in store.list(room))


class Away:
    """A store that does not answer."""

    def __getattr__(self, _name: str) -> Any:
        def refuse(*_args: Any, **_options: Any) -> Any:
            raise StoreUnavailable("the store is away")

        return refuse


class Standstill:
    """A store in which something stands still until told to go on."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.reached, self.opened = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def stand(self) -> None:
        """Say that it has come so far, and wait."""
        self.reached.set()
        assert self.opened.wait(DEADLINE_S)


class SlowGroups(Standstill):
    """One in which the first manifest of a group stands still."""

    def put(self, path: str, data: bytes, *args: Any) -> None:
        """Put an object, once told to."""
        if path.startswith("groups/") and not self.reached.is_set():
            self.stand()
        self._inner.put(path, data, *args)


class Gate(Standstill):
    """One in which an archive stands still before its first chunk."""

    def batch(self) -> Any:
        """Begin a batch, once told to."""
        self.stand()
        return self._inner.batch()
