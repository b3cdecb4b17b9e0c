"""A run ends when it should, touches only what it may, and names the disk that fails."""

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from nbd_servers import nbdkit

from onecut.nbd.client import NbdClient
from onecut.units import MiB
from onecut.witness.run import DiskFailed, Progress, run
from onecut.witness.stamps import STAMP_BYTES, Region, read_stamp
from onecut.witness.verify import Outcome, verify


def test_stamps_go_to_the_disks_in_turn() -> None:
    """Five stamps over two disks: 0, 2, 4 on the first and 1, 3 on the second, each in the slot it belongs into."""
    with nbdkit("memory", "1M") as first, nbdkit("memory", "1M") as second:
        report = run([first.uri(), second.uri()], writes=5)

        assert (report.stamps_written, report.last_sequence, report.disks) == (5, 4, 2)
        assert len(report.longest_write_ms) == 2
        assert min(report.longest_write_ms) > 0
        assert sequences(first.uri(), Region()) == {0: 0, 1: 2, 2: 4}
        assert sequences(second.uri(), Region()) == {0: 1, 1: 3}


def test_a_run_of_no_writes_leaves_the_disk_alone() -> None:
    """With a limit of nothing, nothing is written."""
    with nbdkit("memory", "1M") as server:
        report = run([server.uri()], writes=0)

        assert report.last_sequence is None
        assert sequences(server.uri(), Region()) == {}


def test_load_stays_behind_the_region() -> None:
    """With load, neither what lies before the region nor the stamps in it are touched, but what lies behind is."""
    region = Region(offset_bytes=MiB, slots=4)
    with nbdkit("memory", "4M") as server:
        report = run([server.uri()], writes=500, region=region, load_threads=4)

        with NbdClient.connect(server.uri()) as disk:
            assert not any(disk.read(0, region.offset_bytes))
            assert any(disk.read(region.end_bytes, 4 * MiB - region.end_bytes))
            assert verify([disk], region=region).outcome is Outcome.CONSISTENT
        assert sorted(sequences(server.uri(), region).values()) == [496, 497, 498, 499]
        assert report.load_writes > 0


def test_a_run_ends_after_its_duration() -> None:
    """A duration is kept, and progress is told on the way."""
    told: list[Progress] = []
    with nbdkit("memory", "1M") as server:
        report = run([server.uri()], duration_s=1.2, on_progress=told.append)

    assert 1.2 <= report.seconds < 10
    assert 1 <= len(told) <= 2
    assert told[-1].stamps_written <= report.stamps_written


def test_a_run_ends_when_it_is_told_to() -> None:
    """Setting the event ends a run without other limits, with a report."""
    stop = threading.Event()
    with nbdkit("memory", "1M") as server:
        report = run([server.uri()], stop=stop, on_progress=lambda _: stop.set())

    assert report.stamps_written > 0


def test_a_write_that_fails_ends_the_run_and_names_the_disk(tmp_path: Path) -> None:
    """An I/O error on the second disk stops everything, with that disk's index and URI in the error."""
    trigger = tmp_path / "fail"
    failing = ("--filter=error", "memory", "1M", "error-pwrite=EIO", "error-pwrite-rate=100%")
    with nbdkit("memory", "1M") as good, nbdkit(*failing, f"error-file={trigger}") as bad:
        with pytest.raises(DiskFailed, match=r"disk 1 .*write failed.*EIO") as caught:
            run([good.uri(), bad.uri()], duration_s=30, on_progress=lambda _: trigger.touch())

        assert (caught.value.disk, caught.value.uri) == (1, bad.uri())


def test_a_failing_load_ends_the_run() -> None:
    """A load that can't go on is not a smaller load: the run ends with its error."""
    # With one slot, the stamps are the only writes below 4 KiB; those of the load hit what is protected.
    protected = ("--filter=protect", "memory", "1M", "protect=4096-")
    with nbdkit(*protected) as server, pytest.raises(DiskFailed, match="disk 0"):
        run([server.uri()], duration_s=30, region=Region(slots=1), load_threads=1)


def test_a_server_that_dies_ends_the_run() -> None:
    """A lost connection is an error of that disk, not a hang."""
    with nbdkit("memory", "1M") as server, pytest.raises(DiskFailed, match="disk 0"):
        run([server.uri()], duration_s=30, on_progress=lambda _: server.kill())


def test_nothing_is_written_when_one_disk_is_unfit() -> None:
    """A read-only disk, a small one and one that is not there are refused before any disk is touched."""
    with ExitStack() as stack:
        good = stack.enter_context(nbdkit("memory", "1M")).uri()
        read_only = stack.enter_context(nbdkit("--readonly", "memory", "1M")).uri()
        small = stack.enter_context(nbdkit("memory", "32k")).uri()
        for bad, reason in (
            (read_only, "read-only"),
            (small, "32 KiB long; 64 KiB are needed"),
            (small + ".absent", "can't connect"),
        ):
            with pytest.raises(DiskFailed, match=f"disk 1 .*{reason}"):
                run([good, bad], writes=10)

        assert sequences(good, Region()) == {}


@pytest.mark.parametrize("load_threads", [-1, 65])
def test_load_is_bounded(load_threads: int) -> None:
    """A number of threads out of bounds is refused."""
    with pytest.raises(ValueError, match="load_threads"):
        run(["nbd://localhost/"], writes=1, load_threads=load_threads)


def test_a_run_without_an_end_is_refused() -> None:
    """Without any limit nobody could end it."""
    with pytest.raises(ValueError, match="duration"):
        run(["nbd://localhost/"])


def test_the_same_disk_twice_is_refused() -> None:
    """Two stamps would share one ring."""
    with pytest.raises(ValueError, match="once"):
        run(["nbd://localhost/a", "nbd://localhost/a"], writes=1)


def sequences(uri: str, region: Region) -> dict[int, int]:
    """Return the sequence number in each slot that has one."""
    with NbdClient.connect(uri) as disk:
        found = {
            slot: read_stamp(disk.read(region.slot_offset_bytes(slot), STAMP_BYTES)) for slot in range(region.slots)
        }
    return {slot: stamp.sequence for slot, stamp in found.items() if stamp is not None}
