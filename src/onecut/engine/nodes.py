"""
The daemon's block graph: one node for each layer, named ``oc-`` and the layer's id, and the exports above the tops.

Between a top and its exports stands the volume's throttle filter (see `throttles`). The graph follows the ledger. A
layer's node is opened with its parent named explicitly; what the file's header says of a backing file is for people
with `qemu-img` only. A layer with a source stands on an NBD client's node, named ``src-`` and the layer's id; whoever
reads layers from outside gets an export of its own, named ``read-`` and so on.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import structlog

from onecut.engine.files import LayerFiles
from onecut.engine.ledger import Layer, PlannedMember
from onecut.engine.monitor import DaemonRefused, Monitor, refusal
from onecut.engine.port import ImageSource, Limits
from onecut.engine.tables import CLUSTER_BYTES
from onecut.engine.template import Template
from onecut.engine.throttles import Throttles
from onecut.engine.together import to_the_end
from onecut.errors import Misconfigured
from onecut.nbd.address import TcpAddress, parse_uri
from onecut.nbd.client import NbdClient
from onecut.nbd.errors import NbdError
from onecut.units import KiB

RECONNECT_S: Final = 2**32 - 1
"""
For so long a read waits for an image's server that went away: the longest the daemon allows, some 136 years.

It tries again after 1, 2, 4, 8 and then every 16 s (QEMU, nbd/client-connection.c).
"""

ANSWER_S: Final = 5.0
"""How long an image's server may take to greet us before its image is opened."""

_PREFIX = "oc-"
_FILE, _SOURCE = "file-", "src-"
_READING = "read-"
_CREATE, _MERGE = "create-", "merge-"

log = structlog.get_logger(__name__)

Options = Mapping[str, Any]


class _Graph(NamedTuple):
    """The daemon's nodes, by their names."""

    names: Sequence[str]
    """In the order they were opened."""
    backing: Mapping[str, str]
    """For each node that stands on another, that one."""
    file: Mapping[str, str]
    """For each node above a file's or a layer's node, that one."""


class Nodes:
    """The daemon's nodes, jobs and exports, in the engine's words."""

    def __init__(self, monitor: Monitor, files: LayerFiles) -> None:
        self.broken: dict[str, str] = {}
        """Layers that can't be opened, those above them included, each with a sentence why."""
        self.monitor = monitor
        self.files = files
        self.throttles = Throttles(monitor)
        self.steady = asyncio.Lock()
        """
        Held by a cut's transaction, and by whatever changes the graph at a moment of the daemon's own choice.

        A transaction holds up all nodes, and serves jobs until they are still (QEMU 7.2, blockdev.c
        `qmp_transaction`, ``bdrv_drain_all``). A node that a job opens meanwhile ends the daemon (block/io.c,
        "Assertion `!qemu_in_coroutine()' failed"); one that a job takes out leaves those above it held up for ever.
        Commands do neither: they are carried out one after another.
        """
        self._access: Options = {}
        self._templates: dict[tuple[int, bool], Template] = {}
        """By size, and by whether the layer stands on another."""

    @property
    def access(self) -> str:
        """How files are opened, in words."""
        direct = "direct I/O" if self._access["cache"]["direct"] else "no direct I/O: the folder does not allow it"
        return f"aio={self._access['aio']}, {direct}"

    async def choose_access(self) -> None:
        """
        Find the best way to open files that works here, by opening one.

        Direct I/O first: without it the old tops' dirty pages are written within the cut (measured: 120 to 860 ms
        instead of 7 to 60).
        """
        probe, name = self.files.folder / "probe", _node(new_layer_id())  # left by a crash, the sweep takes it
        probe.write_bytes(bytes(4 * KiB))
        try:
            for direct, aio in ((True, "io_uring"), (True, "native"), (True, "threads"), (False, "threads")):
                self._access = {"cache": {"direct": direct}, "aio": aio}
                with suppress(DaemonRefused):
                    await self.monitor.execute("blockdev-add", {"node-name": name, **self._file(probe)})
                    await self.monitor.execute("blockdev-del", {"node-name": name})
                    if not direct:
                        log.warning("direct_io_impossible", folder=str(self.files.folder))
                    return
        finally:
            probe.unlink()
        raise Misconfigured(f"the daemon can't open a file in {self.files.folder}")

    async def create(self, layer: Layer) -> None:
        """Make a layer's file, empty and complete on the disk; the folder's entry is the caller's to sync."""
        below = "" if layer.parent_id is None else self.files.path(layer.parent_id).name
        kind = layer.size_bytes, bool(below)
        template = self._templates.get(kind)
        if template is not None and template.fits(below):
            await asyncio.to_thread(self._copy, template, layer.id, below)
        else:
            path = await asyncio.to_thread(self.files.make, layer.id)
            await self._create_by_daemon(layer, path)
            self._templates[kind] = await asyncio.to_thread(Template.read, path)

    def _copy(self, template: Template, layer_id: str, below: str) -> None:
        try:
            template.copy(self.files.make(layer_id), below)
        except OSError as problem:
            raise refusal(f"{self.files.path(layer_id)} could not be made: {problem.strerror}") from problem

    async def _create_by_daemon(self, layer: Layer, path: Path) -> None:
        options: dict[str, Any] = {
            "driver": "qcow2",
            # Through the page cache: the making takes many small writes, and flushes once at its end.
            "file": {"driver": "file", "filename": str(path)},
            "size": layer.size_bytes,
            "cluster-size": CLUSTER_BYTES,
            "extended-l2": True,
        }
        if layer.parent_id is not None:
            # Relative, so that the folder can be moved.
            options |= {"backing-file": self.files.path(layer.parent_id).name, "backing-fmt": "qcow2"}
        # Whoever gives up waiting does not end the job.
        problem = await to_the_end(self._run_making(f"{_CREATE}{layer.id}", options))
        if problem is not None:
            raise refusal(f"{path} could not be made: {problem}")

    async def _run_making(self, job_id: str, options: Options) -> str | None:
        async with self.steady:
            problem = await self.monitor.run_job(job_id, "blockdev-create", {"options": options})
        await self.monitor.dismiss_job(job_id)
        return problem

    async def open(self, layer: Layer, *, frozen: bool = False) -> None:
        """
        Open a layer over its parent, which must be open, or over its source, which must answer.

        A layer with a source is never opened read-only: what is fetched is written to it.
        """
        await self.open_source(layer)
        await self.open_over(layer, frozen=frozen)

    async def open_source(self, layer: Layer) -> None:
        """Open a layer's source if it has one; raise `DaemonRefused` if it does not answer or is too small."""
        if layer.source is None:
            return
        try:
            # The daemon would do nothing else until a server that accepts, but does not greet, has greeted.
            await asyncio.to_thread(_greet, layer.source)
            await self.monitor.execute("blockdev-add", _source_options(layer.id, layer.source))
        except DaemonRefused:
            if layer.id not in await self.sources():
                raise

    async def open_over(self, layer: Layer, *, frozen: bool = False) -> None:
        """Open a layer as `open` does, once what it stands on is open."""
        if layer.source is not None:
            await self._add(layer, backing=_source(layer.id), frozen=False)
        else:
            await self._add(layer, backing=None if layer.parent_id is None else _node(layer.parent_id), frozen=frozen)

    async def open_alone(self, layer: Layer) -> None:
        """Open a layer over nothing yet, as `freeze` wants it."""
        await self._add(layer, backing=None, frozen=False)

    async def close(self, layer_id: str) -> bool:
        """Close a layer, and say whether it is closed now: not while a node, an export or a job uses it."""
        try:
            await self.monitor.execute("blockdev-del", {"node-name": _node(layer_id)})
        except DaemonRefused as refused:
            if layer_id in await self.layers():
                log.warning("layer_in_use", layer_id=layer_id, problem=str(refused))
                return False
        return True

    async def cut_off(self, layer: Layer) -> None:
        """Let a layer stand on nothing any more, and seal it; what it lacks of its source must be zeros."""
        await self._reopen(layer, _layer_options(None, frozen=True))

    async def seal(self, layer: Layer) -> None:
        """
        Open a layer that no client writes to read-only, which first brings all that is known of it to its file.

        A cut does the same to what it freezes (QEMU 7.2, blockdev.c `external_snapshot_commit`; block.c
        `bdrv_reopen_prepare` flushes). So what is frozen and not just merged into is complete in its file.
        """
        backing = None if layer.parent_id is None else _node(layer.parent_id)
        await self._reopen(layer, _layer_options(backing, frozen=True))

    async def _reopen(self, layer: Layer, options: Options) -> None:
        options = {"node-name": _node(layer.id), "file": f"{_FILE}{layer.id}", **options}
        await self.monitor.execute("blockdev-reopen", {"options": [options]})

    async def close_source(self, layer_id: str) -> None:
        """Close a layer's source, unless it is in use or not there."""
        with suppress(DaemonRefused):
            await self.monitor.execute("blockdev-del", {"node-name": _source(layer_id)})

    async def sources(self) -> Sequence[str]:
        """List the layers whose sources are open."""
        return [name.removeprefix(_SOURCE) for name in (await self._graph()).names if name.startswith(_SOURCE)]

    async def freeze(self, members: Sequence[PlannedMember]) -> None:
        """Put each member's overlay over its layer, all at one instant, or none; `steady` must be held."""
        actions = [
            {
                "type": "blockdev-snapshot",
                "data": {"node": _node(member.layer.id), "overlay": _node(member.overlay_id)},
            }
            for member in members
        ]
        await self.monitor.execute("transaction", {"actions": actions})

    async def merge(self, layer: Layer, lower: Layer, root: Layer, *, bytes_per_s: int) -> str | None:
        """
        Copy a layer's data into *lower*, its parent, and put that in its place; say what went wrong, if anything.

        In the end the parent is sealed: the layer's file goes next, and a daemon that dies takes its memory along.
        The job does so itself only if it has found the parent read-only, and does not say when it fails (QEMU 7.2,
        block/commit.c `commit_clean`).

        The job takes the layer out when it is told to, not in the middle of a cut (see `steady`).

        The outcome is kept until `forget_merge`. *root* is an open layer over *layer* that nobody uses: the job
        blocks snapshots and resizes of the root it is given, and of that one nobody wants any (QEMU,
        block/commit.c `commit_start`, "main node").
        """
        arguments = {
            "device": _node(root.id),
            "top-node": _node(layer.id),
            "base-node": _node(lower.id),
            "backing-file": self.files.path(lower.id).name,
            "speed": bytes_per_s,
            "auto-finalize": False,
            "auto-dismiss": False,
        }
        problem = await self.monitor.run_job(f"{_MERGE}{layer.id}", "block-commit", arguments)
        if problem is None:
            try:
                await self.seal(lower)
            except DaemonRefused as refused:
                problem = str(refused)
        return problem

    async def cancel_merge(self, layer_id: str) -> None:
        """End a merge, unless it has not begun or has ended; one that has copied everything succeeds."""
        async with self.steady:
            await self.monitor.end_job(f"{_MERGE}{layer_id}")

    async def end_merges(self) -> dict[str, bool]:
        """End the merges that an earlier service began, and say for each layer whether it was merged."""
        merges = [job_id for job_id in await self.monitor.jobs() if job_id.startswith(_MERGE)]
        for job_id in merges:
            await self.monitor.end_job(job_id)
        jobs = await self.monitor.jobs()
        return {job_id.removeprefix(_MERGE): jobs[job_id].problem is None for job_id in merges}

    async def forget_merge(self, layer_id: str) -> None:
        """Let the daemon forget a merge that has ended."""
        await self.monitor.dismiss_job(f"{_MERGE}{layer_id}")

    async def makings(self) -> Sequence[str]:
        """List the layers that are being made, or whose making has ended and was not asked about yet."""
        return [found.removeprefix(_CREATE) for found in await self.monitor.jobs() if found.startswith(_CREATE)]

    async def end_making(self, layer_id: str) -> None:
        """Wait for the end of a making that nobody waits for any more, and let the daemon forget it."""
        await self.monitor.end_job(f"{_CREATE}{layer_id}")
        with suppress(DaemonRefused):  # its maker was faster
            await self.monitor.dismiss_job(f"{_CREATE}{layer_id}")

    async def answers(self, layer: Layer) -> bool:
        """Tell whether a layer's source can be opened now."""
        if layer.source is None:
            return True
        try:
            await asyncio.to_thread(_greet, layer.source)
        except DaemonRefused:
            return False
        return True

    async def layers(self) -> dict[str, bool]:
        """
        Read the open layers in the order they were opened, and for each whether it stands on another.

        `query-named-block-nodes` would be the stable command. But it looks into each qcow2 node, and in 7.2 aborts
        the daemon (block/qcow2.c `qcow2_get_specific_info`, "Assertion `false' failed") when one is just being made.
        """
        graph = await self._graph()
        return {name.removeprefix(_PREFIX): name in graph.backing for name in graph.names if name.startswith(_PREFIX)}

    async def resize(self, layer_id: str, size_bytes: int) -> None:
        """Make a top layer so long."""
        await self.monitor.execute("block_resize", {"node-name": _node(layer_id), "size": size_bytes})

    async def serves(self, export_id: str) -> bool:
        """Tell whether there is an export of that id."""
        return export_id in await self._exports(_PREFIX)

    async def exports(self) -> dict[str, str]:
        """Read, for each export's id, the layer it serves."""
        graph, served = await self._graph(), await self._exports(_PREFIX)
        return {export_id: graph.file.get(name, name).removeprefix(_PREFIX) for export_id, name in served.items()}

    async def export(self, export_id: str, layer_id: str, *, volume_id: str, limits: Limits) -> None:
        """Serve a volume's top layer to writers, within limits."""
        throttle = await self.throttles.put(volume_id, _node(layer_id), limits)
        arguments = {
            "type": "nbd",
            "id": f"{_PREFIX}{export_id}",  # must begin with a letter; QEMU, util/id.c
            "name": export_id,
            "node-name": throttle,
            "writable": True,
        }
        await self.monitor.execute("block-export-add", arguments)

    async def unexport(self, export_id: str) -> None:
        """Stop serving; when this returns, all clients are gone. An export that is not there is no error."""
        await self.monitor.delete_export(f"{_PREFIX}{export_id}")

    async def readings(self) -> dict[str, str]:
        """Read, for the name of each export to readers, the layer it serves."""
        served = await self._exports(_READING)
        return {f"{_READING}{found}": name.removeprefix(_PREFIX) for found, name in served.items()}

    async def begin_reading(self, layer_id: str) -> str:
        """Serve a layer to readers who may ask how deep its data lies, and return the export's name."""
        name = f"{_READING}{secrets.token_hex(8)}"
        arguments = {"type": "nbd", "id": name, "name": name, "node-name": _node(layer_id), "allocation-depth": True}
        await self.monitor.execute("block-export-add", arguments)
        return name

    async def end_reading(self, name: str) -> None:
        """
        Stop serving a layer to readers.

        The end of an export waits for all requests to its node, also those of other exports, and nothing else is
        answered meanwhile (QEMU 7.2, block/block-backend.c `blk_remove_bs`). So if there is a source below it must
        answer.
        """
        await self.monitor.delete_export(name)

    async def sweep_throttles(self) -> None:
        """Take away the throttle filters that no export uses."""
        await self.throttles.sweep(set((await self._exports(_PREFIX)).values()))

    async def _graph(self) -> _Graph:
        graph = await self.monitor.execute("x-debug-query-block-graph")
        names = {node["id"]: node["name"] for node in graph["nodes"] if node["type"] == "block-driver"}
        children: dict[str, dict[str, str]] = {"backing": {}, "file": {}}
        for edge in graph["edges"]:
            if edge["name"] in children and edge["parent"] in names:
                children[edge["name"]][names[edge["parent"]]] = names[edge["child"]]
        return _Graph(list(names.values()), **children)

    async def _exports(self, prefix: str) -> dict[str, str]:
        """Read, for the id of each export with a prefix, the node it stands on."""
        return {
            found["id"].removeprefix(prefix): found["node-name"]
            for found in await self.monitor.execute("query-block-exports")
            if found["id"].startswith(prefix)
        }

    async def _add(self, layer: Layer, *, backing: str | None, frozen: bool) -> None:
        await self.monitor.execute(
            "blockdev-add",
            {
                "node-name": _node(layer.id),
                "file": {"node-name": f"{_FILE}{layer.id}", **self._file(self.files.path(layer.id))},
                **_layer_options(backing, frozen=frozen),
            },
        )

    def _file(self, path: Path) -> Options:
        return {"driver": "file", "filename": str(path), "discard": "unmap", **self._access}


def new_layer_id() -> str:
    """Make up a layer's id; it names the file and, within QMP's 31 characters, the node."""
    return secrets.token_hex(12)


def _node(layer_id: str) -> str:
    return f"{_PREFIX}{layer_id}"


def _source(layer_id: str) -> str:
    return f"{_SOURCE}{layer_id}"


def _layer_options(backing: str | None, *, frozen: bool) -> Options:
    return {"driver": "qcow2", "backing": backing, "discard": "unmap", "read-only": frozen}


def _source_options(layer_id: str, source: ImageSource) -> Options:
    address = parse_uri(source.uri)
    if isinstance(address, TcpAddress):
        server = {"type": "inet", "host": address.host, "port": str(address.port)}
    else:
        server = {"type": "unix", "path": address.socket_path}
    return {
        "node-name": _source(layer_id),
        "driver": "nbd",
        "server": server,
        "export": address.export_name,
        "reconnect-delay": RECONNECT_S,
        "read-only": True,
    }


def _greet(source: ImageSource) -> None:
    try:
        with NbdClient.connect(source.uri, timeout_s=ANSWER_S) as client:
            found = client.size_bytes
    except NbdError as problem:
        raise DaemonRefused(f"the image {source.uri} can't be opened: {problem}") from problem
    if found != source.size_bytes:
        raise DaemonRefused(f"the image {source.uri} has {found} bytes, not {source.size_bytes}")
