"""
How fast volumes may be: what a type gives by size, what may be chosen, and what follows for a volume's clients.

Sources: EVS product description, disk types and performance, and General Purpose SSD V2 disks (updated 2025-08-30).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from onecut.engine.port import Limits
from onecut.errors import BadRequest
from onecut.units import MiB

Qos: TypeAlias = Literal["off", "volumes", "types"]
"""What is limited: nothing, volumes whose performance was chosen, or all volumes, the others by their types."""


@dataclass(frozen=True)
class BySize:
    """So much for each volume, more for each GiB, up to a limit."""

    base: int
    per_gib: float
    most: int

    def of(self, size_gib: int) -> int:
        """Return what a volume of a size gets."""
        return min(self.most, int(self.base + self.per_gib * size_gib))


@dataclass(frozen=True)
class Given:
    """What a type gives its volumes."""

    iops: BySize
    throughput_mib: BySize


@dataclass(frozen=True)
class Chosen:
    """What may be chosen for a volume of a type."""

    iops: range
    iops_per_gib: int
    throughput_mib: range | None = None
    """None when the type does not take it."""

    def most_iops(self, size_gib: int) -> int:
        """Return the limit for a volume of a size."""
        return min(self.iops[-1], self.iops_per_gib * size_gib)


GIVEN: Final[Mapping[str, Given]] = {
    "SAS": Given(BySize(1800, 8, 5_000), BySize(100, 0.15, 150)),
    "GPSSD": Given(BySize(1800, 12, 20_000), BySize(100, 0.5, 250)),
    "SSD": Given(BySize(1800, 50, 50_000), BySize(120, 0.5, 350)),
    "ESSD": Given(BySize(1800, 50, 128_000), BySize(120, 0.5, 1_000)),
}

CHOSEN: Final[Mapping[str, Chosen]] = {
    "GPSSD2": Chosen(range(3_000, 128_001), 500, range(125, 1_001)),
    "ESSD2": Chosen(range(100, 256_001), 1_000),
}

IOPS_PER_MIB: Final = 4
"""A chosen throughput, in MiB/s, is at most the chosen IOPS divided by this."""


def of_volume(volume_type: str, size_gib: int, iops: int | None, throughput_mib: int | None, *, qos: Qos) -> Limits:
    """Say what the clients of a volume may do."""
    if qos == "types" and volume_type in GIVEN:
        given = GIVEN[volume_type]
        iops, throughput_mib = given.iops.of(size_gib), given.throughput_mib.of(size_gib)
    if qos == "off":
        return Limits()
    return Limits(iops, None if throughput_mib is None else throughput_mib * MiB)


def check(volume_type: str, size_gib: int, *, iops: int | None, throughput_mib: int | None) -> None:
    """
    Refuse performance that a volume of that type and size can't have; `catalog.check_type` comes first.

    Raises:
        BadRequest: A value is outside its limits.
    """
    chosen = CHOSEN.get(volume_type)
    if chosen is None or iops is None:
        return
    most = chosen.most_iops(size_gib)
    if not chosen.iops[0] <= iops <= most:
        needed = (
            f"{chosen.iops[0]} to {most} for {volume_type} of {size_gib} GiB ({chosen.iops_per_gib} for each GiB)"
        )
        raise BadRequest(f"iops: must be {needed}, not {iops}")
    if chosen.throughput_mib is not None and throughput_mib is not None:
        most = min(chosen.throughput_mib[-1], iops // IOPS_PER_MIB)
        if not chosen.throughput_mib[0] <= throughput_mib <= most:
            needed = f"{chosen.throughput_mib[0]} to {most} MiB/s for {iops} IOPS (a quarter of them)"
            raise BadRequest(f"throughput: must be {needed}, not {throughput_mib}")
