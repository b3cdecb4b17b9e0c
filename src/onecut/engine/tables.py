"""
The tables of a layer's file, which say where its data lies.

They are complete once the layer is frozen and sealed (`Nodes.seal`). While another layer is merged into it they
change, but only where that layer has data itself.

Source: QEMU, docs/interop/qcow2.txt, "Header", "L1 table entry", "Extended L2 Entries".
"""

import mmap
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from sys import byteorder
from typing import Final, NamedTuple

from onecut.units import KiB

ALIGNMENT: Final = 4 * KiB
"""Where direct I/O may begin and end, in the file and in memory, on any disk; open(2), "O_DIRECT"."""

CLUSTER_BYTES: Final = 128 * KiB
"""With extended L2 entries a cluster has 32 parts of 4 KiB; `docs/decisions/0003-layers.md` has the measurement."""

ENTRY: Final = Struct(">QII")
"""Descriptor of a cluster, subclusters that read as zeros, subclusters that have data; bit 0 is the first."""

SUBCLUSTERS: Final = 32
ALL_SUBCLUSTERS: Final = (1 << SUBCLUSTERS) - 1

COMPRESSED: Final = 1 << 62
OFFSET: Final = 0x00FF_FFFF_FFFF_FE00
"""Of a cluster or a table, in what refers to it."""

_HEADER: Final = Struct(">4sIQIIQIIQ24xQ")
"""Magic, version, backing file (place, length), cluster bits, size, encryption, L1 (entries, place), features."""

_MAGIC: Final = b"QFI\xfb"
_EXTENDED_L2: Final = 1 << 4


class ForeignLayer(Exception):
    """A file is not as Onecut makes them, or is damaged: nothing may be concluded from it."""


class Tables(NamedTuple):
    """Where the second tables of a file lie."""

    cluster_bytes: int
    places: Sequence[int]
    """For each `reach_bytes` of the disk the offset in the file of a table one cluster long; 0 when there is none."""

    @property
    def reach_bytes(self) -> int:
        """How much of the disk one of them describes."""
        return self.cluster_bytes // ENTRY.size * self.cluster_bytes


def read_tables(file: int, path: Path) -> Tables:
    """
    Read the first table of an open file; *path* is for messages.

    A merge into the file may give it a larger first table meanwhile and use the old one's place for something else.

    Raises:
        ForeignLayer: The file is not as we make them.
    """
    while True:
        head = read_at(file, 0, _HEADER.size)
        cluster_bytes, entries, place = _read_header(head, path)
        raw = read_at(file, place, 8 * entries)
        if head == read_at(file, 0, _HEADER.size):
            break
    if len(raw) < 8 * entries:
        raise ForeignLayer(f"{path} ends within its tables")
    first = array("Q", raw)
    if byteorder == "little":
        first.byteswap()
    return Tables(cluster_bytes, array("Q", (entry & OFFSET for entry in first)))


def read_at(file: int, offset: int, length: int) -> bytes:
    """Read from a file that may be open for direct I/O; less at its end."""
    begin = offset // ALIGNMENT * ALIGNMENT
    end = -(-(offset + length) // ALIGNMENT) * ALIGNMENT
    with mmap.mmap(-1, max(end - begin, ALIGNMENT)) as buffer:
        count = os.preadv(file, [buffer], begin)
        return buffer[offset - begin : min(offset - begin + length, count)]


def _read_header(head: bytes, path: Path) -> tuple[int, int, int]:
    if len(head) == _HEADER.size:
        magic, version, _, _, cluster_bits, _, _, entries, place, features = _HEADER.unpack(head)
        # A file that is marked as damaged, or has anything else we do not know, has a further feature.
        if (magic, version, features) == (_MAGIC, 3, _EXTENDED_L2):
            return 1 << cluster_bits, entries, place
    raise ForeignLayer(f"{path} is not a file as Onecut makes them")
