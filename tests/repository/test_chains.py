"""What was archived comes back bit for bit, through chains of snapshots, deletions and everything between."""

import random

import pytest
from archived import CHUNK, Volume, names, noise, restored
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from onecut.repository.address import open_store
from onecut.repository.collector import plan_collection
from onecut.repository.delete import delete_snapshot, plan_deletion
from onecut.repository.page import LEAF_ENTRIES
from onecut.repository.repository import Repository
from onecut.repository.tree import lookup
from onecut.units import KiB, MiB

SMALL = 512
"""Chunks as small as they may be: trees of several levels over disks of less than a MiB."""

LARGEST = 600_000


def leaves_nothing(volume: Volume) -> None:
    """Assert that every object is reached by a living snapshot."""
    plan = plan_collection(volume.repository, thorough=True)
    assert plan.unreferenced == []
    assert (plan.runs, plan.deletions, plan.markers) == ([], [], [])


def happen(volume: Volume, chance: random.Random) -> None:
    """Let something happen to a disk: a write, a discard, zeros, repeats, a copy, another size."""
    size = len(volume.data)
    offset, length = chance.randrange(size), max(1, chance.randrange(size // 5 + 1))
    match chance.choice(["write", "write", "zero", "repeat", "copy", "grow", "shrink"]):
        case "write":
            volume.write(offset, chance.randbytes(length))
        case "zero":
            volume.write(offset, bytes(length))
        case "repeat":
            volume.write(offset, noise(length % 3, volume.chunk) * (length // volume.chunk + 1))
        case "copy":
            volume.write(offset, bytes(volume.data[:length]))
        case "grow":
            volume.resize(min(size + length, LARGEST))
        case "shrink":
            volume.resize(max(1, size - length))


class TestChain:
    @pytest.mark.slow
    @settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    @given(st.integers(0, 1 << 32))
    def test_thirty_snapshots_come_back_in_any_order_of_deletion(self, seed: int) -> None:
        """
        A chain of thirty under random writes, zeros, repeats, copies and resizes gives each disk back.

        It goes on doing so while the snapshots are deleted in a random order, each as its plan said; every object is
        owned at every step, and in the end nothing is left.
        """
        chance = random.Random(seed)  # noqa: S311 - hypothesis chooses the seed
        repository = Repository.create(open_store("memory:"), chunk_bytes=SMALL)
        volume = Volume(repository, bytearray(chance.randrange(1, LARGEST)))
        volume.write(0, chance.randbytes(len(volume.data) // 2))
        for _ in range(30):
            for _ in range(chance.randrange(5)):
                happen(volume, chance)
            if chance.random() < 0.2:  # as after a rollback: read in full, upon any earlier snapshot
                base = chance.choice(repository.manifests(volume.chain) or [None])
                volume.changed = set(range(-(-len(volume.data) // SMALL)))
                volume.snapshot(base=base)
            else:
                volume.snapshot(full=chance.random() < 0.05)
        manifests = {each.snapshot_id: each for each in repository.manifests(volume.chain)}
        for snapshot_id in chance.sample(sorted(manifests), 30):
            for other, data in volume.kept.items():
                if chance.random() < 0.1 or other == snapshot_id:
                    assert restored(repository, manifests[other]) == data
            planned = plan_deletion(repository, volume.chain, snapshot_id)
            chunks = len(list(repository.store.list("chunks")))
            assert delete_snapshot(repository, volume.chain, snapshot_id) == planned
            assert len(list(repository.store.list("chunks"))) == chunks - planned.chunks
            del volume.kept[snapshot_id]
            leaves_nothing(volume)

        assert names(repository.store) == set()

    def test_the_last_chunk_ends_in_zeros(self) -> None:
        """What lies beyond the end of a long disk is zeros in its last chunk, whatever was read before."""
        repository = Repository.create(open_store("memory:"), chunk_bytes=64 * KiB)
        volume = Volume(repository, bytearray(noise(2, 64 * MiB + 1000)))
        manifest = volume.snapshot()
        reader = repository.reader(volume.chain.project_id)

        last = lookup(reader, manifest.block_tree, manifest.chunk_count - 1)

        assert last is not None
        assert reader.chunk(last) == volume.data[-1000:] + bytes(64 * KiB - 1000)

    def test_branches_share_and_part(self, repository: Repository) -> None:
        """Two snapshots upon one base each keep what they have when base and sister go."""
        volume = Volume(repository, bytearray(noise(1, 50 * CHUNK)))
        base = volume.snapshot()
        original = bytes(volume.data)
        volume.write(5 * CHUNK, b"left" * CHUNK)
        left = volume.snapshot(base=base)
        volume.data[:] = original
        volume.write(7 * CHUNK, b"right" * CHUNK)
        right = volume.snapshot(base=base)

        delete_snapshot(repository, volume.chain, base.snapshot_id)
        delete_snapshot(repository, volume.chain, left.snapshot_id)

        assert restored(repository, right) == volume.kept[right.snapshot_id]
        leaves_nothing(volume)

    def test_equal_content_has_an_equal_root(self, repository: Repository) -> None:
        """The root names content and size, whatever the way to it; another size or byte is another root."""
        data = noise(2, 3 * LEAF_ENTRIES * CHUNK // 2)
        volume = Volume(repository, bytearray(len(data)))
        for offset in range(0, len(data), len(data) // 5):
            volume.write(offset, data[offset : offset + len(data) // 5])
            long_way = volume.snapshot()
        other = Volume(repository, bytearray(data))
        short_way = other.snapshot()
        other.resize(len(data) + 1)
        longer = other.snapshot()

        assert long_way.root == short_way.root
        assert longer.root != short_way.root

    def test_a_full_archive_upon_a_base_stores_what_differs(self, repository: Repository) -> None:
        """Reading all of a disk again stores the one chunk that differs, and the pages above it."""
        volume = Volume(repository, bytearray(noise(3, 100 * CHUNK)))
        first = volume.snapshot()
        volume.data[CHUNK * 7] ^= 1  # nobody reported it
        volume.changed = set(range(100))

        second = volume.snapshot()

        assert (second.added_chunks, second.added_pages) == (1, 1)
        assert second.read_bytes == 100 * CHUNK
        assert restored(repository, second) == bytes(volume.data)
        assert restored(repository, first) == volume.kept[first.snapshot_id]

    def test_zeros_and_repeats_cost_nothing(self, repository: Repository) -> None:
        """A thousand chunks of zeros are no object, and a thousand equal ones are one."""
        empty = Volume(repository, bytearray(1000 * CHUNK)).snapshot()
        same = Volume(repository, bytearray(b"same" * (250 * CHUNK))).snapshot()

        assert (empty.added_chunks, empty.added_pages) == (0, 0)
        assert same.added_chunks == 1

    @pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, LEAF_ENTRIES * CHUNK + 5])
    def test_any_size_comes_back(self, repository: Repository, size: int) -> None:
        """Disks whose end is no chunk's end, the empty one included, come back whole."""
        volume = Volume(repository, bytearray(noise(size, size)))

        assert restored(repository, volume.snapshot()) == bytes(volume.data)

    def test_every_store_holds_a_chain(self, store: object) -> None:
        """Archive, restore, delete and collect work the same on every store."""
        repository = Repository.create(store, chunk_bytes=CHUNK)  # type: ignore[arg-type]
        volume = Volume(repository, bytearray(noise(4, 40 * CHUNK)))
        first = volume.snapshot()
        volume.write(3 * CHUNK, b"x" * CHUNK)
        second = volume.snapshot()

        delete_snapshot(repository, volume.chain, first.snapshot_id)

        assert restored(repository, second) == bytes(volume.data)
        leaves_nothing(volume)
        delete_snapshot(repository, volume.chain, second.snapshot_id)
        assert names(repository.store) == set()
