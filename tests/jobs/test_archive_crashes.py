"""
The service dies at every write to the repository, while it archives and while it deletes.

A service that dies is a worker that is ended there and then, with a store that takes nothing any more; the next one
has the same database, the same engine and the same repository, and nothing else.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

import pytest
from faulty import FaultyEngine
from workshop import Workshop, open_workshop

from onecut.db.jobs import Job
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.repository.collector import execute, plan_collection
from onecut.repository.errors import StoreUnavailable
from onecut.repository.image import Image
from onecut.repository.repository import ABANDONED, Repository, page_path
from onecut.repository.retry import Backoff
from onecut.repository.verify import verify
from onecut.service import groups, snapshots
from onecut.service.groups import NewGroup
from onecut.service.snapshots import NewSnapshot
from onecut.units import KiB, MiB

WRITES: Final = ("put", "delete", "commit")
BLOCK: Final = 128 * KiB


class Mortal:
    """A store that dies before or after one of its writes: from then on it takes nothing."""

    def __init__(self, inner: Any, at: int, died: Callable[[], object], *, after: bool) -> None:
        self._inner, self._left, self._died, self._after = inner, at, died, after
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        self._refuse_when_dead()
        act = getattr(self._inner, name)
        return self._counted(act) if name in WRITES else act

    @contextmanager
    def batch(self) -> Iterator[Any]:
        """Begin a batch; making it durable is one write."""
        self._refuse_when_dead()
        with self._inner.batch() as batch:
            yield _MortalBatch(batch, self._counted(batch.commit))

    def _refuse_when_dead(self) -> None:
        if self._left < 0:
            raise StoreUnavailable("the service has died")

    def _counted(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **options: Any) -> Any:
            self._refuse_when_dead()
            self._left -= 1
            self.writes += 1
            if self._left >= 0 or self._after:
                result = act(*args, **options)
            if self._left < 0:
                self._died()
                raise StoreUnavailable("the service has died")
            return result

        return write


class _MortalBatch:
    def __init__(self, batch: Any, commit: Callable[[], None]) -> None:
        self.put, self.commit = batch.put, commit


class AwayOnce:
    """A store that does not answer when a run is to be given up for the first time."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._away = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put(self, path: str, data: bytes, *args: Any) -> None:
        """Refuse the first mark."""
        if data == ABANDONED and self._away:
            self._away = False
            raise StoreUnavailable("the store is away")
        self._inner.put(path, data, *args)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """Services and jobs over the memory engine, and a repository in a folder."""
    with open_workshop(tmp_path) as shop:
        shop.patience = Backoff(first_s=0.01, longest_s=0.01, total_s=30.0)
        yield shop


def die(shop: Workshop, at: int, *, after: bool) -> bool:
    """Let a service run until its write *at* to the repository; say whether it came to that."""
    store = shop.repository.store

    async def run() -> bool:
        dying = asyncio.Event()
        loop = asyncio.get_running_loop()
        mortal = Mortal(store, at, lambda: loop.call_soon_threadsafe(dying.set), after=after)
        shop.repository.store = cast("Any", mortal)
        await shop.work_until(lambda: dying.is_set() or not shop._open_jobs())
        return dying.is_set()

    try:
        return asyncio.run(run())
    finally:
        shop.repository.store = store


def content(shop: Workshop, snapshot_id: str, length: int) -> bytes:
    """Read a snapshot's beginning from the repository, past what is cached."""
    data = bytearray(length)
    opened = Repository.open(shop.repository.store)
    Image(opened, opened.find(snapshot_id)).readinto(memoryview(data), 0)
    return bytes(data)


def left_over(shop: Workshop) -> list[str]:
    """Name everything in the repository that nobody answers for, or that is half done."""
    store = shop.repository.store
    plan = plan_collection(shop.repository, thorough=True)
    return [
        *(info.path for room in ("leases", "deletions", "clock", "leftovers") for info in store.list(room)),
        *(info.path for info in plan.unreferenced),
    ]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("instant", [False, True], ids=["standard", "instant"])
def test_an_archive_goes_on_where_it_was(shop: Workshop, *, instant: bool, after: bool) -> None:
    """Whatever write it dies at, the group is archived in the end, bit for bit, and nothing else is there."""
    chosen = shop.volumes(2, content=b"a" * BLOCK + b"b" * BLOCK)
    first = take(shop, chosen, instant_access=instant)
    expected = {member.id: b"a" * BLOCK + b"b" * BLOCK for member in shop.members(first)}
    for at in range(40):
        fresh = at.to_bytes(8, "big") * (BLOCK // 8)
        for volume_id in chosen:
            shop.write(volume_id, fresh)
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=chosen, instant_access=instant))
        died = die(shop, at, after=after)
        shop.work()

        job = shop.get(Job, job_id)
        assert job.status == "SUCCESS", job.fail_reason
        assert {member.category for member in shop.members(group_id)} == {"standard"}
        assert shop.get(SnapshotGroup, group_id).digest is not None
        expected |= {member.id: fresh + b"b" * BLOCK for member in shop.members(group_id)}
        for snapshot_id, data in list(expected.items())[-4:]:
            assert content(shop, snapshot_id, 2 * BLOCK) == data
        assert left_over(shop) == []
        if not died:
            break
        if instant:  # seven are the most
            for snapshot_id in [member.id for member in shop.members(group_id)]:
                shop.ask(snapshots.update, snapshot_id, name=None, description=None, instant_access=False)
            shop.work()
    else:
        pytest.fail("it writes more often than expected")
    assert at > 5
    assert verify(shop.repository).findings == []


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_deletion_goes_on_where_it_was(shop: Workshop, *, after: bool) -> None:
    """Whatever write it dies at, the middle one of three groups goes, and the others stay whole."""
    chosen = shop.volumes(1)
    for at in range(40):
        kept: dict[str, bytes] = {}
        made = []
        for letter in (b"x", b"y", b"z"):
            data = letter * BLOCK + at.to_bytes(1, "big") * BLOCK
            shop.write(chosen[0], data)
            made.append(take(shop, chosen))
            kept |= {member.id: data for member in shop.members(made[-1])}
        gone = [member.id for member in shop.members(made[1])]
        job_id = shop.ask(groups.order_deletion, made[1])
        died = die(shop, at, after=after)
        shop.work()

        job = shop.get(Job, job_id)
        assert job.status == "SUCCESS", job.fail_reason
        for snapshot_id, data in kept.items():
            if snapshot_id in gone:
                assert shop.get(Snapshot, snapshot_id) is None
            else:
                assert content(shop, snapshot_id, 2 * BLOCK) == data
        assert left_over(shop) == []
        for group_id in (made[0], made[2]):
            assert shop.job(shop.ask(groups.order_deletion, group_id)).status == "SUCCESS"
        assert {info.path for info in shop.repository.store.list("")} == {"repository.json"}
        if not died:
            break
    else:
        pytest.fail("it writes more often than expected")
    assert at > 3


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_wrong_change_list_is_not_forgotten(tmp_path: Path, *, after: bool) -> None:
    """
    Whatever write it dies at once it was found out, all of the disk is read after that.

    The next attempt would not find it out: its change list is right again.
    """
    with open_workshop(tmp_path, FaultyEngine) as shop:
        shop.patience = Backoff(first_s=0.01, longest_s=0.01, total_s=30.0)
        for at in range(40):
            volume_id = shop.volume(content=b"a" * BLOCK)
            take(shop, [volume_id])
            shop.write(volume_id, b"b" * BLOCK)
            cast("FaultyEngine", shop.engine).hide_changes = True
            _, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id))
            died = die(shop, at, after=after)
            cast("FaultyEngine", shop.engine).hide_changes = False
            shop.work()

            full_because = shop.get(Snapshot, snapshot_id).archive.full_because
            known = at > 0  # the first write is the lease, the next one gives the run up
            assert ("reported as unchanged" in str(full_because)) == known
            assert content(shop, snapshot_id, BLOCK) == b"b" * BLOCK
            execute(shop.repository, plan_collection(shop.repository, grace=timedelta(0)))
            assert left_over(shop) == []
            if not died:
                break
    assert at > 5


def test_a_store_that_is_away_for_a_moment_costs_no_decision(shop: Workshop) -> None:
    """What a run that was decided again had stored is given up when the store answers again."""
    volume_id = shop.volume(content=b"a" * BLOCK)
    first = take(shop, [volume_id])
    blocks = shop.repository.find(shop.members(first)[0].id).blocks
    assert blocks is not None
    shop.repository.store.put(page_path(*blocks.place), b"broken")
    store = shop.repository.store
    shop.repository.store = cast("Any", AwayOnce(store))
    shop.write(volume_id, b"b" * BLOCK)
    job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id))

    assert shop.job(job_id).status == "SUCCESS"
    shop.repository.store = store
    assert content(shop, snapshot_id, BLOCK) == b"b" * BLOCK


def test_what_a_killed_archive_stored_is_not_sent_again(shop: Workshop) -> None:
    """The second attempt puts only what the first had not made durable."""
    volume_id = shop.volume()
    shop.write(volume_id, b"".join(number.to_bytes(4, "big") * (BLOCK // 4) for number in range(1, 65)))
    _, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id))
    assert die(shop, 2, after=True)  # lease, chunks and pages are durable; the manifest is not
    there = {info.path: info.modified_at for info in shop.repository.store.list("chunks")}
    shop.work()

    assert len(there) == 8 * MiB // shop.repository.chunk_bytes
    assert {info.path: info.modified_at for info in shop.repository.store.list("chunks")} == there
    assert content(shop, snapshot_id, 8 * MiB)[:4] == (1).to_bytes(4, "big")


def test_the_leftovers_of_a_dead_archive_are_collected_after_grace(shop: Workshop) -> None:
    """Its database is lost too: planned first, then done; before the grace has passed nothing goes."""
    volume_id = shop.volume(content=b"a" * BLOCK)
    shop.ask(snapshots.create, NewSnapshot(volume_id))
    assert die(shop, 2, after=True)  # lease, chunks and pages are durable; the manifest is not
    assert plan_collection(shop.repository).runs == []

    plan = plan_collection(shop.repository, grace=timedelta(0))
    assert (len(plan.runs), plan.run_objects > 0) == (1, True)
    assert list(shop.repository.store.list("chunks"))
    execute(shop.repository, plan)
    assert list(shop.repository.store.list("chunks")) == []
    shop.work()
    assert verify(shop.repository).snapshots == 1


def take(shop: Workshop, chosen: list[str], **wanted: Any) -> str:
    """Take a group of volumes, and return its id once it is archived."""
    job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=chosen, **wanted))
    assert shop.job(job_id).status == "SUCCESS"
    return str(group_id)
