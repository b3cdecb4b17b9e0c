"""New disks from archived snapshots: how soon they answer, and how soon they need the repository no more."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.archives import flushed_s, load_disk, qemu_img
from bench.disks import POLL_S, archive_disk, attach_disks, delete_disks, new_disks, new_server
from bench.image import STRIPE_BYTES, make_image
from bench.result import Result
from onecut.cli.client import Api
from onecut.cli.throwaway import throwaway_service
from onecut.nbd.client import NbdClient
from onecut.units import GiB, KiB, MiB

IMAGE_BYTES = 4 * GiB
SMALL_IMAGE_BYTES = 6 * STRIPE_BYTES
SIZES_GIB = (10, 1024)
"""No data disk is smaller than 10 GiB."""
FIRST_BYTES = 9
SETTLE_S = 0.5
"""Pause before each restore: what the deletion of the disk before left to be tidied up is no part of it."""
HYDRATIONS = 3


def measure() -> Iterator[Result]:
    """Restore disks of two sizes and read from them; fill one, and copy the same image with qemu-img, in turn."""
    with tempfile.TemporaryDirectory(prefix="onecut-bench-") as name, throwaway_service(Path(name)) as api:
        folder = Path(name)
        yield from _first_bytes(api, folder / "small")
        yield from _hydrations(api, folder)


def _first_bytes(api: Api, image: Path) -> Iterator[Result]:
    make_image(image, SMALL_IMAGE_BYTES)
    for size_gib in SIZES_GIB:
        snapshot_id = _archived(api, image, size_gib)
        took_ms = statistics.median(
            _first_byte_ms(api, snapshot_id, size_gib, STRIPE_BYTES + number * MiB) for number in range(FIRST_BYTES)
        )
        yield Result(
            f"first byte of {size_gib:,} GiB restored", f"{took_ms:.0f} ms from the request", "", took_ms, "<=", 100.0
        )


def _hydrations(api: Api, folder: Path) -> Iterator[Result]:
    image = folder / "large"
    make_image(image, IMAGE_BYTES)
    snapshot_id = _archived(api, image, SIZES_GIB[0])
    pairs = [(_hydrated_s(api, snapshot_id), _copied_s(image, folder / str(number))) for number in range(HYDRATIONS)]
    ours_s, copied_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(mine / copied for mine, copied in pairs)
    what = f"restore of {IMAGE_BYTES // GiB} GiB, to its end"
    yield Result(what, f"{ours_s:.1f} s", f"{copied_s:.1f} s qemu-img", ratio, "<=", 1.3)


def _archived(api: Api, image: Path, size_gib: int) -> str:
    """Archive a disk that begins with an image, delete it, and return the id of the snapshot, which outlives it."""
    disks = attach_disks(api, 1, size_gib)
    load_disk(image, disks.uris[0])
    snapshot_id = archive_disk(api, disks.volume_ids[0]).snapshot_id
    delete_disks(api, disks)
    return snapshot_id


def _first_byte_ms(api: Api, snapshot_id: str, size_gib: int, offset: int) -> float:
    """Make a disk, read from it, and return how long that took from the request on."""
    server_id = new_server(api)
    time.sleep(SETTLE_S)
    began = time.perf_counter()
    disks = new_disks(api, server_id, {"size": size_gib, "snapshot_id": snapshot_id})
    with NbdClient.connect(disks.uris[0]) as client:
        data = client.read(offset, 4 * KiB)
        took_ms = (time.perf_counter() - began) * 1000
    if not any(data):
        raise AssertionError("the restored disk is empty")
    _wait_until_filled(api, disks.volume_ids[0])
    delete_disks(api, disks)
    return took_ms


def _hydrated_s(api: Api, snapshot_id: str) -> float:
    """Make a disk, and return how long it took from the request until it needs the repository no more."""
    server_id = new_server(api)
    os.sync()
    began = time.perf_counter()
    disks = new_disks(api, server_id, {"size": SIZES_GIB[0], "snapshot_id": snapshot_id})
    _wait_until_filled(api, disks.volume_ids[0])
    took_s = time.perf_counter() - began
    took_s += flushed_s(api.credentials_path.parent)
    delete_disks(api, disks)
    return took_s


def _copied_s(image: Path, folder: Path) -> float:
    folder.mkdir()
    return qemu_img(image, folder).took_s


def _wait_until_filled(api: Api, volume_id: str) -> None:
    while api.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}")["volume"]["onecut"]["hydration"] is not None:
        time.sleep(POLL_S)
