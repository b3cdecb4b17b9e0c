"""What changed between two points, read from a layer's file, is what the daemon says of the layer."""

import asyncio
import random
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from engine_sites import SIZE, QemuSite, cut, new_id, until

from onecut.engine.changes import GRAIN_BYTES, _Grains, changes
from onecut.engine.port import Extent, ExtentKind
from onecut.errors import NoChangeList
from onecut.nbd.client import ALLOCATION_DEPTH, BASE_ALLOCATION, READS_AS_ZEROS, NbdClient
from onecut.units import KiB, MiB

BLOCK = 4 * KiB
PART = 512


def act(client: NbdClient, content: bytearray, source: random.Random) -> None:
    """Write, zero or discard at random, in *content* too."""
    kind = source.choice(["write", "write", "zero", "trim"])
    length = source.choice([PART, BLOCK, 9 * BLOCK, 128 * KiB, 700 * KiB])
    offset = source.randrange((SIZE - length) // PART) * PART
    if kind == "write":
        data = source.randbytes(length)
        client.write(data, offset)
        content[offset : offset + length] = data
    elif kind == "zero":
        client.zero(offset, length)
        content[offset : offset + length] = bytes(length)
    else:
        client.trim(offset, length)  # what it reads as afterwards the daemon decides
        content[offset : offset + length] = client.read(offset, length)


@asynccontextmanager
async def served(site: QemuSite, point_id: str) -> AsyncIterator[NbdClient]:
    """Have the daemon serve a point."""
    point = site.ledger.point(point_id)
    assert point is not None
    async with site.engine._gate.act() as nodes, site.engine._readings.of(nodes, point.layer.id) as uri:
        with closing(await asyncio.to_thread(NbdClient.connect, uri)) as client:
            yield client


async def as_the_daemon_says(site: QemuSite, point_id: str) -> list[ExtentKind]:
    """Ask the daemon block by block."""

    def ask(client: NbdClient) -> list[ExtentKind]:
        kinds = []
        depths = client.block_status(0, SIZE, ALLOCATION_DEPTH)
        own = [found.flags == 1 for found in depths for _ in range(found.length // BLOCK)]
        allocation = client.block_status(0, SIZE, BASE_ALLOCATION)
        zero = [bool(found.flags & READS_AS_ZEROS) for found in allocation for _ in range(found.length // BLOCK)]
        for is_own, is_zero in zip(own, zero, strict=True):
            kind = ExtentKind.ZERO if is_zero else ExtentKind.DATA
            kinds.append(kind if is_own else ExtentKind.UNCHANGED)
        return kinds

    async with served(site, point_id) as client:
        return await asyncio.to_thread(ask, client)


def by_block(extents: list[Extent]) -> list[ExtentKind]:
    return [extent.kind for extent in extents for _ in range(extent.length // BLOCK)]


def by_grain(blocks: list[ExtentKind]) -> list[ExtentKind]:
    """What holds for all blocks of a grain, or data where they differ; block by block again."""
    length = GRAIN_BYTES // BLOCK
    grains = [set(blocks[begin : begin + length]) for begin in range(0, len(blocks), length)]
    return [next(iter(grain)) if len(grain) == 1 else ExtentKind.DATA for grain in grains for _ in range(length)]


async def content_of(site: QemuSite, point_id: str) -> bytes:
    async with served(site, point_id) as client:
        return await asyncio.to_thread(client.read, 0, SIZE)


async def test_writes_zeros_and_discards_are_told(qemu: QemuSite) -> None:
    """Point after point, also after merges, grain by grain: as the daemon says, and true of the content."""
    volume_id, source = new_id(), random.Random(11)  # noqa: S311 - repeatable
    await qemu.engine.create_volume(volume_id, SIZE)
    content, before, points = bytearray(SIZE), bytes(SIZE), [await cut(qemu, volume_id)]
    async with qemu.client(volume_id) as client:
        for turn in range(5):
            for _ in range(12):
                await asyncio.to_thread(act, client, content, source)
            points.append(await cut(qemu, volume_id))
            if turn == 2:  # the layer just below is merged with the one below it, and this one's changes stay
                await qemu.engine.release([points.pop(-3)])
                await qemu.tidy()

            extents = list(await qemu.engine.extents(points[-1], since=points[-2]))

            assert by_block(extents) == by_grain(await as_the_daemon_says(qemu, points[-1]))
            assert await content_of(qemu, points[-1]) == bytes(content)
            for extent in extents:
                there = slice(extent.offset, extent.offset + extent.length)
                assert extent.kind is not ExtentKind.UNCHANGED or content[there] == before[there]
                assert extent.kind is not ExtentKind.ZERO or not any(content[there])
            before = bytes(content)


def test_a_long_list_of_changes_takes_little_memory() -> None:
    """Of every second grain a block was changed; the list is the same as if all of the grain were."""
    changed = 100_000
    tracemalloc.start()
    try:
        found = _Grains(2 * changed * GRAIN_BYTES)
        for number in range(changed):
            found.add(2 * number * GRAIN_BYTES + BLOCK, ExtentKind.DATA)
            found.add((2 * number + 2) * GRAIN_BYTES, ExtentKind.UNCHANGED)
        assert tracemalloc.get_traced_memory()[1] < 2 * changed * 20
    finally:
        tracemalloc.stop()

    assert len(found.extents) == 2 * changed
    assert list(found.extents[-2:]) == [
        Extent((2 * changed - 2) * GRAIN_BYTES, GRAIN_BYTES, ExtentKind.DATA),
        Extent((2 * changed - 1) * GRAIN_BYTES, GRAIN_BYTES, ExtentKind.UNCHANGED),
    ]


async def test_changes_of_merged_layers_are_added_up(qemu: QemuSite) -> None:
    """When a point between two is released and its layer merged, they are neighbours, and all changes are told."""
    volume_id = new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    points = [await cut(qemu, volume_id)]
    for offset in (0, 8 * MiB):
        await qemu.write(volume_id, offset, b"x" * BLOCK)
        points.append(await cut(qemu, volume_id))
    with pytest.raises(NoChangeList, match="not the one just below"):
        await qemu.engine.extents(points[2], since=points[0])

    await qemu.engine.release([points[1]])
    await until(lambda: are_neighbours(qemu, points[0], points[2]))

    changed = [
        (extent.offset, extent.length)
        for extent in await qemu.engine.extents(points[2], since=points[0])
        if extent.kind is ExtentKind.DATA
    ]
    assert changed == [(0, GRAIN_BYTES), (8 * MiB, GRAIN_BYTES)]


async def are_neighbours(site: QemuSite, lower: str, upper: str) -> bool:
    below, above = site.ledger.point(lower), site.ledger.point(upper)
    return below is not None and above is not None and above.layer.parent_id == below.layer.id


async def test_an_open_point_is_not_merged_with(qemu: QemuSite) -> None:
    """What its layer says stays as it is until it is closed, whatever is released around it."""
    volume_id = new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    points = []
    for offset in (0, 8 * MiB, 16 * MiB):
        await qemu.write(volume_id, offset, b"x" * BLOCK)
        points.append(await cut(qemu, volume_id))
    async with qemu.engine.open_point(points[1]):
        before = qemu.ledger.point(points[1])
        await qemu.engine.release([points[0], points[2]])
        async with qemu.engine._gate.act() as nodes:
            await qemu.engine._housekeeping.tidy(nodes)

        assert qemu.ledger.point(points[1]) == before
    await until(lambda: has_layers(qemu, 3))


async def has_layers(site: QemuSite, count: int) -> bool:
    return len(site.ledger.holdings().layers) == count


@pytest.mark.parametrize(
    ("place", "byte", "why"), [(0, b"X", "magic"), (7, b"\x02", "version"), (79, b"\x12", "marked as damaged")]
)
async def test_a_file_that_is_not_as_we_make_them_has_no_change_list(
    qemu: QemuSite, tmp_path: Path, place: int, byte: bytes, why: str
) -> None:
    """Whatever the file is, nothing is guessed from it."""
    volume_id = new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    kept = qemu.ledger.volume(volume_id)
    assert kept is not None
    copy = tmp_path / "copy"
    raw = bytearray(qemu.engine._files.path(kept.top.id).read_bytes())
    copy.write_bytes(raw)
    assert [extent.kind for extent in changes(copy, SIZE, SIZE)] == [ExtentKind.UNCHANGED], why
    raw[place : place + 1] = byte
    copy.write_bytes(raw)

    with pytest.raises(NoChangeList, match="not a file as Onecut makes them"):
        changes(copy, SIZE, SIZE)
