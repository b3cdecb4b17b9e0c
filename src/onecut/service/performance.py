"""
How fast volumes are is changed: by choosing other performance, or another type.

The volume's row says what is wanted from the moment it is asked for; a job makes the engine follow.
Sources: EVS API reference, modifying QoS (updated 2025-11-25) and changing the disk type.
"""

from datetime import datetime
from typing import Final

from sqlalchemy.orm import Session

from onecut.db.moves import move
from onecut.db.volumes import Volume
from onecut.errors import BadRequest, WrongState
from onecut.jobs import queue
from onecut.jobs.queue import JobOrder
from onecut.service import catalog, limits, quotas, volumes

CHANGEABLE: Final = frozenset({"available", "in-use"})
"""States in which performance may be changed (EVS API reference, modifying QoS)."""


def order_change(
    session: Session, project_id: str, volume_id: str, now: datetime, *, iops: int, throughput_mib: int | None
) -> str:
    """
    Order other performance for a volume, attached or not, and return the job's id.

    Raises:
        NotFound: There is no such volume.
        WrongState: It is neither `available` nor `in-use`.
        BadRequest: Its type does not take these values, or not for a volume of its size.
    """
    volume = volumes.find(session, project_id, volume_id, lock=True)
    if volume.status not in CHANGEABLE:
        raise WrongState("volume", volume.id, volume.status, CHANGEABLE)
    return _order(session, "modifyVolumeQos", volume, (volume.volume_type, iops, throughput_mib), now)


def order_retype(
    session: Session,
    project_id: str,
    volume_id: str,
    new_type: str,
    now: datetime,
    *,
    iops: int | None,
    throughput_mib: int | None,
) -> str:
    """
    Order another type for a volume, attached or not, and return the job's id.

    Raises:
        NotFound: There is no such volume.
        WrongState: It is neither `available` nor `in-use` (EVS.2087).
        BadRequest: It has that type already, or nobody may have it (EVS.2088), or the type does not take these
            values, or not for a volume of its size.
        QuotaExceeded: The project's quotas of that type have no room for it; see `quotas.check_volumes`.
    """
    volume = volumes.find(session, project_id, volume_id, lock=True)
    move(session, Volume, [volume.id], to="retyping", now=now, code="EVS.2087")
    if new_type == volume.volume_type:
        raise BadRequest(f"new_type: volume {volume.id} is {new_type} already", code="EVS.2088")
    offered = [offer.name for offer in catalog.VOLUME_TYPES.values() if not offer.sold_out]
    if new_type not in offered:
        raise BadRequest(f"new_type: must be one of {', '.join(offered)}, not {new_type!r}", code="EVS.2088")
    job_id = _order(session, "retypeVolume", volume, (new_type, iops, throughput_mib), now)
    quotas.check_retyped(session, volume)
    return job_id


def _order(
    session: Session, job_type: str, volume: Volume, wanted: tuple[str, int | None, int | None], now: datetime
) -> str:
    volume_type, iops, throughput_mib = wanted
    catalog.check_type(volume_type, iops=iops, throughput_mib=throughput_mib)
    limits.check(volume_type, volume.size_gib, iops=iops, throughput_mib=throughput_mib)
    before = (volume.volume_type, volume.iops, volume.throughput_mib)
    volume.volume_type, volume.iops, volume.throughput_mib = wanted
    volume.updated_at = now
    request = {"volume_id": volume.id, "wanted": wanted, "before": before}
    order = JobOrder(volume.project_id, job_type, request, volumes.job_entities(volume))
    return queue.add(session, order, now)
