"""Do it again, with growing pauses, while the store says that later would do."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import SystemRandom
from typing import TypeVar

from onecut.repository.errors import TryLater

T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """Pauses that double, with jitter so that many waiters do not come back at once."""

    first_s: float = 0.05
    longest_s: float = 5.0
    total_s: float = 60.0
    """After this many seconds of pauses there are no more."""

    def pauses(self) -> Iterator[float]:
        """Yield how long to wait before each further attempt, in seconds."""
        waited, pause = 0.0, self.first_s
        while waited < self.total_s:
            jittered = pause * SystemRandom().uniform(0.5, 1.0)
            yield jittered
            waited += jittered
            pause = min(pause * 2, self.longest_s)


def retried(act: Callable[[], T], backoff: Backoff, sleep: Callable[[float], None] = time.sleep) -> T:
    """Call *act* until it does not raise `TryLater`; its last error comes out when the pauses are used up."""
    for pause in backoff.pauses():
        try:
            return act()
        except TryLater:
            sleep(pause)
    return act()
