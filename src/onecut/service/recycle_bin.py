"""
What may be done with volumes in the recycle bin: bring them back, or destroy them before their time.

Volumes get there by `volumes.order_deletion`, and with their server; `recycle_policy` says which.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import structlog
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from onecut.db.moves import move
from onecut.db.session import Database
from onecut.db.volumes import Volume
from onecut.errors import Refused
from onecut.service import volumes
from onecut.service.retention import RETRY_AFTER

log = structlog.get_logger()

DESTROYABLE: Final = frozenset({"pending-destroy", "error_deleting"})
"""States of a volume in the bin that nobody destroys at this moment."""


def revert(session: Session, project_id: str, volume_id: str, now: datetime) -> None:
    """
    Bring a volume back, `available` unless its data has become unusable meanwhile.

    The project's quotas have room for it: they counted it all the time.

    Raises:
        NotFound: There is no such volume in the bin.
        WrongState: It is being destroyed.
    """
    volume = volumes.find(session, project_id, volume_id, lock=True, in_bin=True)
    move(session, Volume, [volume.id], to=volumes.state_at_rest(volume), now=now, only_from={"pending-destroy"})
    volume.pre_deleted_at = volume.plan_delete_at = None


def order_destruction(session: Session, project_id: str, volume_id: str, now: datetime) -> str:
    """
    Order that a volume in the bin be destroyed now, and return the job's id. Its snapshots stay.

    Raises:
        NotFound: There is no such volume in the bin.
        WrongState: It is being destroyed already (EVS.1046).
    """
    volume = volumes.find(session, project_id, volume_id, lock=True, in_bin=True)
    return volumes.order_destruction(session, volume, now, only_from=DESTROYABLE)


def empty(database: Database, now: datetime) -> int:
    """
    Order the destruction of every volume whose time is over, once, and return how many those are.

    A destruction that failed is tried again after a while.
    """
    with database.reading() as session:
        due = _due(session, now)
    return sum([_destroy(database, *volume, now) for volume in due])


def _due(session: Session, now: datetime) -> Sequence[tuple[str, str]]:
    query = (
        select(Volume.project_id, Volume.id)
        .where(
            Volume.plan_delete_at <= now,
            or_(
                Volume.status == "pending-destroy",
                (Volume.status == "error_deleting") & (Volume.updated_at <= now - RETRY_AFTER),
            ),
        )
        .order_by(Volume.plan_delete_at, Volume.id)
    )
    return [(project_id, volume_id) for project_id, volume_id in session.execute(query)]


def _destroy(database: Database, project_id: str, volume_id: str, now: datetime) -> bool:
    try:
        with database.writing() as session:
            order_destruction(session, project_id, volume_id, now)
    except Refused as refused:  # somebody brought it back, or destroys it, since it was looked for
        log.info("recycle_bin_changed", volume_id=volume_id, reason=refused.message)
        return False
    log.info("recycle_bin_time_over", volume_id=volume_id)
    return True
