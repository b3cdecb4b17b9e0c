"""
The layers' files: where they lie, and what can be told from one without opening it in the daemon.

Source for the header's fields: QEMU, docs/interop/qcow2.txt.
"""

import enum
import os
import re
import struct
from collections.abc import Sequence
from pathlib import Path

from onecut.engine.ledger import Layer
from onecut.errors import EngineFull
from onecut.units import MiB, size_text

SPARE_BYTES = 64 * MiB
"""Space that must be left before a layer is made: a client whose layer can't grow gets I/O errors."""

EMPTY_LAYER_BYTES = 1 * MiB
"""More than a new layer takes: header, refcounts and a small L1 table, a cluster of 128 KiB each."""

_MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQIIQ")
_LAYER_ID = re.compile(r"[0-9a-f]{24}")


class LayerState(enum.Enum):
    """What a layer's file shows by itself."""

    ABSENT = "there is no such file, or its making was not finished"
    EMPTY = "no client has written to it"
    WRITTEN = "it holds data"


class LayerFiles:
    """The folder of qcow2 files, one for each layer, named after the layer's id."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, layer_id: str) -> Path:
        """Say where a layer's file lies."""
        if not _LAYER_ID.fullmatch(layer_id):
            raise ValueError(f"{layer_id!r} is no layer's id")
        return self.folder / f"{layer_id}.qcow2"

    def make(self, layer_id: str) -> Path:
        """Make a layer's file, still empty; only its owner may read it."""
        path = self.path(layer_id)
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return path

    def remove(self, layer_id: str) -> None:
        """Remove a layer's file; one that is not there is no error."""
        self.path(layer_id).unlink(missing_ok=True)

    def ids(self) -> Sequence[str]:
        """List the layers that have a file."""
        return [path.stem for path in self.folder.glob("*.qcow2") if _LAYER_ID.fullmatch(path.stem)]

    def sync(self) -> None:
        """Wait until the folder's entries are on the disk."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def require_space(self, layers: int) -> None:
        """Raise `EngineFull` unless so many new layers fit, with something to spare."""
        status = os.statvfs(self.folder)
        free, wanted = status.f_bavail * status.f_frsize, SPARE_BYTES + layers * EMPTY_LAYER_BYTES
        if free < wanted:
            raise EngineFull(f"{self.folder} has {size_text(free)} left; this needs {size_text(wanted)}")

    def state(self, layer: Layer) -> LayerState:
        """
        Tell whether a layer's file is there, and whether anything was ever written to it.

        The first write to a qcow2 file allocates an L2 table, whose place is then written to the L1 table before
        the write can be flushed. The size and the backing file's name come last when a file is made.
        """
        try:
            with self.path(layer.id).open("rb") as file:
                raw = file.read(_HEADER.size)
                if len(raw) < _HEADER.size:
                    return LayerState.ABSENT
                magic, version, backing_at, backing_length, _, size, _, l1_entries, l1_at = _HEADER.unpack(raw)
                if magic != _MAGIC:  # damaged, unless the making of it broke off: there may be data behind it
                    return (
                        LayerState.WRITTEN
                        if os.fstat(file.fileno()).st_size > EMPTY_LAYER_BYTES
                        else LayerState.ABSENT
                    )
                file.seek(l1_at)
                if any(file.read(8 * l1_entries)):
                    return LayerState.WRITTEN
                file.seek(backing_at)
                backing = file.read(backing_length).decode(errors="replace")
        except FileNotFoundError:
            return LayerState.ABSENT
        expected = "" if layer.parent_id is None else self.path(layer.parent_id).name
        complete = (version, size, backing) == (3, layer.size_bytes, expected)
        return LayerState.EMPTY if complete else LayerState.ABSENT

    def size(self, layer_id: str) -> int:
        """Read how long a layer is, in bytes."""
        with self.path(layer_id).open("rb") as file:
            return int(_HEADER.unpack(file.read(_HEADER.size))[5])

    def is_untouched(self, layer_id: str) -> bool:
        """Tell whether a file of unknown descent holds nothing that a client wrote."""
        return self.state(Layer(layer_id, None, 0)) is not LayerState.WRITTEN
