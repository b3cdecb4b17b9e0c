"""
What may be done with many volumes by one request: all of them, or none.

What is accepted is one job with a sub job for each volume, in the order in which they were named.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NoReturn

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from onecut.db.servers import Server
from onecut.db.volumes import Volume
from onecut.errors import BadRequest
from onecut.jobs import queue
from onecut.jobs.queue import JobOrder, SubJob
from onecut.service import catalog, volumes
from onecut.service.volumes import job_entities

IDS_MAX: Final = 60
"""Volumes of one unsubscription, or of one change of the charging mode (EVS API reference)."""


def order_extensions(session: Session, project_id: str, sizes: Sequence[tuple[str, int]], now: datetime) -> str:
    """
    Order larger sizes, in GiB, and return the job's id.

    Raises:
        BadRequest: None, too many, or one volume twice (EVS.5400); a size is not larger, or too large (EVS.1015).
        NotFound, WrongState: As for a single one, see `volumes.order_extension`.
    """
    if not 1 <= len(sizes) <= catalog.BATCH_MAX:
        raise BadRequest(f"volumes: must be 1 to {catalog.BATCH_MAX}, not {len(sizes)}")
    chosen = _chosen(session, project_id, "volumes", [volume_id for volume_id, _ in sizes])
    sub_jobs = []
    for volume, (_, size_gib) in zip(chosen, sizes, strict=True):
        volumes.begin_extension(session, volume, size_gib, now)
        sub_jobs.append(SubJob("extendVolume", job_entities(volume) | {"size": size_gib}))
    request = {"sizes_gib": [list(size) for size in sizes]}
    return queue.add(session, JobOrder(project_id, "batchExtendVolume", request, sub_jobs=sub_jobs), now)


def order_deletions(session: Session, project_id: str, volume_ids: Sequence[str], now: datetime) -> str:
    """
    Order the deletion of volumes, and return the job's id. Their snapshots stay; some may go to the recycle bin.

    Raises:
        BadRequest: Too many (EVS.1053), or one volume twice.
        NotFound, WrongState, SnapshotInCreation: As for a single one, see `volumes.order_deletion`.
    """
    _check_number(volume_ids, code="EVS.1053")
    chosen = _chosen(session, project_id, "volume_ids", volume_ids)
    in_bin = [volumes.begin_deletion(session, volume, now) for volume in chosen]
    sub_jobs = [SubJob("deleteSingleVolume", job_entities(volume)) for volume in chosen]
    request = {"volume_ids": [volume.id for volume, kept in zip(chosen, in_bin, strict=True) if not kept]}
    job_id = queue.add(session, JobOrder(project_id, "bulkDeleteVolume", request, sub_jobs=sub_jobs), now)
    for position in (position for position, kept in enumerate(in_bin) if kept):
        queue.finish_member(session, job_id, position, now)
    return job_id


def refuse_charge_mode(
    session: Session, project_id: str, volume_ids: Sequence[str], *, server_id: str | None
) -> NoReturn:
    """
    Refuse to let volumes be billed with their server: nothing is billed. What else is wrong is told before.

    Raises:
        BadRequest: Too many (EVS.2228), the server does not exist (EVS.2229), a volume is attached to several
            servers and none of them is named (EVS.2226), a volume is not `in-use` (EVS.2227), else EVS.2147.
        NotFound: A volume does not exist.
    """
    _check_number(volume_ids, code="EVS.2228")
    there = exists().where(Server.id == server_id, Server.project_id == project_id)
    if server_id is not None and not session.scalar(select(there)):
        raise BadRequest(f"server_id: server {server_id} does not exist", code="EVS.2229")
    for volume in [volumes.find(session, project_id, volume_id) for volume_id in volume_ids]:
        _check_attached(volume, server_id)
    raise BadRequest("volume_ids: Onecut bills nothing; there is no charging mode but postPaid", code="EVS.2147")


def _check_number(volume_ids: Sequence[str], *, code: str) -> None:
    if len(volume_ids) > IDS_MAX:
        raise BadRequest(f"volume_ids: must be at most {IDS_MAX}, are {len(volume_ids)}", code=code)


def _chosen(session: Session, project_id: str, field_name: str, volume_ids: Sequence[str]) -> list[Volume]:
    volumes.refuse_twice(field_name, volume_ids)
    return volumes.lock_all(session, project_id, volume_ids)


def _check_attached(volume: Volume, server_id: str | None) -> None:
    if volume.status != "in-use":
        raise BadRequest(f"volume_ids: volume {volume.id} is {volume.status}; this needs in-use", code="EVS.2227")
    if server_id is None and len(volume.attachments) > 1:
        number = len(volume.attachments)
        raise BadRequest(
            f"server_id: must be given, volume {volume.id} is attached to {number} servers", code="EVS.2226"
        )
