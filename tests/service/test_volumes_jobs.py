"""
Jobs about volumes and servers, with a service that dies at any moment and an engine that fails at any act.

A moment is each commit, and the time just before and just after each act of the engine. After a death a new worker
goes on with the same database and engine, as a service that starts does.
"""

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from running import DEADLINE_S
from sqlalchemy import event, select
from sqlalchemy.orm import Session
from workshop import Workshop, open_workshop

from onecut.clock import Clock
from onecut.db.jobs import Job
from onecut.db.servers import Server
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Attachment, Volume
from onecut.engine.memory import MemoryEngine
from onecut.engine.port import NO_LIMITS, Limits, Source
from onecut.errors import EngineDown, EngineFull
from onecut.jobs import queue
from onecut.service import recycle_policy, servers, snapshots, volume_batches, volumes
from onecut.service.servers import Target
from onecut.service.snapshots import NewSnapshot
from onecut.service.volumes import VolumeOrder
from onecut.units import GiB

AT_REST = {"available", "in-use", "error", "error_deleting", "error_extending"}


@dataclass
class Fate:
    """What happens when: the moments and acts are counted from 1."""

    dies_at: int | None = None
    fails_at: int | None = None
    """The act of the engine that fails."""
    stays_down: bool = False
    """Whether every later act fails as well, until *back_at*."""
    back_at: int | None = None
    moments: int = 0
    acts: int = 0
    kill: Callable[[], object] = field(default=lambda: None)

    def moment(self) -> bool:
        """Pass a moment; say whether it was the last one of this life."""
        self.moments += 1
        return self.moments == self.dies_at

    def act(self) -> None:
        """Begin an act of the engine; it may fail."""
        self.acts += 1
        if self.fails_at is not None:
            if self.stays_down and self.fails_at <= self.acts < (self.back_at or math.inf):
                raise EngineDown("the daemon does not answer")
            if not self.stays_down and self.acts == self.fails_at:
                raise EngineFull("there is no space left")


class MortalEngine(MemoryEngine):
    """The memory engine, whose acts are moments."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.fate = Fate()

    async def _during(self, act: Callable[[], Any]) -> Any:
        self.fate.act()
        self._pass()
        result = await act()
        self._pass()
        return result

    def _pass(self) -> None:
        if self.fate.moment():
            self.fate.kill()
            raise asyncio.CancelledError

    async def create_volume(
        self, volume_id: str, size_bytes: int, *, source: Source | None = None, limits: Limits = NO_LIMITS
    ) -> None:
        create = super().create_volume
        await self._during(lambda: create(volume_id, size_bytes, source=source, limits=limits))

    async def delete_volume(self, volume_id: str) -> None:
        delete = super().delete_volume
        await self._during(lambda: delete(volume_id))

    async def extend_volume(self, volume_id: str, size_bytes: int) -> None:
        extend = super().extend_volume
        await self._during(lambda: extend(volume_id, size_bytes))

    async def export(self, export_id: str, volume_id: str) -> str:
        export = super().export
        return str(await self._during(lambda: export(export_id, volume_id)))

    async def unexport(self, export_id: str) -> None:
        unexport = super().unexport
        await self._during(lambda: unexport(export_id))


class UnlimitedEngine(MortalEngine):
    """Can't limit what clients do."""

    async def limit(self, limits: Mapping[str, Limits]) -> None:  # noqa: ARG002 - the port's signature
        raise EngineFull("there is no space left")


class Life:
    """A workshop whose service lives as its fate says."""

    def __init__(self, shop: Workshop) -> None:
        assert isinstance(shop.engine, MortalEngine)
        self.shop, self.engine = shop, shop.engine
        self._kill: Callable[[], object] = lambda: None

        @event.listens_for(shop.database.writing_sessions, "after_commit")
        def _committed(_session: Session) -> None:
            # Called before the loop hears of the commit: the job is cancelled where it waits for it.
            if self.engine.fate.moment():
                self._kill()

    def live(self, fate: Fate) -> None:
        """Work until all jobs have ended, or the service has died."""
        asyncio.run(self._live(fate))
        self.engine.fate, self._kill = Fate(), lambda: None

    async def _live(self, fate: Fate) -> None:
        worker, loop, dead = self.shop.worker(), asyncio.get_running_loop(), asyncio.Event()
        life = asyncio.create_task(worker.run())

        def die() -> None:
            for job in list(worker._running.values()):
                job.cancel()
            life.cancel()
            dead.set()

        fate.kill, self._kill = die, lambda: loop.call_soon_threadsafe(die)
        self.engine.fate = fate
        async with asyncio.timeout(DEADLINE_S):
            while not dead.is_set() and self.open_jobs():
                assert not life.done() or dead.is_set(), life
                await asyncio.sleep(0.001)
        die()
        await asyncio.gather(life, return_exceptions=True)

    def open_jobs(self) -> bool:
        with self.shop.database.reading() as session:
            return session.scalar(select(Job.id).where(Job.status.in_(("INIT", "RUNNING"))).limit(1)) is not None

    def uris(self) -> set[str | None]:
        with self.shop.database.reading() as session:
            return set(session.scalars(select(Attachment.uri)))

    def check_nothing_is_left_over(self) -> None:
        """
        Check that everything has ended, and has an owner.

        No export without an attachment, no volume in the engine without a row, no row in the middle of something, no
        volume in use without an attachment, and no job or sub job that goes on.
        """
        with self.shop.database.reading() as session:
            rows = {volume.id: volume for volume in session.scalars(select(Volume))}
            attachments = {place.id: place for place in session.scalars(select(Attachment))}
            assert {job.status for job in session.scalars(select(Job))} <= {"SUCCESS", "FAIL"}
            assert {server.task_state for server in session.scalars(select(Server))} <= {None}
        assert {volume.status for volume in rows.values()} <= AT_REST
        assert set(self.engine._exports) <= set(attachments)
        assert set(self.engine._volumes) <= set(rows)
        for volume in rows.values():
            assert volume.attached_gib is None or volume.attachments
            if volume.status in {"available", "in-use"}:
                assert self.engine._volumes[volume.id].size_bytes == (volume.attached_gib or volume.size_gib) * GiB
                assert bool(volume.attachments) == (volume.status == "in-use")


@contextmanager
def open_life(folder: Path) -> Iterator[Life]:
    folder.mkdir()
    with open_workshop(folder, MortalEngine) as shop:
        yield Life(shop)


PLAIN = VolumeOrder("data", "", 10, "SSD", "az1")
Prepared = tuple[Callable[[], str], Callable[[], None]]
"""What orders the job and returns its id, and what checks that it did all that was asked for."""


def attached(shop: Workshop, volume_id: str, *server_ids: str) -> None:
    """Attach a volume to servers, as a client does, and wait for it."""
    shop.ask(servers.order_attachment, volume_id, [Target(server_id) for server_id in server_ids], batch=True)
    shop.work()


def exported(shop: Workshop, volume_id: str) -> set[str]:
    """Return the servers that can write to a volume; each has the URI of its own export."""
    assert isinstance(shop.engine, MortalEngine)
    found = set()
    for place in shop.get(Volume, volume_id).attachments:
        assert shop.engine._exports[place.id] == volume_id
        assert place.id in place.uri
        found.add(place.server_id)
    return found


def create_one(shop: Workshop) -> Prepared:
    made: list[str] = []

    def order() -> str:
        job_id, volume_ids = shop.ask(volumes.create, PLAIN, zones=["az1"])
        made.extend(volume_ids)
        return str(job_id)

    def check() -> None:
        assert shop.get(Volume, made[0]).status == "available"

    return order, check


def create_for_server(shop: Workshop) -> Prepared:
    server_id, made = shop.server(), list[str]()

    def order() -> str:
        with shop.database.writing() as session:
            job_id, volume_ids = volumes.order_volumes(
                session, "a" * 32, [PLAIN, PLAIN], shop.clock.now(), server_id=server_id
            )
        made.extend(volume_ids)
        return job_id

    def check() -> None:
        for volume_id in made:
            assert (shop.get(Volume, volume_id).status, exported(shop, volume_id)) == ("in-use", {server_id})

    return order, check


def delete_one(shop: Workshop) -> Prepared:
    volume_id, server_id = shop.volume(), shop.server()
    attached(shop, volume_id, server_id)
    shop.set(Volume, volume_id, status="error", fault="a layer is missing")

    def check() -> None:
        assert shop.get(Volume, volume_id) is None

    return lambda: str(shop.ask(volumes.order_deletion, volume_id)), check


def extend(shop: Workshop) -> Prepared:
    volume_id = shop.volume()

    def check() -> None:
        assert isinstance(shop.engine, MortalEngine)
        assert (shop.get(Volume, volume_id).status, shop.get(Volume, volume_id).size_gib) == ("available", 12)
        assert shop.engine._volumes[volume_id].size_bytes == 12 * GiB

    return lambda: str(shop.ask(volumes.order_extension, volume_id, 12)), check


def extend_some(shop: Workshop) -> Prepared:
    volume_ids = shop.volumes(3)
    sizes = [(volume_id, size_gib) for size_gib, volume_id in enumerate(volume_ids, start=12)]

    def check() -> None:
        assert isinstance(shop.engine, MortalEngine)
        for volume_id, size_gib in sizes:
            volume = shop.get(Volume, volume_id)
            assert (volume.status, volume.size_gib) == ("available", size_gib)
            assert shop.engine._volumes[volume_id].size_bytes == size_gib * GiB

    return lambda: str(shop.ask(volume_batches.order_extensions, sizes)), check


def grown(shop: Workshop, volume_id: str) -> tuple[str, int, int | None, int]:
    """Return a volume's state, its size, that which its clients see if it is another, and that of its disk."""
    assert isinstance(shop.engine, MortalEngine)
    volume = shop.get(Volume, volume_id)
    return volume.status, volume.size_gib, volume.attached_gib, shop.engine._volumes[volume_id].size_bytes // GiB


def extended_while_attached(shop: Workshop, *, size_gib: int = 12) -> tuple[str, str]:
    """Return a volume of 10 GiB that is to grow when it is detached, and its server."""
    volume_id, server_id = shop.volume(), shop.server()
    attached(shop, volume_id, server_id)
    shop.ask(volumes.order_extension, volume_id, size_gib)
    shop.work()
    return volume_id, server_id


def extend_attached(shop: Workshop) -> Prepared:
    volume_id, server_id = extended_while_attached(shop)

    def check() -> None:
        assert grown(shop, volume_id) == ("in-use", 14, 10, 10)
        assert exported(shop, volume_id) == {server_id}

    return lambda: str(shop.ask(volumes.order_extension, volume_id, 14)), check


def extend_some_attached(shop: Workshop) -> Prepared:
    first, free, last = shop.volumes(3)
    for volume_id in (first, last):
        attached(shop, volume_id, shop.server())

    def check() -> None:
        assert [grown(shop, volume_id) for volume_id in (first, free, last)] == [
            ("in-use", 12, 10, 10),
            ("available", 12, None, 12),
            ("in-use", 12, 10, 10),
        ]

    sizes = [(volume_id, 12) for volume_id in (first, free, last)]
    return lambda: str(shop.ask(volume_batches.order_extensions, sizes)), check


def detach_extended(shop: Workshop) -> Prepared:
    volume_id, server_id = extended_while_attached(shop)

    def check() -> None:
        assert grown(shop, volume_id) == ("available", 12, None, 12)
        assert exported(shop, volume_id) == set()

    return lambda: str(shop.ask(servers.order_detachment, volume_id, [server_id], batch=False)), check


def delete_server_with_extended(shop: Workshop) -> Prepared:
    kept, server_id = extended_while_attached(shop)
    doomed = shop.volume()
    attached(shop, doomed, server_id)
    shop.ask(volumes.order_extension, doomed, 12)
    shop.work()
    [place] = shop.get(Volume, doomed).attachments
    shop.set(Attachment, place.id, delete_on_termination=True)

    def check() -> None:
        assert grown(shop, kept) == ("available", 12, None, 12)
        assert (shop.get(Server, server_id), shop.get(Volume, doomed)) == (None, None)

    return lambda: str(shop.ask(servers.order_deletion, [server_id], delete_volumes=False)), check


def delete_some(shop: Workshop) -> Prepared:
    volume_ids = shop.volumes(2)

    def check() -> None:
        assert [shop.get(Volume, volume_id) for volume_id in volume_ids] == [None, None]

    return lambda: str(shop.ask(volume_batches.order_deletions, volume_ids)), check


def attach(shop: Workshop) -> Prepared:
    volume_id, first, second = shop.volume(multiattach=True), shop.server(), shop.server()
    targets = [Target(first), Target(second)]

    def check() -> None:
        assert (shop.get(Volume, volume_id).status, exported(shop, volume_id)) == ("in-use", {first, second})

    return lambda: str(shop.ask(servers.order_attachment, volume_id, targets, batch=True)), check


def attach_once_more(shop: Workshop) -> Prepared:
    volume_id, first, second = shop.volume(multiattach=True), shop.server(), shop.server()
    attached(shop, volume_id, first)

    def check() -> None:
        assert (shop.get(Volume, volume_id).status, exported(shop, volume_id)) == ("in-use", {first, second})

    return lambda: str(shop.ask(servers.order_attachment, volume_id, [Target(second)], batch=False)), check


def detach(shop: Workshop) -> Prepared:
    volume_id, server_id = shop.volume(), shop.server()
    attached(shop, volume_id, server_id)

    def check() -> None:
        assert (shop.get(Volume, volume_id).status, exported(shop, volume_id)) == ("available", set())

    return lambda: str(shop.ask(servers.order_detachment, volume_id, [server_id], batch=False)), check


def detach_some(shop: Workshop) -> Prepared:
    volume_id, server_ids = shop.volume(multiattach=True), [shop.server() for _ in range(3)]
    attached(shop, volume_id, *server_ids)

    def check() -> None:
        assert (shop.get(Volume, volume_id).status, exported(shop, volume_id)) == ("in-use", {server_ids[2]})

    return lambda: str(shop.ask(servers.order_detachment, volume_id, server_ids[:2], batch=True)), check


def delete_servers(shop: Workshop) -> Prepared:
    plain, shared, first, second = shop.volume(), shop.volume(multiattach=True), shop.server(), shop.server()
    attached(shop, plain, first)
    attached(shop, shared, first, second)

    def check() -> None:
        assert (shop.get(Server, first), shop.get(Volume, plain)) == (None, None)
        assert (shop.get(Volume, shared).status, exported(shop, shared)) == ("in-use", {second})

    return lambda: str(shop.ask(servers.order_deletion, [first], delete_volumes=True)), check


JOBS: Mapping[str, Callable[[Workshop], Prepared]] = {
    "createVolume": create_one,
    "batchCreateVolume with a server": create_for_server,
    "deleteVolume": delete_one,
    "bulkDeleteVolume": delete_some,
    "extendVolume": extend,
    "batchExtendVolume": extend_some,
    "batchAttachVolume": attach,
    "attachVolume of a shared volume in use": attach_once_more,
    "detachVolume": detach,
    "batchDetachVolume": detach_some,
    "deleteServer": delete_servers,
}

GROWING: Mapping[str, Callable[[Workshop], Prepared]] = {
    "extendVolume of an attached volume": extend_attached,
    "batchExtendVolume of attached volumes": extend_some_attached,
    "detachVolume of an extended volume": detach_extended,
    "deleteServer of extended volumes": delete_server_with_extended,
}
"""Those whose engine can fail without failing them."""

each_job = pytest.mark.parametrize("prepare", JOBS.values(), ids=JOBS.keys())
ALL_JOBS = {**JOBS, **GROWING}
each_job_whatever_fails = pytest.mark.parametrize("prepare", ALL_JOBS.values(), ids=ALL_JOBS.keys())


def told(shop: Workshop, job_id: str) -> tuple[str, str | None]:
    """Return a job's status and what it says of a failure."""
    job = shop.get(Job, job_id)
    return job.status, job.fail_reason


@each_job_whatever_fails
def test_a_service_that_dies_at_any_moment_ends_the_job_after_its_restart(
    prepare: Callable[[Workshop], Prepared], tmp_path: Path
) -> None:
    """Whatever the moment of the death, the next worker does what was asked for, once."""
    whole = Fate()
    with open_life(tmp_path / "whole") as life:
        order, check = prepare(life.shop)
        job_id = order()
        life.live(whole)
        assert told(life.shop, job_id) == ("SUCCESS", None)
        check()
        life.check_nothing_is_left_over()
    interrupted = 0
    for moment in range(1, whole.moments + 1):
        with open_life(tmp_path / str(moment)) as life:
            order, check = prepare(life.shop)
            job_id = order()
            life.live(Fate(dies_at=moment))
            interrupted += life.open_jobs()
            life.live(Fate())
            assert told(life.shop, job_id) == ("SUCCESS", None), moment
            check()
            life.check_nothing_is_left_over()
    assert interrupted >= (3 if whole.acts else 2), "step written down; before the act; after it"


@each_job
@pytest.mark.parametrize("stays_down", [False, True], ids=["once", "for good"])
def test_an_engine_that_fails_ends_the_job_with_its_reason_and_leaves_nothing_over(
    prepare: Callable[[Workshop], Prepared], stays_down: object, tmp_path: Path
) -> None:
    """Whichever act fails, alone or with all after it: the job says why, and all that is left has an owner."""
    whole = Fate()
    with open_life(tmp_path / "whole") as life:
        prepare(life.shop)[0]()
        life.live(whole)
    for act in range(1, whole.acts + 1):
        with open_life(tmp_path / str(act)) as life:
            job_id = prepare(life.shop)[0]()
            life.live(Fate(fails_at=act, stays_down=bool(stays_down)))
            reason = "the daemon does not answer" if stays_down else "there is no space left"
            assert told(life.shop, job_id) == ("FAIL", reason), act
            life.check_nothing_is_left_over()
            if not stays_down:
                assert None not in life.uris()


@each_job_whatever_fails
def test_a_daemon_that_comes_back_soon_costs_no_job(prepare: Callable[[Workshop], Prepared], tmp_path: Path) -> None:
    """The first two calls are not answered; the job asks again and succeeds."""
    with open_life(tmp_path / "life") as life:
        order, check = prepare(life.shop)
        job_id = order()
        life.live(Fate(fails_at=1, stays_down=True, back_at=3))
        assert told(life.shop, job_id) == ("SUCCESS", None)
        check()
        life.check_nothing_is_left_over()


@pytest.mark.parametrize("prepare", [create_for_server, attach], ids=["createVolume", "attachVolume"])
def test_a_service_that_dies_while_it_clears_up_a_failure_leaves_nothing_over(
    prepare: Callable[[Workshop], Prepared], tmp_path: Path
) -> None:
    """The last act fails and the service dies at any moment after it: no export is forgotten, and no job goes on."""
    whole = Fate()
    with open_life(tmp_path / "whole") as life:
        prepare(life.shop)[0]()
        life.live(whole)
    failing = Fate(fails_at=whole.acts)
    with open_life(tmp_path / "failing") as life:
        prepare(life.shop)[0]()
        life.live(failing)
    for moment in range(1, failing.moments + 1):
        with open_life(tmp_path / str(moment)) as life:
            job_id = prepare(life.shop)[0]()
            life.live(Fate(fails_at=whole.acts, dies_at=moment))
            life.live(Fate())
            assert told(life.shop, job_id)[0] in {"SUCCESS", "FAIL"}
            life.check_nothing_is_left_over()


class TestAfterAFailure:
    @pytest.fixture
    def life(self, tmp_path: Path) -> Iterator[Life]:
        with open_life(tmp_path / "life") as life:
            yield life

    def test_members_of_a_batch_that_were_made_are_usable_and_the_rest_can_be_deleted(self, life: Life) -> None:
        """The second of three fails: the first is available, the others are in error, and each sub job says so."""
        shop = life.shop
        with shop.database.writing() as session:
            job_id, made = volumes.order_volumes(session, "a" * 32, [PLAIN] * 3, shop.clock.now())
        life.live(Fate(fails_at=2))
        assert [shop.get(Volume, volume_id).status for volume_id in made] == ["available", "error", "error"]
        assert [sub.status for sub in shop.sub_jobs(job_id)] == ["SUCCESS", "FAIL", "FAIL"]
        for volume_id in made:
            shop.ask(volumes.order_deletion, volume_id)
        life.live(Fate())
        assert life.engine._volumes == {}

    def test_a_place_whose_export_may_exist_is_kept_until_it_is_detached(self, life: Life) -> None:
        """The daemon is gone in an attachment's middle: when it is back the volume can be detached and reused."""
        shop = life.shop
        volume_id, server_id = shop.volume(), shop.server()
        shop.ask(servers.order_attachment, volume_id, [Target(server_id)], batch=False)
        life.live(Fate(fails_at=1, stays_down=True))
        [place] = shop.get(Volume, volume_id).attachments
        assert (shop.get(Volume, volume_id).status, place.uri) == ("in-use", None)
        shop.ask(servers.order_detachment, volume_id, [server_id], batch=False)
        life.live(Fate())
        assert (shop.get(Volume, volume_id).status, shop.get(Volume, volume_id).attachments) == ("available", [])
        attached(shop, volume_id, server_id)
        assert exported(shop, volume_id) == {server_id}

    @pytest.mark.parametrize("act", [1, 2, 3])
    def test_a_deletion_that_failed_can_be_asked_again(self, life: Life, act: int) -> None:
        """A server and its volume go in the end, whichever act of the first try failed."""
        shop = life.shop
        volume_id, server_id = shop.volume(), shop.server()
        attached(shop, volume_id, server_id)
        shop.ask(servers.order_deletion, [server_id], delete_volumes=True)
        life.live(Fate(fails_at=act))
        if (server := shop.get(Server, server_id)) is not None:
            assert server.task_state is None
            shop.ask(servers.order_deletion, [server_id], delete_volumes=True)
            life.live(Fate())
        if shop.get(Volume, volume_id) is not None:
            shop.ask(volumes.order_deletion, volume_id)
            life.live(Fate())
        assert (life.engine._volumes, life.engine._exports) == ({}, {})
        life.check_nothing_is_left_over()

    def test_an_extension_that_failed_can_be_asked_again(self, life: Life) -> None:
        """The volume keeps its size until then."""
        shop = life.shop
        volume_id = shop.volume()
        shop.ask(volumes.order_extension, volume_id, 12)
        life.live(Fate(fails_at=1))
        assert (shop.get(Volume, volume_id).status, shop.get(Volume, volume_id).size_gib) == ("error_extending", 10)
        shop.ask(volumes.order_extension, volume_id, 12)
        life.live(Fate())
        assert (shop.get(Volume, volume_id).status, shop.get(Volume, volume_id).size_gib) == ("available", 12)

    def test_a_disk_that_can_not_grow_is_detached_all_the_same(self, life: Life) -> None:
        """It shows the size that it has, and the extension can be asked again."""
        shop = life.shop
        volume_id, server_id = extended_while_attached(shop)
        job_id = shop.ask(servers.order_detachment, volume_id, [server_id], batch=False)
        life.live(Fate(fails_at=2))
        assert told(shop, job_id) == ("SUCCESS", None)
        assert grown(shop, volume_id) == ("error_extending", 10, None, 10)
        life.check_nothing_is_left_over()

        shop.ask(volumes.order_extension, volume_id, 12)
        life.live(Fate())
        assert grown(shop, volume_id) == ("available", 12, None, 12)

    def test_a_volume_whose_data_is_away_is_detached_without_growing(self, life: Life) -> None:
        """It stays in `error` until its data is back, and has the size of its data then."""
        shop = life.shop
        volume_id, server_id = extended_while_attached(shop)
        shop.set(Volume, volume_id, status="error", fault="a layer is missing")
        shop.ask(servers.order_detachment, volume_id, [server_id], batch=False, force=True)
        life.live(Fate(fails_at=2))
        assert grown(shop, volume_id) == ("error", 10, None, 10)
        life.check_nothing_is_left_over()

    def test_a_daemon_that_stays_down_keeps_the_attachment_until_it_is_asked_again(self, life: Life) -> None:
        """Nothing is known of the disk then; the volume still waits to grow."""
        shop = life.shop
        volume_id, server_id = extended_while_attached(shop)
        job_id = shop.ask(servers.order_detachment, volume_id, [server_id], batch=False)
        life.live(Fate(fails_at=2, stays_down=True))
        assert told(shop, job_id) == ("FAIL", "the daemon does not answer")
        assert grown(shop, volume_id) == ("in-use", 12, 10, 10)

        shop.ask(servers.order_detachment, volume_id, [server_id], batch=False)
        life.live(Fate())
        assert grown(shop, volume_id) == ("available", 12, None, 12)

    @pytest.mark.parametrize(("fails_at", "left"), [(None, "pending-destroy"), (2, "error_extending")])
    def test_a_volume_goes_to_the_bin_with_its_server_only_if_it_could_grow(
        self, life: Life, fails_at: int | None, left: str
    ) -> None:
        """What is in the bin comes back `available`, which nobody could promise of a disk that failed."""
        shop = life.shop
        volume_id, server_id = extended_while_attached(shop)
        with shop.database.writing() as session:
            recycle_policy.update(session, "a" * 32, switch=True, threshold_days=1, keep_days=7)
        shop.clock.jump(timedelta(days=1))
        job_id = shop.ask(servers.order_deletion, [server_id], delete_volumes=True)
        life.live(Fate(fails_at=fails_at))
        assert told(shop, job_id) == ("SUCCESS", None)
        assert (shop.get(Server, server_id), shop.get(Volume, volume_id).status) == (None, left)

    def test_a_volume_that_is_being_deleted_does_not_grow(self, life: Life) -> None:
        """One whose data can't be opened goes with its attachment; the one act between the two is no extension."""
        shop = life.shop
        volume_id, _ = extended_while_attached(shop)
        shop.set(Volume, volume_id, status="error", fault="a layer is missing")
        shop.ask(volumes.order_deletion, volume_id)
        fate = Fate()
        life.live(fate)
        assert (shop.get(Volume, volume_id), fate.acts) == (None, 2)
        life.check_nothing_is_left_over()

    def test_an_attached_volume_is_as_it_was_when_its_extension_fails(self, tmp_path: Path) -> None:
        """Alone, as the first of several, and behind a detached one that fails: it can be detached and extended."""
        with open_workshop(tmp_path, UnlimitedEngine) as shop:
            volume_id, other = shop.volumes(2)
            attached(shop, volume_id, shop.server())
            shop.ask(volumes.order_extension, volume_id, 12)
            shop.work()
            assert grown(shop, volume_id) == ("in-use", 10, None, 10)
            for sizes in ([(volume_id, 12), (other, 12)], [(other, 12), (volume_id, 12)]):
                job_id = shop.ask(volume_batches.order_extensions, sizes)
                assert shop.job(job_id).status == "FAIL"
                assert grown(shop, volume_id) == ("in-use", 10, None, 10)
            assert (shop.get(Volume, other).status, shop.get(Volume, other).growth_gib) == ("error_extending", 0)

    def test_a_failed_one_of_several_extensions_spares_the_others(self, life: Life) -> None:
        """What was extended before keeps its new size, what comes after is as it was; each sub job says so."""
        shop = life.shop
        done, failed, untried = shop.volumes(3)
        sizes = [(volume_id, 12) for volume_id in (done, failed, untried)]

        job_id = shop.ask(volume_batches.order_extensions, sizes)
        life.live(Fate(fails_at=2))

        shown = [shop.get(Volume, volume_id) for volume_id, _ in sizes]
        assert [(volume.status, volume.size_gib) for volume in shown] == [
            ("available", 12),
            ("error_extending", 10),
            ("available", 10),
        ]
        assert [sub_job.status for sub_job in shop.sub_jobs(job_id)] == ["SUCCESS", "FAIL", "FAIL"]
        life.check_nothing_is_left_over()

    def test_an_extension_that_is_done_is_left_alone_after_a_crash(self, life: Life) -> None:
        """It may have been extended further since, by another job that has not begun."""
        shop = life.shop
        first, second = shop.volumes(2)
        job_id = shop.ask(volume_batches.order_extensions, [(first, 12), (second, 12)])
        with shop.database.writing() as session:
            queue.begin(session, job_id, "extend", shop.clock.now())
            queue.finish_member(session, job_id, 0, shop.clock.now())
            volume = session.get_one(Volume, first)
            volume.status, volume.size_gib = "available", 12
        shop.ask(volumes.order_extension, first, 20)

        life.live(Fate())
        sizes = [shop.get(Volume, volume_id).size_gib for volume_id in (first, second)]
        assert (sizes, life.engine._volumes[first].size_bytes) == ([20, 12], 20 * GiB)
        assert told(shop, job_id) == ("SUCCESS", None)


@pytest.mark.parametrize("overtaken", [False, True])
def test_a_snapshot_has_the_size_that_its_disk_has_at_the_cut(overtaken: object, tmp_path: Path) -> None:
    """Not the one that the disk is still to grow to, nor that of the order, when it has grown before the cut."""
    with open_life(tmp_path / "life") as life:
        shop = life.shop
        volume_id, _ = extended_while_attached(shop)
        job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id))
        assert shop.get(Snapshot, snapshot_id).size_gib == 10
        if overtaken:
            life.engine._volumes[volume_id].size_bytes = 12 * GiB
        assert shop.job(job_id).status == "SUCCESS"
        assert shop.get(Snapshot, snapshot_id).size_gib == (12 if overtaken else 10)


def test_a_volume_from_a_snapshot_begins_with_its_content(tmp_path: Path) -> None:
    """The snapshot's id is the engine's point; what is written to the source later is not in the new volume."""
    with open_life(tmp_path / "life") as life:
        shop = life.shop
        source = shop.volume(content=b"then")
        job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(source))
        assert shop.job(job_id).status == "SUCCESS"
        shop.write(source, b"now!")
        with shop.database.writing() as session:
            order = VolumeOrder("copy", "", 20, "SSD", "az1", snapshot_id=snapshot_id)
            _, [volume_id] = volumes.order_volumes(session, "a" * 32, [order], shop.clock.now())
        shop.work()
        assert shop.read(volume_id, 4) == b"then"
        assert life.engine._volumes[volume_id].size_bytes == 20 * GiB
