"""Writes of an attached disk: with the service around the daemon against without."""

import statistics
from collections.abc import Iterator

from bench.bare import bare_daemon
from bench.disks import SIZE_BYTES, attach_disks
from bench.load import write_iops
from bench.result import Result
from onecut.cli.throwaway import throwaway_service

ROUNDS = 7
ROUND_S = 4.0


def measure() -> Iterator[Result]:
    """Saturate one disk of each kind, in turn."""
    with throwaway_service() as api, bare_daemon() as bare:
        ours = attach_disks(api, 1).uris
        bare.add_disks(1, SIZE_BYTES)
        pairs = [(write_iops(ours, ROUND_S), write_iops(bare.uris, ROUND_S)) for _ in range(ROUNDS)]
    ours_iops, bare_iops = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(mine / base for mine, base in pairs)
    yield Result(
        "4 KiB random writes, one disk", f"{ours_iops:,.0f}/s", f"{bare_iops:,.0f}/s bare", ratio, ">=", 0.97
    )
