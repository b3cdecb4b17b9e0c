"""
Serve archived disks over NBD, for restores that begin before the data is there.

While the store is away a read waits, with growing pauses and for as long as it takes: the client, usually a layer
that is being filled in the background, stalls on what it lacks and goes on by itself. Damage is an I/O error at once.
"""

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Final, TypeVar

from onecut.nbd.server import Server
from onecut.repository.errors import Damaged, NoSuchObject
from onecut.repository.extents import Kind
from onecut.repository.image import Image
from onecut.repository.retry import Backoff, retried

T = TypeVar("T")

PATIENCE: Final = Backoff(first_s=0.1, longest_s=5.0, total_s=inf)


class ImageExport:
    """One image as an NBD export."""

    def __init__(self, image: Image, closed: threading.Event) -> None:
        self._image, self._closed = image, closed
        self.size_bytes = image.size_bytes

    def readinto(self, buffer: memoryview, offset: int) -> None:
        """Fill *buffer*; waits while the store is away."""
        self._patiently(lambda: self._image.readinto(buffer, offset))

    def allocation(self, offset: int, length: int) -> Iterator[tuple[int, bool]]:
        """Yield lengths from *offset* on, each with whether it holds data."""
        extents = self._patiently(lambda: list(self._image.extents(offset, length)))
        for extent in extents:
            yield extent.length, extent.kind is Kind.DATA

    def _patiently(self, act: Callable[[], T]) -> T:
        try:
            return retried(act, PATIENCE, self._pause)
        except (Damaged, NoSuchObject) as damage:
            raise OSError(errno.EIO, str(damage)) from damage

    def _pause(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise OSError(errno.ESHUTDOWN, "the server is being closed")


class ImageServer:
    """Serves images by name on one Unix socket; images may come and go while it runs."""

    def __init__(self, socket_path: Path, *, workers: int = 8) -> None:
        self._closed = threading.Event()
        self._exports: dict[str, ImageExport] = {}
        self._server = Server(socket_path, self._exports.get, workers=workers)
        self.socket_path = socket_path

    def add(self, name: str, image: Image) -> str:
        """Serve *image* as *name*, and return the NBD URI that opens it."""
        self._exports[name] = ImageExport(image, self._closed)
        return f"nbd+unix:///{name}?socket={self.socket_path}"

    def remove(self, name: str) -> None:
        """Serve an image no longer to new connections; those that are open go on."""
        self._exports.pop(name, None)

    def close(self) -> None:
        """End all connections; reads that wait for the store fail."""
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
