"""When a policy is due: hours in UTC+8, on days of the week or every so many days."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecut.service.timetable import ZONE, Timetable

FRIDAY = date(2026, 1, 16)


def at(day: int, hour: int, minute: int = 0) -> datetime:
    """Give a moment of January 2026 in UTC+8."""
    return datetime(2026, 1, day, hour, minute, tzinfo=ZONE)


def daily(*hours: int) -> Timetable:
    """Give a timetable of every day."""
    return Timetable(FRIDAY, hours, None, 1)


def test_hours_are_those_of_utc_plus_8() -> None:
    """Hour 1 of a day is 17:00 UTC of the day before."""
    assert daily(1).after(datetime(2026, 1, 16, 12, tzinfo=UTC)) == datetime(2026, 1, 16, 17, tzinfo=UTC)


def test_a_time_point_is_reached_at_its_very_moment() -> None:
    """On the hour it is the latest, a microsecond before it is not; what comes after it is the next one."""
    table = daily(1, 13)

    assert table.latest(at(17, 13)) == at(17, 13)
    assert table.latest(at(17, 13) - timedelta(microseconds=1)) == at(17, 1)
    assert table.after(at(17, 13)) == at(18, 1)


def test_the_order_of_the_hours_does_not_matter() -> None:
    """The latest is the latest of the day, however the hours were given."""
    assert daily(13, 1, 7).latest(at(17, 23)) == at(17, 13)
    assert daily(13, 1, 7).after(at(17, 0)) == at(17, 1)


def test_weekdays() -> None:
    """1 is Monday and 7 Sunday; from one week to the next."""
    table = Timetable(FRIDAY, [1], [1, 7], None)

    assert [table.after(at(16, 12)), table.after(at(18, 1)), table.after(at(19, 1))] == [
        at(18, 1),
        at(19, 1),
        at(25, 1),
    ]
    assert table.latest(at(24, 23)) == at(19, 1)


def test_an_interval_begins_with_its_first_day() -> None:
    """Every three days from the first day on, which is due itself."""
    table = Timetable(FRIDAY, [1], None, 3)

    assert [table.after(at(16, 0)), table.after(at(16, 1)), table.after(at(20, 0))] == [
        at(16, 1),
        at(19, 1),
        at(22, 1),
    ]
    assert table.latest(at(21, 23)) == at(19, 1)


def test_nothing_is_due_before_the_first_day() -> None:
    """A clock of before the first day finds nothing that was missed, and the first day to come."""
    assert daily(1).latest(at(15, 23)) is None
    assert daily(1).after(at(1, 0)) == at(16, 1)


@pytest.mark.parametrize("days", [0, 1, 6, 31, 400])
@given(
    hours=st.sets(st.integers(0, 23), min_size=1),
    weekdays=st.none() | st.sets(st.integers(1, 7), min_size=1),
    interval=st.integers(1, 30),
    second=st.integers(0, 86399),
)
def test_latest_and_after_are_neighbours(
    days: int, hours: set[int], weekdays: set[int] | None, interval: int, second: int
) -> None:
    """Between the latest time point and the one after there is a moment's own place, and no other time point."""
    table = Timetable(FRIDAY, hours, weekdays, None if weekdays else interval)
    moment = at(16, 0) + timedelta(days=days, seconds=second)
    latest, after = table.latest(moment), table.after(moment)

    assert after > moment
    if latest is None:
        assert table.after(at(16, 0) - timedelta(seconds=1)) == after
    else:
        assert latest <= moment
        assert table.after(latest) == after
    for point in filter(None, (latest, after)):
        local = point.astimezone(ZONE)
        assert (local.hour in hours, local.minute, local.second, local.microsecond) == (True, 0, 0, 0)
        if weekdays:
            assert local.isoweekday() in weekdays
        else:
            assert (local.date() - FRIDAY).days % interval == 0
