"""Archives of real disks: what comes out of the repository is what was on the disk at the cut."""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from orders import attach, detach, members, new_server, new_volumes, take_group
from running import Site

from onecut.nbd.client import NbdClient
from onecut.repository.address import open_store
from onecut.repository.extents import Kind
from onecut.repository.image import Image
from onecut.repository.repository import Repository
from onecut.repository.verify import verify
from onecut.units import GiB, KiB, MiB

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = 4 * KiB
ZEROS = bytes(PAGE)
SNAPSHOTS = 30


class Disk:
    """A disk that is written to, and a copy of it kept aside: its pages that are not zeros."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site, self._random = site, random.Random(seed)  # noqa: S311 - test data, no secret
        self._server_id = new_server(site)
        (self.volume_id,) = new_volumes(site, 1)
        self.size_gib = 10
        self.pages: dict[int, bytes] = {}
        self._client = NbdClient.connect(attach(site, self.volume_id, self._server_id))

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

    def grow(self) -> None:
        """Make the disk a GiB larger, and write to its new end."""
        self.close()
        self.size_gib += 1
        body = {"os-extend": {"new_size": self.size_gib}}
        path = f"/v2.1/{{p}}/cloudvolumes/{self.volume_id}/action"
        self._site.done(self._site.call("POST", path, 202, json=body))
        self._client = NbdClient.connect(attach(self._site, self.volume_id, self._server_id))
        self._write(self.size_gib * GiB // PAGE - 3, self._random.randbytes(3 * PAGE))

    def close(self) -> None:
        """Detach the disk."""
        self._client.flush()
        self._client.close()
        detach(self._site, self.volume_id)

    def _write(self, first: int, data: bytes) -> None:
        self._client.write(data, first * PAGE)
        for number in range(len(data) // PAGE):
            self.pages[first + number] = data[number * PAGE : (number + 1) * PAGE]

    def _zero(self, first: int, number: int) -> None:
        self._client.zero(first * PAGE, number * PAGE)
        for page in range(first, first + number):
            self.pages.pop(page, None)


def pages_of(image: Image) -> dict[int, bytes]:
    """Read a whole image, and return its pages that are not zeros."""
    found = {}
    buffer = bytearray(MiB)
    for extent in image.extents():
        end = extent.offset + extent.length
        for offset in range(extent.offset, end if extent.kind is Kind.DATA else extent.offset, MiB):
            part = memoryview(buffer)[: min(MiB, end - offset)]
            image.readinto(part, offset)
            for begin in range(0, len(part), PAGE):
                if (page := bytes(part[begin : begin + PAGE])) != ZEROS:
                    found[(offset + begin) // PAGE] = page
    return found


def test_a_chain_of_incremental_snapshots_gives_every_state_back(real_site: Site, tmp_path: Path, data: Path) -> None:
    """Each of thirty, under writes, discards, zeros and growth; also after every third of them was deleted."""
    repository = Repository.open(open_store(str(data / "repository")))
    disk = Disk(real_site, seed=3)
    kept: dict[str, tuple[int, dict[int, bytes]]] = {}
    for number in range(SNAPSHOTS):
        disk.change()
        if number % 10 == 9:
            disk.grow()
        group_id = take_group(real_site, [disk.volume_id])
        (snapshot,) = members(real_site, group_id)
        kept[snapshot["id"]] = (disk.size_gib, dict(disk.pages))

    manifests = {each: repository.find(each) for each in kept}
    assert sum(manifest.incremental for manifest in manifests.values()) == SNAPSHOTS - 1
    compare(repository, kept)
    assert verify(repository).findings == []

    for snapshot_id in list(kept)[::3]:
        real_site.done(real_site.call("DELETE", f"/v5/{{p}}/snapshots/{snapshot_id}", 202))
        del kept[snapshot_id]
    compare(repository, kept)

    last = list(kept)[-1]
    export = tmp_path / "last.raw"
    command = [sys.executable, "-m", "onecut", "repository", "export", "--repository", str(data / "repository")]
    subprocess.run([*command, last, str(export)], check=True, timeout=120)
    assert export.stat().st_size == disk.size_gib * GiB
    with export.open("rb") as file:
        for page, content in disk.pages.items():
            file.seek(page * PAGE)
            assert file.read(PAGE) == content
    disk.close()


def compare(repository: Repository, kept: dict[str, Any]) -> None:
    """Compare every snapshot, from its first byte to its last, with what was kept aside."""
    for snapshot_id, (size_gib, pages) in kept.items():
        image = Image(repository, repository.find(snapshot_id))
        assert image.size_bytes == size_gib * GiB
        assert pages_of(image) == pages
