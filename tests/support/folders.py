"""Folders for tests that need more than pytest's own."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def short_folder() -> Iterator[Path]:
    """Make a folder whose path is short enough for sockets (107 bytes), and remove it at the end."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="oc"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
