"""
The daemon's jobs beside its transactions, which hold up everything in it.

No job may change what is held up. Transactions are repeated here as fast as the daemon carries them out, so that they
meet every moment of a job.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from engine_sites import SIZE, QemuSite, cut, has_layers, new_id, until
from running import DEADLINE_S

from onecut.witness import run as runs


@asynccontextmanager
async def held_up_again_and_again(site: QemuSite) -> AsyncIterator[None]:
    """Have the daemon carry out transactions of nothing, each while a client writes, until the block ends."""
    volume_id, over = new_id(), threading.Event()
    await site.engine.create_volume(volume_id, SIZE)
    uri = await site.engine.export(new_id(), volume_id)
    async with site.engine._gate.act() as nodes:
        pass

    async def hold_up() -> None:
        while not over.is_set():
            async with nodes.steady:
                await asyncio.gather(*(nodes.freeze([]) for _ in range(8)))

    writing = asyncio.to_thread(runs.run, [uri], stop=over, timeout_s=DEADLINE_S)
    acts = [asyncio.create_task(act) for act in (hold_up(), writing)]
    try:
        yield
    finally:
        over.set()
        await asyncio.gather(*acts)


@pytest.mark.slow
async def test_merges_come_to_their_end(qemu: QemuSite) -> None:
    """Layers are merged, and the disk answers, however often everything is held up meanwhile."""
    volume_id = new_id()
    await qemu.engine.create_volume(volume_id, SIZE)
    *needless, _kept = [await cut(qemu, volume_id) for _ in range(80)]

    async with held_up_again_and_again(qemu):
        await qemu.engine.release(needless)
        await until(lambda: has_layers(qemu, 3))
    await qemu.write(volume_id, 0, b"a" * 4096)
    await qemu.tidy()


async def test_layers_of_all_sizes_are_made(qemu: QemuSite) -> None:
    """The daemon, which makes the first layer of each size itself, lives on."""
    pid = qemu.engine._daemon.pid()
    async with held_up_again_and_again(qemu):
        for sectors in range(40):
            await qemu.engine.create_volume(new_id(), SIZE + sectors * 512)
    assert qemu.engine._daemon.pid() == pid
