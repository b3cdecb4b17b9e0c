"""Folders for tests that need more than pytest's own."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from onecut.units import GiB

DISK: Final = Path("/tmp")  # noqa: S108 - as below

MEMORY: Final = Path("/dev/shm")  # noqa: S108 - nothing is expected there; folders are made by `mkdtemp`
"""A file system in memory, on every Linux; shm_overview(7)."""

MEMORY_BYTES: Final = 4 * GiB
"""All tests together take some 1 GiB at the same time."""


def quick_root() -> Path:
    """
    Find where folders are made whose tests are about everything but the disk they are on.

    In memory, if there is room: where a disk is shared, one commit may wait for others' writes half a minute.
    """
    try:
        room = os.statvfs(MEMORY)
    except OSError:
        return DISK
    return MEMORY if room.f_bavail * room.f_frsize >= MEMORY_BYTES else DISK


@contextmanager
def short_folder(root: Path = DISK) -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets (107 bytes), and remove it at the end."""
    folder = Path(tempfile.mkdtemp(dir=root, prefix="oc"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
