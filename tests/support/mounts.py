"""File systems that are mounted for a test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from running import wait_until


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write below *folder*, root included; skips the test where mounting is not permitted."""
    made = subprocess.run(["mount", "--bind", folder, folder], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"needs root to mount a folder: {made.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def in_memory(folder: Path, **options: str) -> Iterator[None]:
    """Put an empty file system in memory over *folder*; skips the test where mounting is not permitted."""
    settings = [f"--options={name}={value}" for name, value in options.items()]
    made = subprocess.run(["mount", "-t", "tmpfs", *settings, "tmpfs", folder], check=False)
    if made.returncode:
        pytest.skip("needs root to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def served(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Mount a file system of one file, `nbd`, whose server may be killed; skips where that is not permitted."""
    command = ["nbdfuse", str(folder), "--command", "nbdkit", "-s", "--exit-with-parent", "memory", "1M"]
    with subprocess.Popen(command) as server:
        try:
            wait_until(lambda: folder.is_mount() or server.poll() is not None, "nbdfuse shows its file")
            if server.poll() is not None:
                pytest.skip("needs root and /dev/fuse to mount a file system of a server's")
            yield server
        finally:
            server.kill()
            subprocess.run(["umount", folder], check=False, capture_output=True)  # there is none after a skip
