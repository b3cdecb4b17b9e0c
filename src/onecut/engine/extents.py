"""What a layer's export tells of its ranges, in the port's words."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from onecut.engine.port import Extent, ExtentKind
from onecut.nbd.client import ALLOCATION_DEPTH, BASE_ALLOCATION, NbdClient
from onecut.nbd.client import Extent as Status

ZERO: Final = 1 << 1
"""The range reads as zeros; NBD, "`base:allocation` metadata context"."""

OWN: Final = 1
"""The data lies in the exported layer itself; it was written, zeroed or discarded there."""


def content(client: NbdClient, base_bytes: int) -> Sequence[Extent]:
    """Say what a layer holds, and what of it is as in the layer below, of which *base_bytes* are known. Blocks."""
    return list(_merged(_extents(client, base_bytes)))


def _extents(client: NbdClient, base_bytes: int) -> Iterator[Extent]:
    depths = client.block_status(0, client.size_bytes, ALLOCATION_DEPTH)
    allocation = client.block_status(0, client.size_bytes, BASE_ALLOCATION)
    for offset, length, depth, flags in _joined(depths, allocation):
        # A shorter layer below says nothing of what lies behind its end.
        known = 0 if depth == OWN else min(max(base_bytes - offset, 0), length)
        if known:
            yield Extent(offset, known, ExtentKind.UNCHANGED)
        if known < length:
            yield Extent(offset + known, length - known, ExtentKind.ZERO if flags & ZERO else ExtentKind.DATA)


def _merged(extents: Iterable[Extent]) -> Iterator[Extent]:
    pending: Extent | None = None
    for extent in extents:
        if pending is not None and pending.kind is extent.kind:
            pending = Extent(pending.offset, pending.length + extent.length, extent.kind)
            continue
        if pending is not None:
            yield pending
        pending = extent
    if pending is not None:
        yield pending


def _joined(first: Iterator[Status], second: Iterator[Status]) -> Iterator[tuple[int, int, int, int]]:
    """Cut two descriptions of one range at each other's borders: offset, length, and the flags of both."""
    one, other = next(first, None), next(second, None)
    while one is not None and other is not None:
        offset = max(one.offset, other.offset)
        end = min(one.offset + one.length, other.offset + other.length)
        yield offset, end - offset, one.flags, other.flags
        if one.offset + one.length == end:
            one = next(first, None)
        if other.offset + other.length == end:
            other = next(second, None)
