"""Load on attached disks: fio's NBD engine for saturation, and a probe that times single writes."""

import json
import os
import random
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Self

from onecut.nbd.client import NbdClient
from onecut.units import KiB

BLOCK_BYTES = 4 * KiB
IO_DEPTH = 4
LOAD_LIMIT_S = 120
"""No load outlives this, whatever happens to the benchmark."""


def fio_command(uris: Sequence[str], seconds: float) -> list[str]:
    """Build a fio run of 4 KiB random writes, one job for each disk."""
    jobs = [argument for number, uri in enumerate(uris) for argument in (f"--name=disk{number}", f"--uri={uri}")]
    return [
        "fio", "--ioengine=nbd", "--rw=randwrite", "--bs=4k", f"--iodepth={IO_DEPTH}", "--size=1g", "--thread",
        "--time_based", f"--runtime={seconds:g}", "--output-format=json", "--group_reporting", *jobs,
    ]  # fmt: skip


def write_iops(uris: Sequence[str], seconds: float) -> float:
    """Saturate disks with 4 KiB random writes, and return what they did together, in writes per second."""
    done = subprocess.run(fio_command(uris, seconds), capture_output=True, check=True, text=True)
    iops: float = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["write"]["iops"]
    return iops


@contextmanager
def saturated(uris: Sequence[str]) -> Iterator[None]:
    """Keep disks saturated with 4 KiB random writes while the block runs."""
    with tempfile.TemporaryFile() as output:
        fio = subprocess.Popen(fio_command(uris, LOAD_LIMIT_S), stdout=output, stderr=output)
        try:
            time.sleep(2.0)  # ramp-up: not a synchronisation, the figures before it are simply not taken
            yield
        finally:
            fio.terminate()
            fio.wait()


class Probe:
    """
    A client that writes 4 KiB to one disk, again and again, and notes how long each write took.

    Args:
        uri: The disk.
        span_bytes: It writes anywhere below this offset.
        writes_per_s: It writes no more often; by default as often as it can.
    """

    def __init__(self, uri: str, *, span_bytes: int = BLOCK_BYTES, writes_per_s: float = inf) -> None:
        self._disk = NbdClient.connect(uri)
        self._blocks, self._pause_s = span_bytes // BLOCK_BYTES, 1 / writes_per_s
        self._stop = threading.Event()
        self._took: list[tuple[float, float]] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()
        self._disk.close()

    def longest_ms(self, began: float, ended: float) -> float:
        """Return the longest write that overlaps the time from *began* to *ended* (``time.perf_counter``)."""
        return max(self._overlapping_ms(began, ended), default=0.0)

    def percentile_ms(self, began: float, ended: float, percent: int) -> float:
        """Return the time that so many percent of the writes between *began* and *ended* did not exceed."""
        return statistics.quantiles(self._overlapping_ms(began, ended), n=100, method="inclusive")[percent - 1]

    def _overlapping_ms(self, began: float, ended: float) -> list[float]:
        return [(end - start) * 1000 for start, end in list(self._took) if start < ended and end > began]

    def _run(self) -> None:
        block = os.urandom(BLOCK_BYTES)
        while not self._stop.is_set():
            offset = random.randrange(self._blocks) * BLOCK_BYTES  # noqa: S311 - a place, no secret
            start = time.perf_counter()
            self._disk.write(block, offset)
            end = time.perf_counter()
            self._took.append((start, end))
            time.sleep(max(0.0, start + self._pause_s - end))
