"""What only a real daemon can show of limits: that clients feel them, and that nothing else does."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from engine_sites import SIZE, Killed, QemuSite, new_id, until
from running import DEADLINE_S

from onecut.engine.port import Limits
from onecut.engine.throttles import PREFIX
from onecut.nbd.client import NbdClient
from onecut.nbd.errors import ConnectionLost
from onecut.units import KiB, MiB

BLOCK = 4 * KiB


async def seconds_for(client: NbdClient, writes: int, *, length: int = BLOCK) -> float:
    """Write so often, one after the other, and say how long it took."""

    def run() -> float:
        began = time.monotonic()
        for number in range(writes):
            client.write(bytes([number % 255 + 1]) * length, number * length)
        return time.monotonic() - began

    return await asyncio.to_thread(run)


class Crowd:
    """Clients that write, each as fast as it is let."""

    def __init__(self, uri: str, number: int) -> None:
        self.under_way = 0
        self._uri = uri
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(number)]

    @classmethod
    @contextmanager
    def writing(cls, uri: str, number: int) -> Iterator["Crowd"]:
        """Let them write until the block ends; what they wait for then must come."""
        crowd = cls(uri, number)
        with ExitStack() as stack:
            for thread in crowd._threads:
                thread.start()
                stack.callback(thread.join)
            stack.callback(crowd._over.set)
            yield crowd

    async def all_wait(self) -> bool:
        """Tell whether each has begun a write that has not ended."""
        return self.under_way == len(self._threads)

    def _run(self) -> None:
        with suppress(ConnectionLost), NbdClient.connect(self._uri) as client:
            while not self._over.is_set():
                self.under_way += 1
                client.write(b"x" * BLOCK, 0)
                self.under_way -= 1


async def served(site: QemuSite, limits: Limits) -> tuple[str, str, str]:
    """Make a volume with limits and serve it; return the ids of both, and the URI."""
    volume_id, export_id = new_id(), new_id()
    await site.engine.create_volume(volume_id, SIZE)
    await site.engine.limit({volume_id: limits})
    return volume_id, export_id, await site.engine.export(export_id, volume_id)


async def filters(site: QemuSite) -> list[str]:
    """List the daemon's throttle filters."""
    async with site.engine._gate.act() as nodes:
        return [name for name in (await nodes._graph()).names if name.startswith(PREFIX)]


async def test_a_client_that_writes_feels_new_limits_at_once(qemu: QemuSite) -> None:
    """Its connection stays; 50 requests a second or 4 MiB a second are really no more than that."""
    volume_id, _, uri = await served(qemu, Limits())
    with NbdClient.connect(uri) as client:
        unlimited_s = await seconds_for(client, 100)

        await qemu.engine.limit({volume_id: Limits(iops=50)})
        assert await seconds_for(client, 100) > max(1.5, unlimited_s)

        await qemu.engine.limit({volume_id: Limits(bytes_per_s=4 * MiB)})
        assert await seconds_for(client, 8, length=1 * MiB) > 1.5

        await qemu.engine.limit({volume_id: Limits()})
        assert await seconds_for(client, 1000) < 1000 / 50


async def test_all_clients_of_a_volume_share_its_limits(qemu: QemuSite) -> None:
    """A second export of a volume brings no second allowance."""
    volume_id, _, first_uri = await served(qemu, Limits(iops=50))
    second_uri = await qemu.engine.export(new_id(), volume_id)

    with NbdClient.connect(first_uri) as first, NbdClient.connect(second_uri) as second:
        began = time.monotonic()
        await asyncio.gather(seconds_for(first, 50), seconds_for(second, 50))

    assert time.monotonic() - began > 1.5


async def test_writes_that_wait_hold_up_no_cut(qemu: QemuSite) -> None:
    """Eight writes that wait at two a second are let through before the cut; the limit goes on after it."""
    volume_id, _, uri = await served(qemu, Limits(iops=2))
    with Crowd.writing(uri, 8) as crowd:
        await until(crowd.all_wait)

        cut = await qemu.engine.cut(new_id(), {volume_id: new_id()}, deadline_s=DEADLINE_S)

        assert cut.pause_ms < 2000
        assert await qemu.limits(volume_id) == Limits(iops=2)
        await qemu.engine.limit({volume_id: Limits()})


async def test_writes_that_wait_hold_up_no_detachment(qemu: QemuSite) -> None:
    """Thirty writes at one a second would take thirty seconds; the export ends as soon as the daemon may go on."""
    _, export_id, uri = await served(qemu, Limits(iops=1))
    with Crowd.writing(uri, 30) as crowd:
        await until(crowd.all_wait)

        began = time.monotonic()
        await qemu.engine.unexport(export_id)

        assert time.monotonic() - began < 15.0
    assert await filters(qemu) == []


async def test_limits_are_back_with_the_daemon(qemu: QemuSite) -> None:
    """Whoever dies, service or daemon: what is served again is served within its limits."""
    volume_id, _, _ = await served(qemu, Limits(iops=70, bytes_per_s=7 * MiB))

    await qemu.lose_daemon()
    await qemu.engine.images()  # an act waits for the daemon
    assert await qemu.limits(volume_id) == Limits(iops=70, bytes_per_s=7 * MiB)

    await qemu.restart()
    assert await qemu.limits(volume_id) == Limits(iops=70, bytes_per_s=7 * MiB)
    assert len(await filters(qemu)) == 1


async def test_limits_that_were_not_written_down_are_undone(qemu: QemuSite) -> None:
    """The service dies between daemon and ledger: the next start brings the limits back that the ledger knows."""
    volume_id, _, _ = await served(qemu, Limits(iops=70))
    qemu.engine.at["throttled"] = qemu.die
    with pytest.raises(Killed):
        await qemu.engine.limit({volume_id: Limits(iops=90)})
    assert await qemu.limits(volume_id) == Limits(iops=90)

    await qemu.restart()

    assert await qemu.limits(volume_id) == Limits(iops=70)


async def test_a_filter_that_nothing_stands_on_is_swept(qemu: QemuSite) -> None:
    """The service dies while it ends an export: no filter stays, and the volume can be used as ever."""
    volume_id, export_id, _ = await served(qemu, Limits(iops=70))
    async with qemu.engine._gate.act() as nodes:
        await nodes.unexport(export_id)
    qemu.ledger.remove_export(export_id)

    await qemu.restart()

    assert await filters(qemu) == []
    await qemu.engine.extend_volume(volume_id, 2 * SIZE)
    await qemu.engine.delete_volume(volume_id)
    await qemu.tidy()


async def test_a_discard_frees_space_below_the_filter(qemu: QemuSite) -> None:
    """What a client discards is given back to the file system."""
    volume_id, _, uri = await served(qemu, Limits())
    layer_file = qemu.engine._files.path(qemu.ledger.holdings().tops[volume_id])
    with NbdClient.connect(uri) as client:
        await asyncio.to_thread(client.write, b"x" * 8 * MiB, 0)
        await asyncio.to_thread(client.flush)
        full_bytes = layer_file.stat().st_blocks * 512

        await asyncio.to_thread(client.trim, 0, 8 * MiB)
        await asyncio.to_thread(client.flush)

    assert full_bytes - layer_file.stat().st_blocks * 512 > 7 * MiB
