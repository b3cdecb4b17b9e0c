"""A process that dies at any step loses nothing, and what it leaves is resumed or collected."""

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Self

import pytest
from archived import CHUNK, Volume, names, noise, restored

from onecut.repository.address import open_store
from onecut.repository.archive import Options
from onecut.repository.collector import ABANDONED_FOR, abandon, execute, plan_collection
from onecut.repository.delete import DeletionPlan, delete_snapshot
from onecut.repository.errors import (
    ArchiveCancelled,
    ChangeListWrong,
    InUse,
    NoSuchSnapshot,
    RunLost,
)
from onecut.repository.lease import Lease, leases, put_lease, reading
from onecut.repository.repository import Repository
from onecut.repository.store import Batch, ObjectInfo, ObjectStore, PutMode

AT_ONCE = timedelta(0)


class Died(Exception):
    """The process is dead: nothing it does reaches the store any more."""


class Mortal:
    """A store that a process can write to a certain number of times, after which the process is dead."""

    def __init__(self, store: ObjectStore, writes: int) -> None:
        self._store, self._left = store, writes
        self._lock = threading.Lock()

    def write(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left < 0:
                raise Died

    @property
    def uses_local_disks(self) -> bool:
        return self._store.uses_local_disks

    def put(self, path: str, data: bytes, mode: PutMode = PutMode.OVERWRITE) -> None:
        self.write()
        self._store.put(path, data, mode)

    def batch(self) -> AbstractContextManager[Batch]:
        return MortalBatch(self, self._store)

    def get(self, path: str) -> bytes:
        return self._store.get(path)

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        return self._store.get_range(path, offset, length)

    def head(self, path: str) -> ObjectInfo:
        return self._store.head(path)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return self._store.list(prefix)

    def delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            self.write()
            self._store.delete([path])


class MortalBatch:
    """Each object is visible at once: the most that an interrupted batch can leave."""

    def __init__(self, mortal: Mortal, store: ObjectStore) -> None:
        self._mortal, self._store = mortal, store

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def put(self, path: str, parts: Sequence[bytes | memoryview]) -> None:
        self._mortal.write()
        self._store.put(path, b"".join(parts))

    def commit(self) -> None:
        self._mortal.write()


@pytest.fixture
def volume() -> Volume:
    """A disk with repeats and two snapshots, in memory."""
    volume = Volume(Repository.create(open_store("memory:"), chunk_bytes=CHUNK), bytearray(40 * CHUNK))
    volume.write(0, noise(1, 20 * CHUNK) * 2)
    volume.snapshot()
    volume.write(2 * CHUNK, noise(2, 3 * CHUNK) * 2)
    volume.snapshot()
    return volume


def mortal(volume: Volume, writes: int) -> Repository:
    """The same repository, as a process sees it that dies after so many writes."""
    return Repository.open(Mortal(volume.repository.store, writes))


def all_is_well(volume: Volume) -> None:
    """Assert that every snapshot gives its disk back."""
    for manifest in volume.repository.manifests(volume.chain):
        assert restored(volume.repository, manifest) == volume.kept[manifest.snapshot_id]


def collected(volume: Volume) -> None:
    """Collect without grace; assert that nothing is left without an owner."""
    execute(volume.repository, plan_collection(volume.repository, grace=AT_ONCE))
    plan = plan_collection(volume.repository, grace=AT_ONCE, thorough=True)
    assert (plan.unreferenced, plan.runs, plan.readers, plan.deletions) == ([], [], [], [])


class TestArchive:
    @pytest.mark.parametrize("resumed", [True, False])
    def test_killed_after_any_write(self, volume: Volume, *, resumed: bool) -> None:
        """
        An archive killed after its n-th write, for every n, is completed by its second attempt, or collected whole.

        The second attempt stores no chunk again that is there.
        """
        healthy, run_id, writes = volume.repository, "", 0
        base = volume.latest
        volume.write(10 * CHUNK, noise(3, 5 * CHUNK) * 2)
        changed = set(volume.changed)
        while True:
            run_id = uuid.uuid4().hex
            volume.repository, volume.changed, volume.latest = mortal(volume, writes), set(changed), base
            volume.numbers = iter([100 + writes])
            try:
                volume.snapshot(run_id=run_id)
                break
            except Died:
                volume.repository = healthy
            all_is_well(volume)
            if resumed:
                volume.numbers = iter([100 + writes])
                there = {info.path for info in healthy.store.list(f"chunks/{run_id}")}
                spy = Mortal(healthy.store, 1000)
                volume.repository = Repository.open(spy)
                volume.snapshot(run_id=run_id)
                volume.repository = healthy
                chunks, others = 5, 7  # two pages, two commits, the lease put and dropped, the manifest
                assert 1000 - spy._left <= chunks - len(there) + others
                all_is_well(volume)
            collected(volume)
            all_is_well(volume)
            writes += 1
        volume.repository = healthy
        all_is_well(volume)
        assert writes > 8
        last = {"snap0", "snap1", f"snap{100 + writes}"}
        assert {each.snapshot_id for each in healthy.manifests(volume.chain)} >= last

    def test_killed_for_real(self, tmp_path: Path) -> None:
        """A process that is ended in the middle of an archive leaves a repository that its successor resumes in."""
        program = """
import os, sys
sys.path[:0] = sys.argv[2:]
from archived import CHUNK, Volume, Chain, noise
from onecut.repository.address import open_store
from onecut.repository.archive import Options
from onecut.repository.repository import Repository
import onecut.repository.archive as module
module.BATCH_OBJECTS = 64
repository = Repository.create(open_store(sys.argv[1]), chunk_bytes=CHUNK)
volume = Volume(repository, bytearray(noise(1, 4000 * CHUNK)), Chain("p", "v", "c"))
def progress(done, total):
    if done > total * 3 // 4:
        os._exit(9)
volume.snapshot(run_id="0" * 32, options=Options(progress=progress))
"""
        folder = tmp_path / "repository"
        support = Path(__file__).parents[1] / "support"
        done = subprocess.run([sys.executable, "-c", program, str(folder), str(support)], check=False, timeout=250)
        assert done.returncode == 9
        repository = Repository.open(open_store(str(folder)))
        known = list(leases(repository))
        there = sum(1 for _ in repository.store.list("chunks"))
        volume = Volume(repository, bytearray(noise(1, 4000 * CHUNK)), known[0].lease.chain)

        manifest = volume.snapshot(run_id="0" * 32)

        assert there > 1000
        assert restored(repository, manifest) == bytes(volume.data)
        assert list(leases(repository)) == []
        collected(volume)

    def test_a_wrong_change_list_is_noticed(self, volume: Volume) -> None:
        """A block that changed without being reported is found by the sample; the run can be given up whole."""
        for number in range(40):
            volume.data[number * CHUNK] ^= 0xFF

        with pytest.raises(ChangeListWrong):
            volume.snapshot(options=Options(sampled_chunks=20))

        (known,) = leases(volume.repository)
        abandon(volume.repository, known.lease)
        assert list(leases(volume.repository)) == []
        assert plan_collection(volume.repository, thorough=True).unreferenced == []
        volume.changed = set(range(40))
        volume.snapshot()
        all_is_well(volume)

    def test_a_stopped_archive_can_be_resumed(self, volume: Volume) -> None:
        """Stopping raises, keeps the lease, and the same run completes later."""
        stopped = threading.Event()
        stopped.set()
        volume.write(0, b"new" * CHUNK)
        changed, run_id = set(volume.changed), uuid.uuid4().hex
        volume.numbers = iter([7, 7])

        with pytest.raises(ArchiveCancelled):
            volume.snapshot(run_id=run_id, options=Options(stopped=stopped))
        volume.changed = changed
        volume.snapshot(run_id=run_id)

        all_is_well(volume)
        collected(volume)

    def test_an_archive_that_was_completed_is_not_done_again(self, volume: Volume) -> None:
        """Asking again with the run's id returns the manifest that is there."""
        run_id = uuid.uuid4().hex
        volume.numbers = iter([7, 7])
        first = volume.snapshot(run_id=run_id)

        assert volume.snapshot(run_id=run_id, base=first) == first


class TestDelete:
    @pytest.mark.parametrize("victim", ["snap0", "snap1", "snap2"])
    def test_killed_after_any_write(self, volume: Volume, victim: str) -> None:
        """A deletion killed after its n-th write, for every n, harms no other snapshot and is completed later."""
        volume.write(20 * CHUNK, noise(4, 2 * CHUNK))
        volume.snapshot()
        original = {info.path: volume.repository.store.get(info.path) for info in volume.repository.store.list("")}
        writes = 0
        while True:
            try:
                delete_snapshot(mortal(volume, writes), volume.chain, victim)
                break
            except Died:
                writes += 1
            all_is_well(volume)
            collected(volume)
            all_is_well(volume)
            for path, data in original.items():
                volume.repository.store.put(path, data)
        all_is_well(volume)
        collected(volume)
        assert writes >= 3
        assert victim not in {each.snapshot_id for each in volume.repository.manifests(volume.chain)}

    def test_another_deletion_completes_the_interrupted_one(self, volume: Volume) -> None:
        """The next deletion in a chain first finishes what an interrupted one left."""
        with pytest.raises(Died):
            delete_snapshot(mortal(volume, 3), volume.chain, "snap0")

        delete_snapshot(volume.repository, volume.chain, "snap1")

        assert names(volume.repository.store) == set()


class TestRaces:
    def test_a_base_is_not_deleted_under_a_running_archive(self, volume: Volume) -> None:
        """While an archive upon a snapshot runs its deletion is refused; afterwards it is done and harms nobody."""
        refusals = []

        def meanwhile(done: int, total: int) -> None:  # noqa: ARG001 - the moment is all that counts
            try:
                delete_snapshot(volume.repository, volume.chain, "snap1")
            except InUse as refusal:
                refusals.append(refusal)

        volume.write(0, b"new" * CHUNK)
        newer = volume.snapshot(options=Options(progress=meanwhile))
        delete_snapshot(volume.repository, volume.chain, "snap1")

        assert refusals
        assert restored(volume.repository, newer) == bytes(volume.data)
        collected(volume)

    def test_a_dying_base_is_refused(self, volume: Volume) -> None:
        """Once a deletion is asked for, no archive begins upon that snapshot, even if it waits for a reader."""
        with reading(volume.repository, volume.chain, "snap1"):
            with pytest.raises(InUse):
                delete_snapshot(volume.repository, volume.chain, "snap1")
            with pytest.raises(NoSuchSnapshot):
                volume.snapshot()

        collected(volume)
        assert [each.snapshot_id for each in volume.repository.manifests(volume.chain)] == ["snap0"]

    def test_neighbours_of_a_base_may_go_while_an_archive_runs(self, volume: Volume) -> None:
        """Deleting the base's own base in the middle of an archive takes nothing from it."""
        deleted: list[DeletionPlan] = []

        def meanwhile(done: int, total: int) -> None:  # noqa: ARG001 - the moment is all that counts
            if not deleted:
                deleted.append(delete_snapshot(volume.repository, volume.chain, "snap0"))

        volume.write(0, b"new" * CHUNK)
        newer = volume.snapshot(options=Options(progress=meanwhile))

        assert deleted
        assert restored(volume.repository, newer) == bytes(volume.data)
        collected(volume)

    def test_a_run_that_was_given_up_can_not_complete(self, volume: Volume) -> None:
        """A run that sleeps while a collector gives it up fails in the end, and leaves no snapshot and no object."""

        def meanwhile(done: int, total: int) -> None:
            if done == total:
                execute(volume.repository, plan_collection(volume.repository, grace=AT_ONCE))

        volume.write(0, b"new" * CHUNK)
        before = {each.snapshot_id for each in volume.repository.manifests(volume.chain)}

        with pytest.raises(RunLost):
            volume.snapshot(options=Options(progress=meanwhile))

        assert {each.snapshot_id for each in volume.repository.manifests(volume.chain)} == before
        assert list(leases(volume.repository)) == []
        all_is_well(volume)

    def test_a_completed_run_is_not_given_up(self, volume: Volume) -> None:
        """A lease that outlived its run's manifest costs the snapshot nothing."""
        assert volume.latest is not None
        lease = Lease(volume.chain, volume.latest.run_id, "archive", "snap0", "snap1")
        put_lease(volume.repository, lease)

        abandon(volume.repository, lease)

        all_is_well(volume)
        collected(volume)

    def test_a_young_lease_is_left_alone(self, volume: Volume) -> None:
        """Within the grace period a collector plans nothing against a run; the store's clock decides."""
        put_lease(volume.repository, Lease(volume.chain, "f" * 32, "archive", None, "snap9"))

        assert plan_collection(volume.repository).runs == []
        assert len(plan_collection(volume.repository, grace=AT_ONCE).runs) == 1

    def test_planning_changes_nothing(self, volume: Volume) -> None:
        """A plan tells runs, objects and bytes, and touches none."""
        volume.repository, healthy = mortal(volume, 6), volume.repository
        volume.write(0, noise(5, 8 * CHUNK))
        with pytest.raises(Died):
            volume.snapshot()
        volume.repository = healthy
        before = names(healthy.store)

        plan = plan_collection(healthy, grace=AT_ONCE, thorough=True)

        assert names(healthy.store) == before
        assert plan.run_objects > 0
        assert plan.run_bytes > plan.run_objects * CHUNK // 2
        assert timedelta(days=1) < ABANDONED_FOR
