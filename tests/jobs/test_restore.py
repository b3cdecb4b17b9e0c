"""Restores from the repository, over the memory engine: in every order, from every crash, and when things fail."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from faulty import FaultyEngine
from running import DEADLINE_S
from sqlalchemy import select
from workshop import Workshop, open_workshop

from onecut.db.images import ServedImage
from onecut.db.jobs import Job
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.volumes import Volume
from onecut.errors import EngineError, VolumeUnusable
from onecut.jobs import hydration
from onecut.jobs import served as noted
from onecut.jobs.images import Images
from onecut.repository.lease import leases
from onecut.service import groups, snapshots, volumes
from onecut.service.groups import NewGroup
from onecut.service.snapshots import NewSnapshot
from onecut.service.volumes import VolumeOrder

Result = TypeVar("Result")

PIECE = 4096


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """Services and jobs over an engine that fails as told."""
    with open_workshop(tmp_path, FaultyEngine) as shop:
        yield shop


@pytest.fixture
def engine(shop: Workshop) -> FaultyEngine:
    """The engine of the workshop."""
    return cast("FaultyEngine", shop.engine)


def archived_group(shop: Workshop, contents: list[bytes]) -> tuple[list[str], str]:
    """Make volumes, and a group of them that only the repository has; then overwrite the volumes."""
    disks = [shop.volume(content=content) for content in contents]
    job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=disks, name="nightly"))
    assert shop.job(job_id).status == "SUCCESS"
    give_points_up(shop, disks)
    for disk in disks:
        shop.write(disk, b"z" * PIECE)
    return disks, str(group_id)


def give_points_up(shop: Workshop, disks: list[str]) -> None:
    """Take another snapshot of each volume: then the points before it are not needed any more."""
    for disk in disks:
        job_id, _ = shop.ask(snapshots.create, NewSnapshot(disk))
        assert shop.job(job_id).status == "SUCCESS"


def members(shop: Workshop, group_id: str) -> list[str]:
    """Return the ids of a group's members, which the engine does not have."""
    found = shop.members(group_id)
    assert {member.point for member in found} == {"gone"}
    return [member.id for member in found]


def order_volume(shop: Workshop, snapshot_id: str) -> tuple[str, str]:
    """Order a volume from a snapshot, and return the job's id and the volume's."""
    order = VolumeOrder("copy", "", 10, "SSD", "az1", snapshot_id=snapshot_id)
    job_id, (volume_id,) = shop.ask(volumes.create, order, zones=["az1"])
    return job_id, volume_id


def served(shop: Workshop) -> list[ServedImage]:
    """Return what is noted of served images."""
    with shop.database.reading() as session:
        return list(session.scalars(select(ServedImage)))


def tend(shop: Workshop, act: Callable[[Images], Awaitable[Result]]) -> Result:
    """Do something with images, as a service that starts does."""

    async def run() -> Result:
        archiving = shop.archiving()
        try:
            await archiving.images.serve_again()
            return await act(archiving.images)
        finally:
            archiving.close()

    return asyncio.run(run())


def hydrations(shop: Workshop) -> list[Any]:
    """Return what the volumes say of their hydration, where they say something."""
    with shop.database.reading() as session:
        return [found for found in session.scalars(select(Volume.hydration)) if found is not None]


class TestSources:
    def test_a_volume_is_made_from_the_repository(self, shop: Workshop) -> None:
        """It holds what the snapshot held; when it is filled nothing is served, leased or shown any more."""
        _, group_id = archived_group(shop, [b"a" * PIECE])
        (snapshot_id,) = members(shop, group_id)

        job_id, volume_id = order_volume(shop, snapshot_id)

        assert shop.job(job_id).status == "SUCCESS"
        assert shop.read(volume_id, PIECE) == b"a" * PIECE
        assert shop.get(Volume, volume_id).status == "available"
        assert hydrations(shop) == []
        assert [row.snapshot_id for row in served(shop)] == [snapshot_id]
        assert [known.lease.holds for known in leases(shop.repository)] == [snapshot_id]
        tend(shop, Images.drop_needless)
        assert served(shop) == []
        assert list(leases(shop.repository)) == []

    def test_a_group_of_both_kinds_is_rolled_back(self, shop: Workshop) -> None:
        """One member's point is there, the other's is not; both volumes come back."""
        disks = [shop.volume(content=content * PIECE) for content in (b"a", b"b")]
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=disks))
        shop.job(job_id)
        give_points_up(shop, disks[:1])
        assert {member.point for member in shop.members(group_id)} == {"held", "gone"}
        for disk in disks:
            shop.write(disk, b"z" * PIECE)

        job_id, _ = shop.ask(groups.order_rollback, group_id, undo=False)

        assert shop.job(job_id).status == "SUCCESS"
        assert [shop.read(disk, PIECE) for disk in disks] == [b"a" * PIECE, b"b" * PIECE]

    def test_a_snapshot_of_a_deleted_volume_is_enough(self, shop: Workshop) -> None:
        """The repository has all that a new volume takes."""
        (disk,), group_id = archived_group(shop, [b"a" * PIECE])
        assert shop.job(shop.ask(volumes.order_deletion, disk)).status == "SUCCESS"

        job_id, volume_id = order_volume(shop, members(shop, group_id)[0])

        assert shop.job(job_id).status == "SUCCESS"
        assert shop.read(volume_id, PIECE) == b"a" * PIECE


class TestDeletion:
    def test_a_served_snapshot_goes_at_once_and_its_data_later(self, shop: Workshop) -> None:
        """Deleting it waits for nobody; what it held leaves the repository with its image."""
        _, group_id = archived_group(shop, [b"a" * PIECE])
        (snapshot_id,) = members(shop, group_id)
        job_id, _ = order_volume(shop, snapshot_id)
        shop.job(job_id)

        assert shop.job(shop.ask(snapshots.order_deletion, snapshot_id)).status == "SUCCESS"

        assert shop.get(Snapshot, snapshot_id) is None
        assert shop.repository.find(snapshot_id).snapshot_id == snapshot_id
        tend(shop, Images.drop_needless)
        assert snapshot_id not in {manifest.snapshot_id for manifest in manifests(shop)}
        assert served(shop) == []

    def test_an_image_that_the_engine_needs_stays(self, shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever the database says: as long as the engine names it, it is served and leased."""
        _, group_id = archived_group(shop, [b"a" * PIECE])
        (snapshot_id,) = members(shop, group_id)
        job_id, _ = order_volume(shop, snapshot_id)
        shop.job(job_id)

        async def needed() -> frozenset[str]:
            return frozenset({shop.images.uri(snapshot_id)})

        monkeypatch.setattr(shop.engine, "images", needed)
        tend(shop, Images.drop_needless)

        assert [row.snapshot_id for row in served(shop)] == [snapshot_id]
        assert [known.lease.holds for known in leases(shop.repository)] == [snapshot_id]

    def test_a_lease_is_renewed_under_its_name(self, shop: Workshop) -> None:
        """Each service renews what the one before it held, and makes no second one."""
        _, group_id = archived_group(shop, [b"a" * PIECE])
        job_id, _ = order_volume(shop, members(shop, group_id)[0])
        shop.job(job_id)
        (before,) = leases(shop.repository)

        tend(shop, Images.renew)

        (after,) = leases(shop.repository)
        assert after.lease == before.lease
        assert after.renewed_at > before.renewed_at


def manifests(shop: Workshop) -> list[Any]:
    """Return the manifests of all snapshots in the repository."""
    return [each for chain in shop.repository.chains() for each in shop.repository.manifests(chain)]


class TestFailures:
    def test_volumes_of_a_group_are_made_all_or_none(
        self, shop: Workshop, engine: FaultyEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The second can't be made: none can be used, and the engine keeps nothing of the first."""
        _, group_id = archived_group(shop, [b"a" * PIECE, b"b" * PIECE])
        made = engine.create_volume

        async def fail_second(volume_id: str, size_bytes: int, **options: Any) -> None:
            if new_volumes & set(engine._volumes):
                raise EngineError("no space for the second")
            await made(volume_id, size_bytes, **options)

        monkeypatch.setattr(engine, "create_volume", fail_second)
        job_id, volume_of = shop.ask(groups.order_volumes, group_id)
        new_volumes = set(volume_of.values())

        assert shop.job(job_id).status == "FAIL"
        assert {shop.get(Volume, each).status for each in new_volumes} == {"error"}
        assert not new_volumes & set(engine._volumes)

    @pytest.mark.parametrize("undo", [True, False])
    def test_a_group_whose_data_is_away_stays_as_it_is(self, shop: Workshop, tmp_path: Path, *, undo: bool) -> None:
        """The store stays away for longer than jobs wait: no volume was touched, and it can be asked again."""
        disks, group_id = archived_group(shop, [b"a" * PIECE, b"b" * PIECE])
        (tmp_path / "repository").rename(tmp_path / "away")

        job_id, undo_id = shop.ask(groups.order_rollback, group_id, undo=undo)
        job = shop.job(job_id)

        (tmp_path / "away").rename(tmp_path / "repository")
        assert job.status == "FAIL"
        assert {shop.read(disk, PIECE) for disk in disks} == {b"z" * PIECE}
        assert not undo or shop.get(SnapshotGroup, undo_id).status == "error"
        job_id, _ = shop.ask(groups.order_rollback, group_id, undo=False)
        assert shop.job(job_id).status == "SUCCESS"
        assert [shop.read(disk, PIECE) for disk in disks] == [b"a" * PIECE, b"b" * PIECE]


class TestHydration:
    def test_what_cannot_be_read_is_shown_until_it_can(self, shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
        """The job fails, the volume says why and goes on; once the engine has all of it the volume says no more."""
        _, group_id = archived_group(shop, [b"a" * PIECE])

        async def refuse(_volume_id: str, *, on_progress: Callable[[int, int], None]) -> None:
            on_progress(1, 2)
            raise VolumeUnusable("1 MiB of the image can't be read")

        with monkeypatch.context() as patched:
            patched.setattr(shop.engine, "hydrate", refuse)
            job_id, volume_id = order_volume(shop, members(shop, group_id)[0])
            shop.job(job_id)
            (shown,) = hydrations(shop)
            asyncio.run(hydration.look_again(shop.engine, shop.database))
            assert hydrations(shop) == [shown]

        job = shop.get(Job, shown["job_id"])
        assert (job.job_type, job.status, job.fail_reason) == (
            "hydrateVolume",
            "FAIL",
            "1 MiB of the image can't be read",
        )
        assert shown["fault"] == job.fail_reason
        assert shop.get(Volume, volume_id).status == "available"
        asyncio.run(hydration.look_again(shop.engine, shop.database))
        assert hydrations(shop) == []


class TestTheServiceDies:
    @pytest.mark.parametrize("step", ["find", "create", "hydrate"])
    def test_before_a_step_of_a_new_volume(self, shop: Workshop, step: str) -> None:
        """What the step needs is kept; the next service takes the step, and the volume is right."""
        _, group_id = archived_group(shop, [b"a" * PIECE])
        job_id, volume_id = order_volume(shop, members(shop, group_id)[0])

        die_before(shop, step)
        tend(shop, Images.drop_needless)
        assert bool(served(shop)) == (step == "create")
        assert shop.job(job_id).status == "SUCCESS"

        assert shop.read(volume_id, PIECE) == b"a" * PIECE
        assert hydrations(shop) == []

    @pytest.mark.parametrize("step", ["find", "roll_back", "hydrate"])
    def test_before_a_step_of_a_rollback(self, shop: Workshop, step: str) -> None:
        """What the step needs is kept; the next service takes the step, and the volumes are right."""
        disks, group_id = archived_group(shop, [b"a" * PIECE, b"b" * PIECE])
        job_id, _ = shop.ask(groups.order_rollback, group_id, undo=False)

        die_before(shop, step)
        tend(shop, Images.drop_needless)
        assert bool(served(shop)) == (step == "roll_back")
        assert shop.job(job_id).status == "SUCCESS"

        assert [shop.read(disk, PIECE) for disk in disks] == [b"a" * PIECE, b"b" * PIECE]
        assert hydrations(shop) == []


def die_before(shop: Workshop, step: str) -> None:
    """Let a service run until it has written *step* down, and end it there."""

    async def run() -> None:
        def die(_job_type: str, begun: str) -> None:
            if begun == step:
                running.cancel()
                raise asyncio.CancelledError

        running = asyncio.create_task(shop.worker(die).run())
        await asyncio.wait([running], timeout=DEADLINE_S)
        assert running.done()

    asyncio.run(run())


def test_looking_waits_for_no_writer(shop: Workshop, engine: FaultyEngine) -> None:
    """What is looked for every few seconds is read beside whoever writes: requests need not wait for it, either."""
    images = shop.archiving().images
    job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(shop.volume()))
    assert shop.job(job_id).status == "SUCCESS"
    with shop.database.writing() as session:
        noted.begin(session, snapshot_id)
    shop.set(Snapshot, snapshot_id, status="rollbacking")

    async def look() -> None:
        await images.serve_again()
        await images.sources([snapshot_id])
        await images.renew()
        await images.drop_needless()
        await hydration.look_again(engine, shop.database)

    # The transaction ends before the thread is waited for, whatever becomes of it.
    with ThreadPoolExecutor(1) as pool, shop.database.writing():
        pool.submit(asyncio.run, look()).result(timeout=DEADLINE_S)
