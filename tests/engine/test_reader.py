"""Points are read past the daemon, and what is read is what the daemon serves."""

import asyncio
import mmap
import os
import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from engine_sites import SIZE, QemuSite, cut, merge_is_running, new_id, until
from images import image, some_content
from mounts import in_memory

from onecut.engine.ledger import Point
from onecut.engine.qemu import ServedPoint
from onecut.engine.reader import OpenLayers
from onecut.engine.tables import ForeignLayer
from onecut.errors import VolumeUnusable
from onecut.nbd.client import NbdClient
from onecut.units import KiB, MiB

BLOCK = 4 * KiB
ACTS = 40


@pytest.fixture
async def volume_id(qemu: QemuSite) -> str:
    volume_id = new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    return volume_id


def act(client: NbdClient, content: bytearray, source: random.Random) -> None:
    """Write or zero at random, in *content* too."""
    length = source.choice([512, BLOCK, 3 * BLOCK, 9 * BLOCK, 128 * KiB, 300 * KiB])
    offset = source.randrange((SIZE - length) // 512) * 512
    if source.random() < 0.7:
        content[offset : offset + length] = data = source.randbytes(length)
        client.write(data, offset)
    else:
        content[offset : offset + length] = bytes(length)
        client.zero(offset, length)


async def change(site: QemuSite, volume_id: str, content: bytearray, source: random.Random) -> None:
    async with site.client(volume_id) as client:
        for _ in range(ACTS):
            await asyncio.to_thread(act, client, content, source)


def at_once(opened: OpenLayers, length: int) -> bytes:
    """Read into memory that direct I/O can use."""
    memory = memoryview(mmap.mmap(-1, length))
    memory[:] = b"x" * length
    with closing(opened.reader()) as reader:
        for offset in range(0, length, MiB):
            reader.readinto(memory[offset : offset + MiB], offset)
    return memory.tobytes()


def in_crooked_pieces(opened: OpenLayers, length: int) -> bytes:
    """Read pieces that begin and end anywhere, into memory that lies anywhere."""
    source, data, offset = random.Random(5), bytearray(length), 0  # noqa: S311 - repeatable
    with closing(opened.reader()) as reader:
        while offset < length:
            end = min(length, offset + source.randrange(1, 3 * MiB))
            reader.readinto(memoryview(data)[offset:end], offset)
            offset = end
    return bytes(data)


@pytest.mark.parametrize("read", [at_once, in_crooked_pieces])
async def test_what_is_read_is_what_was_written(
    qemu: QemuSite, volume_id: str, read: Callable[[OpenLayers, int], bytes]
) -> None:
    """Through one layer and through six, with data, zeros and holes in each, also after two of them were merged."""
    content, source = bytearray(SIZE), random.Random(8)  # noqa: S311 - repeatable
    kept: dict[str, bytes] = {}
    for _ in range(6):
        await change(qemu, volume_id, content, source)
        kept[await cut(qemu, volume_id)] = bytes(content)
    for point_id, expected in kept.items():
        async with qemu.engine.open_point(point_id) as opened:
            assert isinstance(opened, OpenLayers)
            assert await asyncio.to_thread(read, opened, SIZE) == expected

    released = list(kept)[1:3]
    await qemu.engine.release(released)
    await qemu.tidy()

    for point_id in kept.keys() - set(released):
        async with qemu.engine.open_point(point_id) as opened:
            assert isinstance(opened, OpenLayers)
            assert await asyncio.to_thread(read, opened, SIZE) == kept[point_id]


async def test_layers_below_are_merged_while_it_is_read(qemu: QemuSite, volume_id: str) -> None:
    """Before, during and after the merge of two layers below, and with the merged one deleted, it reads the same."""
    await qemu.restart(merge_bytes_per_s=8 * MiB)
    content, source, points = bytearray(SIZE), random.Random(2), []  # noqa: S311 - repeatable
    for _ in range(3):
        await change(qemu, volume_id, content, source)
        points.append(await cut(qemu, volume_id))
    count = len(qemu.ledger.holdings().layers)

    async with qemu.engine.open_point(points[-1]) as early:
        assert isinstance(early, OpenLayers)
        await qemu.engine.release(points[:2])
        await until(lambda: merge_is_running(qemu))
        async with qemu.engine.open_point(points[-1]) as late:
            assert isinstance(late, OpenLayers)
            while len(qemu.ledger.holdings().layers) == count:
                assert await asyncio.to_thread(at_once, late, SIZE) == bytes(content)
            assert await asyncio.to_thread(at_once, early, SIZE) == bytes(content)
            assert await asyncio.to_thread(at_once, late, SIZE) == bytes(content)
        async with qemu.engine.open_point(points[-1]) as after:
            assert isinstance(after, OpenLayers)
            assert await asyncio.to_thread(at_once, after, SIZE) == bytes(content)


async def test_what_a_merge_left_is_read_although_the_disk_began_as_an_image(qemu: QemuSite) -> None:
    """The lowest layer of such a disk was open for writing once; what is merged into it is in its file."""
    volume_id, content, source = new_id(), bytearray(some_content(SIZE)), random.Random(6)  # noqa: S311 - repeatable
    with image(bytes(content)) as served:
        await qemu.engine.create_volume(volume_id, SIZE, source=served.source)
        await qemu.engine.hydrate(volume_id, on_progress=lambda _done, _total: None)
    await change(qemu, volume_id, content, source)
    point_id = await cut(qemu, volume_id)
    await qemu.tidy()

    async with qemu.engine.open_point(point_id) as opened:
        assert isinstance(opened, OpenLayers)
        assert await asyncio.to_thread(at_once, opened, SIZE) == bytes(content)


async def test_only_clients_move_bytes(qemu: QemuSite, volume_id: str) -> None:
    """Whoever archives sees what clients write and read, and not what he reads himself."""
    before = qemu.engine.moved_bytes()
    assert before is not None
    await qemu.write(volume_id, 0, b"a" * MiB)
    written = qemu.engine.moved_bytes()
    assert written is not None
    assert written - before >= MiB
    point_id = await cut(qemu, volume_id)
    await qemu.tidy()
    before = qemu.engine.moved_bytes()

    async with qemu.engine.open_point(point_id) as opened:
        assert isinstance(opened, OpenLayers)
        assert await asyncio.to_thread(at_once, opened, MiB) == b"a" * MiB
        assert qemu.engine.moved_bytes() == before

    assert before is not None
    assert await qemu.read(volume_id, 0, MiB) == b"a" * MiB
    read = qemu.engine.moved_bytes()
    assert read is not None
    assert read - before >= MiB
    await qemu.engine.close()  # first: it would start the daemon again
    await qemu.kill_daemon()
    assert qemu.engine.moved_bytes() is None


async def test_the_daemon_is_not_needed(qemu: QemuSite, volume_id: str) -> None:
    """A reader goes on when it dies."""
    await qemu.write(volume_id, 0, b"a" * MiB)
    async with qemu.engine.open_point(await cut(qemu, volume_id)) as opened:
        await qemu.lose_daemon()

        assert isinstance(opened, OpenLayers)
        assert await asyncio.to_thread(at_once, opened, MiB) == b"a" * MiB


async def test_a_disk_that_is_being_filled_is_read_through_the_daemon(qemu: QemuSite) -> None:
    """What its files lack only the image has."""
    volume_id = new_id()
    with image(content := some_content(SIZE)) as served:
        await qemu.restart(hydrate_bytes_per_s=1 * MiB)
        await qemu.engine.create_volume(volume_id, SIZE, source=served.source)

        async with qemu.engine.open_point(await cut(qemu, volume_id)) as opened:
            assert isinstance(opened, ServedPoint)
            with closing(opened.reader()) as reader:
                data = bytearray(SIZE)
                await asyncio.to_thread(reader.readinto, data, 0)

    assert bytes(data) == content


def spoil(path: Path, place: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        file.write(data)


def path_of(site: QemuSite, point: Point | None) -> Path:
    assert point is not None
    return site.engine._files.path(point.layer.id)


async def test_a_file_that_is_not_as_we_make_them_is_left_to_the_daemon(qemu: QemuSite, volume_id: str) -> None:
    """Another version than ours is nothing we read; the daemon has it open and can."""
    await qemu.write(volume_id, 0, b"a" * MiB)
    point_id = await cut(qemu, volume_id)
    spoil(path_of(qemu, qemu.ledger.point(point_id)), 7, b"\x02")

    async with qemu.engine.open_point(point_id) as opened:
        assert isinstance(opened, ServedPoint)
        with closing(opened.reader()) as reader:
            assert await asyncio.to_thread(reader.read, 0, MiB) == b"a" * MiB


@pytest.mark.parametrize("place", [b"\x80\0\0\0\0\0\x02\0", b"\0\0\0\0\0\0\0\0", b"\x40\0\0\0\0\x10\0\0"])
async def test_damaged_tables_are_not_followed(qemu: QemuSite, volume_id: str, place: bytes) -> None:
    """A cluster within another, one that has data nowhere, and a compressed one are no data."""
    await qemu.write(volume_id, 0, b"a" * MiB)
    point_id = await cut(qemu, volume_id)
    path = path_of(qemu, qemu.ledger.point(point_id))
    with path.open("rb") as file:
        file.seek(40)
        file.seek(int.from_bytes(file.read(8)))
        table = int.from_bytes(file.read(8)) & ~(1 << 63)
    spoil(path, table, place)

    async with qemu.engine.open_point(point_id) as opened:
        assert isinstance(opened, OpenLayers)
        with pytest.raises(VolumeUnusable, match=f"{path.stem} are damaged, at cluster 0"):
            await asyncio.to_thread(at_once, opened, MiB)


async def test_a_file_that_ends_within_its_tables_is_not_ours(tmp_path: Path, qemu: QemuSite, volume_id: str) -> None:
    """Wherever it ends."""
    kept = qemu.ledger.volume(volume_id)
    assert kept is not None
    raw = qemu.engine._files.path(kept.top.id).read_bytes()
    copy = tmp_path / "copy"
    copy.write_bytes(raw[: int.from_bytes(raw[40:48]) + 3])

    with pytest.raises(ForeignLayer, match="ends within its tables"):
        OpenLayers([copy], SIZE)


async def test_what_a_file_is_too_short_for_is_zeros(qemu: QemuSite, volume_id: str) -> None:
    """As for the daemon."""
    await qemu.write(volume_id, 0, b"a" * 128 * KiB)
    point_id = await cut(qemu, volume_id)
    path = path_of(qemu, qemu.ledger.point(point_id))
    os.truncate(path, path.stat().st_size - 64 * KiB)

    async with qemu.engine.open_point(point_id) as opened:
        assert isinstance(opened, OpenLayers)
        assert await asyncio.to_thread(at_once, opened, 128 * KiB) == b"a" * 64 * KiB + bytes(64 * KiB)


async def test_direct_io_is_not_needed(qemu: QemuSite) -> None:
    """Where a file system has none, as those in memory long had not, files are read through the page cache."""
    with in_memory(qemu.engine._files.folder):
        volume_id, content = new_id(), bytearray(SIZE)
        await qemu.engine.create_volume(volume_id, SIZE)
        await change(qemu, volume_id, content, random.Random(4))  # noqa: S311 - repeatable

        async with qemu.engine.open_point(await cut(qemu, volume_id)) as opened:
            assert isinstance(opened, OpenLayers)
            assert await asyncio.to_thread(at_once, opened, SIZE) == bytes(content)


async def test_nothing_beyond_its_end_is_read(qemu: QemuSite, volume_id: str) -> None:
    """Who asks for more has made a mistake."""
    async with qemu.engine.open_point(await cut(qemu, volume_id)) as opened:
        with closing(opened.reader()) as reader, pytest.raises(ValueError, match=f"not within {SIZE}"):
            reader.readinto(bytearray(2), SIZE - 1)
