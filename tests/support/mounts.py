"""File systems that are mounted for a test."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


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
