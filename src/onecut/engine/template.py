"""
New layers by copying: an empty layer differs from another of its size in one name at most, that of the layer below.

The daemon takes some 12 ms to make a qcow2 file, which is most of what a cut prepares; a copy takes two. It makes the
first layer of each size itself, one that stands on another and one that does not. So the format stays QEMU's
business: here only the name is replaced, at the place that the header gives. Source: QEMU, docs/interop/qcow2.txt.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from onecut.units import KiB

PIECE_BYTES: Final = 4 * KiB
"""What is nothing but zeros is left out of a copy in pieces of this size: nearly all of the file."""

_BACKING_NAME = struct.Struct(">8xQI")


@dataclass(frozen=True)
class Template:
    """What there is to an empty layer: the pieces that are not zero, by their offset."""

    pieces: dict[int, bytes]
    length_bytes: int
    name_at: int
    name_length: int
    """0 for a layer that stands on nothing."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Take a layer that was just made as a template."""
        data = path.read_bytes()
        found = {at: data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES)}
        name_at, name_length = _BACKING_NAME.unpack_from(data)
        return cls({at: piece for at, piece in found.items() if any(piece)}, len(data), name_at, name_length)

    def fits(self, backing_name: str) -> bool:
        """
        Tell whether the name takes the place of the template's: layers' names are all of one length.

        Args:
            backing_name: That of the layer below; empty for a layer that stands on nothing.
        """
        return len(backing_name.encode()) == self.name_length

    def copy(self, path: Path, backing_name: str) -> None:
        """Fill an empty file with a copy that stands on *backing_name*, and wait until it is on the disk."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.truncate(descriptor, self.length_bytes)
            for at, piece in self.pieces.items():
                os.pwrite(descriptor, piece, at)
            if backing_name:
                os.pwrite(descriptor, backing_name.encode(), self.name_at)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
