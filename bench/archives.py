"""
The first archive of a disk, against restic, borg and qemu-img.

Each round reads the same image, cold, into a fresh repository on the same file system, and ends when that is flushed.
Ours is all of what a user waits for: the request, the cut, the daemon that serves the disk over NBD, the archive, the
job's end. Borg runs without encryption, as we do; restic can't.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.disks import archive_disk, attach_disks
from bench.image import evict, make_image
from bench.result import Result
from onecut.cli.client import Api
from onecut.cli.throwaway import throwaway_service
from onecut.units import GiB, MiB

IMAGE_BYTES = 4 * GiB
ROUNDS = 3


def measure() -> Iterator[Result]:
    """Archive the image in turn with each of them, some times over; nothing is deleted before the end."""
    with tempfile.TemporaryDirectory(prefix="onecut-bench-") as folder, throwaway_service(Path(folder)) as api:
        image = Path(folder) / "image"
        make_image(image, IMAGE_BYTES)
        archivers: dict[str, Callable[[Path, Path], Archive]] = {
            "onecut": partial(onecut, api),
            "restic": restic,
            "borg": borg,
            "qemu-img": qemu_img,
        }
        rounds: dict[str, list[Archive]] = {name: [] for name in archivers}
        for number in range(ROUNDS):
            for name, archive in archivers.items():
                store = Path(folder) / f"{name}-{number}"
                store.mkdir()
                rounds[name].append(archive(image, store))
    yield from _compared(rounds)


@dataclass(frozen=True)
class Archive:
    """What one archive cost."""

    took_s: float
    stored_bytes: int
    """Space that the repository takes on its file system."""


def onecut(api: Api, image: Path, _: Path) -> Archive:
    """Archive a new disk of the service. It starts a chain, and chains share nothing: that is a fresh repository."""
    disk = attach_disks(api, 1)
    load_disk(image, disk.uris[0])
    store = api.credentials_path.parent / "repository"
    before_bytes = _stored_bytes(store)
    os.sync()
    took_s = archive_disk(api, disk.volume_ids[0]).took_s
    return Archive(took_s + flushed_s(store), _stored_bytes(store) - before_bytes)


def load_disk(image: Path, uri: str) -> None:
    """Fill the beginning of a new disk with an image."""
    subprocess.run(["nbdcopy", "--destination-is-zero", "--flush", str(image), uri], check=True)


def restic(image: Path, folder: Path) -> Archive:
    """Archive with restic, in its default way."""
    settings = {"RESTIC_REPOSITORY": str(folder / "store"), "RESTIC_PASSWORD": "bench"}
    settings["RESTIC_CACHE_DIR"] = str(folder / "cache")
    _run(["restic", "init"], settings)
    return _archived(image, ["restic", "backup", str(image)], settings, folder / "store")


def borg(image: Path, folder: Path) -> Archive:
    """Archive with borg, compressing as we do."""
    store = str(folder / "store")
    settings = {"BORG_BASE_DIR": str(folder / "base"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    _run(["borg", "init", "--encryption=none", store], settings)
    command = ["borg", "create", "--compression=zstd,1", f"{store}::image", str(image)]
    return _archived(image, command, settings, Path(store))


def qemu_img(image: Path, folder: Path) -> Archive:
    """Copy into a qcow2 file, which neither compresses nor finds repeats."""
    store = folder / "store"
    store.mkdir()
    command = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(image), str(store / "image.qcow2")]
    return _archived(image, command, {}, store)


def _archived(image: Path, command: Sequence[str], settings: dict[str, str], store: Path) -> Archive:
    before_bytes = _stored_bytes(store)
    os.sync()
    evict(image)
    began = time.perf_counter()
    _run(command, settings)
    took_s = time.perf_counter() - began
    return Archive(took_s + flushed_s(store), _stored_bytes(store) - before_bytes)


def _run(command: Sequence[str], settings: dict[str, str]) -> None:
    subprocess.run(command, env=os.environ | settings, capture_output=True, check=True)


def flushed_s(folder: Path) -> float:
    """Flush the file system, and return how long it took."""
    began = time.perf_counter()
    subprocess.run(["sync", "--file-system", folder], check=True)
    return time.perf_counter() - began


def _stored_bytes(store: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in store.rglob("*") if path.is_file())


def _compared(rounds: dict[str, list[Archive]]) -> Iterator[Result]:
    what, ours = f"first archive of {IMAGE_BYTES // GiB} GiB", rounds["onecut"]
    took, stored = _took(ours), _stored(ours)
    for name, limit in (("restic", 3.0), ("borg", 2.0), ("qemu-img", 1.0)):
        pairs = zip(rounds[name], ours, strict=True)
        faster = statistics.median(theirs.took_s / mine.took_s for theirs, mine in pairs)
        yield Result(f"{what}: speed", f"{took:.1f} s", f"{_took(rounds[name]):.1f} s {name}", faster, ">=", limit)
    for name in ("restic", "borg"):
        theirs = _stored(rounds[name])
        against = f"{theirs / MiB:,.0f} MiB {name}"
        yield Result(f"{what}: space", f"{stored / MiB:,.0f} MiB", against, stored / theirs, "<=", 1.0)


def _took(archives: Sequence[Archive]) -> float:
    return statistics.median(archive.took_s for archive in archives)


def _stored(archives: Sequence[Archive]) -> float:
    return statistics.median(archive.stored_bytes for archive in archives)
