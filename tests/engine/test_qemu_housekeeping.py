"""What is released is freed behind the writers' backs, and nothing else."""

import asyncio
import os
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import structlog
from engine_sites import SIZE, QemuSite, cut, has_layers, merge_is_running, new_id, until
from images import image, some_content
from mounts import in_memory
from running import DEADLINE_S

import onecut.engine.files
from onecut.engine.port import PointSource
from onecut.errors import EngineFull, VolumeUnusable
from onecut.nbd.client import NbdClient
from onecut.units import KiB, MiB

BLOCK = 4 * KiB


def block(letter: str) -> bytes:
    return letter.encode() * BLOCK


async def layers(site: QemuSite) -> int:
    return len(site.ledger.holdings().layers)


async def begin_slow_merge(site: QemuSite) -> tuple[str, str]:
    """Have a merge that takes a while; return the volume and the one point that is left."""
    await site.restart(merge_bytes_per_s=32 * KiB)
    volume_id = new_id()
    await site.engine.create_volume(volume_id, SIZE)
    await site.write(volume_id, 0, block("a"))
    lower = await cut(site, volume_id)
    await site.write(volume_id, 8 * MiB, block("b") * 1024)
    upper = await cut(site, volume_id)
    await site.write(volume_id, BLOCK, block("c"))
    await site.engine.release([lower])
    await until(lambda: merge_is_running(site))
    return volume_id, upper


async def check_content(site: QemuSite, volume_id: str, point_id: str) -> None:
    copy_id = new_id()
    await site.engine.create_volume(copy_id, SIZE, source=PointSource(point_id))
    assert await site.read(copy_id, 0, 2 * BLOCK) == block("a") + bytes(BLOCK)
    assert await site.read(copy_id, 8 * MiB, 4 * MiB) == block("b") * 1024
    await site.engine.delete_volume(copy_id)
    assert await site.read(volume_id, 0, 2 * BLOCK) == block("a") + block("c")
    assert await site.read(volume_id, 8 * MiB, 4 * MiB) == block("b") * 1024


class RandomWriter:
    """Writes blocks to random places of a disk, and remembers what the disk must hold."""

    def __init__(self, client: NbdClient) -> None:
        self.content = bytearray(SIZE)
        self.writes = 0
        self.pause = threading.Lock()
        self._client = client
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._random = random.Random(1)  # noqa: S311 - repeatable places, no secret

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            await asyncio.to_thread(self._thread.join)

    async def go_on(self, writes: int) -> None:
        goal = self.writes + writes

        async def reached() -> bool:
            return self.writes >= goal

        await until(reached)

    def _run(self) -> None:
        while not self._done.is_set():
            with self.pause:
                offset = self._random.randrange(SIZE // BLOCK) * BLOCK
                data = self._random.randbytes(BLOCK)
                self._client.write(data, offset)
                self.content[offset : offset + BLOCK] = data
                self.writes += 1


async def test_merging_under_a_writer_changes_no_byte(qemu: QemuSite) -> None:
    """The disk and the points that stay are, byte for byte, what was written to them."""
    volume_id = new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    client = await asyncio.to_thread(NbdClient.connect, await qemu.engine.export(new_id(), volume_id))
    writer = RandomWriter(client)
    points: list[tuple[str, bytes]] = []
    async with writer.writing():
        for turn in range(9):
            await writer.go_on(200)
            await asyncio.to_thread(writer.pause.acquire)
            points.append((await cut(qemu, volume_id), bytes(writer.content)))
            writer.pause.release()
            if turn % 3 == 2:
                await qemu.engine.release([points[-2][0], points[-3][0]])
        await qemu.tidy()
        await until(lambda: is_merged(qemu, 5))
        await writer.go_on(100)

    assert await asyncio.to_thread(client.read, 0, SIZE) == bytes(writer.content)
    client.close()
    for point_id, content in points[2::3]:
        copy_id = new_id()
        await qemu.engine.create_volume(copy_id, SIZE, source=PointSource(point_id))
        assert await qemu.read(copy_id, 0, SIZE) == content
        await qemu.engine.delete_volume(copy_id)
    await qemu.tidy()


async def is_merged(site: QemuSite, at_most: int) -> bool:
    return await layers(site) <= at_most


async def test_a_volume_without_points_has_two_layers_at_most(qemu: QemuSite) -> None:
    """Cutting and releasing for ever does not make a chain that grows for ever."""
    volume_id = new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    points = [await cut(qemu, volume_id) for _ in range(10)]

    await qemu.engine.release(points)

    await until(lambda: is_merged(qemu, 2))
    await qemu.tidy()


async def test_a_volume_made_from_a_point_outlives_it(qemu: QemuSite) -> None:
    """A layer on which two volumes stand is merged with neither, so neither sees the other's data."""
    volume_id, copy_id = new_id(), new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    await qemu.write(volume_id, 0, block("a"))
    shared = await cut(qemu, volume_id)
    await qemu.engine.create_volume(copy_id, SIZE, source=PointSource(shared))
    await qemu.write(volume_id, 0, block("b"))
    later = [await cut(qemu, volume_id) for _ in range(2)]

    await qemu.engine.release([shared, later[0]])

    await until(lambda: is_merged(qemu, 4))
    await qemu.tidy()
    assert await qemu.read(copy_id, 0, BLOCK) == block("a")
    assert await qemu.read(volume_id, 0, BLOCK) == block("b")


async def test_a_deleted_volume_leaves_nothing(qemu: QemuSite) -> None:
    """Once its points are released too, no file, node or row of it is left."""
    volume_id = new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    points = [await cut(qemu, volume_id) for _ in range(3)]

    await qemu.engine.delete_volume(volume_id)
    await qemu.engine.release(points)

    await until(lambda: is_merged(qemu, 0))
    await qemu.tidy()
    assert list(qemu.engine._files.folder.iterdir()) == []


async def test_a_cut_does_not_disturb_a_merge(qemu: QemuSite) -> None:
    """A volume is cut while its chain is being merged, and the merge goes on: cutting often starves none."""
    volume_id, upper = await begin_slow_merge(qemu)

    await cut(qemu, volume_id)

    assert await merge_is_running(qemu)
    await check_content_soon(qemu, volume_id, upper)


async def check_content_soon(site: QemuSite, volume_id: str, point_id: str) -> None:
    """Let the merges be done quickly, and look."""
    await site.restart()
    await site.tidy()
    await check_content(site, volume_id, point_id)
    await site.tidy()


async def test_building_on_a_layer_ends_its_merge(qemu: QemuSite) -> None:
    """A new volume from a point whose layer is being merged does not wait, and the merge is made later."""
    volume_id, upper = await begin_slow_merge(qemu)

    async with asyncio.timeout(60):  # the merge would take twice as long
        await check_content(qemu, volume_id, upper)

    await check_content_soon(qemu, volume_id, upper)
    await until(lambda: has_layers(qemu, 2))


@pytest.mark.parametrize("act", ["roll_back", "delete"])
async def test_a_merge_stands_in_nobodys_way(qemu: QemuSite, act: str) -> None:
    """Rolling back to a point that is being merged, and deleting its volume, do not wait."""
    volume_id, upper = await begin_slow_merge(qemu)

    async with asyncio.timeout(60):
        if act == "roll_back":
            await qemu.engine.roll_back({volume_id: PointSource(upper)})
            assert await qemu.read(volume_id, 0, 2 * BLOCK) == block("a") + bytes(BLOCK)
        else:
            await qemu.engine.delete_volume(volume_id)

    await qemu.restart()
    await qemu.tidy()


@pytest.mark.parametrize("daemon_dies", [False, True])
async def test_a_crash_during_a_merge_changes_no_byte(qemu: QemuSite, daemon_dies: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Whoever dies half-way, what was merged and what was not read the same, and nothing is left over."""
    volume_id, upper = await begin_slow_merge(qemu)
    await qemu.engine.close()
    if daemon_dies:
        await qemu.kill_daemon()
    await qemu.new_engine().start()

    await until(lambda: is_merged(qemu, 2))
    await qemu.tidy()
    await check_content(qemu, volume_id, upper)


@pytest.mark.parametrize("begins_as", ["zeros", "image"])
async def test_what_was_merged_is_on_the_disk(qemu: QemuSite, begins_as: str) -> None:
    """The layer that was merged is deleted, so a daemon that dies then must not take what it held along."""
    volume_id, released = new_id(), list[str]()
    if begins_as == "image":
        with image(some_content(SIZE)) as served:
            await qemu.engine.create_volume(volume_id, SIZE, source=served.source)
            await qemu.engine.hydrate(volume_id, on_progress=lambda _done, _total: None)
    else:
        await qemu.engine.create_volume(volume_id, SIZE)
        released.append(await cut(qemu, volume_id))
    await qemu.write(volume_id, 0, block("b") * 1024)
    await cut(qemu, volume_id)

    await qemu.engine.release(released)
    await until(lambda: has_layers(qemu, 2))
    await qemu.lose_daemon()

    assert await qemu.read(volume_id, 0, 4 * MiB) == block("b") * 1024


async def test_a_merge_that_ended_without_a_service_is_written_down(qemu: QemuSite) -> None:
    """The daemon keeps what was copied until the next service asks; the work is not done twice."""
    volume_id, upper = await begin_slow_merge(qemu)
    frozen = qemu.ledger.point(upper)
    assert frozen is not None
    await qemu.engine.close()
    async with qemu.second_monitor() as monitor:
        (job_id,) = await monitor.jobs()
        await monitor.execute("block-job-set-speed", {"device": job_id, "speed": 0})

        async def has_copied() -> bool:
            (job,) = await monitor.execute("query-jobs")
            return str(job["status"]) == "pending"

        await until(has_copied)

    await qemu.new_engine().start()

    after = qemu.ledger.point(upper)
    assert after is not None
    assert after.layer.id == frozen.layer.parent_id
    await qemu.tidy()
    await check_content(qemu, volume_id, upper)


async def test_a_merge_that_fails_is_not_tried_for_ever(qemu: QemuSite) -> None:
    """It is reported once, leaves nothing over, and is tried again at the next reason to look."""
    await qemu.restart(merge_bytes_per_s=-1)  # the daemon refuses such a speed
    volume_id = new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    points = [await cut(qemu, volume_id) for _ in range(2)]

    with structlog.testing.capture_logs() as events:
        await qemu.engine.release(points[:1])

        async def reported() -> bool:
            return any(event["event"] == "merge_failed" for event in events)

        await until(reported)
        await qemu.tidy()
        await qemu.engine.create_volume(new_id(), SIZE)

    assert [event["event"] for event in events].count("merge_failed") == 1
    await qemu.restart()
    await until(lambda: is_merged(qemu, 3))


@pytest.mark.parametrize("spare_bytes", [onecut.engine.files.SPARE_BYTES, -64 * MiB])
async def test_a_full_disk_refuses_new_layers_and_touches_nothing(
    qemu: QemuSite, monkeypatch: pytest.MonkeyPatch, spare_bytes: int
) -> None:
    """
    Whether the engine sees it coming or the daemon meets it, the error is the same, and volumes go on.

    Once there is space again, the same cut is made.
    """
    monkeypatch.setattr("onecut.engine.files.SPARE_BYTES", spare_bytes)
    await qemu.engine.close()
    await qemu.kill_daemon()
    with in_memory(qemu.engine._files.folder, size="96m"):
        await qemu.new_engine().start()
        volume_id, cut_id, points = new_id(), new_id(), {}
        await qemu.engine.create_volume(volume_id, SIZE)
        await qemu.write(volume_id, 0, block("a"))
        points[volume_id] = new_id()
        filler = qemu.engine._files.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            fill(file.fileno())

        with pytest.raises(EngineFull):
            await qemu.engine.cut(cut_id, points, deadline_s=DEADLINE_S)
        with pytest.raises(EngineFull):
            await qemu.engine.create_volume(new_id(), SIZE)

        assert await qemu.engine.settle(cut_id) is None
        assert await qemu.read(volume_id, 0, BLOCK) == block("a")
        with pytest.raises(VolumeUnusable):
            await qemu.engine.create_volume(new_id(), SIZE, source=PointSource(points[volume_id]))
        filler.unlink()
        await qemu.engine.cut(cut_id, points, deadline_s=DEADLINE_S)
        await qemu.tidy()
        await qemu.engine.close()
        await qemu.kill_daemon()


def fill(descriptor: int) -> None:
    """Write until the file system is full."""
    for size in (1 * MiB, 4 * KiB):
        with suppress(OSError):
            while True:
                os.write(descriptor, bytes(size))
