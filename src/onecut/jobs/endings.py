"""Waking those who wait for the end of a job."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock

from onecut.db.session import Database
from onecut.jobs import queue


class Waiting:
    """Somebody who waits on an event loop for a job's end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait until the job has ended, for so many seconds at most."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    def wake(self) -> None:
        """Say, from any thread, that the job has ended."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ended.set)


class Endings:
    """Who waits for which job. What another service on the same database ends is not noticed."""

    def __init__(self, database: Database) -> None:
        self._waiting: defaultdict[str, set[Waiting]] = defaultdict(set)
        self._lock = Lock()
        queue.tell_when_ended(database, self._tell)

    @contextmanager
    def of(self, job_id: str) -> Iterator[Waiting]:
        """Begin to wait, before it is looked whether the job has ended already: so no end is missed."""
        waiting = Waiting()
        with self._lock:
            self._waiting[job_id].add(waiting)
        try:
            yield waiting
        finally:
            with self._lock:
                self._waiting[job_id].discard(waiting)
                if not self._waiting[job_id]:
                    del self._waiting[job_id]

    def _tell(self, job_id: str) -> None:
        with self._lock:
            for waiting in self._waiting.get(job_id, ()):
                waiting.wake()
