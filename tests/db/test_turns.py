"""Who writes next."""

import math
import threading
from functools import partial

import pytest
from running import wait_until

from onecut.db.turns import Turns


def waits(turns: Turns, number: int) -> bool:
    """Say whether so many wait."""
    return turns.waiting == number


def order_of(turns: Turns, wanted: list[tuple[str, bool]]) -> list[str]:
    """Let threads ask for the turn, one after the other, while it is taken; return the order in which they had it."""
    had: list[str] = []

    def take(name: str, *, job: bool) -> None:
        with turns.turn(job=job):
            had.append(name)

    threads = [threading.Thread(target=take, args=(name,), kwargs={"job": job}) for name, job in wanted]
    with turns.turn(job=False):
        for number, thread in enumerate(threads, start=1):
            thread.start()
            wait_until(partial(waits, turns, number), "one more who waits")
    for thread in threads:
        thread.join()
    return had


WANTED = [("first job", True), ("second job", True), ("first request", False), ("second request", False)]


class TestTurns:
    def test_requests_go_before_jobs(self) -> None:
        """Each line keeps its order."""
        had = order_of(Turns(job_waits_s=math.inf), WANTED)

        assert had == ["first request", "second request", "first job", "second job"]

    def test_a_job_that_has_waited_goes_first(self) -> None:
        """Requests that never end can't keep jobs waiting for ever."""
        had = order_of(Turns(job_waits_s=0.0), WANTED)

        assert had == ["first job", "second job", "first request", "second request"]

    def test_who_fails_passes_the_turn_on(self) -> None:
        """A transaction that raises leaves the turn free."""
        turns = Turns()
        with pytest.raises(ZeroDivisionError), turns.turn(job=True):
            raise ZeroDivisionError

        assert order_of(turns, [("next", False)]) == ["next"]
