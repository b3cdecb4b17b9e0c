"""Keep to a number of bytes per second, over all threads."""

import threading
import time


class Throttle:
    """Spreads bytes over time. A limit of None lets everything pass."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self._bytes_per_s = bytes_per_s
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def take(self, length: int, stopped: threading.Event) -> None:
        """Wait for the turn of *length* bytes, or until the work is *stopped*."""
        if self._bytes_per_s is None:
            return
        with self._lock:
            now = time.monotonic()
            begin = max(now, self._free_at)
            self._free_at = begin + length / self._bytes_per_s
        stopped.wait(begin - now)
