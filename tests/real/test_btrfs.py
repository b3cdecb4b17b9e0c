"""A file system over two disks survives in every cut, as it would survive a power failure at that instant."""

import hashlib
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from kernel_disks import block_devices, missing_for, mounted_btrfs, run
from orders import delete_groups, new_server, new_volumes, opened, take_group, uris
from running import Site, wait_until

from onecut.units import KiB

CUTS = 10
FILES_PER_CUT = 12
FILES_MAX = 4000


@pytest.fixture(autouse=True)
def _needs_btrfs() -> None:
    reason = missing_for("btrfs")
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.slow
def test_a_btrfs_of_two_disks_is_whole_in_every_cut(real_site: Site) -> None:
    """
    A btrfs with its data striped and its metadata mirrored over two disks is written to during ten cuts.

    From each cut it mounts, scrubs and checks without an error, and holds every file whose fsync had returned
    before the cut was asked for.
    """
    volume_ids = new_volumes(real_site, 2, new_server(real_site))
    cuts: list[tuple[str, int]] = []
    with block_devices(uris(real_site, volume_ids)) as devices:
        run("mkfs.btrfs", "--data", "raid0", "--metadata", "raid1", *devices)
        with mounted_btrfs(devices) as folder, FileWriter(folder) as writer:
            while len(cuts) < CUTS:
                writer.wait_for(FILES_PER_CUT)
                promised = len(writer.synced)
                cuts.append((take_group(real_site, volume_ids), promised))
    for group_id, promised in cuts:
        with opened(real_site, [group_id]) as (disks,), block_devices(disks) as devices:
            check_btrfs(devices, writer.synced[:promised])
    delete_groups(real_site, [group_id for group_id, _ in cuts])


def check_btrfs(devices: Sequence[str], promised: Sequence[str]) -> None:
    """Check the file system on these devices, and the files that it must hold."""
    with mounted_btrfs(devices) as folder:
        said = run("btrfs", "scrub", "start", "-B", str(folder))
        assert "no errors found" in said, said
        for name in promised:
            assert (folder / name).read_bytes() == content(name), name
    run("btrfs", "device", "scan", *devices)
    assert "no error found" in run("btrfs", "check", "--readonly", devices[0])
    run("btrfs", "device", "scan", "--forget")


def content(name: str) -> bytes:
    """Make up what the file of that name holds: from 1 to 128 KiB."""
    chance = random.Random(name)  # noqa: S311 - no secret
    return hashlib.sha256(name.encode()).digest() + chance.randbytes(chance.randint(KiB, 128 * KiB))


class FileWriter:
    """Writes files, every other with fsync, until the block ends or there are enough."""

    def __init__(self, folder: Path) -> None:
        self.synced: list[str] = []
        """The files whose fsync has returned, in that order."""
        self._folder = folder
        self._stop = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._write, name="files")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def wait_for(self, more: int) -> None:
        """Wait until so many more files are on stable storage."""
        wanted = len(self.synced) + more
        wait_until(lambda: len(self.synced) >= wanted or not self._thread.is_alive(), f"{wanted} files")
        assert self._thread.is_alive(), self._error

    def _write(self) -> None:
        try:
            for number in range(FILES_MAX):
                if self._stop.is_set():
                    return
                self._write_file(f"file-{number:04}", sync=number % 2 == 0)
        except OSError as error:
            self._error = error

    def _write_file(self, name: str, *, sync: bool) -> None:
        with (self._folder / name).open("wb") as file:
            file.write(content(name))
            if sync:
                file.flush()
                os.fsync(file.fileno())
                self.synced.append(name)
