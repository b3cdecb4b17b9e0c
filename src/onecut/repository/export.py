"""Give archived disks back as files. Needs the store and nothing else."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from onecut.errors import Misconfigured
from onecut.repository.errors import RepositoryError
from onecut.repository.extents import Kind
from onecut.repository.image import Image
from onecut.repository.serve import serving
from onecut.units import MiB

WRITE_BYTES: Final = 1 * MiB


def export_raw(
    image: Image,
    target: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,  # noqa: ARG005 - the default ignores both
) -> None:
    """
    Write an image to a raw file, sparse where it is zero. The file gets its name when it is whole and durable.

    Raises:
        Damaged: The image can't be read; *target* is not touched.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    buffer = memoryview(bytearray(WRITE_BYTES))
    try:
        with temporary.open("xb", buffering=0) as file:
            file.truncate(image.size_bytes)
            for extent in image.extents():
                end = extent.offset + extent.length
                for offset in range(extent.offset, end if extent.kind is Kind.DATA else extent.offset, WRITE_BYTES):
                    part = buffer[: min(WRITE_BYTES, end - offset)]
                    image.readinto(part, offset)
                    file.seek(offset)
                    file.write(part)
                    progress(offset + len(part), image.size_bytes)
            os.fsync(file.fileno())
        progress(image.size_bytes, image.size_bytes)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def export_qcow2(image: Image, target: Path) -> None:
    """
    Write an image to a qcow2 file. The file gets its name when it is whole and durable.

    Raises:
        Misconfigured: There is no `qemu-img`.
        RepositoryError: `qemu-img` could not do it; *target* is not touched.
    """
    program = shutil.which("qemu-img")
    if program is None:
        raise Misconfigured("qemu-img is missing: install qemu-utils, or export as raw")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with tempfile.TemporaryDirectory(prefix="onecut-") as folder:
        try:
            with serving(Path(folder) / "image.sock", image) as uri:
                command = [program, "convert", "-f", "raw", "-O", "qcow2", "-t", "writeback", uri, str(temporary)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - no shell
            if done.returncode:
                raise RepositoryError(f"qemu-img could not write {target}: {done.stderr.strip()}")
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
