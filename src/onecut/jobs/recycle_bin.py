"""Putting volumes into the recycle bin. Nothing is done to their data."""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from onecut.db.moves import move
from onecut.db.volumes import Volume


def put_in(session: Session, volume_ids: Collection[str], now: datetime, *, keep_days: int) -> None:
    """
    Put volumes that are `available` into the bin, to be destroyed after *keep_days*.

    Raises:
        WrongState: One is not (EVS.1046).
    """
    move(session, Volume, volume_ids, to="pending-destroy", now=now, code="EVS.1046")
    for volume in session.scalars(select(Volume).where(Volume.id.in_(volume_ids))):
        volume.pre_deleted_at, volume.plan_delete_at = now, now + timedelta(days=keep_days)
