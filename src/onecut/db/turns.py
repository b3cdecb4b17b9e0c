"""
Who writes to SQLite next.

SQLite has one writer at a time, and lets a second one sleep, up to 100 ms at a time, before it looks again. Writers
of one process take turns here instead: the next is woken at once. Requests go before jobs, since somebody waits for
their answers; a job that has waited for long enough goes before all of them.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

JOB_WAITS_S: Final = 0.25
"""How long requests go before a job: about a hundred of them. Each note that a cut makes is late by that at most."""


@dataclass
class _Waiting:
    since: float = field(default_factory=time.monotonic)
    called: threading.Event = field(default_factory=threading.Event)


class Turns:
    """The turn to write: one thread has it, the others wait in two lines."""

    def __init__(self, *, job_waits_s: float = JOB_WAITS_S) -> None:
        self._job_waits_s = job_waits_s
        self._lock = threading.Lock()
        self._taken = False
        self._requests: deque[_Waiting] = deque()
        self._jobs: deque[_Waiting] = deque()

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._requests) + len(self._jobs)

    @contextmanager
    def turn(self, *, job: bool) -> Iterator[None]:
        """Wait for the turn, and have it until the block ends."""
        self._take(self._jobs if job else self._requests)
        try:
            yield
        finally:
            self._pass_on()

    def _take(self, line: deque[_Waiting]) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            line.append(waiting := _Waiting())
        waiting.called.wait()

    def _pass_on(self) -> None:
        with self._lock:
            line = self._next_line()
            if line:
                line.popleft().called.set()
            else:
                self._taken = False

    def _next_line(self) -> deque[_Waiting]:
        late = self._jobs and time.monotonic() - self._jobs[0].since >= self._job_waits_s
        return self._jobs if late or not self._requests else self._requests
