"""A service with the real engine: its own qemu-storage-daemon, ended with the test."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from folders import DISK, quick_root, short_folder
from inventory import Inventory
from running import Site, running_site

from onecut.cli.throwaway import end_daemon
from onecut.units import MiB
from onecut.wiring import qemu_engine


@contextmanager
def real_service(data: Path, **options: Any) -> Iterator[Site]:
    """Run a service on *data*; its daemon goes on, as it does for an operator."""
    with running_site(data, make_engine=qemu_engine, **options) as site:
        yield site


@pytest.fixture
def data() -> Iterator[Path]:
    """A data folder; the daemon that was started on it is ended at last."""
    with data_folder(DISK) as folder:
        yield folder


@contextmanager
def data_folder(root: Path) -> Iterator[Path]:
    """Make a data folder below *root*; the daemon that was started on it is ended at last."""
    with short_folder(root) as folder:
        try:
            yield folder / "data"
        finally:
            end_daemon(folder / "data" / "run" / "qsd.pid")
            for log in folder.glob("data/qsd.log"):
                print(log.read_text())  # noqa: T201 - the daemon's words, shown when the test fails


@pytest.fixture
def real_site(data: Path) -> Iterator[Site]:
    """
    A running service with real disks; its first user is signed in. At the end nothing is without an owner.

    Its disks are written to all the time: archives that gave way would take minutes.
    """
    with tidy_service(data, archive_busy_bytes_per_s=0) as site:
        yield site


@pytest.fixture
def cutting_site(data: Path) -> Iterator[Site]:
    """The same, and it archives slowly: hundreds of cuts of disks that are overwritten would be archived in full."""
    with slowly_archiving_service(data) as site:
        yield site


@pytest.fixture
def quick_cutting_site() -> Iterator[Site]:
    """The same, with a disk as quick as memory where there is room: hundreds of merges commit thousands of times."""
    with data_folder(quick_root()) as data, slowly_archiving_service(data) as site:
        yield site


def slowly_archiving_service(data: Path) -> AbstractContextManager[Site]:
    """Run a service that leaves most of the disk and the processors to whoever cuts."""
    return tidy_service(data, archives=1, archive_bytes_per_s=16 * MiB)


@contextmanager
def tidy_service(data: Path, **options: Any) -> Iterator[Site]:
    """Run a service on *data*, and see in the end that nothing is without an owner."""
    with real_service(data, **options) as site:
        yield site
        Inventory(data).wait_until_tidy()
    Inventory(data).check_daemon()
