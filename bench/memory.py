"""What the service takes of the machine's memory while it archives."""

import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self

from bench.archives import load_disk
from bench.disks import attach_disks
from bench.image import make_image
from bench.result import Result
from onecut.cli.throwaway import throwaway_process
from onecut.units import GiB, KiB, MiB

DISKS: Final = 8
IMAGE_BYTES = 1 * GiB
SAMPLE_S: Final = 0.05


def measure() -> Iterator[Result]:
    """Archive a group of disks, and compare the most memory with what the idle service takes."""
    with tempfile.TemporaryDirectory(prefix="onecut-bench-") as folder, throwaway_process(Path(folder)) as running:
        api, pid = running
        image = Path(folder) / "image"
        make_image(image, IMAGE_BYTES)
        disks = attach_disks(api, DISKS)
        for uri in disks.uris:
            load_disk(image, uri)
        idle = resident_bytes(pid)
        with Sampler(pid) as sampler:
            answer = api.call(
                "POST", "/v5/{p}/snapshot-groups", body={"snapshot_group": {"volume_ids": list(disks.volume_ids)}}
            )
            api.ended(answer["job_id"])
    above = (sampler.most_bytes - idle) / MiB
    idle_text = f"{idle / MiB:.0f} MiB idle"
    yield Result(f"memory while archiving {DISKS} disks", f"{above:.0f} MiB more", idle_text, above, "<=", 400.0)


def resident_bytes(pid: int) -> int:
    """Return how much memory a process has (proc(5), VmRSS)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) * KiB


class Sampler:
    """Looks again and again how much memory a process has."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.most_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            self.most_bytes = max(self.most_bytes, resident_bytes(self._pid))
