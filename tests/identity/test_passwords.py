import time
from datetime import UTC, datetime, timedelta

import pytest

from onecut.clock import JumpingClock
from onecut.errors import Unauthenticated
from onecut.service.passwords import LOCKOUT, MAX_FAILURES, Passwords

ADMIN = ("onecut", "admin")


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock(datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture
def passwords(clock: JumpingClock, costly_passwords: None) -> Passwords:  # noqa: ARG001 - a test of the cost is here
    return Passwords(clock)


def _fail(passwords: Passwords, times: int, stored: str | None) -> None:
    for _ in range(times):
        assert not passwords.check(ADMIN, stored, "wrong")


def test_a_password_is_stored_as_argon2id(passwords: Passwords) -> None:
    """The stored form names argon2id, differs each time, and lets only the password in."""
    stored = passwords.hash("right")

    assert stored.startswith("$argon2id$")
    assert stored != passwords.hash("right")
    assert passwords.check(ADMIN, stored, "right")
    assert not passwords.check(ADMIN, stored, "Right")


def test_a_user_who_does_not_exist_costs_as_much_as_a_wrong_password(passwords: Passwords) -> None:
    """The best of three checks of either kind differ by less than a factor of two."""
    stored = passwords.hash("right")

    def best_of_three(name: str, stored: str | None) -> float:
        taken = []
        for _ in range(3):
            begun = time.perf_counter()
            passwords.check(("onecut", name), stored, "wrong")
            taken.append(time.perf_counter() - begun)
        return min(taken)

    wrong, unknown = best_of_three("admin", stored), best_of_three("nobody", None)

    assert 0.5 < unknown / wrong < 2


def test_nobody_has_the_empty_password(passwords: Passwords) -> None:
    """The hash that stands in for a missing user opens nothing."""
    assert not passwords.check(ADMIN, None, "")


@pytest.mark.parametrize("exists", [True, False])
def test_five_wrong_passwords_lock_a_name_for_fifteen_minutes(
    clock: JumpingClock,
    passwords: Passwords,
    exists: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Then even the right password waits; a name that nobody has locks alike; other names are not touched."""
    stored = passwords.hash("right")
    _fail(passwords, MAX_FAILURES, stored if exists else None)

    clock.jump(LOCKOUT - timedelta(seconds=1))
    with pytest.raises(Unauthenticated, match="too many"):
        passwords.check(ADMIN, stored, "right")
    assert passwords.check(("onecut", "other"), stored, "right")
    clock.jump(timedelta(seconds=1))
    assert passwords.check(ADMIN, stored, "right")


def test_a_right_password_forgets_the_wrong_ones(passwords: Passwords) -> None:
    """Four failures, a success and four failures lock nobody out."""
    stored = passwords.hash("right")

    _fail(passwords, MAX_FAILURES - 1, stored)
    assert passwords.check(ADMIN, stored, "right")
    _fail(passwords, MAX_FAILURES - 1, stored)

    assert passwords.check(ADMIN, stored, "right")


def test_memory_for_failures_is_bounded(passwords: Passwords, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guessing names makes the service forget the oldest failure, never remember more than the limit."""
    monkeypatch.setattr("onecut.service.passwords.MAX_REMEMBERED", 3)

    for name in range(5):
        passwords._count_failure(("onecut", str(name)))

    assert [name for _, name in passwords._failures] == ["2", "3", "4"]
