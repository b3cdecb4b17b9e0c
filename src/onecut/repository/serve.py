"""
Serve archived disks over NBD, for restores that begin before the data is there.

While the store is away a read waits, with growing pauses and for as long as it takes: the client, usually a layer
that is being filled in the background, stalls on what it lacks and goes on by itself. Damage is an I/O error at once.
"""

import errno
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote

from onecut.nbd.server import Server
from onecut.repository.errors import Damaged, StoreDenied, StoreUnavailable
from onecut.repository.extents import Kind
from onecut.repository.image import Image
from onecut.repository.retry import Backoff, retried
from onecut.units import MiB

T = TypeVar("T")

UNKNOWN_BYTES: Final = 64 * MiB
"""Least range that is called data as a whole because damage hides what it holds."""

PATIENCE: Final = Backoff(first_s=0.1, longest_s=5.0, total_s=inf)


class ImageExport:
    """One image as an NBD export."""

    def __init__(self, size_bytes: int, open_image: Callable[[], Image], closed: threading.Event) -> None:
        self.size_bytes = size_bytes
        self.damage: Damaged | None = None
        """The first damage that was met."""
        self._open_image, self._closed = functools.cache(open_image), closed

    def readinto(self, buffer: memoryview, offset: int) -> None:
        """Fill *buffer*; waits while the store is away."""
        try:
            self._patiently(lambda: self._open_image().readinto(buffer, offset))
        except Damaged as damage:
            raise OSError(errno.EIO, str(damage)) from damage

    def allocation(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """
        Yield lengths from *offset* on, each with whether it holds data.

        Where damage keeps that from being known it is called data, whose reads fail: so the rest can be fetched.
        """
        try:
            extents = self._patiently(lambda: list(self._open_image().extents(offset, length)))
        except Damaged:
            half = length // 2 // UNKNOWN_BYTES * UNKNOWN_BYTES
            if half == 0:
                yield length, True
            else:
                yield from self.allocation(offset, half)
                yield from self.allocation(offset + half, length - half)
            return
        for extent in extents:
            yield extent.length, extent.kind is Kind.DATA

    def _patiently(self, act: Callable[[], T]) -> T:
        def attempt() -> T:
            try:
                return act()
            except StoreDenied as denied:  # somebody mends it, as they do a store that is away
                raise StoreUnavailable(str(denied)) from denied

        try:
            return retried(attempt, PATIENCE, self._pause)
        except Damaged as damage:
            self.damage = self.damage or damage
            raise

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise OSError(errno.ESHUTDOWN, "the server is being closed")


class ImageServer:
    """Serves images by name on one Unix socket; images may come and go while it runs."""

    def __init__(self, socket_path: Path, *, workers: int = 8) -> None:
        self._closed = threading.Event()
        self._exports: dict[str, ImageExport] = {}
        socket_path.unlink(missing_ok=True)  # left by a server that was killed
        self._server = Server(socket_path, self._exports.get, workers=workers)
        self.socket_path = socket_path

    def add(self, name: str, image: Image) -> str:
        """Serve *image* as *name*, and return the NBD URI that opens it."""
        return self.add_later(name, image.size_bytes, lambda: image)

    def add_later(self, name: str, size_bytes: int, open_image: Callable[[], Image]) -> str:
        """Serve as *name* an image that is opened by the first read, so that the store may be away until then."""
        self._exports[name] = ImageExport(size_bytes, open_image, self._closed)
        return self.uri(name)

    def uri(self, name: str) -> str:
        """Return the NBD URI that opens an image, whether it is served or not."""
        return f"nbd+unix:///{quote(name)}?socket={quote(str(self.socket_path))}"

    def serves(self, name: str) -> bool:
        """Whether an image of that name is served."""
        return name in self._exports

    def damages(self) -> dict[str, Damaged]:
        """Return the first damage that was met in each image that has any."""
        return {name: export.damage for name, export in list(self._exports.items()) if export.damage is not None}

    def remove(self, name: str) -> None:
        """Serve an image no longer to new connections; those that are open go on."""
        self._exports.pop(name, None)

    def close(self) -> None:
        """End all connections. Reads that wait for the store get no answer, so clients ask the next server."""
        self._closed.set()
        self._server.close()


@contextmanager
def serving(socket_path: Path, image: Image) -> Iterator[str]:
    """Serve one image under the empty name while the context is open, and yield its URI."""
    server = ImageServer(socket_path)
    try:
        yield server.add("", image)
    finally:
        server.close()
