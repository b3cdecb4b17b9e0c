"""A client that keeps a diary on disks: numbered stamps in turn, each on stable storage before the next is sent."""

import os
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from orders import judge_disks
from running import DEADLINE_S, POLL_S, wait_until

from onecut.nbd.client import NbdClient
from onecut.nbd.errors import ConnectionLost, NbdError
from onecut.witness.stamps import Region, Run, build_stamp
from onecut.witness.verify import Outcome

REGION: Final = Region()


class Diary:
    """
    Writes until the block ends; leaving it raises what the writing failed with.

    Unlike the witness's run it writes through to stable storage, so the death of the daemon must not cost a stamp,
    and it connects again to the same URI when told to.
    """

    def __init__(self, uris: Sequence[str], *, reconnect: bool = False) -> None:
        self.uris = list(uris)
        self.newest = -1
        """The newest stamp that was acknowledged."""
        self.losses = 0
        """How often a connection was lost."""
        self._reconnect = reconnect
        self._run = Run(os.urandom(16), time.time_ns(), len(self.uris), REGION.slots)
        self._disks: dict[int, NbdClient] = {}
        self._stop = threading.Event()
        self._error: NbdError | None = None
        self._thread = threading.Thread(target=self._write, name="diary")

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for(len(self.uris))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        for disk in self._disks.values():
            disk.close()
        if kind is None and self._error is not None:
            raise self._error

    def wait_for(self, more: int) -> None:
        """Wait until so many more stamps were acknowledged."""
        wanted = self.newest + more
        wait_until(lambda: self.newest >= wanted or self._error is not None, f"stamp {wanted}")
        if self._error is not None:
            raise self._error

    def check(self) -> None:
        """Compare the disks with what was acknowledged, once the writing is over."""
        verdict = judge_disks(self.uris)
        assert verdict.outcome is Outcome.CONSISTENT, verdict
        assert verdict.newest_sequence is not None
        assert verdict.newest_sequence >= self.newest, (verdict, self.newest)

    def _write(self) -> None:
        try:
            while not self._stop.is_set():
                self._write_stamp(self.newest + 1)
                self.newest += 1
        except NbdError as error:
            self._error = error

    def _write_stamp(self, sequence: int) -> None:
        disk, deadline = self._run.disk_of(sequence), time.monotonic() + DEADLINE_S
        block = build_stamp(self._run, sequence)
        offset = REGION.slot_offset_bytes(self._run.slot_of(sequence))
        while True:
            try:
                if disk not in self._disks:
                    self._disks[disk] = NbdClient.connect(self.uris[disk], contexts=())
                self._disks[disk].write(block, offset, fua=True)
            except NbdError as error:
                if not self._reconnect or self._stop.is_set() or time.monotonic() > deadline:
                    raise
                if self._disks.pop(disk, None) is not None and isinstance(error, ConnectionLost):
                    self.losses += 1
                time.sleep(POLL_S)
            else:
                return
