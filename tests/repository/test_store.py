"""The contract that every store passes: memory, a local folder, and S3 over HTTP."""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from archived import CHUNK, Volume, noise, restored
from moody_s3 import LISTING, MoodyS3, moody_s3
from mounts import read_only, served

from onecut.errors import Misconfigured
from onecut.repository import remote
from onecut.repository.address import open_store
from onecut.repository.delete import delete_snapshot
from onecut.repository.errors import (
    Damaged,
    NoSuchObject,
    ObjectExists,
    StoreDenied,
    StoreThrottled,
    StoreUnavailable,
)
from onecut.repository.local import DIRECT_BYTES
from onecut.repository.repository import Repository
from onecut.repository.retry import Backoff
from onecut.repository.store import LIST_PAGE, ObjectStore, PutMode
from onecut.units import MiB


def refused(call: Callable[..., object], command: int | None = None) -> Callable[..., object]:
    """Make of a system call one that the kernel refuses: always, or for one of its commands."""

    def act(fd: int, *arguments: object) -> object:
        if command is None or (arguments[0] == command and int(arguments[1]) & os.O_DIRECT):  # type: ignore[call-overload]
            raise OSError(errno.EINVAL, "Invalid argument")
        return call(fd, *arguments)

    return act


class TestContract:
    def test_what_was_put_is_read_back(self, store: ObjectStore) -> None:
        """An object comes back whole, in parts, and with its size; a second put replaces it."""
        store.put("a/b/c", b"0123456789")
        store.put("a/b/c", b"9876543210!")

        assert store.get("a/b/c") == b"9876543210!"
        assert store.get_range("a/b/c", 2, 3) == b"765"
        assert store.get_range("a/b/c", 8, 100) == b"10!"
        assert store.head("a/b/c").size_bytes == 11

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        """Nothing is not the same as no object."""
        store.put("empty", b"")

        assert store.get("empty") == b""
        assert store.head("empty").size_bytes == 0

    def test_what_is_not_there_is_said_so(self, store: ObjectStore) -> None:
        """Each read of an absent object raises `NoSuchObject`; deleting it is no error."""
        for read in (store.get, store.head, lambda path: store.get_range(path, 0, 1)):
            with pytest.raises(NoSuchObject):
                read("nothing/here")
        store.delete(["nothing/here"])

    def test_of_many_creators_one_succeeds(self, store: ObjectStore) -> None:
        """Of ten puts that must be new exactly one is, and its bytes are what is read."""

        def create(number: int) -> int | None:
            try:
                store.put("lock", str(number).encode(), PutMode.CREATE)
            except ObjectExists:
                return None
            return number

        with ThreadPoolExecutor(10) as pool:
            winners = [each for each in pool.map(create, range(10)) if each is not None]

        assert len(winners) == 1
        assert store.get("lock") == str(winners[0]).encode()

    def test_a_large_object_survives(self, store: ObjectStore) -> None:
        """An object that goes up in several parts comes back as one."""
        data = os.urandom(1 * MiB) * 18

        store.put("large", data)

        assert store.get("large") == data

    def test_more_than_a_page_is_listed(self, store: ObjectStore) -> None:
        """A folder with more than 1,000 objects is listed whole, and none of its neighbours with it."""
        with store.batch() as batch:
            for number in range(1105):
                batch.put(f"many/{number:04}", [b"x"])
            batch.put("many-others/1", [b"x"])
            batch.commit()

        assert sorted(info.path for info in store.list("many")) == [f"many/{number:04}" for number in range(1105)]

    def test_a_batch_is_there_after_its_commit(self, store: ObjectStore) -> None:
        """Objects of a batch that several threads fill are whole after the commit; buffers may be used again."""
        buffer = bytearray(3)

        with store.batch() as batch:
            for number in range(20):
                buffer[:] = b"%03d" % number
                batch.put(f"batch/{number}", [b"<", memoryview(buffer), b">"])
            batch.commit()

        assert {store.get(f"batch/{number}") for number in range(20)} == {b"<%03d>" % number for number in range(20)}

    def test_many_are_deleted_at_once(self, store: ObjectStore) -> None:
        """Deleting takes what was named, absent or not, and leaves the others."""
        for number in range(5):
            store.put(f"doomed/{number}", b"x")

        store.delete(["doomed/1", "doomed/7", "doomed/3"])

        assert {info.path for info in store.list("doomed")} == {"doomed/0", "doomed/2", "doomed/4"}


class TestLocal:
    def test_folders_may_vanish_while_they_are_wanted(self, tmp_path: os.PathLike[str]) -> None:
        """Puts and deletions in a folder that goes whenever it is empty do not get into each other's way."""
        store = open_store(os.fspath(tmp_path))

        def churn(number: int) -> None:
            for _ in range(50):
                store.put(f"a/b/{number}", b"x")
                store.delete([f"a/b/{number}"])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(churn, range(4)))

        assert list(store.list("")) == []

    def test_a_batch_without_commit_leaves_nothing(self, tmp_path: os.PathLike[str]) -> None:
        """Files of a batch that was given up have no name in the store, and none on the disk."""
        store = open_store(os.fspath(tmp_path))
        with store.batch() as batch:
            batch.put("never", [b"x"])

        assert list(store.list("")) == []
        assert [files for _, _, files in os.walk(tmp_path) if files] == []

    @pytest.mark.parametrize("way", ["direct", "no direct I/O", "longer blocks"])
    def test_objects_of_any_length_are_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
        """Whether they go past the page cache or, where that is not possible, through it."""
        if way == "no direct I/O":
            monkeypatch.setattr("onecut.repository.local.fcntl.fcntl", refused(fcntl.fcntl, fcntl.F_SETFL))
        elif way == "longer blocks":
            monkeypatch.setattr("onecut.repository.local.os.pwrite", refused(os.pwrite))
        lengths = [0, 1, DIRECT_BYTES - 1, DIRECT_BYTES, DIRECT_BYTES + 1, MiB, MiB + 4095, 3 * MiB, DIRECT_BYTES + 7]
        store, data = open_store(os.fspath(tmp_path)), os.urandom(3 * MiB)
        with store.batch() as batch:
            for number, length in enumerate(lengths):
                batch.put(
                    f"object/{number}", [data[:5], memoryview(data)[5:length]] if length > 5 else [data[:length]]
                )
            batch.commit()

        for number, length in enumerate(lengths):
            assert store.get(f"object/{number}") == data[:length]
            assert store.head(f"object/{number}").size_bytes == length

    def test_staged_files_of_a_dead_process_go(self, tmp_path: os.PathLike[str]) -> None:
        """What a killed process had staged is deleted when the folder is written to next; a living one's is not."""
        living = open_store(os.fspath(tmp_path))
        batch = living.batch().__enter__()
        batch.put("alive", [b"x"])
        dead = os.path.join(tmp_path, ".staging", "0" * 32)  # noqa: PTH118 - a path as the store sees it
        os.makedirs(dead)  # noqa: PTH103 - see above
        with open(os.path.join(dead, "1"), "wb"):  # noqa: PTH118, PTH123 - see above
            pass

        open_store(os.fspath(tmp_path)).put("other", b"x")
        batch.commit()

        assert living.get("alive") == b"x"
        assert not os.path.exists(dead)  # noqa: PTH110 - see above

    @pytest.mark.parametrize("mount_point", [False, True])
    @pytest.mark.parametrize("act", ["put", "batch", "get", "get_range", "head", "list", "delete"])
    def test_a_folder_that_is_away_is_unavailable(self, tmp_path: Path, act: str, *, mount_point: bool) -> None:
        """Nobody tells what an absent folder holds, and nothing is written in its place; then all is as before."""
        folder, away = tmp_path / "store", tmp_path / "away"
        store = open_store(str(folder))
        store.put("a/b", b"old")
        folder.rename(away)
        if mount_point:
            folder.mkdir()

        with pytest.raises(StoreUnavailable):
            _do(store, act)

        assert [each.name for each in tmp_path.rglob("*") if away not in [each, *each.parents]] == (
            ["store"] if mount_point else []
        )
        if mount_point:
            folder.rmdir()
        away.rename(folder)
        assert store.get("a/b") == b"old"
        store.put("a/b", b"new")
        assert [info.path for info in store.list("")] == ["a/b"]

    def test_a_disk_may_come_back_as_another_device(self, tmp_path: Path) -> None:
        """The same files in a folder with another number are the same store."""
        folder, away = tmp_path / "store", tmp_path / "away"
        store = open_store(str(folder))
        store.put("a/b", b"x")
        folder.rename(away)
        shutil.copytree(away, folder)

        assert [info.path for info in store.list("")] == ["a/b"]
        with pytest.raises(NoSuchObject):
            store.get("a/c")

    def test_a_read_only_folder_can_be_read(self, tmp_path: Path) -> None:
        """A store on a disk that is mounted read-only lists and reads, and refuses to write."""
        open_store(str(tmp_path)).put("a/b", b"x")
        with read_only(tmp_path):
            store = open_store(str(tmp_path))

            assert [(info.path, info.size_bytes) for info in store.list("")] == [("a/b", 1)]
            assert store.get("a/b") == b"x"
            with pytest.raises(StoreDenied):
                store.put("a/c", b"x")

    def test_a_file_server_that_died_is_unavailable(self, tmp_path: Path) -> None:
        """The kernel's error for a file system without a server is no damage: it is waited for."""
        with served(tmp_path) as server:
            store = open_store(str(tmp_path))
            assert store.get_range("nbd", 0, 1) == b"\0"
            server.kill()
            server.wait()

            for act in (lambda: store.get("nbd"), lambda: store.head("nbd"), lambda: list(store.list(""))):
                with pytest.raises(StoreUnavailable, match="not connected"):
                    act()

    def test_a_folder_that_another_has_just_made_is_made_durable(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A put returns when all folders that lead to its name are durable, whoever made them; it asks once."""
        store, synced = open_store(str(tmp_path)), []
        fsync = os.fsync

        def watched(fd: int) -> None:
            synced.append(Path(f"/proc/self/fd/{fd}").readlink())
            fsync(fd)

        monkeypatch.setattr(os, "fsync", watched)
        for _ in range(2):
            (tmp_path / "a" / "b").mkdir(parents=True)
            store.put("a/b/first", b"x")
            assert {tmp_path / "a" / "b", tmp_path / "a", tmp_path} <= set(synced)
            synced.clear()
            store.put("a/b/second", b"x")
            assert {each for each in synced if each.is_dir()} == {tmp_path / "a" / "b"}
            store.delete(["a/b/first", "a/b/second"])
            synced.clear()

    def test_what_the_disk_can_not_read_is_damaged(self, tmp_path: Path) -> None:
        """The kernel's error for bad sectors is damage, and names the object."""
        store = open_store(str(tmp_path))
        (tmp_path / "bad").symlink_to("/proc/self/mem")  # its first page is nowhere: reading it is EIO

        with pytest.raises(Damaged, match="bad is damaged: it can't be read: Input/output error"):
            store.get("bad")
        with pytest.raises(Damaged, match="bad is damaged"):
            store.get_range("bad", 0, 1)

    def test_opening_makes_nothing(self, tmp_path: Path) -> None:
        """A folder that is not there is not made by looking into it."""
        store = open_store(str(tmp_path / "nothing"))

        assert list(store.list("")) == []
        assert list(tmp_path.iterdir()) == []


def _do(store: ObjectStore, act: str) -> None:
    match act:
        case "put":
            store.put("a/c", b"x")
        case "batch":
            with store.batch() as batch:
                batch.put("a/c", [b"x"])
                batch.commit()
        case "get":
            store.get("a/b")
        case "get_range":
            store.get_range("a/b", 0, 1)
        case "head":
            store.head("a/b")
        case "list":
            list(store.list("a"))
        case "delete":
            store.delete(["a/b"])


@pytest.fixture
def moody(s3_endpoint: str) -> Iterator[MoodyS3]:
    """An S3 endpoint that answers with the statuses it is given, then with success."""
    with moody_s3(s3_endpoint) as moods:
        yield moods


@pytest.fixture
def moody_address(moody: MoodyS3, s3_address: str, s3_endpoint: str) -> str:
    """The address of an empty bucket there."""
    return s3_address.replace(s3_endpoint, moody.endpoint)


IMPATIENT = Backoff(first_s=0.01, longest_s=0.02)


class TestMoods:
    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_moody_store_is_asked_again(self, moody: MoodyS3, moody_address: str, status: int) -> None:
        """Throttling and server errors are waited out."""
        moody.statuses = [status] * 3

        open_store(moody_address, backoff=IMPATIENT).put("x", b"x")

        assert moody.statuses == []

    def test_an_error_ends_no_listing(self, moody: MoodyS3, moody_address: str) -> None:
        """Whichever page of a listing fails at first, all objects are listed, each once."""
        store = open_store(moody_address, backoff=IMPATIENT)
        names = [f"many/{number:04}" for number in range(2 * LIST_PAGE + 5)]
        with store.batch() as batch:
            for name in names:
                batch.put(name, [b"x"])
            batch.commit()
        moody.concerned = LISTING

        for page in range(3):
            moody.statuses = [200] * page + [500, 503]
            assert [info.path for info in store.list("many")] == names
            assert moody.statuses == []

    @pytest.mark.parametrize("listing", [1, 2, 3])
    def test_a_deletion_beside_a_moody_store_leaves_the_neighbours_whole(
        self, moody: MoodyS3, moody_address: str, listing: int
    ) -> None:
        """The listings of the snapshot, of the leases and of the neighbours may fail: no living chunk is deleted."""
        repository = Repository.create(open_store(moody_address, backoff=IMPATIENT), chunk_bytes=CHUNK)
        volume = Volume(repository, bytearray(noise(1, 4 * CHUNK)))
        volume.snapshot()
        volume.write(CHUNK, noise(2, CHUNK))
        latest = volume.snapshot()
        moody.concerned, moody.statuses = LISTING, [200] * (listing - 1) + [503]

        delete_snapshot(repository, volume.chain, "snap0")

        assert moody.statuses == []
        assert restored(repository, latest) == bytes(volume.data)

    @pytest.mark.parametrize(
        ("status", "error"), [(429, StoreThrottled), (503, StoreThrottled), (500, StoreUnavailable)]
    )
    def test_patience_ends_with_the_right_error(
        self, moody: MoodyS3, moody_address: str, status: int, error: type[Exception]
    ) -> None:
        """When the pauses are used up, the caller learns whether to come back later or slower."""
        moody.statuses = [status] * 1000

        with pytest.raises(error):
            open_store(moody_address, backoff=Backoff(first_s=0.01, longest_s=0.02, total_s=0.1)).put("x", b"x")

    @pytest.mark.parametrize("took", ["507.8µs", "429ms", "503.1ms"])
    def test_a_duration_is_not_taken_for_a_status(self, took: str) -> None:
        """What obstore tells of a request has the time it took in it, which may look like any status."""
        text = (
            f"Error performing PUT http://127.0.0.1:429/b/x in {took} - Server returned non-2xx status code: 500 Oops"
        )

        assert type(remote._generic("x", text)) is StoreUnavailable

    def test_a_repository_is_not_made_in_place_of_another(self, moody: MoodyS3, moody_address: str) -> None:
        """It keeps its id, from which all keys derive, also where an endpoint does not know If-None-Match."""
        moody.unknown_header = "if-none-match"
        first = Repository.create(open_store(moody_address))

        assert Repository.create(open_store(moody_address)).id == first.id

    def test_nobody_listening_is_unavailable(self) -> None:
        """A store that can't be reached is unavailable, not empty."""
        store = open_store("s3://b?endpoint=http://127.0.0.1:9&region=r", backoff=Backoff(total_s=0.05))

        with pytest.raises(StoreUnavailable):
            store.get("x")

    @pytest.mark.parametrize("address", ["ftp://x", "s3://", "s3://b?oops=1"])
    def test_an_unknown_address_is_refused(self, address: str) -> None:
        """An address with an unknown scheme or parameter is a mistake of the operator's."""
        with pytest.raises(Misconfigured):
            open_store(address)
