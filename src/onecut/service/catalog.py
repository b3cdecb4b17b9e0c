"""What a volume may be asked to be: the volume types, the availability zones, and their documented refusals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

from onecut.errors import BadRequest, NotFound

_TYPE_IDS: Final = UUID("5a1a8ee5-8b3f-4a5e-9c6a-1f7f0c6ba9a4")
"""Namespace of the types' ids: a type has the same id in every installation."""

VOLUME_GIB: Final = range(10, 32768 + 1)
"""Sizes of a data disk, in GiB (EVS API reference, creating disks)."""

BATCH_MAX: Final = 100
"""Volumes of one request."""


@dataclass(frozen=True)
class VolumeType:
    """A volume type. Onecut keeps all of them alike; a type says what a client may ask for with it."""

    name: str
    description: str
    takes_iops: bool = False
    """Whether `iops` must be given; with any other type it must not."""
    takes_throughput: bool = False
    """The same for `throughput`."""
    sold_out: bool = False

    @property
    def id(self) -> str:
        """The type's id, which the volume list can be filtered by."""
        return str(uuid5(_TYPE_IDS, self.name))


VOLUME_TYPES: Final[Mapping[str, VolumeType]] = {
    offered.name: offered
    for offered in (
        VolumeType("SATA", "Common I/O", sold_out=True),  # as in EVS, where existing disks keep it
        VolumeType("SAS", "High I/O"),
        VolumeType("GPSSD", "General Purpose SSD"),
        VolumeType("SSD", "Ultra-high I/O"),
        VolumeType("ESSD", "Extreme SSD"),
        VolumeType("GPSSD2", "General Purpose SSD V2", takes_iops=True, takes_throughput=True),
        VolumeType("ESSD2", "Extreme SSD V2", takes_iops=True),
    )
}

DEFAULT_TYPE: Final = "GPSSD"
"""The type of a volume that is asked for without one, which only the Cinder calls allow."""


def find_type(type_id: str) -> VolumeType:
    """
    Return a volume type; ``default`` is a word for `DEFAULT_TYPE`'s id.

    Raises:
        NotFound: There is none of that id.
    """
    if type_id == "default":
        return VOLUME_TYPES[DEFAULT_TYPE]
    for offered in VOLUME_TYPES.values():
        if offered.id == type_id:
            return offered
    raise NotFound("volume type", type_id)


def check_zone(zone: str, zones: Sequence[str], *, code: str = "EVS.1036") -> None:
    """Refuse a zone that is none of *zones*."""
    if zone not in zones:
        raise BadRequest(f"availability_zone: {zone!r} is not one of {', '.join(zones)}", code=code)


def check_zone_filter(zone: str | None, zones: Sequence[str]) -> None:
    """Refuse a list of what is in a zone that is none of *zones* (EVS.1041)."""
    if zone is not None:
        check_zone(zone, zones, code="EVS.1041")


def check_type(name: str, *, iops: int | None, throughput_mib: int | None) -> None:
    """Refuse an unknown type (EVS.2070), one that is sold out (EVS.2072), and performance it does not take."""
    found = VOLUME_TYPES.get(name)
    if found is None:
        raise BadRequest(f"volume_type: {name!r} is not one of {', '.join(VOLUME_TYPES)}", code="EVS.2070")
    if found.sold_out:
        raise BadRequest(f"volume_type: {name} is sold out in every availability zone", code="EVS.2072")
    _check_performance("iops", iops, name, wanted=found.takes_iops)
    _check_performance("throughput", throughput_mib, name, wanted=found.takes_throughput)


def _check_performance(field: str, value: int | None, volume_type: str, *, wanted: bool) -> None:
    if wanted and value is None:
        raise BadRequest(f"{field}: volume type {volume_type} needs it")
    if not wanted and value is not None:
        raise BadRequest(f"{field}: volume type {volume_type} does not take it; got {value}")


def check_size(field: str, size_gib: int, *, code: str) -> None:
    """Refuse a size outside `VOLUME_GIB`."""
    if size_gib not in VOLUME_GIB:
        limits = f"{VOLUME_GIB[0]} to {VOLUME_GIB[-1]} GiB"
        raise BadRequest(f"{field}: must be {limits}, not {size_gib}", code=code)
