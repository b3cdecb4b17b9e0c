"""Deleting one of many snapshots of a large disk, each of which holds as much of its own as the others."""

import os
import statistics
from collections.abc import Iterator
from typing import Final

from bench.disks import archive_disk, attach_disks, delete_snapshot
from bench.result import Result
from onecut.cli.client import Api
from onecut.cli.throwaway import throwaway_service
from onecut.nbd.client import NbdClient
from onecut.units import GiB, KiB

SIZE_GIB: Final = 1024
SNAPSHOTS = 100
OWN_CHUNKS: Final = 64
"""Places that are written anew before each snapshot, spread over the disk."""
DELETED: Final = 3
"""Snapshots deleted at either end of the chain, in turn."""


def measure() -> Iterator[Result]:
    """Make a chain of snapshots, then delete some around the tenth and as many at its end."""
    with throwaway_service() as api:
        chain = _chain(api)
        pairs = [
            (delete_snapshot(api, chain[9 + number]), delete_snapshot(api, chain[-1 - number]))
            for number in range(DELETED)
        ]
    early_s, late_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    what = f"delete snapshot {SNAPSHOTS} of {SNAPSHOTS} of {SIZE_GIB} GiB"
    yield Result(what, f"{late_s * 1000:.0f} ms", f"{early_s * 1000:.0f} ms the 10th", late_s / early_s, "<=", 1.5)


def _chain(api: Api) -> list[str]:
    disks = attach_disks(api, 1, SIZE_GIB)
    with NbdClient.connect(disks.uris[0]) as client:
        snapshot_ids = []
        for _ in range(SNAPSHOTS):
            for place in range(OWN_CHUNKS):
                client.write(os.urandom(64 * KiB), place * SIZE_GIB * GiB // OWN_CHUNKS)
            client.flush()
            snapshot_ids.append(archive_disk(api, disks.volume_ids[0]).snapshot_id)
    return snapshot_ids
