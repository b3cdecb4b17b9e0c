"""NBD disks as block devices of the kernel (nbdfuse, loop), and file systems mounted on them. Root only."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from running import DEADLINE_S, wait_until

PROGRAMS = {"btrfs": ("mkfs.btrfs", "btrfs"), "ext4": ("mkfs.ext4", "e2label")}
"""What each file system needs beside the programs that show NBD disks to the kernel."""


def missing_for(file_system: str) -> str | None:
    """Say why this machine can't mount such a file system from NBD disks; None when it can."""
    if os.geteuid() != 0:
        return "only root may mount"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not Path(device).exists():
            return f"there is no {device}"
    if file_system not in Path("/proc/filesystems").read_text().split():
        return f"the kernel has no {file_system}"
    for program in ("nbdfuse", "losetup", *PROGRAMS[file_system]):
        if shutil.which(program) is None:
            return f"the program {program} is not installed (packages libnbd-bin, btrfs-progs, e2fsprogs)"
    return None


def run(*command: str) -> str:
    """Run a command that must succeed, and return all it said."""
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}"
    return ended.stdout


@contextmanager
def block_devices(uris: Sequence[str]) -> Iterator[list[str]]:
    """Open disks in the kernel, and yield their devices."""
    with ExitStack() as stack:
        yield [stack.enter_context(_block_device(uri)) for uri in uris]


@contextmanager
def mounted_btrfs(devices: Sequence[str]) -> Iterator[Path]:
    """
    Mount the btrfs that these devices hold together.

    The kernel knows the members of an unmounted btrfs by its id, and disks made from its snapshots have the same:
    it is told to forget them, before and after.
    """
    run("btrfs", "device", "scan", "--forget")
    with _folder() as folder:
        options = ",".join(f"device={device}" for device in devices)
        run("mount", "-t", "btrfs", "-o", options, devices[0], str(folder))
        try:
            yield folder
        finally:
            run("umount", str(folder))
            run("btrfs", "device", "scan", "--forget")


@contextmanager
def mounted_ext4(device: str) -> Iterator[Path]:
    """Mount the ext4 on a device; what its journal holds is replayed."""
    with _folder() as folder:
        run("mount", "-t", "ext4", device, str(folder))
        try:
            yield folder
        finally:
            run("umount", str(folder))


@contextmanager
def _block_device(uri: str) -> Iterator[str]:
    with _file(uri) as file:
        device = run("losetup", "--find", "--show", str(file)).strip()
        try:
            yield device
        finally:
            run("losetup", "--detach", device)


@contextmanager
def _file(uri: str) -> Iterator[Path]:
    """Show a disk as a file."""
    with _folder() as folder, subprocess.Popen(["nbdfuse", str(folder / "disk"), uri]) as nbdfuse:
        try:
            wait_until(lambda: folder.is_mount() or nbdfuse.poll() is not None, "nbdfuse shows the disk")
            assert folder.is_mount(), "nbdfuse ended at once"
            yield folder / "disk"
        finally:
            if folder.is_mount():
                wait_until(lambda: _unmounted(folder), "the disk's file is unmounted")
            else:
                nbdfuse.kill()
            nbdfuse.wait(DEADLINE_S)


def _unmounted(folder: Path) -> bool:
    # A loop device lets go of its file a moment after it was detached.
    return subprocess.run(["umount", str(folder)], capture_output=True, check=False).returncode == 0


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="oc"))
    try:
        yield folder
    finally:
        folder.rmdir()
