"""An engine that keeps everything in the process's memory, for tests and trials."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Final

from onecut.clock import Clock
from onecut.engine.port import (
    NO_LIMITS,
    Cut,
    CutMember,
    EngineHealth,
    Extent,
    ExtentKind,
    ImageSource,
    Limits,
    Source,
)
from onecut.errors import CannotCut, EngineError, NoChangeList, VolumeUnusable
from onecut.nbd.client import BASE_ALLOCATION, READS_AS_ZEROS, NbdClient
from onecut.nbd.errors import NbdError
from onecut.units import KiB, MiB

_PAGE_BYTES: Final = 4 * KiB
_FETCHED_BYTES: Final = 1 * MiB


@dataclass
class Image:
    """Sparse content: pages that were written, zeros elsewhere."""

    size_bytes: int
    pages: dict[int, bytes] = field(default_factory=dict)
    base_id: str | None = None
    """The point that it began as."""

    def copy(self, size_bytes: int, base_id: str | None = None) -> "Image":
        """Make an independent image with the same content, at least *size_bytes* long."""
        return Image(max(size_bytes, self.size_bytes), dict(self.pages), base_id)

    def extents(self, base: "Image | None") -> Sequence[Extent]:
        """Say what the image holds, and what of it is as in *base*."""
        unchanged_pages = 0 if base is None else base.size_bytes // _PAGE_BYTES

        def kind(page: int) -> ExtentKind:
            content = self.pages.get(page, bytes(_PAGE_BYTES))
            if base is not None and page < unchanged_pages and content == base.pages.get(page, bytes(_PAGE_BYTES)):
                return ExtentKind.UNCHANGED
            return ExtentKind.DATA if any(content) else ExtentKind.ZERO

        # Pages that nobody wrote need no look: between two of these edges all pages are of one kind.
        end = self.size_bytes // _PAGE_BYTES
        written = self.pages.keys() | (set() if base is None else base.pages.keys())
        edges = {0, unchanged_pages, *written, *(page + 1 for page in written)}
        begins = [next(run) for _, run in groupby(sorted(edge for edge in edges if edge < end), kind)]
        return [
            Extent(first * _PAGE_BYTES, (next_first - first) * _PAGE_BYTES, kind(first))
            for first, next_first in pairwise([*begins, end])
        ]

    def read(self, offset: int, length: int) -> bytes:
        """Read bytes; raise ValueError beyond the end."""
        self._require_inside(offset, length)
        first, last = offset // _PAGE_BYTES, (offset + length - 1) // _PAGE_BYTES
        data = b"".join(self.pages.get(page, bytes(_PAGE_BYTES)) for page in range(first, last + 1))
        return data[offset - first * _PAGE_BYTES :][:length]

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes; raise ValueError beyond the end."""
        self._require_inside(offset, len(data))
        first, last = offset // _PAGE_BYTES, (offset + len(data) - 1) // _PAGE_BYTES
        for page in range(first, last + 1):
            content = bytearray(self.pages.get(page, bytes(_PAGE_BYTES)))
            start = max(offset, page * _PAGE_BYTES)
            end = min(offset + len(data), (page + 1) * _PAGE_BYTES)
            content[start - page * _PAGE_BYTES : end - page * _PAGE_BYTES] = data[start - offset : end - offset]
            self.pages[page] = bytes(content)

    def _require_inside(self, offset: int, length: int) -> None:
        if offset < 0 or length < 1 or offset + length > self.size_bytes:
            raise ValueError(f"{length} bytes at {offset} are not inside of {self.size_bytes}")


class ImageReader:
    """Fulfils `onecut.engine.port.PointReader`."""

    def __init__(self, image: Image) -> None:
        self.size_bytes = image.size_bytes
        self._image = image

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> None:
        """See `PointReader.readinto`."""
        with memoryview(buffer) as view:
            view[:] = self._image.read(offset, len(view))

    def close(self) -> None:
        """See `PointReader.close`."""


class OpenImage:
    """Fulfils `onecut.engine.port.OpenPoint`."""

    def __init__(self, image: Image) -> None:
        self.size_bytes = image.size_bytes
        self._image = image

    def reader(self) -> ImageReader:
        """See `OpenPoint.reader`."""
        return ImageReader(self._image)


@dataclass(frozen=True)
class _Point:
    volume_id: str
    image: Image


class MemoryEngine:
    """
    Fulfils `onecut.engine.port.Engine`. Nothing outlives the process, and an export's URI opens nothing.

    Images are read at once and whole, so no volume is ever being hydrated.
    """

    max_members = 64

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._volumes: dict[str, Image] = {}
        self._points: dict[str, _Point] = {}
        self._exports: dict[str, str] = {}
        self._cuts: dict[str, Cut] = {}
        self._limits: dict[str, Limits] = {}

    async def start(self) -> None:
        """See `Engine.start`."""

    async def close(self) -> None:
        """See `Engine.close`."""

    async def health(self) -> EngineHealth:
        """See `Engine.health`."""
        return EngineHealth(ready=True, detail="volumes are kept in memory", unusable={})

    def moved_bytes(self) -> int | None:
        """See `Engine.moved_bytes`: its disks have no clients."""
        return None

    async def create_volume(
        self, volume_id: str, size_bytes: int, *, source: Source | None = None, limits: Limits = NO_LIMITS
    ) -> None:
        """See `Engine.create_volume`."""
        if volume_id not in self._volumes:
            begun = Image(size_bytes) if source is None else await self._begun(source, size_bytes)
            self._volumes[volume_id], self._limits[volume_id] = begun, limits

    async def delete_volume(self, volume_id: str) -> None:
        """See `Engine.delete_volume`."""
        self._require_detached(volume_id)
        self._volumes.pop(volume_id, None)
        self._limits.pop(volume_id, None)

    async def extend_volume(self, volume_id: str, size_bytes: int) -> None:
        """See `Engine.extend_volume`."""
        image = self._volume(volume_id)
        self._require_detached(volume_id)
        image.size_bytes = max(image.size_bytes, size_bytes)

    async def limit(self, limits: Mapping[str, Limits]) -> None:
        """See `Engine.limit`. It has no clients, so nothing is slowed down."""
        self._limits.update((volume_id, each) for volume_id, each in limits.items() if volume_id in self._volumes)

    async def export(self, export_id: str, volume_id: str) -> str:
        """See `Engine.export`."""
        self._volume(volume_id)
        served = self._exports.setdefault(export_id, volume_id)
        if served != volume_id:
            raise EngineError(f"export {export_id} serves volume {served} already")
        return f"nbd+unix:///{export_id}?socket=/memory"

    async def unexport(self, export_id: str) -> None:
        """See `Engine.unexport`."""
        self._exports.pop(export_id, None)

    async def cut(self, cut_id: str, points: Mapping[str, str], *, deadline_s: float) -> Cut:  # noqa: ARG002 - it takes no time
        """See `Engine.cut`."""
        if not 1 <= len(points) <= self.max_members:
            raise CannotCut(f"a cut has 1 to {self.max_members} volumes, not {len(points)}")
        known = self._cuts.get(cut_id)
        if known is not None:
            if {member.volume_id: member.point_id for member in known.members} != dict(points):
                raise CannotCut(f"cut {cut_id} was made with other volumes or points")
            return known
        for volume_id, point_id in points.items():
            if volume_id not in self._volumes:
                raise CannotCut(f"there is no volume {volume_id}")
            if point_id in self._points:
                raise CannotCut(f"there is a point {point_id} already")
        members = []
        for volume_id, point_id in sorted(points.items()):
            image = self._volumes[volume_id]
            self._points[point_id] = _Point(volume_id, image.copy(image.size_bytes, image.base_id))
            image.base_id = point_id
            members.append(CutMember(volume_id, point_id, 0.0, image.size_bytes))
        cut = Cut(id=cut_id, taken_at=self._clock.now(), prepare_ms=0.0, pause_ms=0.0, members=members)
        self._cuts[cut_id] = cut
        return cut

    async def settle(self, cut_id: str) -> Cut | None:
        """See `Engine.settle`."""
        return self._cuts.get(cut_id)

    async def release(self, point_ids: Sequence[str]) -> None:
        """See `Engine.release`."""
        for point_id in point_ids:
            self._points.pop(point_id, None)
        for cut in list(self._cuts.values()):
            if not any(member.point_id in self._points for member in cut.members):
                del self._cuts[cut.id]

    async def roll_back(self, sources: Mapping[str, Source]) -> None:
        """See `Engine.roll_back`."""
        begun = {}
        for volume_id, source in sources.items():
            size_bytes = self._volume(volume_id).size_bytes
            self._require_detached(volume_id)
            if not isinstance(source, ImageSource) and self._point(source.point_id).volume_id != volume_id:
                raise VolumeUnusable(f"point {source.point_id} is not of volume {volume_id}")
            begun[volume_id] = await self._begun(source, size_bytes)
        self._volumes.update(begun)

    async def hydrate(self, volume_id: str, *, on_progress: Callable[[int, int], None]) -> None:
        """See `Engine.hydrate`."""

    async def images(self) -> frozenset[str]:
        """See `Engine.images`."""
        return frozenset()

    @asynccontextmanager
    async def open_point(self, point_id: str) -> AsyncIterator[OpenImage]:
        """See `Engine.open_point`."""
        yield OpenImage(self._point(point_id).image)

    async def extents(self, point_id: str, *, since: str | None) -> Sequence[Extent]:
        """See `Engine.extents`."""
        image = self._point(point_id).image
        if since is None:
            return image.extents(None)
        if since not in self._points:
            raise NoChangeList(f"there is no point {since}")
        if image.base_id != since:
            raise NoChangeList(f"point {since} is not the one just below point {point_id}")
        return image.extents(self._points[since].image)

    def write(self, volume_id: str, offset: int, data: bytes) -> None:
        """Write to a volume, as a client would."""
        self._volume(volume_id).write(offset, data)

    def read(self, volume_id: str, offset: int, length: int) -> bytes:
        """Read from a volume, as a client would."""
        return self._volume(volume_id).read(offset, length)

    def limits(self, volume_id: str) -> Limits:
        """Return the limits that are in force for a volume."""
        return self._limits.get(volume_id, Limits())

    async def _begun(self, source: Source, size_bytes: int) -> Image:
        if isinstance(source, ImageSource):
            return await asyncio.to_thread(_fetched, source, size_bytes)
        return self._point(source.point_id).image.copy(size_bytes, source.point_id)

    def _volume(self, volume_id: str) -> Image:
        try:
            return self._volumes[volume_id]
        except KeyError as missing:
            raise VolumeUnusable(f"there is no volume {volume_id}") from missing

    def _point(self, point_id: str) -> _Point:
        try:
            return self._points[point_id]
        except KeyError as missing:
            raise VolumeUnusable(f"there is no point {point_id}") from missing

    def _require_detached(self, volume_id: str) -> None:
        if volume_id in self._exports.values():
            raise EngineError(f"volume {volume_id} is exported")


def _fetched(source: ImageSource, size_bytes: int) -> Image:
    image = Image(max(size_bytes, source.size_bytes))
    try:
        with NbdClient.connect(source.uri) as client:
            for extent in client.block_status(0, source.size_bytes, BASE_ALLOCATION):
                if not extent.flags & READS_AS_ZEROS:
                    _fetch(client, image, extent.offset, extent.offset + extent.length)
    except NbdError as problem:
        raise EngineError(f"the image {source.uri} can't be read: {problem}") from problem
    return image


def _fetch(client: NbdClient, image: Image, begin: int, end: int) -> None:
    for offset in range(begin, end, _FETCHED_BYTES):
        image.write(offset, client.read(offset, min(_FETCHED_BYTES, end - offset)))
