"""What the engine knows of a disk's ranges, and what follows for its chunks."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What is known of a range."""

    DATA = "data"
    """It may hold anything: it is read."""
    ZERO = "zero"
    """It reads as zeros."""
    UNCHANGED = "unchanged"
    """It is as it was in the base snapshot; beyond the base's end, zeros."""


@dataclass(frozen=True)
class Extent:
    """One range of a disk, in bytes."""

    offset: int
    length: int
    kind: Kind


@dataclass(frozen=True)
class Span:
    """A range of chunk numbers, from *first* to before *last*."""

    first: int
    last: int
    kind: Kind


def spans(extents: Iterable[Extent], size_bytes: int, chunk_bytes: int) -> Iterator[Span]:
    """
    Yield what is known of whole chunks. A chunk in which kinds meet is data.

    Raises:
        ValueError: The extents leave a gap, overlap, or do not cover the disk.
    """
    position, met = 0, set[Kind]()
    for extent in extents:
        if extent.offset != position or extent.length <= 0 or position + extent.length > size_bytes:
            raise ValueError(f"extent {extent} does not follow byte {position} of {size_bytes}")
        end = position + extent.length
        if position % chunk_bytes:
            met.add(extent.kind)
            chunk = position // chunk_bytes
            if end < min((chunk + 1) * chunk_bytes, size_bytes):
                position = end
                continue
            yield Span(chunk, chunk + 1, met.pop() if len(met) == 1 else Kind.DATA)
            position = min((chunk + 1) * chunk_bytes, end)
            met.clear()
        whole = -(-size_bytes // chunk_bytes) if end == size_bytes else end // chunk_bytes
        first = -(-position // chunk_bytes)
        if whole > first:
            yield Span(first, whole, extent.kind)
        if max(position, whole * chunk_bytes) < end:
            met.add(extent.kind)
        position = end
    if position != size_bytes:
        raise ValueError(f"the extents end at byte {position} of {size_bytes}")
