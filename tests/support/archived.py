"""Disks in memory and the repository they are archived into: what all tests of the repository share."""

import itertools
import random
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from onecut.repository.archive import Options, Request, archive
from onecut.repository.extents import Extent, Kind
from onecut.repository.image import Image
from onecut.repository.manifest import Chain, SnapshotManifest
from onecut.repository.repository import Repository
from onecut.repository.store import ObjectStore

CHUNK = 4096
START = datetime(2026, 1, 1, tzinfo=UTC)


class Bytes:
    """A frozen disk in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = len(data)
        self.reads: list[tuple[int, int]] = []

    def readinto(self, buffer: memoryview, offset: int) -> None:
        self.reads.append((offset, len(buffer)))
        buffer[:] = self._data[offset : offset + len(buffer)]

    def close(self) -> None:
        pass


@dataclass
class Volume:
    """A disk that is written to, with a list of what was written since the last snapshot."""

    repository: Repository
    data: bytearray
    chain: Chain = field(default_factory=lambda: Chain("project1", uuid.uuid4().hex, "chain1"))
    changed: set[int] = field(default_factory=set)
    """Chunk numbers written to since the last snapshot."""
    latest: SnapshotManifest | None = None
    kept: dict[str, bytes] = field(default_factory=dict)
    """What each snapshot must give back."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def chunk(self) -> int:
        return self.repository.chunk_bytes

    def write(self, offset: int, data: bytes) -> None:
        end = min(offset + len(data), len(self.data))
        self.data[offset:end] = data[: end - offset]
        self.changed.update(range(offset // self.chunk, -(-end // self.chunk)))

    def resize(self, size_bytes: int) -> None:
        self.changed.update(range(size_bytes // self.chunk, -(-len(self.data) // self.chunk)))  # lost if it shrinks
        del self.data[size_bytes:]
        self.data.extend(bytes(size_bytes - len(self.data)))

    def snapshot(
        self,
        *,
        full: bool = False,
        base: SnapshotManifest | None = None,
        run_id: str | None = None,
        options: Options | None = None,
    ) -> SnapshotManifest:
        """Archive the disk as it is: what changed since the latest snapshot, or all of it."""
        base = base or self.latest
        number = next(self.numbers)
        request = Request(
            self.chain,
            f"snap{number}",
            run_id or uuid.uuid4().hex,
            f"snapshot {number}",
            len(self.data),
            START + timedelta(hours=number),
            base=base.snapshot_id if base is not None and not full else None,
        )
        frozen = bytes(self.data)
        extents = list(self.extents(incremental=base is not None and not full))
        self.kept[request.snapshot_id] = frozen
        manifest = archive(self.repository, request, lambda: Bytes(frozen), extents, options)
        self.latest, self.changed = manifest, set()
        return manifest

    def extents(self, *, incremental: bool) -> Iterable[Extent]:
        size = len(self.data)
        if not incremental and size:
            yield Extent(0, size, Kind.DATA)
            return
        for number in range(-(-size // self.chunk)):
            begin = number * self.chunk
            length = min(self.chunk, size - begin)
            yield Extent(begin, length, Kind.DATA if number in self.changed else Kind.UNCHANGED)


def noise(seed: int, length: int) -> bytes:
    """Return incompressible bytes that are the same in every run."""
    return random.Random(seed).randbytes(length)  # noqa: S311 - noise, no secret


def restored(repository: Repository, manifest: SnapshotManifest) -> bytes:
    """Read a whole image from the store, past what is cached."""
    image = Image(Repository.open(repository.store), manifest)
    data = bytearray(image.size_bytes)
    image.readinto(memoryview(data), 0)
    return bytes(data)


def names(store: ObjectStore) -> set[str]:
    """List all objects but the marker."""
    return {info.path for info in store.list("")} - {"repository.json"}
