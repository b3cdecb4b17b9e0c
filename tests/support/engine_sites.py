"""Engines to test, each with a way to write and read its volumes."""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from running import DEADLINE_S

import onecut.db.layers  # noqa: F401 - registers the tables
from onecut.clock import SystemClock
from onecut.db.ledger import DatabaseLedger
from onecut.db.schema import Base
from onecut.db.session import Database
from onecut.engine.memory import MemoryEngine
from onecut.engine.monitor import Monitor
from onecut.engine.port import Engine, Limits
from onecut.engine.qemu import QemuEngine
from onecut.engine.throttles import filter_name
from onecut.nbd.client import NbdClient
from onecut.units import MiB

SIZE = 64 * MiB


def new_id() -> str:
    """Make up an id."""
    return str(uuid4())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition, for a bounded time."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():  # noqa: ASYNC110 - what another process or thread does sets no event
            await asyncio.sleep(0.01)


class Site(Protocol):
    """An engine, and a client's view of its volumes."""

    @property
    def engine(self) -> Engine: ...

    async def write(self, volume_id: str, offset: int, data: bytes) -> None: ...

    async def read(self, volume_id: str, offset: int, length: int) -> bytes: ...

    async def limits(self, volume_id: str) -> Limits: ...


class MemorySite:
    """The memory engine; its volumes are written to directly."""

    def __init__(self) -> None:
        self.engine = MemoryEngine(SystemClock())

    async def write(self, volume_id: str, offset: int, data: bytes) -> None:
        """Write to a volume."""
        self.engine.write(volume_id, offset, data)

    async def read(self, volume_id: str, offset: int, length: int) -> bytes:
        """Read from a volume."""
        return self.engine.read(volume_id, offset, length)

    async def limits(self, volume_id: str) -> Limits:
        """Ask what limits are in force for an exported volume."""
        return self.engine.limits(volume_id)


class SteppedEngine(QemuEngine):
    """Does at a named step what the test wants, once."""

    def __init__(
        self,
        *arguments: Path,
        ledger: DatabaseLedger,
        merge_bytes_per_s: int,
        hydrate_bytes_per_s: int,
        program: str,
    ) -> None:
        super().__init__(
            ledger,
            *arguments,
            clock=SystemClock(),
            merge_bytes_per_s=merge_bytes_per_s,
            hydrate_bytes_per_s=hydrate_bytes_per_s,
            program=program,
        )
        self.at: dict[str, Callable[[], Awaitable[None]]] = {}

    async def _reached(self, step: str) -> None:
        await super()._reached(step)
        if step in self.at:
            await self.at.pop(step)()


class Killed(BaseException):
    """The service ends here, without a chance to tidy up."""


class QemuSite:
    """The qemu engine with a real daemon; its volumes are written to over NBD."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="oc"))  # a short path, for the sockets
        self.data_dir, self.run_dir = self.folder / "data", self.folder / "run"
        self.database = Database(f"sqlite:///{self.folder}/ledger.db")
        Base.metadata.create_all(self.database.engine)
        self.ledger = DatabaseLedger(self.database)
        self.engine = self.new_engine()

    def new_engine(
        self,
        *,
        merge_bytes_per_s: int = 1024 * MiB,
        hydrate_bytes_per_s: int = 1024 * MiB,
        program: str = "qemu-storage-daemon",
    ) -> SteppedEngine:
        """Make an engine on this site's folders; the one before must be closed."""
        self.engine = SteppedEngine(
            self.data_dir,
            self.run_dir,
            ledger=self.ledger,
            merge_bytes_per_s=merge_bytes_per_s,
            hydrate_bytes_per_s=hydrate_bytes_per_s,
            program=program,
        )
        return self.engine

    async def restart(self, *, merge_bytes_per_s: int = 1024 * MiB, hydrate_bytes_per_s: int = 1024 * MiB) -> None:
        """Let the service end and start it again; the daemon is as it is."""
        await self.engine.close()
        engine = self.new_engine(merge_bytes_per_s=merge_bytes_per_s, hydrate_bytes_per_s=hydrate_bytes_per_s)
        await engine.start()

    async def kill_daemon(self) -> None:
        """End the daemon the hard way, and wait until it is gone."""
        pid = self.engine._daemon.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)

        async def gone() -> bool:
            return self.engine._daemon.pid() != pid and not self.engine._daemon.is_ending()

        await until(gone)

    async def die(self) -> None:
        """End the service at the step where this is called."""
        raise Killed

    async def lose_daemon(self) -> None:
        """End the daemon at the step where this is called, and go on once the service has noticed."""
        nodes = self.engine._gate.nodes
        assert nodes is not None
        await self.kill_daemon()
        await asyncio.wait_for(nodes.monitor.lost.wait(), DEADLINE_S)

    async def write(self, volume_id: str, offset: int, data: bytes) -> None:
        """Write to a volume and flush."""
        async with self.client(volume_id) as client:
            await asyncio.to_thread(client.write, data, offset)
            await asyncio.to_thread(client.flush)

    async def read(self, volume_id: str, offset: int, length: int) -> bytes:
        """Read from a volume."""
        async with self.client(volume_id) as client:
            return await asyncio.to_thread(client.read, offset, length)

    async def limits(self, volume_id: str) -> Limits:
        """Ask the daemon what limits are in force for an exported volume."""
        async with self.engine._gate.act() as nodes:
            path = f"/objects/{filter_name(volume_id)}"
            found = await nodes.monitor.execute("qom-get", {"path": path, "property": "limits"})
        return Limits(found["iops-total"] or None, found["bps-total"] or None)

    @asynccontextmanager
    async def client(self, volume_id: str) -> AsyncIterator[NbdClient]:
        """Open a volume through an export of its own."""
        export_id = new_id()
        client = await asyncio.to_thread(NbdClient.connect, await self.engine.export(export_id, volume_id))
        try:
            yield client
        finally:
            client.close()
            await self.engine.unexport(export_id)

    @asynccontextmanager
    async def second_monitor(self) -> AsyncIterator[Monitor]:
        """Talk to the daemon while no engine does."""
        monitor = Monitor()
        await monitor.connect(self.run_dir / "qmp.sock", timeout_s=DEADLINE_S)
        try:
            yield monitor
        finally:
            await monitor.close()

    async def is_tidy(self) -> bool:
        """
        Tell whether files, ledger and nodes name the same layers and sources, all needed, and nothing is half done.

        No cut is planned, no job goes on, and nobody reads a layer but to fill it.
        """
        async with self.engine._gate.act() as nodes:
            opened, sources = set(await nodes.layers()), set(await nodes.sources())
            jobs, readings = await nodes.monitor.jobs(), await nodes.readings()
        holdings = self.ledger.holdings()
        files = set(self.engine._files.ids())
        fed = {layer.id for layer in holdings.layers.values() if layer.source is not None}
        same = files == set(holdings.layers) == opened and fed == sources
        return same and not holdings.plans and not jobs and fed.issuperset(readings.values())

    async def tidy(self) -> None:
        """Wait until nothing is left over."""
        await until(self.is_tidy)

    async def end(self) -> None:
        """Close the engine, end the daemon, and remove everything."""
        await self.engine.close()
        pid = self.engine._daemon.pid()
        if pid is not None:
            await self.kill_daemon()
        self.database.close()
        print((self.data_dir / "qsd.log").read_text())  # noqa: T201 - shown when the test fails
        shutil.rmtree(self.folder)


async def cut(site: Site, volume_id: str) -> str:
    """Cut one volume, and return its point's id."""
    point_id = new_id()
    await site.engine.cut(new_id(), {volume_id: point_id}, deadline_s=DEADLINE_S)
    return point_id


async def has_layers(site: QemuSite, count: int) -> bool:
    """Tell whether the ledger knows so many layers."""
    return len(site.ledger.holdings().layers) == count


async def merge_is_running(site: QemuSite) -> bool:
    """Tell whether the daemon is merging layers."""
    async with site.engine._gate.act() as nodes:
        return any(job_id.startswith("merge-") for job_id in await nodes.monitor.jobs())
