"""Damage is found by name, and a repository alone on a disk tells everything."""

import contextlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest
from archived import CHUNK, START, Volume, names, noise
from click.testing import CliRunner
from mounts import read_only

from onecut.cli.repository import repository as commands
from onecut.repository.chunk import HEADER, seal, unseal
from onecut.repository.delete import delete_snapshot
from onecut.repository.errors import Damaged, NotARepository, StoreUnavailable
from onecut.repository.groups import delete_group, put_group
from onecut.repository.image import Image
from onecut.repository.keys import digest
from onecut.repository.lease import Lease, deletion_path, leased_snapshot, put_lease, read_lease
from onecut.repository.manifest import GroupManifest, GroupMember, SnapshotManifest
from onecut.repository.page import LEAF_ENTRIES
from onecut.repository.repository import Repository, chunk_path, page_path
from onecut.repository.verify import verify


@pytest.fixture
def volume(repository: Repository) -> Volume:
    """Three snapshots; the second has a chunk of its own, the others share all they have but one."""
    volume = Volume(repository, bytearray(noise(1, 30 * CHUNK)))
    for number in range(3):
        volume.write(7 * CHUNK, noise(number, CHUNK))
        volume.snapshot()
    return volume


def by_id(volume: Volume, snapshot_id: str) -> SnapshotManifest:
    return volume.repository.snapshot(volume.chain, snapshot_id)


def flip(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 0x10
    path.write_bytes(data)


def own_chunk(manifest: SnapshotManifest) -> str:
    """The one chunk that only this snapshot has."""
    return chunk_path(bytes.fromhex(manifest.run_id), 0)


class TestDamage:
    def test_a_sound_repository_has_no_findings(self, volume: Volume) -> None:
        """Everything is read, what is shared once, and nothing is complained about."""
        report = verify(volume.repository)

        assert (report.snapshots, report.chunks, report.findings) == (3, 32, [])

    @pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "remove", "swap"])
    def test_a_damaged_chunk_is_named(self, volume: Volume, folder: Path, harm: str) -> None:
        """A flipped bit, a short, an empty, a missing and a wrong chunk damage exactly the snapshot that has it."""
        path = folder / own_chunk(by_id(volume, "snap1"))
        match harm:
            case "flip":
                flip(path)
            case "truncate":
                path.write_bytes(path.read_bytes()[:-10])
            case "empty":
                path.write_bytes(b"")
            case "remove":
                path.unlink()
            case "swap":
                path.write_bytes((folder / own_chunk(by_id(volume, "snap2"))).read_bytes())

        report = verify(volume.repository)

        assert report.damaged == ["snap1"]
        assert [finding.path for finding in report.findings] == [own_chunk(by_id(volume, "snap1"))]

    @pytest.mark.parametrize("position", range(0, 130, 7))
    def test_no_flipped_bit_of_a_chunk_goes_unnoticed_in_reads(
        self, volume: Volume, folder: Path, position: int
    ) -> None:
        """Whichever byte of header or body changes, a read raises or returns the right data."""
        manifest = by_id(volume, "snap1")
        flip(folder / own_chunk(manifest), position)
        buffer = bytearray(CHUNK)

        try:
            Image(volume.repository, manifest).readinto(memoryview(buffer), 7 * CHUNK)
        except Damaged:
            return
        assert bytes(buffer) == volume.kept["snap1"][7 * CHUNK : 8 * CHUNK]

    def test_no_flipped_bit_takes_all_memory(self, repository: Repository) -> None:
        """Whichever bit changes in the head of a compressed chunk, a read raises `Damaged` or is right."""
        data = bytes(range(256)) * (CHUNK // 256)
        key = repository.keys("project1").chunk
        sealed = b"".join(seal(data, digest(key, data)))
        for bit in range(8 * (HEADER.size + 18)):  # 18 bytes are the longest head of a zstd frame
            harmed = bytearray(sealed)
            harmed[bit // 8] ^= 1 << bit % 8

            with contextlib.suppress(Damaged):
                assert unseal("chunks/x", bytes(harmed), key, digest(key, data), CHUNK) == data

    @pytest.mark.parametrize("harm", [b"", b"{", b"[]", b"{}", b'{"chain": 1}', b"\xff"])
    def test_a_damaged_lease_or_record_is_named(self, volume: Volume, harm: bytes) -> None:
        """A lease and a deletion's record that can't be read are damage of that object, not of the program."""
        lease = Lease(volume.chain, "broken", "read", "snap1", None)
        for path in (lease.path, deletion_path(volume.chain)):
            volume.repository.store.put(path, harm)

        with pytest.raises(Damaged, match=lease.path):
            read_lease(volume.repository, lease.path)
        with pytest.raises(Damaged, match=deletion_path(volume.chain)):
            leased_snapshot(volume.repository, lease)

    def test_a_shared_chunk_damages_all_that_have_it(self, volume: Volume, folder: Path) -> None:
        """Damage to what all snapshots share is held against each of them."""
        flip(folder / chunk_path(bytes.fromhex(by_id(volume, "snap0").run_id), 20))

        assert verify(volume.repository).damaged == ["snap0", "snap1", "snap2"]

    def test_a_sample_names_all_that_have_what_it_found(self, volume: Volume, folder: Path) -> None:
        """Whoever's turn it was when a shared chunk was looked at: each snapshot that has it is named."""
        flip(folder / chunk_path(bytes.fromhex(by_id(volume, "snap0").run_id), 20))

        reports = [verify(volume.repository, sample=0.5) for _ in range(20)]

        assert [each.damaged for each in reports if each.damaged]
        assert {len(each.damaged) for each in reports} <= {0, 3}

    def test_known_damage_is_held_against_all_that_have_it(self, volume: Volume) -> None:
        """Nothing is read of the chunks."""
        shared = chunk_path(bytes.fromhex(by_id(volume, "snap0").run_id), 20)

        report = verify(volume.repository, sample=0, known=[Damaged(shared, "a bad day")])

        assert (report.damaged, report.chunks) == (["snap0", "snap1", "snap2"], 0)

    @pytest.mark.parametrize("harm", [20, 400, -1, -35, "remove"])  # in keys, digests, checksum, amounts
    def test_a_damaged_page_is_named(self, volume: Volume, folder: Path, harm: str | int) -> None:
        """A flipped bit in a tree's page and a missing page damage exactly the snapshot that has it."""
        manifest = by_id(volume, "snap1")
        path = page_path(bytes.fromhex(manifest.run_id), 0)
        if isinstance(harm, int):
            flip(folder / path, harm)
        else:
            (folder / path).unlink()

        report = verify(volume.repository)

        assert report.damaged == ["snap1"]
        assert [finding.path for finding in report.findings] == [path]

    def test_a_damaged_manifest_is_named(self, volume: Volume, folder: Path) -> None:
        """A manifest in which a letter changed is damage of its snapshot."""
        path = folder / by_id(volume, "snap1").path
        path.write_text(path.read_text().replace("snapshot 1", "snapshot I"))

        assert verify(volume.repository).damaged == ["snap1"]

    def test_a_damaged_snapshot_can_be_deleted(self, volume: Volume, folder: Path) -> None:
        """A snapshot whose root page is damaged goes, and the others stay sound."""
        flip(folder / page_path(bytes.fromhex(by_id(volume, "snap1").run_id), 0))

        plan = delete_snapshot(volume.repository, volume.chain, "snap1")

        assert plan.unreadable == 1
        assert verify(volume.repository).findings == []

    def test_a_store_that_is_away_is_not_damage(self, volume: Volume, folder: Path) -> None:
        """When the repository as a whole is gone, nothing is reported as damaged."""
        manifest = by_id(volume, "snap1")
        folder.rename(folder.with_name("away"))

        with pytest.raises(StoreUnavailable):
            Image(volume.repository, manifest).readinto(memoryview(bytearray(1)), 0)
        with pytest.raises(StoreUnavailable):
            verify(volume.repository)

    @pytest.mark.parametrize("mount_point", [False, True])
    def test_what_is_away_is_not_taken_for_deleted(self, volume: Volume, folder: Path, *, mount_point: bool) -> None:
        """A deletion, an archive and a question wait for a repository that is away, and find all of it afterwards."""
        away = folder.with_name("away")
        folder.rename(away)
        if mount_point:
            folder.mkdir()

        for ask in (by_id, lambda volume, snapshot_id: delete_snapshot(volume.repository, volume.chain, snapshot_id)):
            with pytest.raises(StoreUnavailable):
                ask(volume, "snap1")
        with pytest.raises(StoreUnavailable):
            volume.snapshot()

        if mount_point:
            folder.rmdir()
        away.rename(folder)
        assert verify(volume.repository).snapshots == 3

    def test_an_emptied_store_has_no_opinion(self, volume: Volume, folder: Path) -> None:
        """When the marker is gone too, nobody can tell that there is no such snapshot."""
        for each in folder.iterdir():
            shutil.rmtree(each) if each.is_dir() else each.unlink()

        with pytest.raises(StoreUnavailable):
            by_id(volume, "snap1")


class TestGroups:
    @pytest.fixture
    def group(self, volume: Volume) -> GroupManifest:
        """A group that binds two of the snapshots."""
        members = [
            GroupMember(
                volume.chain.volume_id, volume.chain.chain_id, each.snapshot_id, each.root, each.size_bytes, 1.5
            )
            for each in (by_id(volume, "snap0"), by_id(volume, "snap1"))
        ]
        cut_at = START.isoformat()
        group = GroupManifest("project1", "group1", "nightly", "cut1", cut_at, 2.0, 1.5, "crash", tuple(members))
        return put_group(volume.repository, group)

    def test_a_group_is_proven(self, volume: Volume, group: GroupManifest) -> None:
        """A group's manifest comes back with its digest, and verification finds its members' roots as bound."""
        assert list(volume.repository.groups()) == [group]
        assert len(group.digest) == 64
        assert verify(volume.repository).findings == []

    def test_the_digest_covers_the_cut(self, volume: Volume, folder: Path, group: GroupManifest) -> None:
        """Who changes the cut's time, a pause or a root in the file is found out."""
        path = folder / group.path
        text = path.read_text()
        for old, new in (("2026-01-01T00:00", "2026-01-01T00:01"), ("1.5", "0.5"), (group.members[0].root, "0" * 64)):
            path.write_text(text.replace(old, new))
            assert [finding.kind for finding in verify(volume.repository).findings] == ["manifest"]

    def test_a_missing_member_is_found(self, volume: Volume, group: GroupManifest) -> None:
        """A group whose member was deleted does not prove."""
        delete_snapshot(volume.repository, volume.chain, "snap0")

        assert [finding.kind for finding in verify(volume.repository).findings] == ["group"]
        delete_group(volume.repository, "project1", group.group_id)
        assert verify(volume.repository).findings == []


class TestChangedBlocks:
    def test_exactly_what_differs_is_told(self, volume: Volume) -> None:
        """Between neighbours one block differs; from nothing all data does; pages follow each other."""
        first, second = (Image(volume.repository, by_id(volume, each)) for each in ("snap0", "snap1"))

        changed = second.changed_blocks(first).blocks
        pages, marker = [], 0
        while True:
            page = second.changed_blocks(None, marker=marker, limit=7)
            pages.append([block.offset // CHUNK for block in page.blocks])
            if page.marker is None:
                break
            marker = page.marker

        assert [(block.offset, block.length) for block in changed] == [(7 * CHUNK, CHUNK)]
        assert changed[0].digest != changed[0].base_digest
        assert list(chain.from_iterable(pages)) == list(range(30))
        assert {len(page) for page in pages} == {7, 2}

    def test_it_opens_only_what_differs(self, repository: Repository, folder: Path) -> None:
        """Comparing two large snapshots reads the pages above what differs, whatever else is damaged."""
        volume = Volume(repository, bytearray(noise(5, 3 * LEAF_ENTRIES * CHUNK)))
        first = volume.snapshot()
        volume.write(5, b"changed")
        second = volume.snapshot()
        flip(folder / page_path(bytes.fromhex(first.run_id), 2))
        fresh = Repository.open(repository.store)

        blocks = Image(fresh, second).changed_blocks(Image(fresh, first)).blocks

        assert [block.offset for block in blocks] == [0]


class TestCommands:
    """`onecut repository` needs the folder and nothing else."""

    def run(self, *arguments: str, status: int = 0) -> str:
        result = CliRunner().invoke(commands, list(arguments))
        assert result.exit_code == status, result.output
        return result.output

    def test_it_lists(self, volume: Volume, folder: Path) -> None:
        """Every snapshot is in the list, in the order of the cuts, for people and for programs."""
        listed = json.loads(self.run("ls", "--repository", str(folder), "--json"))["snapshots"]

        assert [each["snapshot_id"] for each in listed] == ["snap0", "snap1", "snap2"]
        assert "snapshot 2" in self.run("ls", "--repository", str(folder))
        assert volume.chain.volume_id in self.run("ls", "--repository", str(folder))

    def test_it_verifies(self, volume: Volume, folder: Path) -> None:
        """A sound repository ends with status 0; damage is named and ends with status 1."""
        assert json.loads(self.run("verify", "--repository", str(folder), "--json"))["damaged"] == []
        flip(folder / own_chunk(by_id(volume, "snap1")))

        report = json.loads(self.run("verify", "--repository", str(folder), "--json", status=1))
        self.run("verify", "--repository", str(folder), "--snapshot", "snap2")

        assert report["damaged"] == ["snap1"]
        assert "snap1" in self.run("verify", "--repository", str(folder), status=1)

    def test_it_lists_beside_a_damaged_manifest(self, volume: Volume, folder: Path) -> None:
        """What can't be read has a row that says so, the others are listed as ever, and the status is 1."""
        path = by_id(volume, "snap1").path
        flip(folder / path)

        listed = json.loads(self.run("ls", "--repository", str(folder), "--json", status=1))
        rows = self.run("ls", "--repository", str(folder), status=1).splitlines()

        assert [each["snapshot_id"] for each in listed["snapshots"]] == ["snap0", "snap2"]
        assert [each["path"] for each in listed["damaged"]] == [path]
        assert [row.split()[0] for row in rows if "damaged" in row] == ["snap1"]

    def test_it_verifies_one_group_beside_damage(self, volume: Volume, folder: Path) -> None:
        """Only what was asked for is told: neither another group's damage nor that of other snapshots."""
        for group_id, snapshot_id in (("one", "snap1"), ("other", "snap2")):
            bound = by_id(volume, snapshot_id)
            member = GroupMember(volume.chain.volume_id, "chain1", snapshot_id, bound.root, bound.size_bytes, 1.0)
            group = GroupManifest("project1", group_id, "n", "cut", START.isoformat(), 1.0, 1.0, "crash", (member,))
            put_group(volume.repository, group)
        flip(folder / "groups/project1/other.json")
        flip(folder / by_id(volume, "snap0").path)

        self.run("verify", "--repository", str(folder), "--group", "one")
        self.run("verify", "--repository", str(folder), "--snapshot", "snap2")
        flip(folder / own_chunk(by_id(volume, "snap1")))

        assert "snap1" in self.run("verify", "--repository", str(folder), "--group", "one", status=1)

    def test_a_snapshot_that_goes_meanwhile_is_not_damaged(self, volume: Volume, folder: Path) -> None:
        """Without a lease a reader may find chunks gone; when their manifest is gone too, somebody deleted them."""
        path = folder / own_chunk(by_id(volume, "snap1"))
        path.unlink()
        os.mkfifo(path)  # whoever reads it waits

        def delete_meanwhile() -> None:
            with path.open("wb"):
                delete_snapshot(volume.repository, volume.chain, "snap1")

        with ThreadPoolExecutor() as pool:
            deletion = pool.submit(delete_meanwhile)
            report = json.loads(self.run("verify", "--repository", str(folder), "--json"))
            deletion.result()

        assert (report["snapshots"], report["findings"]) == (3, [])

    def test_it_says_what_it_would_collect(self, volume: Volume, folder: Path) -> None:
        """A dry run tells of a dead archive, garbage and what it can't read, and touches none; then it is done."""
        store, lease = volume.repository.store, Lease(volume.chain, "f" * 32, "archive", None, "snap9")
        put_lease(volume.repository, lease)
        left = {chunk_path(bytes.fromhex(each), 0) for each in (lease.lease_id, "e" * 32)}
        for path in (*left, "deletions/stray"):
            store.put(path, b"four")
        command = ("collect", "--repository", str(folder), "--grace", "0", "--thorough", "--json")
        before = names(store)

        planned = json.loads(self.run(*command, "--dry-run"))

        assert names(store) == before
        assert (planned["done"], planned["dead_archives"], planned["objects"], planned["bytes"]) == (
            False, ["snap9"], 2, 8,
        )  # fmt: skip
        assert planned["unreadable"] == ["deletions/stray"]
        done = json.loads(self.run(*command))
        assert done == planned | {"done": True}
        marks = {path for path in names(store) if "/snap9." in path}
        assert names(store) == before - left - {lease.path} | marks

    @pytest.mark.parametrize("form", ["raw", "qcow2"])
    def test_it_exports(self, volume: Volume, folder: Path, tmp_path: Path, form: str) -> None:
        """Each snapshot becomes a file with its disk."""
        target = tmp_path / "disk"

        self.run("export", "--repository", str(folder), "--format", form, "snap1", str(target))

        if form == "raw":
            assert target.read_bytes() == volume.kept["snap1"]
        else:
            assert target.read_bytes()[:4] == b"QFI\xfb"

    def test_a_read_only_repository_tells_everything(self, volume: Volume, folder: Path, tmp_path: Path) -> None:
        """A repository on a disk that is mounted read-only is listed, proved and exported."""
        target = tmp_path / "disk"
        with read_only(folder):
            listed = json.loads(self.run("ls", "--repository", str(folder), "--json"))["snapshots"]
            self.run("verify", "--repository", str(folder))
            self.run("export", "--repository", str(folder), "snap1", str(target))

        assert len(listed) == 3
        assert target.read_bytes() == volume.kept["snap1"]

    def test_a_folder_without_repository_is_refused(self, tmp_path: Path) -> None:
        """A folder that holds no repository is not taken for an empty one."""
        result = CliRunner().invoke(commands, ["ls", "--repository", str(tmp_path / "nothing")])

        assert isinstance(result.exception, NotARepository)
