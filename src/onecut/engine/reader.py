"""
Points that are read straight from their layers' files, past the daemon.

Whoever archives a disk takes less from those who write to it: the daemon answers its clients in one thread, which
had to copy every byte to be archived as well. With direct I/O the data goes from the disk to the reader's memory and
is copied nowhere. `docs/decisions/0013-reading-points.md` has the measurement.

What is read stays as it is although merges go on below. The point's own layer takes part in none. When one below is
merged into the next, the lower file changes only where the upper has data, which is looked at first; and the upper's
file, once deleted, is there until it is closed.
"""

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onecut.engine.tables import (
    ALIGNMENT,
    ALL_SUBCLUSTERS,
    CLUSTER_BYTES,
    COMPRESSED,
    ENTRY,
    OFFSET,
    SUBCLUSTERS,
    ForeignLayer,
    read_at,
    read_tables,
)
from onecut.errors import VolumeUnusable
from onecut.units import KiB, MiB

_SUBCLUSTER_BYTES: Final = CLUSTER_BYTES // SUBCLUSTERS
"""As long as what direct I/O can be aligned to."""

_PART_BYTES: Final = 4 * KiB
"""Of a table this much is read and kept in one go; it describes 32 MiB of the disk."""

_PART_ENTRIES: Final = _PART_BYTES // ENTRY.size

_KEPT_PARTS: Final = 256
"""Of each layer, 1 MiB; then all are forgotten. Who reads a disk from its beginning to its end looks at each once."""

_BOUNCED_BYTES: Final = 1 * MiB
"""What is not aligned is read in pieces of this size, and copied."""

_GAP_BYTES: Final = 64 * KiB
"""Read for nothing rather than asked for separately: a request takes longer than this takes to be read."""

_ZEROS: Final = -1
"""Stands for a layer where there are zeros; the last in the order of filling."""

_NOTHING: Final = bytes(_PART_BYTES)


@dataclass(slots=True)
class _Piece:
    """A part of what was asked for that lies in one place of a file."""

    place: int
    begin: int
    """Where it belongs in the buffer."""
    length: int


class OpenLayers:
    """
    Fulfils `onecut.engine.port.OpenPoint`, for any number of readers.

    Args:
        paths: The files of the point's layer and of those below, in this order.
        size_bytes: The point's length.

    Raises:
        FileNotFoundError: A file is gone; a merge has ended since somebody said that it is there.
        ForeignLayer: A file is not as Onecut makes them.
    """

    def __init__(self, paths: Sequence[Path], size_bytes: int) -> None:
        self.size_bytes = size_bytes
        with ExitStack() as stack:
            layers = [_LayerFile(path, stack) for path in paths]
            self._files = stack.pop_all()
        self._layers = layers

    def reader(self) -> "LayersReader":
        """See `OpenPoint.reader`."""
        return LayersReader(self._layers, self.size_bytes)

    def close(self) -> None:
        """Close the files. There must be no reader any more."""
        self._files.close()


class LayersReader:
    """Fulfils `onecut.engine.port.PointReader`. Aligned memory of the caller's is read into directly."""

    def __init__(self, layers: Sequence["_LayerFile"], size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._layers = layers
        self._bounce: mmap.mmap | None = None

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> None:
        """
        See `PointReader.readinto`.

        Raises:
            VolumeUnusable: A file can't be read, or its tables make no sense.
        """
        with memoryview(buffer) as whole, whole.cast("B") as view:
            if not 0 <= offset <= offset + len(view) <= self.size_bytes:
                raise ValueError(f"bytes {offset} to {offset + len(view)} are not within {self.size_bytes}")
            if _is_aligned(view) and not (offset | len(view)) % ALIGNMENT:
                self._fill(view, offset)
            else:
                self._fill_through_copy(view, offset)

    def close(self) -> None:
        """See `PointReader.close`."""
        self._bounce = None

    def _fill_through_copy(self, view: memoryview, offset: int) -> None:
        self._bounce = self._bounce or mmap.mmap(-1, _BOUNCED_BYTES)
        with memoryview(self._bounce) as bounce:
            done = 0
            while done < len(view):
                begin = (offset + done) // ALIGNMENT * ALIGNMENT
                skipped = offset + done - begin
                length = min(_BOUNCED_BYTES - skipped, len(view) - done)
                self._fill(bounce[: -(-(skipped + length) // ALIGNMENT) * ALIGNMENT], begin)
                view[done : done + length] = bounce[skipped : skipped + length]
                done += length

    def _fill(self, view: memoryview, offset: int) -> None:
        """
        Fill a view: from the lowest layer up, and zeros last.

        So between two pieces of the lowest layer anything may be read, where it is one request instead of two.
        """
        found = self._pieces(offset, len(view))
        lowest = max((depth for depth in found if depth != _ZEROS), default=_ZEROS)
        for depth in sorted(found, reverse=True):
            for piece in _joined(found[depth], _GAP_BYTES if depth == lowest else 0):
                part = view[piece.begin : piece.begin + piece.length]
                if depth == _ZEROS:
                    part[:] = bytes(piece.length)
                else:
                    self._layers[depth].readinto(part, piece.place)

    def _pieces(self, offset: int, length: int) -> dict[int, list[_Piece]]:
        """Say where what is at *offset* lies: for each layer, by its number from the top, pieces in their order."""
        found: dict[int, list[_Piece]] = {}
        begin = 0
        while begin < length:
            cluster, within = divmod(offset + begin, CLUSTER_BYTES)
            taken = min(CLUSTER_BYTES - within, length - begin)
            first, last = within // _SUBCLUSTER_BYTES, -(-(within + taken) // _SUBCLUSTER_BYTES)
            for depth, place, start, stop in self._in_cluster(cluster, (1 << last) - (1 << first)):
                piece = _Piece(
                    place + start * _SUBCLUSTER_BYTES,
                    begin + (start - first) * _SUBCLUSTER_BYTES,
                    (stop - start) * _SUBCLUSTER_BYTES,
                )
                found.setdefault(depth, []).append(piece)
            begin += taken
        return found

    def _in_cluster(self, cluster: int, wanted: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield runs of wanted subclusters: the layer's number, where its cluster lies, the first, the one behind."""
        zeros = 0
        for depth, layer in enumerate(self._layers):
            place, own_zeros, own_data = layer.entry(cluster)
            for start, stop in _runs(own_data & wanted):
                yield depth, place, start, stop
            zeros |= own_zeros & wanted
            wanted &= ~(own_data | own_zeros)
            if not wanted:
                break
        for start, stop in _runs(zeros | wanted):
            yield _ZEROS, 0, start, stop


class _LayerFile:
    """One layer's file, open until *stack* is closed."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._path = path
        self._file = _open(path)
        stack.callback(os.close, self._file)
        tables = read_tables(self._file, path)
        if tables.cluster_bytes != CLUSTER_BYTES:
            raise ForeignLayer(f"{path} has clusters of {tables.cluster_bytes} bytes")
        self._places = tables.places
        self._parts: dict[int, bytes] = {}

    def entry(self, cluster: int) -> tuple[int, int, int]:
        """Return where a cluster lies, which subclusters it says are zero, and which of them it has."""
        number, index = divmod(cluster, _PART_ENTRIES)
        part = self._parts.get(number)
        if part is None:
            part = self._fetched(number)
        descriptor, zeros, data = ENTRY.unpack_from(part, index * ENTRY.size)
        place = descriptor & OFFSET
        if descriptor & COMPRESSED or data & zeros or (data and (not place or place % CLUSTER_BYTES)):
            raise VolumeUnusable(f"the tables of layer {self._path.stem} are damaged, at cluster {cluster}")
        return place, zeros, data

    def readinto(self, view: memoryview, place: int) -> None:
        """Read from the file; what it is too short for is zeros, as for the daemon."""
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._file, [view[done:]], place + done)
            except OSError as error:
                raise VolumeUnusable(f"layer {self._path.stem} can't be read: {error.strerror}") from error
            if count == 0:
                view[done:] = bytes(len(view) - done)
                return
            done += count

    def _fetched(self, number: int) -> bytes:
        """Read a part of a table, and keep it: it may become more than it says, but not otherwise."""
        table, part = divmod(number, CLUSTER_BYTES // _PART_BYTES)
        place = self._places[table] if table < len(self._places) else 0
        try:
            found = read_at(self._file, place + part * _PART_BYTES, _PART_BYTES) if place else _NOTHING
        except OSError as error:
            raise VolumeUnusable(f"layer {self._path.stem} can't be read: {error.strerror}") from error
        if len(found) < _PART_BYTES:
            raise VolumeUnusable(f"layer {self._path.stem} ends within its tables")
        if len(self._parts) >= _KEPT_PARTS:
            self._parts.clear()
        self._parts[number] = found
        return found


def _open(path: Path) -> int:
    """Open a file for direct I/O, or without where its file system has none."""
    with suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECT)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _is_aligned(view: memoryview) -> bool:
    return len(view) == 0 or ctypes.addressof(ctypes.c_char.from_buffer(view)) % ALIGNMENT == 0


def _runs(mask: int) -> Iterator[tuple[int, int]]:
    """Yield the runs of ones in a mask: first bit, and the one behind the last."""
    if mask == ALL_SUBCLUSTERS:
        yield 0, SUBCLUSTERS
        return
    while mask:
        start = (mask & -mask).bit_length() - 1
        length = (~(mask >> start) & -~(mask >> start)).bit_length() - 1
        yield start, start + length
        mask &= ~(((1 << length) - 1) << start)


def _joined(pieces: Iterable[_Piece], gap_bytes: int) -> Iterator[_Piece]:
    """Join pieces that are as far apart in the buffer as in their file, if that is no more than *gap_bytes*."""
    pending: _Piece | None = None
    for piece in pieces:
        if pending is None:
            pending = piece
            continue
        gap = piece.begin - pending.begin - pending.length
        if gap <= gap_bytes and piece.place - pending.place == piece.begin - pending.begin:
            pending.length = piece.begin + piece.length - pending.begin
        else:
            yield pending
            pending = piece
    if pending is not None:
        yield pending
