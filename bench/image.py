"""The disk image of the benchmarks: a third empty, a third compressible, a third random, some of it repeated."""

import os
import random
from pathlib import Path
from typing import Final

from onecut.units import MiB

STRIPE_BYTES: Final = 16 * MiB
"""The thirds take turns, so that no stretch of the image is all of one kind."""

REPEATED: Final = 5
"""Every so many-th random stripe repeats the one before it."""

_LEAST_LINE_BYTES: Final = 80


def make_image(path: Path, size_bytes: int) -> None:
    """Write an image of *size_bytes*, the same every time."""
    chance = random.Random(3)  # noqa: S311 - test data, no secret
    noise = b""
    with path.open("wb") as file:
        for number, offset in enumerate(range(0, size_bytes, STRIPE_BYTES)):
            file.seek(offset)
            turn, kind = divmod(number, 3)
            if kind == 1:
                file.write(_text(chance))
            elif kind == 2:
                noise = noise if turn % REPEATED == REPEATED - 1 else chance.randbytes(STRIPE_BYTES)
                file.write(noise)
        file.truncate(size_bytes)
        file.flush()
        os.fsync(file.fileno())


def evict(path: Path) -> None:
    """Drop a file that is on the disk from the page cache, so that whoever reads it next reads the disk."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _text(chance: random.Random) -> bytes:
    """Make up a stretch of a web server's log: its ids are all different, and there is no more to them than that."""
    lines = STRIPE_BYTES // _LEAST_LINE_BYTES
    ids = chance.randbytes(8 * lines).hex().encode()
    codes = chance.choices((200, 200, 200, 304, 404, 500), k=lines)
    hosts = chance.choices(range(256), k=lines)
    return b"".join(
        b'10.0.0.%d - - [16/Nov/2026:10:%02d:%02d] "GET /v2/volumes/%s HTTP/1.1" %d\n'
        % (hosts[line], line // 6000 % 60, line // 100 % 60, ids[16 * line : 16 * line + 16], codes[line])
        for line in range(lines)
    )[:STRIPE_BYTES]
