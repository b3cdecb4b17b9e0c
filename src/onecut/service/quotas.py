"""
How much a project may have, and has.

A limit holds under concurrent requests because it is checked in the transaction that adds, after the adding: the
project is held, then counted with what is new. So the next one counts what this one has added.

Counted are the rows themselves; there is no counter that could go wrong. A volume in the recycle bin, and what an
extension that is under way adds, are `reserved`: the one may come back, the other is about to be there.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Integer, bindparam, func, literal, select
from sqlalchemy.orm import Session

from onecut.db.projects import hold
from onecut.db.quotas import DefaultQuota, ProjectQuota
from onecut.db.rows import ask_rows
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume
from onecut.errors import BadRequest, QuotaExceeded
from onecut.service.catalog import VOLUME_TYPES

NONE: Final = -1
"""No limit, as Cinder prints it."""

LIMIT_MAX: Final = 2**31 - 1
"""What the database's column holds."""

COUNTED: Final = ("volumes", "gigabytes", "snapshots")
"""What is counted of a project, and of each volume type in it: ``volumes_SSD``."""

LIMITED: Final = (*COUNTED, "per_volume_gigabytes", *(f"{kind}_{name}" for name in VOLUME_TYPES for kind in COUNTED))
"""Every resource that may have a limit."""

NOT_KEPT: Final = ("backups", "backup_gigabytes")
"""Resources that EVS lists and Onecut does not have: none are there, and none can be made."""


@dataclass(frozen=True)
class Quota:
    """One resource of a project."""

    limit: int
    """`NONE` for none."""
    in_use: int = 0
    reserved: int = 0


_LIMITS: Final = (
    select(DefaultQuota.resource, DefaultQuota.limit, literal(0).label("own"))
    .union_all(
        select(ProjectQuota.resource, ProjectQuota.limit, literal(1).label("own")).where(
            ProjectQuota.project_id == bindparam("project_id")
        )
    )
    .order_by("own")
)
"""The defaults first, then what takes their place."""


def limits(session: Session, project_id: str) -> dict[str, int]:
    """Return the limits of a project by resource: its own, else the default; a resource without either has none."""
    found = ask_rows(session, _LIMITS, {"project_id": project_id})
    return {resource: limit for resource, limit, _ in found}


def set_defaults(session: Session, wanted: Mapping[str, int]) -> None:
    """Make these the limits of every project without its own."""
    for resource, limit in wanted.items():
        session.merge(DefaultQuota(resource=resource, limit=limit))


def set_limit(session: Session, project_id: str, resource: str, limit: int | None) -> None:
    """
    Give a project its own limit; None gives it the default again. What is there already stays, whatever the limit.

    Raises:
        BadRequest: There is no such resource, or the limit is below -1 or above `LIMIT_MAX`.
    """
    if resource not in LIMITED:
        raise BadRequest(f"resource: {resource!r} is not one of {', '.join(LIMITED)}")
    if limit is not None and not NONE <= limit <= LIMIT_MAX:
        raise BadRequest(f"limit: must be {NONE} (no limit) to {LIMIT_MAX}, not {limit}")
    hold(session, project_id)
    known = session.get(ProjectQuota, (project_id, resource))
    if limit is not None:
        session.merge(ProjectQuota(project_id=project_id, resource=resource, limit=limit))
    elif known is not None:
        session.delete(known)


def check_volumes(session: Session, project_id: str, grown: Sequence[Volume], *, new: bool = True) -> None:
    """
    Refuse volumes, *new* ones or larger ones, that the transaction has written already, beyond the project's quotas.

    Raises:
        QuotaExceeded: Too many volumes (EVS.1034), or too many GiB in all or for one volume (EVS.1042).
    """
    finite = _finite(session, project_id)
    size_gib = max(volume.size_gib + volume.growth_gib for volume in grown)
    _compare("per_volume_gigabytes", size_gib, finite)
    volume_types = sorted({volume.volume_type for volume in grown})
    concerned = [
        resource
        for kind in (("volumes", "gigabytes") if new else ("gigabytes",))
        for resource in (kind, *(f"{kind}_{name}" for name in volume_types))
        if resource in finite
    ]
    _check_use(session, project_id, concerned, finite)


def check_retyped(session: Session, volume: Volume) -> None:
    """Refuse another type, which the transaction has written already, beyond the quotas of that type; see above."""
    finite = _finite(session, volume.project_id)
    of_type = [f"{kind}_{volume.volume_type}" for kind in ("volumes", "gigabytes")]
    _check_use(session, volume.project_id, [resource for resource in of_type if resource in finite], finite)


def _check_use(session: Session, project_id: str, concerned: Sequence[str], finite: Mapping[str, int]) -> None:
    if not concerned:
        return
    hold(session, project_id)
    used: dict[str, int] = {}
    numbers = func.count(), func.sum(Volume.size_gib + Volume.growth_gib)
    of_types = select(Volume.volume_type, *numbers).where(Volume.project_id == project_id)
    for volume_type, count, gib in session.execute(of_types.group_by(Volume.volume_type)):
        _add(used, "volumes", volume_type, count)
        _add(used, "gigabytes", volume_type, gib)
    for resource in concerned:
        _compare(resource, used[resource], finite)


# Whether there is one behind the limit's last is quicker to tell than how many there are: a project may have a
# million, which takes 45 ms over the index (SQLite). It is no more than the limit that is looked through.
_BEHIND: Final = (
    select(Snapshot.project_id)
    .where(Snapshot.project_id == bindparam("project_id"))
    .offset(bindparam("limit", type_=Integer))
    .limit(1)
)
_BEHIND_OF_TYPE: Final = _BEHIND.where(Snapshot.volume_type == bindparam("volume_type"))


def check_snapshots(session: Session, project_id: str, volume_types: Collection[str]) -> None:
    """
    Refuse snapshots of volumes of these types, which the transaction has written already, beyond the quotas.

    Raises:
        QuotaExceeded: There would be too many.
    """
    finite = _finite(session, project_id)
    counted = {"snapshots": None} | {f"snapshots_{name}": name for name in volume_types}
    concerned = {resource: name for resource, name in counted.items() if resource in finite}
    if not concerned:
        return
    hold(session, project_id)
    for resource, name in concerned.items():
        behind = _BEHIND if name is None else _BEHIND_OF_TYPE
        wanted = {"project_id": project_id, "limit": finite[resource], "volume_type": name}
        if ask_rows(session, behind, wanted).first() is not None:
            raise QuotaExceeded(_sentence(resource, finite[resource]))


def _finite(session: Session, project_id: str) -> dict[str, int]:
    return {resource: limit for resource, limit in limits(session, project_id).items() if limit != NONE}


def _compare(resource: str, used: int, finite: Mapping[str, int]) -> None:
    limit = finite.get(resource)
    if limit is None or used <= limit:
        return
    code = "EVS.1034" if resource.startswith("volumes") else "EVS.1042"
    raise QuotaExceeded(_sentence(resource, limit), code=code)


def _sentence(resource: str, limit: int) -> str:
    return f"{resource}: the project's quota is {limit}, which this request would exceed"


def show(session: Session, project_id: str) -> dict[str, Quota]:
    """Return every quota of a project by resource, with what is in use of it."""
    known = limits(session, project_id)
    in_use, reserved = _use(session, project_id)
    quotas = {name: Quota(known.get(name, NONE), in_use.get(name, 0), reserved.get(name, 0)) for name in LIMITED}
    return quotas | {name: Quota(0) for name in NOT_KEPT}


def _use(session: Session, project_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Count what is in use and what is reserved, by resource."""
    in_use: dict[str, int] = {}
    reserved: dict[str, int] = {}
    binned = Volume.pre_deleted_at.is_not(None)
    volumes = select(
        Volume.volume_type, binned, func.count(), func.sum(Volume.size_gib), func.sum(Volume.growth_gib)
    ).where(Volume.project_id == project_id)
    for volume_type, in_bin, count, gib, growth_gib in session.execute(volumes.group_by(Volume.volume_type, binned)):
        place = reserved if in_bin else in_use
        _add(place, "volumes", volume_type, count)
        _add(place, "gigabytes", volume_type, gib)
        _add(reserved, "gigabytes", volume_type, growth_gib)
    snapshots = select(Snapshot.volume_type, func.count()).where(Snapshot.project_id == project_id)
    for volume_type, count in session.execute(snapshots.group_by(Snapshot.volume_type)):
        _add(in_use, "snapshots", volume_type, count)
    return in_use, reserved


def _add(place: dict[str, int], kind: str, volume_type: str, number: int) -> None:
    for resource in (kind, f"{kind}_{volume_type}"):
        place[resource] = place.get(resource, 0) + number
