"""The cut: through the service against the bare transaction, under load and idle."""

import statistics
import time
from collections.abc import Iterator, Sequence

from bench.bare import Bare, bare_daemon
from bench.disks import SIZE_BYTES, attach_disks, delete_group, take_group
from bench.load import Probe, saturated
from bench.result import Result
from onecut.cli.client import Api
from onecut.cli.throwaway import throwaway_service

DISKS = 16
PAIRS = 12
"""Cuts under load, through the service and bare, in turn."""
IDLE_CUTS = 40


def measure() -> Iterator[Result]:
    """Take cuts of 16 disks under load, service and bare in turn, and of 2 idle disks."""
    with throwaway_service() as api, bare_daemon() as bare:
        yield from _under_load(api, bare)
    with throwaway_service() as api:
        yield from _idle(api)


def _under_load(api: Api, bare: Bare) -> Iterator[Result]:
    disks = attach_disks(api, DISKS)
    bare.add_disks(DISKS, SIZE_BYTES)
    ours_ms, stall_ms, bare_ms = [], [], []
    for _ in range(PAIRS):
        with saturated(disks.uris), Probe(disks.uris[0]) as probe:
            pause, stall = _cut_and_stall(api, disks.volume_ids, probe)
            ours_ms.append(pause)
            stall_ms.append(stall)
        with saturated(bare.uris):
            bare_ms.append(bare.transaction_ms())
    ours, stall, base = statistics.median(ours_ms), statistics.median(stall_ms), statistics.median(bare_ms)
    against = f"{base:.1f} ms bare transaction"
    yield Result(f"cut of {DISKS} disks under load", f"{ours:.1f} ms", against, ours / base, "<=", 1.25)
    yield Result(f"longest write in a cut of {DISKS} disks", f"{stall:.1f} ms", against, stall / base, "<=", 1.5)


def _cut_and_stall(api: Api, volume_ids: Sequence[str], probe: Probe) -> tuple[float, float]:
    """Return the cut's pause, and the longest write that a client saw from the request to the job's end."""
    began = time.perf_counter()
    cut = take_group(api, volume_ids)
    longest_ms = probe.longest_ms(began, time.perf_counter())
    delete_group(api, cut.group_id)
    return cut.facts["pause_ms"], longest_ms


def _idle(api: Api) -> Iterator[Result]:
    disks = attach_disks(api, 2)
    cuts = [take_group(api, disks.volume_ids) for _ in range(IDLE_CUTS)]
    done_ms = statistics.median(cut.cut_ms for cut in cuts)
    seen_ms = statistics.median(cut.total_ms for cut in cuts)
    seen = f"{seen_ms:.1f} ms until a client sees the job's end"
    yield Result("request to cut done, 2 idle disks", f"{done_ms:.1f} ms median", seen, done_ms, "<=", 50.0)
