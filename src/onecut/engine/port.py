"""
The contract between Onecut and whatever keeps its volumes.

`qemu` (one machine) fulfils it with layers, `ceph` will with RBD images and group snapshots, `memory` serves tests.
Every act is named by an id that its caller made, and may be repeated with that id: a job that is run again after a
crash gets the same result, not a second one. An engine keeps its own record of what it holds; nobody else looks
behind a point's id.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Protocol


@dataclass(frozen=True)
class CutMember:
    """What a cut left of one volume."""

    volume_id: str
    point_id: str
    pause_ms: float
    """
    Longest time, in milliseconds, that a write to this volume can have waited for the cut.

    Zero if the service died before it had measured it, and the cut was settled later.
    """
    size_bytes: int
    """The point's length; may be zero once the point was released."""


@dataclass(frozen=True)
class Cut:
    """The instant at which all members froze together."""

    id: str
    taken_at: datetime
    prepare_ms: float
    """Time spent before the instant, while writes went on."""
    pause_ms: float
    """The longest pause of any member."""
    members: Sequence[CutMember]


@dataclass(frozen=True)
class PointSource:
    """A volume begins as a point, of whatever volume."""

    point_id: str


@dataclass(frozen=True)
class ImageSource:
    """
    A volume begins as an image that an NBD server serves read-only, and never changes.

    The server may go away and come back: reads of what the volume still lacks wait for it.
    """

    uri: str
    """``nbd+unix:///NAME?socket=PATH`` or ``nbd://HOST:PORT/NAME``; stays valid until the volume is hydrated."""
    size_bytes: int


Source = PointSource | ImageSource
"""What a volume's content comes from."""


@dataclass(frozen=True)
class Limits:
    """What all clients of a volume together may do in a second; None is no limit."""

    iops: int | None = None
    """Requests, of whatever length: reads, writes, zeroing and discards."""
    bytes_per_s: int | None = None
    """Bytes read and written."""


NO_LIMITS: Final = Limits()


class ExtentKind(Enum):
    """What is known of a range of a point."""

    DATA = "data"
    """It may hold anything."""
    ZERO = "zero"
    """It reads as zeros."""
    UNCHANGED = "unchanged"
    """It reads as the same range of the point that was compared with."""


@dataclass(frozen=True)
class Extent:
    """One range of a point, in bytes."""

    offset: int
    length: int
    kind: ExtentKind


class PointReader(Protocol):
    """One reader of a point; for one thread at a time."""

    @property
    def size_bytes(self) -> int:
        """The point's length."""
        ...

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> None:
        """
        Fill *buffer* with what is at *offset*. Blocks.

        Raises:
            NbdError: The daemon was lost, or could not read. Open the point again.
        """
        ...

    def close(self) -> None:
        """End the reader; a second time does nothing."""
        ...


class OpenPoint(Protocol):
    """A point that is open for reading."""

    @property
    def size_bytes(self) -> int:
        """The point's length."""
        ...

    def reader(self) -> PointReader:
        """Make a reader of its own for each thread. Blocks; raises as `PointReader.readinto` does."""
        ...


@dataclass(frozen=True)
class EngineHealth:
    """What an operator should know of the engine now."""

    ready: bool
    detail: str
    """A sentence: the daemon's version, or what is wrong with it."""
    unusable: Mapping[str, str]
    """Volumes that can't be opened, each with a sentence why."""


class Engine(Protocol):
    """
    Keeps volumes, serves them, and freezes any set of them at one instant.

    Unless stated otherwise an act raises `EngineDown` when the daemon does not answer (nothing is known to have
    changed; repeat it with the same ids), `EngineFull` when there is no space, `VolumeUnusable` when a volume it
    needs can't be opened. After any error the volumes not named in the call are as they were and go on working.
    """

    max_members: int
    """Most volumes one `cut` may hold."""

    async def start(self) -> None:
        """
        Find what is there, finish or undo what a crash left half done, and be ready.

        Volumes whose data can't be opened do not stop the start; `health` names them.

        Raises:
            Misconfigured: The daemon's program is missing or too old, or its folder can't be used.
        """
        ...

    async def close(self) -> None:
        """Let go of the daemon, which goes on serving."""
        ...

    async def health(self) -> EngineHealth:
        """Say how the engine is. Never raises."""
        ...

    def moved_bytes(self) -> int | None:
        """
        Tell how many bytes clients have read from and written to all disks, counted from some moment on.

        Who does heavy work beside them looks whether it grows. What the engine itself moves in the background may be
        among them, what is read from an open point should not. None when it is not known. Returns at once, to any
        thread.
        """
        ...

    async def create_volume(
        self, volume_id: str, size_bytes: int, *, source: Source | None = None, limits: Limits = NO_LIMITS
    ) -> None:
        """
        Make a volume of zeros, or one that begins as *source* (and is at least as large).

        It can be used at once; see `hydrate`. A volume of that id that is there already is left as it is.

        Args:
            volume_id: Chosen by the caller; survives a restart.
            size_bytes: Its size.
            source: What it begins as.
            limits: What its clients may do, until `limit` says otherwise.
        """
        ...

    async def delete_volume(self, volume_id: str) -> None:
        """End a volume that has no export. Its points stay; a volume that is not there is no error."""
        ...

    async def extend_volume(self, volume_id: str, size_bytes: int) -> None:
        """Make a volume without an export at least *size_bytes* long; what is new reads as zeros."""
        ...

    async def limit(self, limits: Mapping[str, Limits]) -> None:
        """
        Limit what clients of volumes may do, from now on and until it is called again for the same volumes.

        Clients that are connected stay so, and cuts are not held up by requests that wait. A volume that is not there
        is no error.
        """
        ...

    async def export(self, export_id: str, volume_id: str) -> str:
        """
        Serve a volume to writers, and return the NBD URI that opens it.

        The same *export_id* gives the same URI, also after a restart of the service or of the daemon.
        """
        ...

    async def unexport(self, export_id: str) -> None:
        """Stop serving. When this returns, no client of that export can write any more."""
        ...

    async def cut(self, cut_id: str, points: Mapping[str, str], *, deadline_s: float) -> Cut:
        """
        Freeze volumes at one instant, while they are written to.

        Each member gets a point of that same instant, or none does: after any error but `OutcomeUnknown` no
        volume has a point of this cut. Calling again with the id of a cut that was done returns that cut.

        Args:
            cut_id: Chosen by the caller; survives a restart.
            points: For each volume's id, the id its point shall have. From one to `max_members`.
            deadline_s: Seconds that the whole act may take before it is given up.

        Raises:
            CannotCut: A member is unknown, unusable, or can't be frozen with the others, or the source of a volume
                that is being hydrated does not answer (see `hydrate`). No volume was touched.
            CutFailed: It was tried; the points already made are gone.
            OutcomeUnknown: The line broke after sending. Call `settle` before anything else.
        """
        ...

    async def settle(self, cut_id: str) -> Cut | None:
        """Find out what became of a cut: the finished cut, or None once every trace of it is gone."""
        ...

    async def release(self, point_ids: Sequence[str]) -> None:
        """
        Give up points. What only they held is freed, in the background and without stalling writers.

        A point that is not there is no error.
        """
        ...

    async def roll_back(self, sources: Mapping[str, Source]) -> None:
        """
        Give volumes the content of points or images: all of them, or none.

        Args:
            sources: For each volume's id, a point of that volume or an image. No volume has an export.

        The volumes' present content is lost unless a point holds it. A volume keeps its size when it is larger than
        the source; what lies beyond the source's end then reads as zeros.
        """
        ...

    async def hydrate(self, volume_id: str, *, on_progress: Callable[[int, int], None]) -> None:
        """
        Wait until a volume needs no image any more; at once if it needs none, or is not there.

        Volumes are filled by the engine itself, in the background and from `start` on, whether anybody waits or not.
        Until then they are used, cut, extended and deleted like any other. While an image's server does not answer,
        reads of what is missing wait, and no cut of any volume is made.

        Args:
            volume_id: Who waits for several volumes calls this for each.
            on_progress: Called with the bytes that were fetched and the bytes that the image holds in all, at the
                beginning and whenever more was fetched.

        Raises:
            VolumeUnusable: The image's server refused some part of it. The rest was fetched; it is tried again in
                the background, and the volume goes on as before.
        """
        ...

    async def images(self) -> frozenset[str]:
        """Tell which images are still needed, by their URIs; also by points whose volume is gone."""
        ...

    def open_point(self, point_id: str) -> AbstractAsyncContextManager[OpenPoint]:
        """
        Open a point for reading, by any number of threads, until the block ends.

        The point stays readable until then, even if it is released meanwhile. When the daemon is lost the readers
        fail, and the point must be opened again. What a crash of the service leaves open is closed at `start`.

        Raises:
            VolumeUnusable: There is no such point, or it can't be opened.
        """
        ...

    async def extents(self, point_id: str, *, since: str | None) -> Sequence[Extent]:
        """
        Tell what a point holds, in the order of offsets, without gap or overlap, to the point's end.

        Args:
            point_id: The point.
            since: None, or a point to compare with: what was not written since is `UNCHANGED`. What was written
                with the same bytes is not, what lies beside it need not be; beyond that point's end nothing is.

        Raises:
            NoChangeList: The two are not neighbours in one chain of layers, or one of them was adopted after a crash.
            VolumeUnusable: There is no point *point_id*, or it can't be opened.
        """
        ...
