"""How long writes of a client take while its disk is archived and merged, against the same disk idle."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.archives import load_disk
from bench.disks import archive_disk, attach_disks
from bench.image import make_image
from bench.load import Probe
from bench.result import Result
from onecut.cli.client import Api
from onecut.cli.throwaway import throwaway_service
from onecut.units import GiB

IMAGE_BYTES: Final = 1 * GiB
WRITES_PER_S: Final = 500
IDLE_S = 5.0
ROUNDS = 5
LAYERS_AT_REST: Final = 2
"""One with all that was archived, and the top. A third is merged into the first, which takes its time."""
MERGE_LIMIT_S: Final = 120.0


def measure() -> Iterator[Result]:
    """Write all the time; take a snapshot now and then, and wait for its archive and for the merge after it."""
    with tempfile.TemporaryDirectory(prefix="onecut-bench-") as folder, throwaway_service(Path(folder)) as api:
        image = Path(folder) / "image"
        make_image(image, IMAGE_BYTES)
        disks = attach_disks(api, 1)
        load_disk(image, disks.uris[0])
        idle, busy, longest = [], [], []
        with Probe(disks.uris[0], span_bytes=IMAGE_BYTES, writes_per_s=WRITES_PER_S) as probe:
            for _ in range(ROUNDS):
                began = time.perf_counter()
                time.sleep(IDLE_S)
                idle.append(probe.percentile_ms(began, time.perf_counter(), 99))
                began = time.perf_counter()
                archive_disk(api, disks.volume_ids[0])
                _wait_until_merged(api)
                ended = time.perf_counter()
                busy.append(probe.percentile_ms(began, ended, 99))
                longest.append(probe.longest_ms(began, ended))
    idle_ms, busy_ms = statistics.median(idle), statistics.median(busy)
    ours = f"{busy_ms:.2f} ms, longest {max(longest):.0f} ms"
    what = "p99 of writes while archived and merged"
    yield Result(what, ours, f"{idle_ms:.2f} ms idle", busy_ms / idle_ms, "<=", 2.0)


def _wait_until_merged(api: Api) -> None:
    layers = api.credentials_path.parent / "layers"
    deadline = time.monotonic() + MERGE_LIMIT_S
    while len(list(layers.glob("*.qcow2"))) > LAYERS_AT_REST:
        if time.monotonic() > deadline:
            raise AssertionError("the layers were not merged")
        time.sleep(0.05)
