"""A real disk that is changed at random, and what it must hold kept aside."""

import os
import random
from pathlib import Path
from typing import TypeAlias

from orders import attach, detach, new_server, new_volumes
from running import Tenant

from onecut.nbd.client import BASE_ALLOCATION, READS_AS_ZEROS, NbdClient
from onecut.units import GiB, KiB, MiB

PAGE = 4 * KiB
ZEROS = bytes(PAGE)

Pages: TypeAlias = dict[int, bytes]
"""A whole disk: its pages that are not zeros, by their numbers."""


class ChangingDisk:
    """An attached disk of 10 GiB that is written to, and a copy of it kept aside."""

    def __init__(self, tenant: Tenant, seed: int) -> None:
        self._tenant, self._random = tenant, random.Random(seed)  # noqa: S311 - test data, no secret
        self.server_id = new_server(tenant)
        (self.volume_id,) = new_volumes(tenant, 1)
        self.size_gib = 10
        self.pages: Pages = {}
        self.open()

    def change(self) -> None:
        """Write, discard and write zeros, in random places and lengths, some of them again and again."""
        for _ in range(12):
            first = self._random.choice((0, 1000, 2 * GiB // PAGE, self.size_gib * GiB // PAGE - 400))
            first += self._random.randrange(300)
            number = self._random.choice((1, 2, 33, 80))
            match self._random.choice(("write", "write", "repeat", "discard", "zero")):
                case "write":
                    self._write(first, self._random.randbytes(number * PAGE))
                case "repeat":
                    self._write(first, self._random.randbytes(PAGE) * number)
                case "discard":
                    # What a discard leaves may be anything, so the zeros after it say what must be read.
                    self._client.trim(first * PAGE, number * PAGE)
                    self._zero(first, number)
                case "zero":
                    self._zero(first, number)
        self._client.flush()

    def grow(self) -> None:
        """Make the disk a GiB larger, and write to its new end."""
        self.close()
        self.size_gib += 1
        body = {"os-extend": {"new_size": self.size_gib}}
        path = f"/v2.1/{{p}}/cloudvolumes/{self.volume_id}/action"
        self._tenant.done(self._tenant.call("POST", path, 202, json=body))
        self.open()
        self._write(self.size_gib * GiB // PAGE - 3, self._random.randbytes(3 * PAGE))

    def close(self) -> None:
        """Detach the disk."""
        self._client.flush()
        self._client.close()
        detach(self._tenant, self.volume_id)

    def open(self) -> None:
        """Attach the disk."""
        self._client = NbdClient.connect(attach(self._tenant, self.volume_id, self.server_id))

    def _write(self, first: int, data: bytes) -> None:
        self._client.write(data, first * PAGE)
        for number in range(len(data) // PAGE):
            self.pages[first + number] = data[number * PAGE : (number + 1) * PAGE]

    def _zero(self, first: int, number: int) -> None:
        self._client.zero(first * PAGE, number * PAGE)
        for page in range(first, first + number):
            self.pages.pop(page, None)


def pages_of_disk(uri: str, size_gib: int) -> Pages:
    """Read a disk of that size from its first byte to its last."""
    found: Pages = {}
    with NbdClient.connect(uri) as disk:
        assert disk.size_bytes == size_gib * GiB
        for extent in disk.block_status(0, disk.size_bytes, BASE_ALLOCATION):
            end = extent.offset + extent.length
            first = end if extent.flags & READS_AS_ZEROS else extent.offset
            for offset in range(first, end, MiB):
                _take(found, offset, disk.read(offset, min(MiB, end - offset)))
    return found


def pages_of_file(path: Path, size_gib: int) -> Pages:
    """Read a raw image of that size from its first byte to its last."""
    found: Pages = {}
    with path.open("rb") as file:
        assert os.fstat(file.fileno()).st_size == size_gib * GiB
        end = 0
        while (begin := _next_data(file.fileno(), end)) is not None:
            end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            _take(found, begin, os.pread(file.fileno(), end - begin, begin))
    return found


def _next_data(descriptor: int, offset: int) -> int | None:
    try:
        return os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:  # ENXIO: there is none up to the end
        return None


def _take(found: Pages, offset: int, data: bytes) -> None:
    for begin in range(0, len(data), PAGE):
        if (page := data[begin : begin + PAGE]) != ZEROS:
            found[(offset + begin) // PAGE] = page
