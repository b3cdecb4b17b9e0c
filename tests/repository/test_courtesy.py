"""Archives make room for whoever uses the disks."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from archived import CHUNK, Bytes, noise, restored

from onecut.repository.address import open_store
from onecut.repository.archive import Options, Request, archive
from onecut.repository.courtesy import LOOK_S, REMEMBERED_S, Courtesy
from onecut.repository.extents import Extent, Kind
from onecut.repository.manifest import Chain, SnapshotManifest
from onecut.repository.repository import Repository

DISK = noise(1, 16 * CHUNK)
AT_ONCE = 1e12
A_LOOK_S = LOOK_S + 0.001


class Others:
    """Those who use the disks, on a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.moved: int | None = 0

    def monotonic(self) -> float:
        return self.now

    def moved_bytes(self) -> int | None:
        return self.moved


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> Others:
    others = Others()
    monkeypatch.setattr("time.monotonic", others.monotonic)
    return others


def are_busy(courtesy: Courtesy, others: Others, after_s: float) -> bool:
    others.now += after_s
    return courtesy.others_are_busy()


def test_nothing_is_taken_for_granted_at_first(others: Others) -> None:
    """Until it is known that nobody is busy, somebody may be; also when nobody has looked for a while."""
    courtesy = Courtesy(others.moved_bytes)
    assert are_busy(courtesy, others, 0)
    assert not are_busy(courtesy, others, A_LOOK_S)

    assert are_busy(courtesy, others, REMEMBERED_S + A_LOOK_S)
    assert not are_busy(courtesy, others, A_LOOK_S)


def test_who_moved_something_is_busy_for_a_while(others: Others) -> None:
    """A pause between two writes is none yet."""
    courtesy = Courtesy(others.moved_bytes)
    are_busy(courtesy, others, 0)
    others.moved = 4096
    assert are_busy(courtesy, others, A_LOOK_S)
    assert are_busy(courtesy, others, REMEMBERED_S / 2)
    others.moved = 1  # a daemon that was started again counts anew
    assert are_busy(courtesy, others, A_LOOK_S)
    assert are_busy(courtesy, others, REMEMBERED_S - 2 * A_LOOK_S)
    assert not are_busy(courtesy, others, 3 * A_LOOK_S)


def test_whoever_can_not_be_seen_is_not_waited_for(others: Others) -> None:
    """An engine that does not know what its clients do slows no archive down."""
    others.moved = None
    assert not are_busy(Courtesy(others.moved_bytes), others, 0)


class Watched(Bytes):
    """A disk that notes what is read from it at a time; each read waits a while for another beside it."""

    def __init__(self, patience_s: float) -> None:
        super().__init__(DISK)
        self.lengths: set[int] = set()
        self.two_at_once = threading.Event()
        self._patience_s = patience_s
        self._inside = 0
        self._lock = threading.Lock()

    def readinto(self, buffer: memoryview, offset: int) -> None:
        with self._lock:
            self._inside += 1
            self.lengths.add(len(buffer))
            if self._inside > 1:
                self.two_at_once.set()
        self.two_at_once.wait(self._patience_s)
        super().readinto(buffer, offset)
        with self._lock:
            self._inside -= 1


def archived(disk: Watched, moved_bytes: Callable[[], int | None]) -> tuple[Repository, SnapshotManifest]:
    courtesy = Courtesy(moved_bytes, AT_ONCE)
    courtesy.others_are_busy()  # a first look, which tells nothing yet
    return archived_with(courtesy, disk, "memory:")


def archived_with(courtesy: Courtesy, disk: Bytes, address: str) -> tuple[Repository, SnapshotManifest]:
    chain = Chain("project1", uuid.uuid4().hex, "chain1")
    request = Request(chain, "snap", uuid.uuid4().hex, "snapshot", len(DISK), datetime(2026, 1, 1, tzinfo=UTC))
    repository = Repository.create(open_store(address), chunk_bytes=CHUNK)
    options = Options(courtesy=courtesy)
    return repository, archive(repository, request, lambda: disk, [Extent(0, len(DISK), Kind.DATA)], options)


def test_while_others_are_busy_one_chunk_is_read_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the archive is the same."""
    monkeypatch.setattr("onecut.repository.courtesy.LOOK_S", 0.0)
    moved = iter(range(1_000_000))
    monkeypatch.setattr("onecut.repository.archive.READ_BYTES", 4 * CHUNK)
    disk = Watched(patience_s=0.02)

    repository, manifest = archived(disk, lambda: next(moved))

    assert not disk.two_at_once.is_set()
    assert disk.lengths == {CHUNK}
    assert restored(repository, manifest) == DISK


def test_while_nobody_is_busy_several_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as is read in one go."""
    monkeypatch.setattr("onecut.repository.archive.READ_BYTES", 4 * CHUNK)
    disk = Watched(patience_s=20)

    repository, manifest = archived(disk, lambda: None)

    assert disk.two_at_once.is_set()
    assert disk.lengths == {4 * CHUNK}
    assert restored(repository, manifest) == DISK


class Counted(Courtesy):
    """One that counts the steps that read nothing."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.steps = 0

    @contextmanager
    def step(self, length: int, stopped: threading.Event) -> Iterator[None]:
        self.steps += not length
        with super().step(length, stopped):
            yield


def test_what_other_machines_store_takes_no_step(tmp_path: Path) -> None:
    """There every chunk is compressed in a step; here it is put in one, too, and the batch made durable in one."""
    there, here = Counted(), Counted()
    archived_with(there, Bytes(DISK), "memory:")
    archived_with(here, Bytes(DISK), str(tmp_path / "repository"))

    chunks = len(DISK) // CHUNK
    assert (there.steps, here.steps) == (chunks, 2 * chunks + 1)


def test_together_archives_keep_to_a_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read while others are busy is spread over time; what is stored is part of the same step or free."""
    waited: list[float] = []

    class Stopped(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0.0)
            return False

    clock = Others()
    monkeypatch.setattr("time.monotonic", clock.monotonic)
    courtesy, stopped = Courtesy(clock.moved_bytes, bytes_per_s=1000), Stopped()
    for length in (500, 0, 500, 500):
        with courtesy.step(length, stopped):
            pass

    turn, rest = 0.0, 0.0  # on a clock that stands still a step takes no time, and its rest is as long
    assert waited == [turn, rest, rest, turn + 0.5, rest, turn + 1.0, rest]


def test_a_step_is_followed_by_a_rest_as_long(others: Others) -> None:
    """A second archive waits for its end, too; who is alone rests for nobody."""
    rests: list[tuple[float, bool]] = []

    class Stopped(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            beside = threading.Thread(target=take_a_step)
            beside.start()
            began_before = began.wait(0.1)
            rests.append((timeout or 0.0, began_before))
            besides.append(beside)
            return False

    began, besides = threading.Event(), list[threading.Thread]()
    moved = iter(range(1_000))
    courtesy = Courtesy(lambda: next(moved))
    courtesy.others_are_busy()

    def take_a_step() -> None:
        with courtesy.step(0, threading.Event()):
            began.set()

    with courtesy.step(0, Stopped()):
        others.now += 0.25
    for beside in besides:
        beside.join(60)

    assert rests == [(0.25, False)]
    assert began.is_set()

    with Courtesy(lambda: None).step(0, Stopped()):
        others.now += 0.25
    assert len(rests) == 1
