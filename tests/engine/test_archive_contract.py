"""What every engine promises to who archives points, and to who restores volumes from images."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine_sites import SIZE, Site, cut, new_id
from images import ServedImage, image, some_content

from onecut.engine.changes import GRAIN_BYTES
from onecut.engine.port import Extent, ExtentKind, OpenPoint, PointSource
from onecut.errors import EngineError, NoChangeList, VolumeUnusable
from onecut.units import KiB, MiB

BLOCK = 4 * KiB
WRITES = 10


@pytest.fixture
def served() -> Iterator[ServedImage]:
    with image(some_content(SIZE)) as served:
        yield served


async def new_volume(site: Site) -> str:
    volume_id = new_id()
    await site.engine.create_volume(volume_id, SIZE)
    return volume_id


async def write_at_random(site: Site, volume_id: str, content: bytearray, source: random.Random) -> None:
    """Write data and zeros to random places, and to *content* too."""
    for _ in range(WRITES):
        offset = source.randrange(len(content) // BLOCK - 16) * BLOCK
        length = source.randrange(1, 16) * BLOCK
        data = source.randbytes(length) if source.random() < 0.7 else bytes(length)
        await site.write(volume_id, offset, data)
        content[offset : offset + length] = data


def check(extents: Sequence[Extent], content: bytes, before: bytes) -> None:
    """Compare extents with what a point holds, and with what the one before it held."""
    position = 0
    for extent in extents:
        assert extent.offset == position
        assert extent.length > 0
        position += extent.length
        held = content[extent.offset : position]
        if extent.kind is ExtentKind.ZERO:
            assert not any(held)
        elif extent.kind is ExtentKind.UNCHANGED:
            assert position <= len(before)
            assert held == before[extent.offset : position]
    assert position == len(content)


def bytes_of(extents: Sequence[Extent], kind: ExtentKind) -> int:
    return sum(extent.length for extent in extents if extent.kind is kind)


def read_all(opened: OpenPoint) -> bytes:
    reader, data = opened.reader(), bytearray(opened.size_bytes)
    for offset in range(0, len(data), MiB):
        reader.readinto(memoryview(data)[offset : offset + MiB], offset)
    reader.close()
    reader.close()
    return bytes(data)


async def content_of(site: Site, point_id: str) -> bytes:
    async with site.engine.open_point(point_id) as opened:
        return await asyncio.to_thread(read_all, opened)


class TestExtents:
    async def test_they_say_where_a_point_has_data(self, site: Site) -> None:
        """Whatever was never written is zero; the written part is data; nothing else is known of it."""
        volume_id = await new_volume(site)
        await site.write(volume_id, 8 * MiB, b"a" * MiB)

        extents = await site.engine.extents(await cut(site, volume_id), since=None)

        assert [(extent.offset, extent.length, extent.kind) for extent in extents] == [
            (0, 8 * MiB, ExtentKind.ZERO),
            (8 * MiB, 1 * MiB, ExtentKind.DATA),
            (9 * MiB, SIZE - 9 * MiB, ExtentKind.ZERO),
        ]

    async def test_they_are_right_under_random_writes(self, site: Site) -> None:
        """Cut after cut, what is called unchanged is unchanged, zeros are zeros, and little is called changed."""
        volume_id, source = await new_volume(site), random.Random(3)  # noqa: S311 - repeatable
        content, before, base = bytearray(SIZE), bytes(SIZE), None
        for turn in range(3):
            await write_at_random(site, volume_id, content, source)
            point_id = await cut(site, volume_id)

            extents = await site.engine.extents(point_id, since=base)

            check(extents, bytes(content), before)
            check(await site.engine.extents(point_id, since=None), bytes(content), b"")
            if turn:
                assert bytes_of(extents, ExtentKind.UNCHANGED) >= SIZE - WRITES * 2 * GRAIN_BYTES
            before, base = bytes(content), point_id

    async def test_what_a_disk_has_grown_by_is_never_unchanged(self, site: Site) -> None:
        """The new range comes as zeros or data, although nobody wrote to it."""
        volume_id = await new_volume(site)
        await site.write(volume_id, 0, b"a" * BLOCK)
        small = await cut(site, volume_id)
        await site.engine.extend_volume(volume_id, 2 * SIZE)
        await site.write(volume_id, 2 * SIZE - GRAIN_BYTES, b"b" * GRAIN_BYTES)

        extents = await site.engine.extents(await cut(site, volume_id), since=small)

        assert [(extent.offset, extent.length, extent.kind) for extent in extents] == [
            (0, SIZE, ExtentKind.UNCHANGED),
            (SIZE, SIZE - GRAIN_BYTES, ExtentKind.ZERO),
            (2 * SIZE - GRAIN_BYTES, GRAIN_BYTES, ExtentKind.DATA),
        ]

    async def test_a_rollback_changes_the_point_to_compare_with(self, site: Site) -> None:
        """After it, changes are told since the point that was gone back to, and since no other."""
        volume_id = await new_volume(site)
        await site.write(volume_id, 0, b"a" * BLOCK)
        first = await cut(site, volume_id)
        await site.write(volume_id, 0, b"b" * BLOCK)
        second = await cut(site, volume_id)
        await site.engine.roll_back({volume_id: PointSource(first)})
        third = await cut(site, volume_id)

        extents = await site.engine.extents(third, since=first)

        assert [extent.kind for extent in extents] == [ExtentKind.UNCHANGED]
        with pytest.raises(NoChangeList, match="not the one just below"):
            await site.engine.extents(third, since=second)

    async def test_points_further_apart_have_no_change_list(self, site: Site) -> None:
        """Only neighbours are compared; what is not known for certain is not told at all."""
        volume_id = await new_volume(site)
        points = [await cut(site, volume_id) for _ in range(3)]

        for point_id, since in ((points[2], points[0]), (points[0], points[1]), (points[1], new_id())):
            with pytest.raises(NoChangeList):
                await site.engine.extents(point_id, since=since)

    async def test_an_unknown_point_has_none(self, site: Site) -> None:
        """Nothing is told of nothing."""
        with pytest.raises(VolumeUnusable, match="no point"):
            await site.engine.extents(new_id(), since=None)


class TestOpenPoint:
    async def test_it_is_read_as_it_was_by_several_at_once(self, site: Site) -> None:
        """What is written meanwhile does not show, and each thread has its own reader."""
        volume_id = await new_volume(site)
        await site.write(volume_id, 1 * MiB, b"a" * MiB)
        point_id = await cut(site, volume_id)
        expected = bytes(MiB) + b"a" * MiB + bytes(SIZE - 2 * MiB)

        async with site.engine.open_point(point_id) as opened:
            await site.write(volume_id, 1 * MiB, b"b" * MiB)
            with ThreadPoolExecutor(3) as pool:
                seen = await asyncio.to_thread(lambda: list(pool.map(read_all, [opened] * 3)))

        assert seen == [expected] * 3

    async def test_it_stays_readable_although_it_is_released(self, site: Site) -> None:
        """A point that is being archived is not pulled away; it goes when it is closed."""
        volume_id = await new_volume(site)
        await site.write(volume_id, 0, b"a" * BLOCK)
        point_id = await cut(site, volume_id)

        async with site.engine.open_point(point_id) as opened:
            await site.engine.release([point_id])
            await site.engine.delete_volume(volume_id)
            assert (await asyncio.to_thread(read_all, opened))[:BLOCK] == b"a" * BLOCK

        with pytest.raises(VolumeUnusable, match="no point"):
            await content_of(site, point_id)


class TestImages:
    async def test_a_volume_begins_as_the_image(self, site: Site, served: ServedImage) -> None:
        """Every byte is the image's, at once and after it is hydrated; beyond its end the volume is zero."""
        volume_id, told = new_id(), list[tuple[int, int]]()
        await site.engine.create_volume(volume_id, 2 * SIZE, source=served.source)

        assert await site.read(volume_id, 0, 2 * SIZE) == served.content + bytes(SIZE)
        await site.engine.hydrate(volume_id, on_progress=lambda done, total: told.append((done, total)))

        assert told == sorted(told)
        assert all(done == total for done, total in told[-1:])
        assert await site.engine.images() == frozenset()
        served.kill()
        assert await site.read(volume_id, 0, 2 * SIZE) == served.content + bytes(SIZE)

    async def test_creating_it_twice_keeps_what_was_written(self, site: Site, served: ServedImage) -> None:
        """A job that creates the volume again after a crash does not take writes back."""
        volume_id = new_id()
        await site.engine.create_volume(volume_id, SIZE, source=served.source)
        await site.write(volume_id, SIZE // 8, b"x" * BLOCK)

        await site.engine.create_volume(volume_id, SIZE, source=served.source)

        assert await site.read(volume_id, SIZE // 8, BLOCK) == b"x" * BLOCK

    async def test_its_points_are_complete(self, site: Site, served: ServedImage) -> None:
        """A cut before the end of the hydration holds the whole disk, and has no change list."""
        volume_id = new_id()
        await site.engine.create_volume(volume_id, SIZE, source=served.source)
        await site.write(volume_id, 0, b"x" * BLOCK)
        point_id = await cut(site, volume_id)

        content = await content_of(site, point_id)

        assert content == b"x" * BLOCK + served.content[BLOCK:]
        check(await site.engine.extents(point_id, since=None), content, b"")

    async def test_volumes_are_rolled_back_to_images_and_points_together(
        self, site: Site, served: ServedImage
    ) -> None:
        """One call takes both kinds; a volume that is larger than the image keeps its size."""
        large, small = await new_volume(site), await new_volume(site)
        await site.engine.extend_volume(large, 2 * SIZE)
        await site.write(large, 2 * SIZE - BLOCK, b"a" * BLOCK)
        await site.write(small, 0, b"a" * BLOCK)
        point_id = await cut(site, small)
        await site.write(small, 0, b"b" * BLOCK)

        await site.engine.roll_back({large: served.source, small: PointSource(point_id)})

        assert await site.read(large, 0, 2 * SIZE) == served.content + bytes(SIZE)
        assert await site.read(small, 0, BLOCK) == b"a" * BLOCK

    async def test_an_image_that_can_not_be_opened_changes_no_volume(self, site: Site, served: ServedImage) -> None:
        """All are rolled back or none, and no volume is made of it."""
        first, second, third = await new_volume(site), await new_volume(site), new_id()
        await site.write(second, 0, b"a" * BLOCK)
        served.kill()

        with pytest.raises(EngineError, match=r"can't be (opened|read)"):
            await site.engine.roll_back({first: served.source, second: served.source})
        with pytest.raises(EngineError, match=r"can't be (opened|read)"):
            await site.engine.create_volume(third, SIZE, source=served.source)

        assert await site.read(second, 0, BLOCK) == b"a" * BLOCK
        with pytest.raises(EngineError):
            await site.read(third, 0, BLOCK)
        assert await site.engine.images() == frozenset()

    async def test_a_volume_without_an_image_has_nothing_to_wait_for(self, site: Site) -> None:
        """Nor has one that is not there: a job that waits again after a crash succeeds."""
        for volume_id in (await new_volume(site), new_id()):
            await site.engine.hydrate(volume_id, on_progress=lambda _done, _total: None)
