"""Read an archived disk. Every page and every chunk is verified on every read from the store."""

from collections.abc import Iterator
from dataclasses import dataclass

from onecut.repository.extents import Extent, Kind
from onecut.repository.manifest import SnapshotManifest
from onecut.repository.page import Entry
from onecut.repository.repository import Repository
from onecut.repository.tree import Tree, differences, entries, lookup


@dataclass(frozen=True)
class ChangedBlock:
    """A chunk in which two snapshots differ."""

    offset: int
    length: int
    digest: str | None
    """The newer content's, in hexadecimal digits; None where it is zeros now."""
    base_digest: str | None
    """The older content's; None where it was zeros."""


@dataclass(frozen=True)
class ChangedBlocks:
    """One page of changed blocks."""

    blocks: list[ChangedBlock]
    marker: int | None
    """Where the next page begins, in bytes; None at the end."""


class Image:
    """One snapshot's disk. May be read by several threads. All images of a repository share its caches."""

    def __init__(self, repository: Repository, manifest: SnapshotManifest) -> None:
        self.manifest = manifest
        self.size_bytes = manifest.size_bytes
        self._chunk_bytes = manifest.chunk_bytes
        self._tree = manifest.block_tree
        self._reader = repository.reader(manifest.chain.project_id, repository.image_pages)
        self._cache = repository.image_chunks

    def readinto(self, buffer: memoryview, offset: int) -> None:
        """
        Fill *buffer* with the disk's content at *offset*.

        Raises:
            Damaged: A page or chunk is missing, or not what it was. *buffer* may have been filled in part.
            TryLater: The store is away.
        """
        if offset < 0 or offset + len(buffer) > self.size_bytes:
            raise ValueError(f"{len(buffer)} bytes at {offset} leave the disk of {self.size_bytes} bytes")
        position = 0
        while position < len(buffer):
            number, skip = divmod(offset + position, self._chunk_bytes)
            length = min(self._chunk_bytes - skip, len(buffer) - position)
            entry = lookup(self._reader, self._tree, number)
            target = buffer[position : position + length]
            target[:] = bytes(length) if entry is None else memoryview(self._chunk(entry))[skip : skip + length]
            position += length

    def extents(self, offset: int = 0, length: int | None = None) -> Iterator[Extent]:
        """Yield data and zero ranges in order, without gap, to chunks exactly; neighbours differ in kind."""
        end = self.size_bytes if length is None else offset + length
        position = begin = offset
        first, last = offset // self._chunk_bytes, -(-end // self._chunk_bytes)
        for number, _ in entries(self._reader, self._tree, first, last):
            chunk = max(number * self._chunk_bytes, offset)
            if chunk > position:
                if position > begin:
                    yield Extent(begin, position - begin, Kind.DATA)
                yield Extent(position, chunk - position, Kind.ZERO)
                begin = chunk
            position = min((number + 1) * self._chunk_bytes, end)
        if position > begin:
            yield Extent(begin, position - begin, Kind.DATA)
        if end > position:
            yield Extent(position, end - position, Kind.ZERO)

    def changed_blocks(self, base: "Image | None", *, marker: int = 0, limit: int = 1000) -> ChangedBlocks:
        """
        Return chunks that differ from *base*, or from zeros, from byte *marker* on, *limit* at most.

        Takes time in proportion to the difference. The base may be of any chain of the same project.
        """
        old = base.tree if base is not None else Tree.over(1)
        blocks: list[ChangedBlock] = []
        for number, before, after in differences(self._reader, old, self._tree, marker // self._chunk_bytes):
            offset = number * self._chunk_bytes
            if offset >= self.size_bytes:
                break  # the base is longer; beyond its end a disk has no blocks
            if len(blocks) == limit:
                return ChangedBlocks(blocks, offset)
            length = min(self._chunk_bytes, self.size_bytes - offset)
            blocks.append(ChangedBlock(offset, length, _hex(after), _hex(before)))
        return ChangedBlocks(blocks, None)

    @property
    def tree(self) -> Tree:
        """The tree from chunk numbers to chunks."""
        return self._tree

    def _chunk(self, entry: Entry) -> bytes:
        data = self._cache.get(entry.place)
        if data is None:
            data = self._reader.chunk(entry)
            self._cache.put(entry.place, data)
        return data


def _hex(entry: Entry | None) -> str | None:
    return None if entry is None else entry.digest.hex()
