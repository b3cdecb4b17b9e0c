"""The witness writing to the disks of a running service, in a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager

from inventory import Inventory
from orders import delete_groups, judge, members, new_server, new_volumes, take_group, uris
from running import DEADLINE_S, Site, pressure, wait_until

from onecut.engine.port import OpenPoint, PointReader
from onecut.nbd.client import NbdClient
from onecut.witness import run as runs
from onecut.witness.stamps import STAMP_BYTES, read_stamp
from onecut.witness.verify import Outcome, Verdict, verify

BATCH_VOLUMES = 80
"""How many volumes the groups may have together that are judged, and then deleted, at the same time."""

INSTANT_GROUPS = 7
"""How many snapshots of one volume may have Instant Snapshot Restore on."""


def newest_stamp(uri: str) -> int:
    """Return the newest stamp in the ring of a disk; -1 when it has none."""
    with NbdClient.connect(uri) as disk:
        ring = disk.read(0, 16 * STAMP_BYTES)
    blocks = (ring[start : start + STAMP_BYTES] for start in range(0, len(ring), STAMP_BYTES))
    return max((stamp.sequence for block in blocks if (stamp := read_stamp(block)) is not None), default=-1)


def wait_for_stamp(uri: str, sequence: int) -> None:
    """Wait until the disk holds a stamp newer than *sequence*."""
    wait_until(lambda: newest_stamp(uri) > sequence, f"a stamp after {sequence}")


@contextmanager
def stamping(disks: Sequence[str], *, load_threads: int = 1) -> Iterator[None]:
    """Write stamps and load to disks until the block ends, which begins when each has its first stamp."""
    stop, errors = threading.Event(), []

    def write() -> None:
        try:
            runs.run(disks, stop=stop, load_threads=load_threads, timeout_s=DEADLINE_S)
        except runs.DiskFailed as error:
            errors.append(error)

    writer = threading.Thread(target=write, name="witness")
    writer.start()
    try:
        wait_for_stamp(disks[-1], -1)
        yield
    finally:
        stop.set()
        writer.join()
    assert not errors, f"{errors}; {pressure()}"


def cut_under_fire(site: Site, *, disks: int, cuts: int, load_threads: int = 1) -> list[Verdict]:
    """
    Cut disks on two servers while they are written to, judge every group, delete it, and see all tidied up.

    The groups are judged from their points, the first of them through new volumes as clients do, and deleted while
    they are being archived or before.
    """
    batch = min(BATCH_VOLUMES // disks, INSTANT_GROUPS)
    volume_ids = disks_on_two_servers(site, disks)
    verdicts: list[Verdict] = []
    with stamping(uris(site, volume_ids), load_threads=load_threads):
        while len(verdicts) < cuts:
            count = min(batch, cuts - len(verdicts))
            group_ids = [take_group(site, volume_ids, instant_access=True) for _ in range(count)]
            verdicts += (
                [judge_points(site, group_id) for group_id in group_ids] if verdicts else judge(site, group_ids)
            )
            delete_groups(site, group_ids)
    Inventory(site.onecut.settings.data).wait_until_tidy()
    return verdicts


def judge_points(site: Site, group_id: str) -> Verdict:
    """Let the witness judge a group by its points: new volumes are several jobs, and a reading is none."""
    point_ids = [member["id"] for member in members(site, group_id)]

    async def judged() -> Verdict:
        async with AsyncExitStack() as stack:
            points = [await stack.enter_async_context(site.engine.open_point(point_id)) for point_id in point_ids]
            return await asyncio.to_thread(_judge_opened, points)

    return site.on_loop(judged())


def _judge_opened(points: Sequence[OpenPoint]) -> Verdict:
    with ExitStack() as stack:
        return verify([_PointImage(stack.enter_context(closing(point.reader()))) for point in points])


class _PointImage:
    """A point's reader as the witness reads."""

    def __init__(self, reader: PointReader) -> None:
        self._reader = reader

    def read(self, offset: int, length: int) -> bytes:
        data = bytearray(length)
        self._reader.readinto(data, offset)
        return bytes(data)


def archive_under_fire(site: Site, *, disks: int, cuts: int) -> list[Verdict]:
    """Cut disks on two servers while they are written to, each time until the group is archived; then judge all."""
    volume_ids = disks_on_two_servers(site, disks)
    with stamping(uris(site, volume_ids)):
        group_ids = [take_group(site, volume_ids) for _ in range(cuts)]
        verdicts = judge(site, group_ids)
    delete_groups(site, group_ids)
    Inventory(site.onecut.settings.data).wait_until_tidy()
    return verdicts


def disks_on_two_servers(site: Site, count: int) -> list[str]:
    """Make volumes of which one server has the first half, and another one the second."""
    return [
        *new_volumes(site, count // 2, new_server(site, "db1")),
        *new_volumes(site, count // 2, new_server(site, "db2")),
    ]


def check_all_consistent(verdicts: Sequence[Verdict]) -> None:
    """Fail with the witness's own words unless every verdict is: consistent, and of stamps that moved on."""
    wrong = [verdict for verdict in verdicts if verdict.outcome is not Outcome.CONSISTENT]
    assert not wrong, wrong
    newest = [verdict.newest_sequence or 0 for verdict in verdicts]
    assert newest == sorted(set(newest)), "the stamps did not move on between the cuts"
