"""The witness against a real qemu-storage-daemon: true cuts pass, false ones do not."""

import asyncio
import shutil
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
from folders import short_folder
from qemu.qmp import QMPClient

from onecut.nbd.client import NbdClient
from onecut.units import MiB
from onecut.witness.run import RunReport, run
from onecut.witness.stamps import STAMP_BYTES, Region, read_stamp
from onecut.witness.verify import Fault, Outcome, Verdict, verify

SIZE_BYTES = 64 * MiB


class Storage:
    """Disks in a qemu-storage-daemon, whose layers can be frozen together or one by one."""

    def __init__(self, folder: Path, qmp: QMPClient, disks: int) -> None:
        self._folder = folder
        self._qmp = qmp
        self._tops = [f"disk{disk}-0" for disk in range(disks)]
        self._cuts = 0

    @property
    def uris(self) -> list[str]:
        return [self._uri(f"disk{disk}") for disk in range(len(self._tops))]

    async def start(self) -> None:
        blank = self._folder / "blank.qcow2"
        command = ["qemu-img", "create", "-q", "-f", "qcow2", str(blank), str(SIZE_BYTES)]
        subprocess.run(command, check=True)  # noqa: ASYNC221 - a few milliseconds, before anything runs
        address = {"type": "unix", "data": {"path": str(self._folder / "nbd")}}
        await self._qmp.execute("nbd-server-start", {"addr": address})
        for disk, top in enumerate(self._tops):
            await self._add_layer(top)
            await self._serve(f"disk{disk}", top, writable=True)

    async def cut_together(self) -> list[str]:
        """Freeze all disks in one transaction; return URIs of what was frozen."""
        frozen, overlays = await self._prepare()
        actions = [
            {"type": "blockdev-snapshot", "data": {"node": node, "overlay": overlay}}
            for node, overlay in zip(frozen, overlays, strict=True)
        ]
        await self._qmp.execute("transaction", {"actions": actions})
        return await self._serve_frozen(frozen)

    async def cut_one_by_one(self, between: Callable[[], None]) -> list[str]:
        """Freeze one disk after the other, with something in between; return URIs of what was frozen."""
        frozen, overlays = await self._prepare()
        for node, overlay in zip(frozen, overlays, strict=True):
            await self._qmp.execute("blockdev-snapshot", {"node": node, "overlay": overlay})
            await asyncio.to_thread(between)
        return await self._serve_frozen(frozen)

    async def _prepare(self) -> tuple[list[str], list[str]]:
        self._cuts += 1
        frozen = self._tops
        self._tops = [f"disk{disk}-{self._cuts}" for disk in range(len(frozen))]
        for overlay in self._tops:
            await self._add_layer(overlay)
        return frozen, self._tops

    async def _add_layer(self, node: str) -> None:
        path = self._folder / f"{node}.qcow2"
        shutil.copyfile(self._folder / "blank.qcow2", path)
        file = {"driver": "file", "filename": str(path)}
        layer = {"driver": "qcow2", "node-name": node, "backing": None, "file": file}
        await self._qmp.execute("blockdev-add", layer)

    async def _serve_frozen(self, nodes: Sequence[str]) -> list[str]:
        for node in nodes:
            await self._serve(node, node, writable=False)
        return [self._uri(node) for node in nodes]

    async def _serve(self, name: str, node: str, *, writable: bool) -> None:
        export = {"type": "nbd", "id": name, "name": name, "node-name": node, "writable": writable}
        await self._qmp.execute("block-export-add", export)

    def _uri(self, name: str) -> str:
        return f"nbd+unix:///{name}?socket={self._folder / 'nbd'}"


@asynccontextmanager
async def storage(disks: int) -> AsyncIterator[Storage]:
    with short_folder() as folder:
        qmp = QMPClient("witness")
        await qmp.start_server(str(folder / "qmp"))
        chardev = f"socket,id=qmp,path={folder / 'qmp'}"
        daemon = await asyncio.create_subprocess_exec(
            "qemu-storage-daemon", "--chardev", chardev, "--monitor", "chardev=qmp"
        )
        try:
            await qmp.accept()
            store = Storage(folder, qmp, disks)
            await store.start()
            yield store
        finally:
            await qmp.disconnect()
            daemon.terminate()
            await daemon.wait()


@asynccontextmanager
async def writing(uris: Sequence[str]) -> AsyncIterator[Callable[[], RunReport]]:
    """Keep a run going while the context is open; afterwards, the call gives its report."""
    stop = threading.Event()
    task = asyncio.create_task(asyncio.to_thread(run, uris, stop=stop, load_threads=2))
    try:
        await asyncio.to_thread(wait_for_stamps, uris, len(uris))
        yield task.result
    finally:
        stop.set()
        await task


def wait_for_stamps(uris: Sequence[str], more: int) -> None:
    """Return once at least *more* further stamps were acknowledged, as the first disk shows."""
    with NbdClient.connect(uris[0]) as disk:
        enough = _newest(disk) + more + len(uris)
        deadline = time.monotonic() + 20
        while _newest(disk) < enough:
            assert time.monotonic() < deadline, "the run does not get on"


def _newest(disk: NbdClient) -> int:
    data = disk.read(0, Region().end_bytes)
    stamps = (read_stamp(data[at : at + STAMP_BYTES]) for at in range(0, len(data), STAMP_BYTES))
    return max((stamp.sequence for stamp in stamps if stamp is not None), default=-1)


def judge(uris: Sequence[str]) -> Verdict:
    with ExitStack() as stack:
        return verify([stack.enter_context(NbdClient.connect(uri)) for uri in uris])


@pytest.mark.parametrize(("disks", "cuts"), [(2, 20), (8, 10)])
async def test_every_cut_in_one_transaction_is_consistent(disks: int, cuts: int) -> None:
    """While stamps and load are written, no transaction over all disks separates them."""
    async with storage(disks) as store:
        async with writing(store.uris) as report:
            taken = []
            for _ in range(cuts):
                taken.append(await store.cut_together())
                await asyncio.to_thread(wait_for_stamps, store.uris, 1)
        verdicts = [judge(uris) for uris in taken]

        assert [verdict.outcome for verdict in verdicts] == [Outcome.CONSISTENT] * cuts, verdicts
        sequences = [verdict.newest_sequence for verdict in verdicts]
        assert len(set(sequences)) == cuts, "nothing was written between two cuts"
        assert report().stamps_written > (sequences[-1] or 0)
        assert report().load_writes


@pytest.mark.parametrize("disks", [2, 8])
async def test_every_cut_of_disk_after_disk_is_caught(disks: int) -> None:
    """The control: with a write between the disks' snapshots, the verdict names what is missing."""
    async with storage(disks) as store:
        async with writing(store.uris):
            taken = [await store.cut_one_by_one(between=lambda: wait_for_stamps(store.uris, disks)) for _ in range(3)]
        verdicts = [judge(uris) for uris in taken]

        assert [verdict.outcome for verdict in verdicts] == [Outcome.INCONSISTENT] * 3
        assert {violation.fault for verdict in verdicts for violation in verdict.violations} == {Fault.MISSING_STAMP}


async def test_the_disks_after_a_run_hold_all_it_acknowledged() -> None:
    """Once a run has ended, the newest stamp on the disks is the last that its report names."""
    async with storage(2) as store:
        report = await asyncio.to_thread(run, store.uris, writes=101)

        verdict = await asyncio.to_thread(judge, store.uris)

        assert verdict.outcome is Outcome.CONSISTENT
        assert verdict.run_id == report.run_id
        assert verdict.newest_sequence == report.last_sequence == 100
