"""An incremental archive: as many changes scattered over a large disk as over a small one."""

import os
import random
import statistics
from collections.abc import Iterator
from typing import Final

from bench.disks import archive_disk, attach_disks
from bench.result import Result
from onecut.cli.client import Api
from onecut.cli.throwaway import throwaway_service
from onecut.nbd.client import NbdClient
from onecut.units import GiB, KiB

CHANGE_BYTES: Final = 64 * KiB
CHANGES: Final = 1024
SMALL_GIB, LARGE_GIB = 10, 1024
ROUNDS = 5


def measure() -> Iterator[Result]:
    """Change and archive both disks in turn, some times over."""
    with throwaway_service() as api:
        disks = [ChangingDisk(api, size_gib) for size_gib in (SMALL_GIB, LARGE_GIB)]
        rounds = [[disk.archived_s() for disk in disks] for _ in range(ROUNDS)]
    small_s, large_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    what = f"incremental archive of {CHANGES} x 64 KiB on {LARGE_GIB} GiB"
    yield Result(what, f"{large_s:.2f} s", f"{small_s:.2f} s on {SMALL_GIB} GiB", large_s / small_s, "<=", 1.3)


class ChangingDisk:
    """A disk that was archived once, with changes all over it."""

    def __init__(self, api: Api, size_gib: int) -> None:
        self._api, self._size_gib = api, size_gib
        disks = attach_disks(api, 1, size_gib)
        self._volume_id, self._uri = disks.volume_ids[0], disks.uris[0]
        self.archived_s()

    def archived_s(self) -> float:
        """Change the disk, archive it, and return how long that took from the request to the job's end."""
        with NbdClient.connect(self._uri) as client:
            for place in random.sample(range(self._size_gib * GiB // CHANGE_BYTES), CHANGES):
                client.write(os.urandom(CHANGE_BYTES), place * CHANGE_BYTES)
            client.flush()
        return archive_disk(self._api, self._volume_id).took_s
