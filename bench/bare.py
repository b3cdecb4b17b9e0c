"""The same daemon, with the same options and the same graph, without the service."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from onecut.cli.throwaway import end_daemon
from onecut.engine.files import LayerFiles
from onecut.engine.ledger import Layer, PlannedMember
from onecut.engine.nodes import Nodes, new_layer_id
from onecut.engine.qsd import StorageDaemon


class Bare:
    """A bare qemu-storage-daemon with disks of 1 GiB, steered by QMP alone."""

    def __init__(self, runner: asyncio.Runner, nodes: Nodes, daemon: StorageDaemon) -> None:
        self._runner, self._nodes, self._daemon = runner, nodes, daemon
        self._tops: list[Layer] = []
        self.uris: list[str] = []

    def add_disks(self, count: int, size_bytes: int) -> None:
        """Make and serve disks."""
        for _ in range(count):
            layer, export_id = Layer(new_layer_id(), None, size_bytes), str(uuid4())
            self._runner.run(self._add(layer, export_id))
            self._tops.append(layer)
            self.uris.append(f"nbd+unix:///{export_id}?socket={self._daemon.nbd_socket}")

    def transaction_ms(self) -> float:
        """Put an overlay on every disk in one transaction, prepared beforehand, and return how long that took."""
        members = [PlannedMember("", "", layer, new_layer_id()) for layer in self._tops]
        took_ms = self._runner.run(self._cut(members))
        self._tops = [member.overlay for member in members]
        return took_ms

    async def _add(self, layer: Layer, export_id: str) -> None:
        await self._nodes.create(layer)
        await self._nodes.open(layer)
        # Right above the layer, without the filter that the service puts between.
        arguments = {"type": "nbd", "id": f"bare-{export_id}", "name": export_id, "node-name": f"oc-{layer.id}"}
        await self._nodes.monitor.execute("block-export-add", {**arguments, "writable": True})

    async def _cut(self, members: Sequence[PlannedMember]) -> float:
        for member in members:
            await self._nodes.create(member.overlay)
            await self._nodes.open_alone(member.overlay)
        began = time.perf_counter()
        await self._nodes.freeze(members)
        return (time.perf_counter() - began) * 1000


@contextmanager
def bare_daemon() -> Iterator[Bare]:
    """Start a daemon in a temporary folder, and end it at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="onecut-bare-"))
    layers = folder / "layers"
    layers.mkdir()
    daemon = StorageDaemon("qemu-storage-daemon", folder, folder / "qsd.log")
    with asyncio.Runner() as runner:
        monitor = runner.run(daemon.connect())
        nodes = Nodes(monitor, LayerFiles(layers))
        runner.run(nodes.choose_access())
        try:
            yield Bare(runner, nodes, daemon)
        finally:
            runner.run(monitor.close())
    end_daemon(folder / "qsd.pid")
    shutil.rmtree(folder)
