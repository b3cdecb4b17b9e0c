"""Archiving stands back behind whoever serves disks."""

import os
import threading
import uuid
from datetime import UTC, datetime

from archived import CHUNK, Bytes, noise

from onecut.repository.address import open_store
from onecut.repository.archive import NICENESS, Request, archive
from onecut.repository.extents import Extent, Kind
from onecut.repository.manifest import Chain
from onecut.repository.repository import Repository

DISK = noise(1, 8 * CHUNK)


class Watched(Bytes):
    """A disk that notes how nice those are who read it."""

    def __init__(self) -> None:
        super().__init__(DISK)
        self.niceness: set[int] = set()

    def readinto(self, buffer: memoryview, offset: int) -> None:
        assert threading.current_thread() is not threading.main_thread()
        self.niceness.add(os.getpriority(os.PRIO_PROCESS, 0))
        super().readinto(buffer, offset)


def test_who_reads_and_hashes_is_nicer_than_everybody_else() -> None:
    """By as much as is promised; the thread that asked for the archive stays as it was."""
    disk, own = Watched(), os.getpriority(os.PRIO_PROCESS, 0)
    chain = Chain("project1", uuid.uuid4().hex, "chain1")
    request = Request(chain, "snap", uuid.uuid4().hex, "snapshot", len(DISK), datetime(2026, 1, 1, tzinfo=UTC))
    repository = Repository.create(open_store("memory:"), chunk_bytes=CHUNK)

    archive(repository, request, lambda: disk, [Extent(0, len(DISK), Kind.DATA)])

    assert disk.niceness == {min(19, own + NICENESS)}
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
