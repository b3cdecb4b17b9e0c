"""What only real disks can show of a cut: one instant, under real writers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self

import pytest
from engine_sites import SIZE, QemuSite, new_id
from running import DEADLINE_S

from onecut.engine.port import PointSource
from onecut.errors import CannotCut, CutFailed
from onecut.nbd.client import NbdClient
from onecut.units import KiB

BLOCK = 4 * KiB
CUTS = 8


class TurnWriter:
    """
    Writes stamps 1, 2, 3, ... to disks in turn; each write is acknowledged before the next begins.

    So whoever holds stamp n on one disk must hold, on each other disk, the last stamp before n that is that disk's.
    """

    def __init__(self, clients: Sequence[NbdClient]) -> None:
        self.stamp = 0
        self._clients = clients
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._done.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while not self._done.is_set():
            stamp = self.stamp + 1
            self._clients[stamp % len(self._clients)].write(stamp.to_bytes(8, "big") * (BLOCK // 8), 0)
            self.stamp = stamp


def breaks_order(stamps: Sequence[int]) -> bool:
    """Tell whether any disk lacks a stamp that was acknowledged before one that another disk holds."""
    newest, disks = max(stamps), len(stamps)
    expected = {stamp % disks: stamp for stamp in range(max(newest - disks + 1, 0), newest + 1)}
    return any(stamps[disk] != expected.get(disk, 0) for disk in range(disks))


@asynccontextmanager
async def disks_in_use(site: QemuSite, count: int) -> AsyncIterator[tuple[list[str], TurnWriter]]:
    volumes = [new_id() for _ in range(count)]
    clients = []
    for volume_id in volumes:
        await site.engine.create_volume(volume_id, SIZE)
        clients.append(await asyncio.to_thread(NbdClient.connect, await site.engine.export(new_id(), volume_id)))
    async with TurnWriter(clients) as writer:
        yield volumes, writer
    for client in clients:
        client.close()


async def progress(writer: TurnWriter, writes: int) -> None:
    """Let the writer go on for so many writes."""
    goal = writer.stamp + writes
    async with asyncio.timeout(DEADLINE_S):
        while writer.stamp < goal:  # noqa: ASYNC110 - a thread's progress sets no event
            await asyncio.sleep(0.001)


async def stamps_of(site: QemuSite, points: Sequence[str]) -> list[int]:
    stamps = []
    for point_id in points:
        volume_id = new_id()
        await site.engine.create_volume(volume_id, SIZE, source=PointSource(point_id))
        stamps.append(int.from_bytes(await site.read(volume_id, 0, 8), "big"))
        await site.engine.delete_volume(volume_id)
    return stamps


@pytest.mark.parametrize("disks", [2, 8])
async def test_all_members_share_one_instant_under_writers(qemu: QemuSite, disks: int) -> None:
    """A write to one disk that began after a write to another had ended is never in a cut without it."""
    cuts = []
    async with disks_in_use(qemu, disks) as (volumes, writer):
        for _ in range(CUTS):
            points = {volume_id: new_id() for volume_id in volumes}
            await progress(writer, 3)
            await qemu.engine.cut(new_id(), points, deadline_s=DEADLINE_S)
            cuts.append(list(points.values()))
        found = [await stamps_of(qemu, points) for points in cuts]

    assert [stamps for stamps in found if breaks_order(stamps)] == []
    assert [max(stamps) for stamps in found] == sorted({max(stamps) for stamps in found})


async def test_members_cut_one_after_another_are_caught(qemu: QemuSite) -> None:
    """The check above bites: without one instant for all, order is broken."""
    async with disks_in_use(qemu, 2) as (volumes, writer):
        points = []
        for volume_id in volumes:
            points.append(new_id())
            await qemu.engine.cut(new_id(), {volume_id: points[-1]}, deadline_s=DEADLINE_S)
            await progress(writer, 3)
        stamps = await stamps_of(qemu, points)

    assert breaks_order(stamps)


async def test_cuts_of_shared_members_may_be_asked_for_at_once(qemu: QemuSite) -> None:
    """Cuts that have volumes in common take turns, and each shows one instant."""
    async with disks_in_use(qemu, 3) as (volumes, _):
        wanted = [{volume_id: new_id() for volume_id in volumes} for _ in range(4)]
        await asyncio.gather(*(qemu.engine.cut(new_id(), points, deadline_s=DEADLINE_S) for points in wanted))
        found = [await stamps_of(qemu, list(points.values())) for points in wanted]

    assert [stamps for stamps in found if breaks_order(stamps)] == []


async def test_the_largest_cut_has_64_members(qemu: QemuSite) -> None:
    """As many as `max_members` says are cut together."""
    volumes = [new_id() for _ in range(qemu.engine.max_members)]
    await asyncio.gather(*(qemu.engine.create_volume(volume_id, SIZE) for volume_id in volumes))

    cut = await qemu.engine.cut(new_id(), {volume_id: new_id() for volume_id in volumes}, deadline_s=DEADLINE_S)

    assert {member.volume_id for member in cut.members} == set(volumes)
    assert all(0 < member.pause_ms <= cut.pause_ms for member in cut.members)


@pytest.mark.parametrize("step", ["planned", "prepared"])
async def test_a_cut_past_its_deadline_leaves_nothing(qemu: QemuSite, step: str) -> None:
    """Time is up before the instant: no point, no layer and no plan is left, and the next cut works."""
    volume_id, cut_id = new_id(), new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    qemu.engine.at[step] = lambda: asyncio.sleep(DEADLINE_S)

    with pytest.raises(CutFailed, match="longer than"):
        await qemu.engine.cut(cut_id, {volume_id: new_id()}, deadline_s=0.3)

    assert await qemu.engine.settle(cut_id) is None
    await qemu.tidy()
    await qemu.engine.cut(cut_id, {volume_id: new_id()}, deadline_s=DEADLINE_S)


@pytest.mark.parametrize("step", ["planned", "prepared", "frozen"])
async def test_a_cut_that_was_called_off_is_settled(qemu: QemuSite, step: str) -> None:
    """Its caller is cancelled at any step: whoever needs the volume next finds out, and nothing is left over."""
    volume_id, cut_id, reached = new_id(), new_id(), asyncio.Event()
    await qemu.engine.create_volume(volume_id, SIZE)

    async def hang() -> None:
        reached.set()
        await asyncio.sleep(DEADLINE_S)

    qemu.engine.at[step] = hang
    task = asyncio.create_task(qemu.engine.cut(cut_id, {volume_id: new_id()}, deadline_s=DEADLINE_S))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    await qemu.write(volume_id, 0, bytes(BLOCK))

    assert (await qemu.engine.settle(cut_id) is not None) == (step == "frozen")
    await qemu.tidy()


async def test_a_cut_of_a_busy_volume_gives_up_in_time(qemu: QemuSite) -> None:
    """The deadline holds for waiting too."""
    volume_id = new_id()
    await qemu.engine.create_volume(volume_id, SIZE)

    async with qemu.engine._alone_with([volume_id]):
        with pytest.raises(CannotCut, match="busy"):
            await qemu.engine.cut(new_id(), {volume_id: new_id()}, deadline_s=0.1)


@pytest.mark.parametrize("wrong", ["../../etc/passwd", "", "a b", "x" * 37, 'a"}'])
async def test_an_id_that_could_be_more_than_a_name_is_refused(qemu: QemuSite, wrong: str) -> None:
    """Nothing but letters, digits and dashes reaches the daemon or a file's name."""
    acts: list[Callable[[], object]] = [
        lambda: qemu.engine.create_volume(wrong, SIZE),
        lambda: qemu.engine.export(wrong, new_id()),
        lambda: qemu.engine.cut(wrong, {new_id(): new_id()}, deadline_s=1),
    ]
    for act in acts:
        with pytest.raises(Exception, match="is no id"):
            await act()  # type: ignore[misc]


async def test_a_cut_of_an_unusable_volume_touches_nothing(qemu: QemuSite) -> None:
    """A member whose layer can't be opened is named, and the others have no point."""
    good, bad, point_id = new_id(), new_id(), new_id()
    for volume_id in (good, bad):
        await qemu.engine.create_volume(volume_id, SIZE)
    kept = qemu.ledger.volume(bad)
    assert kept is not None
    await qemu.engine.close()  # first: it would start the daemon again
    await qemu.kill_daemon()
    qemu.engine._files.path(kept.top.id).rename(qemu.folder / "elsewhere")
    await qemu.new_engine().start()

    with pytest.raises(CannotCut, match=kept.top.id):
        await qemu.engine.cut(new_id(), {good: point_id, bad: new_id()}, deadline_s=DEADLINE_S)

    assert qemu.ledger.point(point_id) is None
