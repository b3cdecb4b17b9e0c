"""
How snapshots end: alone, or with the volume they were taken of.

A standard snapshot stays when its volume is deleted, because its data is stored apart. A legacy one goes with its
volume (EVS user guide): what it holds lies beside the volume's own data.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from onecut.db.moves import move
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume
from onecut.errors import BadRequest
from onecut.jobs import queue
from onecut.jobs import snapshots as snapshot_jobs

ENDING: Final = "deleting"
"""The state of a snapshot that somebody has ordered to go."""


def order(session: Session, snapshot: Snapshot, now: datetime) -> str:
    """
    Order the deletion of a snapshot, whose row is locked, and return the job's id.

    Raises:
        WrongState: Something is being done with it (EVS.1047).
        BadRequest: A volume is being made from it.
    """
    move(session, Snapshot, [snapshot.id], to=ENDING, now=now, code="EVS.1047")
    refuse_while_volume_is_made(session, [snapshot.id])
    job = snapshot_jobs.delete_order(
        snapshot.project_id,
        snapshot_id=snapshot.id,
        volume_id=snapshot.volume_id,
        snapshot_group_id=snapshot.snapshot_group_id,
        unsettled_cut_id=None if snapshot.cut else snapshot.snapshot_group_id or snapshot.id,
    )
    return queue.add(session, job, now)


def order_with_volumes(session: Session, volume_ids: Collection[str], now: datetime) -> None:
    """
    Order that the legacy snapshots of volumes go, because the volumes do; each has a job of its own.

    They go even if a volume then can't be deleted: the caller wanted neither any more.

    Raises:
        WrongState: Something is being done with one of them (EVS.1047).
        BadRequest: A volume is being made from one of them.
    """
    query = select(Snapshot).where(Snapshot.volume_id.in_(volume_ids), Snapshot.legacy, Snapshot.status != ENDING)
    for snapshot in session.scalars(query.order_by(Snapshot.id).with_for_update(of=Snapshot)).all():
        order(session, snapshot, now)


def refuse_while_volume_is_made(session: Session, snapshot_ids: Collection[str]) -> None:
    """Raise `BadRequest` when a volume is being made from a snapshot: its data is still needed."""
    making = select(Volume.snapshot_id, Volume.id).where(
        Volume.snapshot_id.in_(snapshot_ids), Volume.status == "creating"
    )
    found = session.execute(making.order_by(Volume.id).limit(1)).one_or_none()
    if found is not None:
        raise BadRequest(f"snapshot {found[0]} can't be deleted while volume {found[1]} is being created from it")
