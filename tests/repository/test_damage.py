"""Damage keeps no deletion and no collection from its end, and nothing goes that somebody might need."""

import os
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from archived import CHUNK, Volume, noise, restored

from onecut.repository.address import open_store
from onecut.repository.collector import ABANDONED_FOR, abandon, execute, plan_collection
from onecut.repository.delete import delete_snapshot, plan_deletion
from onecut.repository.errors import Damaged, InUse, NoSuchSnapshot
from onecut.repository.lease import Lease, deletion_path, put_lease
from onecut.repository.manifest import Chain, to_bytes
from onecut.repository.page import LEAF_ENTRIES
from onecut.repository.repository import Repository
from onecut.repository.verify import verify

SMALL = 512
"""Chunks as small as they may be: a tree of several pages over half a MiB."""


@pytest.fixture
def volume() -> Volume:
    """Three snapshots whose trees have several pages, with repeats; each has chunks of its own beneath all leaves."""
    chunks = 2 * LEAF_ENTRIES + 40
    volume = Volume(Repository.create(open_store("memory:"), chunk_bytes=SMALL), bytearray(chunks * SMALL))
    volume.write(0, noise(1, chunks * SMALL // 2) * 2)
    volume.snapshot()
    for seed in (2, 3):
        for number in (5, LEAF_ENTRIES + 5, 2 * LEAF_ENTRIES + 5):
            volume.write(number * SMALL, noise(seed * 1000 + number, SMALL) * 3)
        volume.snapshot()
    return volume


def flip(volume: Volume, path: str) -> bytes:
    """Damage an object, and return what it was."""
    data = volume.repository.store.get(path)
    volume.repository.store.put(path, data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    return data


def manifest_path(volume: Volume, snapshot_id: str) -> str:
    return volume.repository.snapshot(volume.chain, snapshot_id).path


def objects(volume: Volume, *rooms: str) -> list[str]:
    return [info.path for room in rooms for info in volume.repository.store.list(room)]


def is_whole(volume: Volume, *snapshot_ids: str) -> None:
    """Assert that these snapshots are there, no others, and give their disks back."""
    manifests = volume.repository.manifests(volume.chain)
    assert [each.snapshot_id for each in manifests] == list(snapshot_ids)
    for manifest in manifests:
        assert restored(volume.repository, manifest) == volume.kept[manifest.snapshot_id]


def collect(repository: Repository) -> None:
    """Collect as the service does, by itself."""
    execute(repository, plan_collection(repository))


def leaves_nothing(repository: Repository) -> None:
    """Assert that everything has an owner, and that nobody need look for what has none."""
    plan = plan_collection(repository, thorough=True)
    assert (plan.unreferenced, plan.markers, plan.unreadable) == ([], [], [])


class TestDamagedManifest:
    def test_its_snapshot_goes_and_frees_nothing_at_first(self, volume: Volume) -> None:
        """Nobody can tell what it held: that goes with the next collection, and no one else's does."""
        chunks = objects(volume, "chunks", "trees")
        flip(volume, manifest_path(volume, "snap1"))
        assert plan_deletion(volume.repository, volume.chain, "snap1").stored_bytes == 0

        plan = delete_snapshot(volume.repository, volume.chain, "snap1")

        assert (plan.unreadable, plan.chunks, plan.pages) == (1, 0, 0)
        assert objects(volume, "chunks", "trees") == chunks
        assert verify(volume.repository).findings == []
        collect(volume.repository)
        assert len(objects(volume, "chunks", "trees")) < len(chunks)
        leaves_nothing(volume.repository)
        is_whole(volume, "snap0", "snap2")
        with pytest.raises(NoSuchSnapshot):
            delete_snapshot(volume.repository, volume.chain, "snap1")

    def test_its_neighbours_go_and_it_is_whole_once_it_is_mended(self, volume: Volume) -> None:
        """Deletions and collections leave all that it might hold."""
        path = manifest_path(volume, "snap1")
        sound = flip(volume, path)

        for snapshot_id in ("snap0", "snap2"):
            assert delete_snapshot(volume.repository, volume.chain, snapshot_id).unreadable == 1
        collect(volume.repository)

        volume.repository.store.put(path, sound)
        is_whole(volume, "snap1")
        collect(volume.repository)
        leaves_nothing(volume.repository)
        is_whole(volume, "snap1")

    def test_who_uses_it_is_waited_for(self, volume: Volume) -> None:
        """An archive may have been begun upon it before it was damaged."""
        path = manifest_path(volume, "snap1")
        flip(volume, path)
        put_lease(volume.repository, Lease(volume.chain, uuid.uuid4().hex, "archive", "snap1", "snap9"))

        with pytest.raises(InUse):
            delete_snapshot(volume.repository, volume.chain, "snap1")

        assert path in objects(volume, "snapshots")

    def test_a_completed_run_s_lease_goes(self, volume: Volume) -> None:
        """Whether the run was given up can't be read: what it stored stays."""
        before = objects(volume, "chunks", "trees")
        manifest = volume.repository.snapshot(volume.chain, "snap2")
        flip(volume, manifest.path)
        lease = Lease(volume.chain, manifest.run_id, "archive", None, "snap2")
        put_lease(volume.repository, lease)

        abandon(volume.repository, lease)

        assert objects(volume, "leases") == []
        assert objects(volume, "chunks", "trees") == before


class TestDamagedPage:
    def test_whichever_it_is(self, volume: Volume) -> None:
        """Whatever page or manifest is damaged, the middle snapshot goes; once mended, the others are whole."""
        store = volume.repository.store
        original = {path: store.get(path) for path in objects(volume, "chunks", "trees", "snapshots")}
        tried = [path for path in original if not path.startswith("chunks")]
        assert len(tried) > 10
        for path in tried:
            flip(volume, path)

            delete_snapshot(Repository.open(store), volume.chain, "snap1")

            if path in objects(volume, "trees", "snapshots"):
                store.put(path, original[path])
            is_whole(volume, "snap0", "snap2")
            collect(Repository.open(store))
            leaves_nothing(volume.repository)
            is_whole(volume, "snap0", "snap2")
            for name, data in original.items():
                store.put(name, data)

    def test_what_a_sound_page_shows_is_freed_at_once(self, volume: Volume) -> None:
        """A neighbour's damaged leaf keeps what lies beneath it, and nothing else."""
        whole = plan_deletion(volume.repository, volume.chain, "snap1")
        latest = volume.repository.snapshot(volume.chain, "snap2")
        flip(volume, f"trees/{latest.run_id}/000000/000")

        plan = delete_snapshot(Repository.open(volume.repository.store), volume.chain, "snap1")

        assert plan.unreadable >= 1
        assert 0 < plan.chunks < whole.chunks


class TestCollection:
    def test_damage_of_one_chain_keeps_no_garbage_of_another(self, volume: Volume) -> None:
        """What is surely another chain's goes; what might be the damaged one's stays."""
        store = volume.repository.store
        other = Volume(volume.repository, bytearray(noise(9, 20 * SMALL)))
        run_id = other.snapshot().run_id
        flip(volume, manifest_path(volume, "snap1"))
        surely, perhaps = f"chunks/{run_id}/000001/000", f"chunks/{'e' * 32}/000000/000"
        for path in (surely, perhaps):
            store.put(path, b"garbage")

        plan = plan_collection(volume.repository, thorough=True)

        assert [info.path for info in plan.unreferenced] == [surely]
        assert [damage.path for damage in plan.unreadable] == [
            path for path in objects(volume, "snapshots") if "/snap1." in path
        ]

    def test_what_has_no_place_is_left_alone(self, volume: Volume) -> None:
        """A file that somebody put among the chunks is nobody's business."""
        volume.repository.store.put("chunks/lost+found", b"")

        leaves_nothing(volume.repository)

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"snapshot_id": "snap1", "run_id": 7}', b"\xff"])
    def test_a_broken_record_stops_its_own_chain_only(self, volume: Volume, data: bytes) -> None:
        """The record is reported; another chain's interrupted deletion is completed."""
        store = volume.repository.store
        other = Volume(volume.repository, bytearray(noise(9, 20 * SMALL)))
        store.put(deletion_path(other.chain), to_bytes(other.snapshot()))
        store.put(deletion_path(volume.chain), data)
        store.put("deletions/stray", b"")

        with pytest.raises(Damaged, match="deletions/"):
            delete_snapshot(volume.repository, volume.chain, "snap1")
        plan = plan_collection(volume.repository)
        execute(volume.repository, plan)

        assert {damage.path for damage in plan.unreadable} == {deletion_path(volume.chain), "deletions/stray"}
        assert volume.repository.manifests(other.chain) == []
        is_whole(volume, "snap0", "snap1", "snap2")

    def test_what_stays_unreadable_is_given_up_in_the_end(self, repository: Repository, folder: Path) -> None:
        """A lease and a record that nobody has written anew for a week are heeded no longer."""
        volume = Volume(repository, bytearray(noise(1, 9 * CHUNK)))
        volume.snapshot()
        dead = Chain("project1", volume.chain.volume_id, "chain2")
        lease = Lease(volume.chain, "f" * 32, "archive", None, "snap9")
        garbage = f"chunks/{lease.lease_id}/000000/000"
        broken = {lease.path, deletion_path(dead)}
        for path in (*broken, garbage):
            repository.store.put(path, b"{")

        with pytest.raises(Damaged, match="leases/"):
            delete_snapshot(repository, volume.chain, "snap0")
        grow_older(folder, broken, ABANDONED_FOR - timedelta(hours=1))
        collect(repository)
        assert broken <= {info.path for info in repository.store.list("")}

        grow_older(folder, broken, ABANDONED_FOR + timedelta(hours=1))
        collect(repository)
        assert not broken & {info.path for info in repository.store.list("")}
        collect(repository)
        assert list(repository.store.list("snapshots")) == list(repository.store.list("chunks")) == []


def grow_older(folder: Path, paths: set[str], age: timedelta) -> None:
    """Let objects have been put so long ago."""
    now = (folder / "repository.json").stat().st_mtime
    for path in paths:
        os.utime(folder / path, (now - age.total_seconds(),) * 2)
