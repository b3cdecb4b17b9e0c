"""Whether a project's deleted volumes go to the recycle bin, and how long they stay there."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from onecut.db.projects import hold
from onecut.db.recycle_bin import RecyclePolicy
from onecut.db.volumes import Volume
from onecut.errors import BadRequest

THRESHOLD_DAYS: Final = range(1, 1000 + 1)
KEEP_DAYS: Final = range(1, 365 + 1)
"""Limits of the policy (EVS API reference, updating the recycle bin policy)."""


@dataclass(frozen=True)
class Policy:
    """A project's policy, with EVS's defaults."""

    switch: bool = False
    threshold_days: int = 7
    keep_days: int = 7

    def takes(self, volume: Volume, now: datetime) -> bool:
        """Whether a volume that is deleted now is old enough for the bin, and the bin is on."""
        return self.switch and now - volume.created_at >= timedelta(days=self.threshold_days)


def show(session: Session, project_id: str) -> Policy:
    """Return a project's policy."""
    row = session.get(RecyclePolicy, project_id)
    return Policy() if row is None else Policy(row.switch, row.threshold_days, row.keep_days)


def update(
    session: Session, project_id: str, *, switch: bool | None, threshold_days: int | None, keep_days: int | None
) -> None:
    """
    Change a project's policy; None leaves a field as it is. Volumes in the bin keep the time they were given.

    Raises:
        BadRequest: A number of days is out of its limits.
    """
    _check("threshold_time", threshold_days, THRESHOLD_DAYS)
    _check("keep_time", keep_days, KEEP_DAYS)
    hold(session, project_id)
    known = show(session, project_id)
    session.merge(
        RecyclePolicy(
            project_id=project_id,
            switch=known.switch if switch is None else switch,
            threshold_days=known.threshold_days if threshold_days is None else threshold_days,
            keep_days=known.keep_days if keep_days is None else keep_days,
        )
    )


def _check(field: str, days: int | None, limits: range) -> None:
    if days is not None and days not in limits:
        raise BadRequest(f"{field}: must be {limits[0]} to {limits[-1]} days, not {days}")
