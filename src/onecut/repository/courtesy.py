"""
Making room for those who use the disks.

An archive takes all that the processors and the disk have, and whoever writes to a disk waits behind it: with a core
busy for each thread, and requests of a mebibyte in front of one of 4 KiB, the slowest hundredth of writes took 14 ms
instead of half a one. So while others move data, archives work one step at a time, and half of the time: steps with
no rest between them keep a core for milliseconds, and whoever is woken there, as by the disk that has done what they
asked for, may have to wait for the scheduler's next tick.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from onecut.repository.throttle import Throttle
from onecut.units import MiB

BUSY_BYTES_PER_S: Final = 32 * MiB
"""
Read by all archives together while others use the disks: half of what their steps and rests leave time for.

Measured on two cores, 99th percentile of a client's writes: 0.4 to 0.6 ms at rest; 0.6 to 0.9 beside an archive at
this speed, 0.8 at one and a half times, 0.8 to 1.4 at twice.
"""

LOOK_S: Final = 0.05
"""Between two looks at what others have moved; until the second one nothing is known of them."""

REMEMBERED_S: Final = 1.0
"""For so long others are taken to be busy after they have moved anything."""


class Courtesy:
    """
    Lets archives take their steps: as they like, or one by one, with rests and not too fast, while others are busy.

    One for all archives that share disks and processors; used by any thread.

    Args:
        moved_bytes: Tells what others have moved so far; None when that is not known, and nobody is made room for.
        bytes_per_s: Read by all archives together while others are busy.
    """

    def __init__(self, moved_bytes: Callable[[], int | None], bytes_per_s: float = BUSY_BYTES_PER_S) -> None:
        self._moved_bytes = moved_bytes
        self._throttle = Throttle(bytes_per_s)
        self._alone, self._looking = threading.Lock(), threading.Lock()
        self._seen_bytes: int | None = None
        self._seen_at = self._busy_until = float("-inf")

    def others_are_busy(self) -> bool:
        """Tell whether there is somebody to make room for."""
        now = time.monotonic()
        if now - self._seen_at >= LOOK_S and self._looking.acquire(blocking=False):
            try:
                self._look(now)
            finally:
                self._looking.release()
        return now < self._busy_until

    @contextmanager
    def step(self, length: int, stopped: threading.Event) -> Iterator[None]:
        """
        Take a step in the block, which reads so many bytes of a disk; wait for its turn, unless *stopped*.

        While others are busy a rest as long as the step follows, in which nobody takes the next one.
        """
        if not self.others_are_busy():
            yield
            return
        if length:
            self._throttle.take(length, stopped)
        with self._alone:
            began = time.monotonic()
            yield
            stopped.wait(time.monotonic() - began)

    def _look(self, now: float) -> None:
        moved_bytes = self._moved_bytes()
        if moved_bytes is None:
            self._busy_until = float("-inf")
        elif now - self._seen_at > REMEMBERED_S:  # nobody has looked for a while: what was moved since may be old
            self._busy_until = now + LOOK_S
        elif moved_bytes != self._seen_bytes:
            self._busy_until = now + REMEMBERED_S
        self._seen_bytes, self._seen_at = moved_bytes, now


NO_COURTESY: Final = Courtesy(lambda: None)
"""Where there are no others to make room for."""
