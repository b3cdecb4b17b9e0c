"""Sizes in bytes, and how they are printed."""

from typing import Final

KiB: Final = 1 << 10
MiB: Final = 1 << 20
GiB: Final = 1 << 30
TiB: Final = 1 << 40


def size_text(size_bytes: int) -> str:
    """Print *size_bytes* in the largest binary unit that keeps it at one or more: ``1.5 GiB``."""
    for unit, name in ((TiB, "TiB"), (GiB, "GiB"), (MiB, "MiB"), (KiB, "KiB")):
        if size_bytes >= unit:
            return f"{size_bytes / unit:.4g} {name}"
    return f"{size_bytes} B"
