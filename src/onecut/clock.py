"""The time of day, passed in wherever a decision depends on it, so that a test can set it; and how it is printed."""

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time of day."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        return datetime.now(UTC)


class JumpingClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, start: datetime) -> None:
        self._now = start

    def now(self) -> datetime:
        """Return the moment the clock was last moved to."""
        return self._now

    def jump(self, by: timedelta) -> None:
        """Move the clock by *by*, forwards or backwards."""
        self._now += by


def time_text(moment: datetime) -> str:
    """Print a moment as EVS does: ``2026-01-15T22:10:05.120334``, in UTC without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
