"""Mark every object that manifests reach: the slow way to know what is in use."""

from collections import defaultdict

from onecut.repository.manifest import Chain
from onecut.repository.page import Leaf, Ref
from onecut.repository.repository import Reader, Repository


class Marks:
    """One bit for each object, by room, run and ordinal."""

    def __init__(self) -> None:
        self._bits: defaultdict[tuple[str, bytes], bytearray] = defaultdict(bytearray)

    def add(self, room: str, run: bytes, ordinal: int) -> bool:
        """Mark an object; say whether it was not marked before."""
        bits = self._bits[room, run]
        index, bit = ordinal >> 3, 1 << (ordinal & 7)
        if index >= len(bits):
            bits.extend(bytes(max(index + 1 - len(bits), len(bits))))
        new = not bits[index] & bit
        bits[index] |= bit
        return new

    @property
    def runs(self) -> set[bytes]:
        """The runs of which an object is marked."""
        return {run for _, run in self._bits}

    def has(self, room: str, run: bytes, ordinal: int) -> bool:
        """Whether an object is marked."""
        bits = self._bits.get((room, run), b"")
        return ordinal >> 3 < len(bits) and bool(bits[ordinal >> 3] & 1 << (ordinal & 7))


def mark_chain(repository: Repository, chain: Chain, marks: Marks) -> None:
    """
    Mark what the snapshots of a chain reach.

    Raises:
        Damaged: A manifest or a page can't be read.
    """
    reader = repository.reader(chain.project_id)
    for manifest in repository.manifests(chain):
        _mark(reader, manifest.blocks, marks, chunks=True)
        _mark(reader, manifest.shares, marks, chunks=False)


def _mark(reader: Reader, ref: Ref | None, marks: Marks, *, chunks: bool) -> None:
    if ref is None or not marks.add("trees", ref.run, ref.ordinal):
        return
    page = reader.page(ref)
    if not isinstance(page, Leaf):
        for child in page.children.values():
            _mark(reader, child, marks, chunks=chunks)
    elif chunks:
        for run, ordinal in zip(page.runs, page.ordinals, strict=True):
            marks.add("chunks", run, ordinal)
