"""When a snapshot policy is due: whole hours of the day in UTC+8, on days of the week or every so many days."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Final

from onecut.db.policies import SnapshotPolicy

ZONE: Final = timezone(timedelta(hours=8))
"""Zone of all time points (EVS API reference); it has no daylight saving time."""


@dataclass(frozen=True)
class Timetable:
    """Time points, from a first day on, without an end."""

    first_day: date
    hours: Collection[int]
    """From 0 to 23; at least one."""
    weekdays: Collection[int] | None
    """From 1, Monday; None for a timetable that counts days."""
    interval_days: int | None
    """The first day is due, and every so many days after it."""

    def latest(self, moment: datetime) -> datetime | None:
        """Return the latest time point up to *moment*; None before the first one."""
        day = moment.astimezone(ZONE).date()
        while day >= self.first_day:
            passed = [point for point in self._points(day) if point <= moment]
            if passed:
                return passed[-1]
            day -= timedelta(days=1)
        return None

    def after(self, moment: datetime) -> datetime:
        """Return the first time point behind *moment*."""
        day = max(moment.astimezone(ZONE).date(), self.first_day)
        while True:
            coming = [point for point in self._points(day) if point > moment]
            if coming:
                return coming[0]
            day += timedelta(days=1)

    def _points(self, day: date) -> Iterator[datetime]:
        if self._has(day):
            for hour in sorted(self.hours):
                yield datetime.combine(day, time(hour), ZONE)

    def _has(self, day: date) -> bool:
        if self.weekdays is not None:
            return day.isoweekday() in self.weekdays
        return (day - self.first_day).days % (self.interval_days or 1) == 0


def timetable(policy: SnapshotPolicy) -> Timetable:
    """Return when a policy is due."""
    return Timetable(
        first_day=policy.counted_from.astimezone(ZONE).date(),
        hours=policy.hours,
        weekdays=policy.weekdays,
        interval_days=policy.interval_days,
    )
