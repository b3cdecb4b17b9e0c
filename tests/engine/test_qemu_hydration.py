"""Volumes whose data is still being fetched: whoever dies or goes away meanwhile, no byte is wrong or lost."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, suppress

import pytest
from engine_sites import SIZE, QemuSite, new_id, until
from images import ServedImage, image, some_content
from running import DEADLINE_S

from onecut.engine.port import ImageSource, Limits, OpenPoint, PointSource
from onecut.errors import CannotCut, NoChangeList, VolumeUnusable
from onecut.nbd.client import NbdClient
from onecut.units import KiB, MiB

BLOCK = 4 * KiB
SLOW = 8 * MiB
"""Bytes a second: some 20 MiB of data take long enough for anything to happen meanwhile."""

DATA_AT = SIZE // 8
"""Where the image has data; what is fetched first."""

LAST_DATA_AT = 5 * SIZE // 8 + 128 * KiB
"""Where the image has data too; fetched last."""


@pytest.fixture
def served() -> Iterator[ServedImage]:
    with image(some_content(SIZE)) as served:
        yield served


def ignore(_done: int, _total: int) -> None:
    """Follow no progress."""


async def restored(site: QemuSite, served: ServedImage) -> str:
    volume_id = new_id()
    await site.engine.create_volume(volume_id, SIZE, source=served.source)
    return volume_id


async def hydrated_quickly(site: QemuSite, *volume_ids: str) -> None:
    """Let the service start again without a speed limit, and wait until all is fetched."""
    await site.restart()
    for volume_id in volume_ids:
        await site.engine.hydrate(volume_id, on_progress=ignore)


async def is_being_filled(site: QemuSite) -> bool:
    return any(filling.done_bytes for filling in site.engine._hydration._fillings.values())


async def cut(site: QemuSite, volume_id: str, *, deadline_s: float = DEADLINE_S) -> str:
    point_id = new_id()
    await site.engine.cut(new_id(), {volume_id: point_id}, deadline_s=deadline_s)
    return point_id


async def content_of(site: QemuSite, point_id: str) -> bytes:
    def read(opened: OpenPoint) -> bytes:
        data = bytearray(opened.size_bytes)
        with closing(opened.reader()) as reader:
            reader.readinto(data, 0)
        return bytes(data)

    async with site.engine.open_point(point_id) as opened:
        return await asyncio.to_thread(read, opened)


class Writer:
    """A client that writes blocks to random places, and remembers what the disk must hold."""

    def __init__(self, client: NbdClient, content: bytes) -> None:
        self.content = bytearray(content)
        self._client = client
        self._random = random.Random(7)  # noqa: S311 - repeatable

    async def write(self, count: int = 20) -> None:
        """Write so many blocks, some of them unaligned, some of them zeros."""
        for _ in range(count):
            offset = self._random.randrange((SIZE - 2 * BLOCK) // 512) * 512
            data = self._random.randbytes(BLOCK) if self._random.random() < 0.8 else bytes(BLOCK)
            await asyncio.to_thread(self._client.write, data, offset)
            self.content[offset : offset + BLOCK] = data
        await asyncio.to_thread(self._client.flush)

    async def check(self) -> None:
        """Compare the whole disk."""
        assert await asyncio.to_thread(self._client.read, 0, SIZE) == bytes(self.content)


@asynccontextmanager
async def writer_on(site: QemuSite, volume_id: str, content: bytes) -> AsyncIterator[Writer]:
    async with site.client(volume_id) as client:
        yield Writer(client, content)


class TestFetching:
    async def test_the_first_read_costs_a_bounded_number_of_requests(
        self, qemu: QemuSite, served: ServedImage
    ) -> None:
        """A restored volume is there at once: one block is read from the server for one block, whatever its size."""
        await qemu.restart(hydrate_bytes_per_s=1)
        volume_id = await restored(qemu, served)
        await until(lambda: is_asked_for_nothing(qemu))
        before = len(served.reads())

        data = await qemu.read(volume_id, LAST_DATA_AT, BLOCK)

        assert data == served.content[LAST_DATA_AT : LAST_DATA_AT + BLOCK]
        assert len(served.reads()) - before <= 2

    async def test_only_data_is_fetched_and_only_once(self, qemu: QemuSite, served: ServedImage) -> None:
        """What the image says is zero is neither read nor stored: the effort follows the data."""
        volume_id = await restored(qemu, served)

        await qemu.engine.hydrate(volume_id, on_progress=ignore)
        await qemu.tidy()

        stored = sum(path.stat().st_blocks * 512 for path in qemu.engine._files.folder.iterdir())
        data_bytes = SIZE // 4 + 3 * MiB
        assert sum(length for _, length in served.reads()) <= data_bytes + 1 * MiB
        assert stored <= data_bytes + 4 * MiB

    async def test_writes_and_cuts_meanwhile_are_complete(self, qemu: QemuSite, served: ServedImage) -> None:
        """The disk and each point hold what was written over what the image holds, before and after the end."""
        await qemu.restart(hydrate_bytes_per_s=SLOW)
        volume_id = await restored(qemu, served)
        points = []
        async with writer_on(qemu, volume_id, served.content) as writer:
            for _ in range(4):
                await writer.write()
                points.append((await cut(qemu, volume_id), bytes(writer.content)))
            assert qemu.ledger.sources()
            await writer.check()
            assert await content_of(qemu, points[1][0]) == points[1][1]
            await qemu.engine.release([points[2][0]])

            await hydrated_quickly(qemu, volume_id)

            served.kill()
            await writer.write()
            await writer.check()
        for point_id, content in (points[0], points[1], points[3]):
            assert await content_of(qemu, point_id) == content
        with pytest.raises(NoChangeList):
            await qemu.engine.extents(points[0][0], since=points[3][0])
        await qemu.tidy()

    async def test_what_was_fetched_survives_everything(self, qemu: QemuSite, served: ServedImage) -> None:
        """Once the hydration is over neither the server nor the daemon's memory is needed."""
        volume_id = await restored(qemu, served)
        await qemu.engine.hydrate(volume_id, on_progress=ignore)

        served.kill()
        await qemu.lose_daemon()

        assert await qemu.read(volume_id, 0, SIZE) == served.content

    async def test_a_volume_is_extended_and_copied_meanwhile(self, qemu: QemuSite, served: ServedImage) -> None:
        """It is a volume like any other; a copy made from its point is filled together with it."""
        await qemu.restart(hydrate_bytes_per_s=SLOW)
        volume_id, copy_id = await restored(qemu, served), new_id()
        await qemu.engine.extend_volume(volume_id, 2 * SIZE)
        point_id = await cut(qemu, volume_id)
        await qemu.engine.create_volume(copy_id, SIZE, source=PointSource(point_id))
        await qemu.engine.delete_volume(volume_id)
        await qemu.engine.release([point_id])

        assert await qemu.engine.images() == {served.source.uri}
        await hydrated_quickly(qemu, copy_id)

        served.kill()
        assert await qemu.engine.images() == frozenset()
        assert await qemu.read(copy_id, 0, 2 * SIZE) == served.content + bytes(SIZE)
        await qemu.tidy()

    async def test_the_speed_limit_holds(self, qemu: QemuSite, served: ServedImage) -> None:
        """Fetching takes at least the time that the limit asks for."""
        await qemu.restart(hydrate_bytes_per_s=16 * MiB)
        volume_id, began = await restored(qemu, served), time.monotonic()

        await qemu.engine.hydrate(volume_id, on_progress=ignore)

        assert time.monotonic() - began >= (SIZE // 4) / (16 * MiB) - 0.1

    async def test_what_the_server_refuses_is_told_and_tried_again(
        self, qemu: QemuSite, served: ServedImage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The volume goes on with the rest, and is completed once the server gives all of it."""
        monkeypatch.setattr("onecut.engine.hydration.REFUSED_RETRY_S", 0.2)
        served.kill()
        trigger = qemu.folder / "refuse"
        trigger.touch()
        served.serve("--filter=error", "error-pread=EIO", f"error-pread-file={trigger}", "error-pread-rate=100%")
        volume_id = await restored(qemu, served)

        with pytest.raises(VolumeUnusable, match="can't be read"):
            await qemu.engine.hydrate(volume_id, on_progress=ignore)
        await cut(qemu, volume_id)
        trigger.unlink()

        await until(lambda: is_hydrated(qemu))
        assert await qemu.read(volume_id, 0, SIZE) == served.content

    async def test_an_image_of_another_size_is_refused(self, qemu: QemuSite, served: ServedImage) -> None:
        """The server must serve what the caller means."""
        with pytest.raises(Exception, match="has 67108864 bytes, not 4096"):
            await qemu.engine.create_volume(new_id(), SIZE, source=ImageSource(served.source.uri, 4096))
        await qemu.tidy()


class TestServerGoesAway:
    @pytest.mark.parametrize("how", ["killed", "silent"])
    async def test_reads_of_missing_data_wait_and_nothing_else_does(
        self, qemu: QemuSite, served: ServedImage, how: str
    ) -> None:
        """
        What was fetched is read, writes are taken, other volumes live, and the missing block comes out right.

        No cut is made of any volume meanwhile, because it would hold up all of them; the reason says so.
        """
        await qemu.restart(hydrate_bytes_per_s=SLOW)
        volume_id, other_id = await restored(qemu, served), new_id()
        await qemu.engine.create_volume(other_id, SIZE)
        await until(lambda: is_being_filled(qemu))
        if how == "killed":
            served.kill()
        else:
            served.freeze()

        async with writer_on(qemu, volume_id, served.content) as writer, qemu.client(other_id) as other:
            uri = await qemu.engine.export(new_id(), volume_id)
            reader = await asyncio.to_thread(NbdClient.connect, uri)
            waiting = asyncio.create_task(asyncio.to_thread(reader.read, LAST_DATA_AT, BLOCK))
            await asyncio.sleep(0.1)
            await asyncio.to_thread(writer._client.write, b"x" * BLOCK, DATA_AT)
            writer.content[DATA_AT : DATA_AT + BLOCK] = b"x" * BLOCK
            assert await asyncio.to_thread(writer._client.read, DATA_AT, BLOCK) == b"x" * BLOCK
            await asyncio.to_thread(other.write, b"y" * BLOCK, 0)
            with pytest.raises(CannotCut, match="does not answer"):
                await cut(qemu, other_id, deadline_s=0.5)
            assert await asyncio.to_thread(other.read, 0, BLOCK) == b"y" * BLOCK
            assert not waiting.done()

            if how == "killed":
                served.serve()
            else:
                served.thaw()

            assert await waiting == served.content[LAST_DATA_AT : LAST_DATA_AT + BLOCK]
            await cut(qemu, other_id)
            reader.close()
            await hydrated_quickly(qemu, volume_id)
            await writer.check()
        await qemu.tidy()

    async def test_other_volumes_are_made_merged_and_deleted(self, qemu: QemuSite, served: ServedImage) -> None:
        """Whatever does not stop all I/O goes on while a read waits."""
        await qemu.restart(hydrate_bytes_per_s=SLOW)
        other_id = new_id()
        await qemu.engine.create_volume(other_id, SIZE)
        points = []
        for letter in b"abc":
            await qemu.write(other_id, 0, bytes([letter]) * BLOCK)
            points.append(await cut(qemu, other_id))
        volume_id = await restored(qemu, served)
        served.freeze()
        async with qemu.client(volume_id) as client:
            waiting = asyncio.create_task(asyncio.to_thread(client.read, LAST_DATA_AT, BLOCK))

            async with asyncio.timeout(DEADLINE_S):
                await qemu.engine.release(points[:2])
                await until(lambda: is_merged_to(qemu, 4))
                assert await content_of(qemu, points[2]) == b"c" * BLOCK + bytes(SIZE - BLOCK)
                await qemu.engine.roll_back({other_id: PointSource(points[2])})
                await qemu.engine.extend_volume(other_id, 2 * SIZE)
                assert await qemu.read(other_id, 0, BLOCK) == b"c" * BLOCK
                await qemu.engine.delete_volume(other_id)
                await qemu.engine.release(points)
                await until(lambda: is_merged_to(qemu, 2))

            assert not waiting.done()
            served.thaw()
            assert await waiting == served.content[LAST_DATA_AT : LAST_DATA_AT + BLOCK]

    async def test_a_point_of_the_volume_may_be_read_and_left_meanwhile(
        self, qemu: QemuSite, served: ServedImage
    ) -> None:
        """Closing it does not wait for the server, and does not keep the daemon from answering."""
        await qemu.restart(hydrate_bytes_per_s=SLOW)
        volume_id = await restored(qemu, served)
        await qemu.write(volume_id, 0, b"x" * BLOCK)
        point_id = await cut(qemu, volume_id)
        async with qemu.client(volume_id) as client:
            async with qemu.engine.open_point(point_id) as opened:
                served.freeze()
                waiting = asyncio.create_task(asyncio.to_thread(client.read, LAST_DATA_AT, BLOCK))
                reader, data = await asyncio.to_thread(opened.reader), bytearray(BLOCK)
                await asyncio.to_thread(reader.readinto, data, 0)
                assert data == b"x" * BLOCK
                reader.close()
            async with asyncio.timeout(DEADLINE_S):
                await qemu.engine.create_volume(new_id(), SIZE)
            served.thaw()
            await waiting
        await hydrated_quickly(qemu, volume_id)
        await qemu.tidy()


class TestCrashes:
    @pytest.mark.parametrize("who", ["service", "daemon", "both", "all"])
    async def test_the_hydration_goes_on_afterwards(self, qemu: QemuSite, served: ServedImage, who: str) -> None:
        """What was written is there, what was fetched is not fetched again, and the end is reached."""
        await qemu.restart(hydrate_bytes_per_s=SLOW)
        volume_id, point_id = await restored(qemu, served), new_id()
        export_id = new_id()
        uri = await qemu.engine.export(export_id, volume_id)
        client = await asyncio.to_thread(NbdClient.connect, uri)
        writer = Writer(client, served.content)
        await writer.write()
        await qemu.engine.cut(new_id(), {volume_id: point_id}, deadline_s=DEADLINE_S)
        expected = bytes(writer.content)
        await writer.write()
        await until(lambda: is_being_filled(qemu))

        if who != "daemon":
            await qemu.engine.close()
        if who == "all":
            served.kill()
            served.serve()
        if who != "service":
            await qemu.kill_daemon()
        client.close()
        if who != "daemon":
            await qemu.new_engine().start()
        await qemu.engine.hydrate(volume_id, on_progress=ignore)

        served.kill()
        client = await asyncio.to_thread(NbdClient.connect, uri)
        assert await asyncio.to_thread(client.read, 0, SIZE) == bytes(writer.content)
        client.close()
        assert await content_of(qemu, point_id) == expected
        await qemu.tidy()

    async def test_a_volume_whose_server_is_not_there_at_the_start_comes_back(
        self, qemu: QemuSite, served: ServedImage
    ) -> None:
        """Health names it, the others work and are cut, and its export is back soon after its server is."""
        await qemu.restart(hydrate_bytes_per_s=SLOW)
        volume_id, other_id = await restored(qemu, served), new_id()
        await qemu.write(volume_id, 0, b"x" * BLOCK)
        await qemu.engine.create_volume(other_id, SIZE)
        uri = await qemu.engine.export(new_id(), volume_id)
        served.kill()
        await qemu.lose_daemon()

        await cut(qemu, other_id)
        assert served.source.uri in (await qemu.engine.health()).unusable[volume_id]
        served.serve()

        await until(lambda: is_usable(qemu))
        await qemu.engine.limit({volume_id: Limits()})  # an act waits until the mending is over
        client = await asyncio.to_thread(NbdClient.connect, uri)
        expected = b"x" * BLOCK + served.content[BLOCK:]
        assert await asyncio.to_thread(client.read, 0, SIZE) == expected
        client.close()
        await hydrated_quickly(qemu, volume_id)
        await qemu.tidy()

    async def test_readers_that_a_dead_service_left_are_ended(self, qemu: QemuSite) -> None:
        """The next service closes what nobody reads any more, and merges what was kept for it."""
        volume_id = new_id()
        await qemu.engine.create_volume(volume_id, SIZE)
        points = [await cut(qemu, volume_id) for _ in range(2)]
        opened = qemu.engine.open_point(points[0])
        await opened.__aenter__()
        await qemu.engine.close()

        await qemu.new_engine().start()
        await qemu.engine.release(points)

        await until(lambda: is_merged_to(qemu, 2))
        await qemu.tidy()

    async def test_adopted_points_have_no_change_list(self, qemu: QemuSite) -> None:
        """Nobody saw the cut being made, so nobody vouches for what changed before it or since."""
        volume_id, first, last = new_id(), new_id(), new_id()
        await qemu.engine.create_volume(volume_id, SIZE)
        before = await cut(qemu, volume_id)
        cut_id = new_id()
        qemu.engine.at["prepared"] = qemu.die
        with suppress(BaseException):
            await qemu.engine.cut(cut_id, {volume_id: first}, deadline_s=DEADLINE_S)
        await qemu.engine.close()
        await qemu.kill_daemon()
        await qemu.new_engine().start()
        assert await qemu.engine.settle(cut_id) is not None
        await qemu.engine.cut(new_id(), {volume_id: last}, deadline_s=DEADLINE_S)

        for point_id, since in ((first, before), (last, first)):
            with pytest.raises(NoChangeList, match="adopted after a crash"):
                await qemu.engine.extents(point_id, since=since)
        assert await qemu.engine.extents(first, since=None)


class TestDeletion:
    async def test_of_a_volume_meanwhile_leaves_nothing(self, qemu: QemuSite, served: ServedImage) -> None:
        """File, node, source, export and row go, and the image is not needed any more."""
        await qemu.restart(hydrate_bytes_per_s=SLOW)
        volume_id = await restored(qemu, served)
        point_id = await cut(qemu, volume_id)
        await until(lambda: is_being_filled(qemu))

        await qemu.engine.delete_volume(volume_id)
        assert await qemu.engine.images() == {served.source.uri}
        await qemu.engine.release([point_id])

        await until(lambda: is_merged_to(qemu, 0))
        await qemu.tidy()
        assert list(qemu.engine._files.folder.iterdir()) == []
        assert await qemu.engine.images() == frozenset()

    async def test_ends_once_a_silent_server_answers(self, qemu: QemuSite, served: ServedImage) -> None:
        """What is under way is waited for, without keeping others from their work."""
        await qemu.restart(hydrate_bytes_per_s=SLOW)
        volume_id, other_id = await restored(qemu, served), new_id()
        await until(lambda: is_being_filled(qemu))
        served.freeze()

        await qemu.engine.delete_volume(volume_id)
        await qemu.engine.create_volume(other_id, SIZE)
        served.thaw()

        await until(lambda: is_merged_to(qemu, 1))
        await qemu.tidy()
        await cut(qemu, other_id)

    async def test_a_rollback_ends_it_too(self, qemu: QemuSite, served: ServedImage) -> None:
        """A volume that becomes something else needs its image no more."""
        await qemu.restart(hydrate_bytes_per_s=SLOW)
        volume_id = new_id()
        await qemu.engine.create_volume(volume_id, SIZE)
        await qemu.write(volume_id, 0, b"a" * BLOCK)
        point_id = await cut(qemu, volume_id)
        await qemu.engine.roll_back({volume_id: served.source})

        await qemu.engine.roll_back({volume_id: PointSource(point_id)})
        await qemu.engine.hydrate(volume_id, on_progress=ignore)

        await until(lambda: is_merged_to(qemu, 2))
        assert await qemu.read(volume_id, 0, SIZE) == b"a" * BLOCK + bytes(SIZE - BLOCK)
        await qemu.tidy()


async def is_asked_for_nothing(site: QemuSite) -> bool:
    """Tell whether all that is known of what is missing was asked for."""
    return all(filling.export_uri and not filling.under_way for filling in site.engine._hydration._fillings.values())


async def is_hydrated(site: QemuSite) -> bool:
    return not await site.engine.images()


async def is_usable(site: QemuSite) -> bool:
    return not (await site.engine.health()).unusable


async def is_merged_to(site: QemuSite, layers: int) -> bool:
    return len(site.ledger.holdings().layers) <= layers
