"""The verdict: true for every state the disks can have at one instant, and for no other."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecut.witness.stamps import STAMP_BYTES, Region, Run, build_stamp
from onecut.witness.verify import Fault, Outcome, Verdict, WrongRegion, verify

SLOTS = 4
REGION = Region(offset_bytes=8192, slots=SLOTS)


@dataclass
class Image:
    """A disk in memory, large enough for the region."""

    data: bytearray = field(default_factory=lambda: bytearray(REGION.end_bytes))

    def read(self, offset: int, length: int, /) -> bytes:
        assert offset + length <= len(self.data)
        return bytes(self.data[offset : offset + length])

    def put(self, slot: int, block: bytes) -> None:
        start = REGION.slot_offset_bytes(slot)
        self.data[start : start + STAMP_BYTES] = block


def make_run(disks: int, number: int = 1) -> Run:
    return Run(run_id=number.to_bytes(16), started_ns=number, disks=disks, slots=SLOTS)


def write(images: Sequence[Image], run: Run, sequences: range) -> None:
    for sequence in sequences:
        images[run.disk_of(sequence)].put(run.slot_of(sequence), build_stamp(run, sequence))


def after(writes: int, run: Run) -> list[Image]:
    """Return the disks as they are after that many stamps."""
    images = [Image() for _ in range(run.disks)]
    write(images, run, range(writes))
    return images


def faults(verdict: Verdict) -> set[Fault]:
    return {violation.fault for violation in verdict.violations}


@given(disks=st.integers(1, 9), writes=st.integers(1, 120), chance=st.randoms(use_true_random=False))
def test_every_instant_of_a_run_is_accepted(disks: int, writes: int, chance: object) -> None:
    """After any number of stamps, with the images in any order, the verdict is consistent."""
    images = after(writes, make_run(disks))
    chance.shuffle(images)  # type: ignore[attr-defined]

    verdict = verify(images, region=REGION)

    assert verdict.outcome is Outcome.CONSISTENT, verdict.violations
    assert verdict.newest_sequence == writes - 1


@given(
    disks=st.integers(2, 9),
    earlier=st.integers(0, 100),
    between=st.integers(1, 60),
    late=st.sets(st.integers(0, 8), min_size=1),
)
def test_a_disk_frozen_later_than_another_is_found(disks: int, earlier: int, between: int, late: set[int]) -> None:
    """Disks of which some froze later pass only if all of them could have looked like this at one instant."""
    run = make_run(disks)
    first, second = after(earlier, run), after(earlier + between, run)
    mixed = [second[disk] if disk in late else first[disk] for disk in range(disks)]
    instants = [after(writes, run) for writes in range(earlier, earlier + between + 1)]

    verdict = verify(mixed, region=REGION)

    assert (verdict.outcome is Outcome.INCONSISTENT) == (mixed not in instants)


@given(disks=st.integers(2, 9), writes=st.integers(2, 120), back=st.integers(1, 8))
def test_one_disk_set_back_by_one_stamp_is_found(disks: int, writes: int, back: int) -> None:
    """Undo the last stamp on any disk but the one with the newest, and it is missed by name."""
    run = make_run(disks)
    newest = writes - 1
    undone = newest - 1 - back % min(disks - 1, newest)
    images = after(writes, run)
    before = after(undone, run)
    images[run.disk_of(undone)] = before[run.disk_of(undone)]

    verdict = verify(images, region=REGION)

    assert verdict.outcome is Outcome.INCONSISTENT
    assert [violation.disk for violation in verdict.violations] == [run.disk_of(undone)]
    assert f"lacks stamp {undone}" in verdict.violations[0].sentence
    assert f"holds stamp {newest}" in verdict.violations[0].sentence


def test_a_gap_further_back_in_the_ring_is_found() -> None:
    """A stamp lost from the middle of the ring is missed although newer ones are there."""
    images = after(20, make_run(2))
    images[1].put(make_run(2).slot_of(15), bytes(STAMP_BYTES))

    verdict = verify(images, region=REGION)

    assert faults(verdict) == {Fault.MISSING_STAMP}
    assert "lacks stamp 15" in verdict.violations[0].sentence


def test_disks_without_any_stamp_prove_nothing() -> None:
    """Blank disks are not called consistent."""
    verdict = verify([Image(), Image()], region=REGION)

    assert verdict.outcome is Outcome.NOTHING_TO_JUDGE
    assert verdict.run_id is None


def test_a_torn_stamp_is_found() -> None:
    """A block that is half of one stamp and half of another counts against the images."""
    run = make_run(2)
    images = after(20, run)
    start = REGION.slot_offset_bytes(run.slot_of(20))
    images[0].data[start : start + 1024] = build_stamp(run, 20)[:1024]

    verdict = verify(images, region=REGION)

    assert verdict.outcome is Outcome.INCONSISTENT
    assert Fault.UNREADABLE_STAMP in faults(verdict)


def test_torn_stamps_alone_are_not_nothing() -> None:
    """Images with only damaged stamps are inconsistent."""
    image = Image()
    image.put(0, bytes(512) + build_stamp(make_run(1), 3)[512:])

    assert verify([image], region=REGION).outcome is Outcome.INCONSISTENT


def test_a_stamp_in_the_wrong_slot_is_found() -> None:
    """A good block in a place that is not its own was misdirected."""
    run = make_run(2)
    images = after(3, run)
    images[0].put(3, build_stamp(run, 2))
    images[0].put(1, bytes(STAMP_BYTES))

    assert Fault.MISPLACED_STAMP in faults(verify(images, region=REGION))


def test_a_stamp_on_the_wrong_disk_is_found() -> None:
    """A stamp of disk 1 that is found on disk 0 was misdirected."""
    run = make_run(2)
    images = after(9, run)
    images[0].put(run.slot_of(7), build_stamp(run, 7))

    assert Fault.MISPLACED_STAMP in faults(verify(images, region=REGION))


def test_a_disk_that_was_not_given_is_missed() -> None:
    """Images of some of the disks do not pass for all of them."""
    verdict = verify(after(20, make_run(3))[:2], region=REGION)

    assert faults(verdict) == {Fault.MISSING_DISK, Fault.MISSING_STAMP}


def test_an_image_too_many_is_found() -> None:
    """A disk that was not part of the run does not slip through."""
    verdict = verify([*after(20, make_run(2)), Image()], region=REGION)

    assert faults(verdict) == {Fault.EXTRA_IMAGE}


def test_the_same_disk_given_twice_is_found() -> None:
    """One disk can't stand for another."""
    images = after(20, make_run(2))

    assert Fault.EXTRA_IMAGE in faults(verify([images[0], images[0]], region=REGION))


@given(st.integers(0, 40), st.integers(1, 40))
def test_what_an_earlier_run_left_is_passed_over(earlier: int, writes: int) -> None:
    """A new run may begin on disks that still hold an old one's stamps; every instant of it is accepted."""
    images = after(earlier, make_run(3, number=1))
    write(images, make_run(3, number=2), range(writes))

    verdict = verify(images, region=REGION)

    assert verdict.outcome is Outcome.CONSISTENT, verdict.violations
    assert verdict.newest_sequence == writes - 1


def test_images_of_different_runs_do_not_mix() -> None:
    """One disk from yesterday's run and one from today's are no instant."""
    yesterday, today = after(20, make_run(2, number=1)), after(20, make_run(2, number=2))

    verdict = verify([yesterday[0], today[1]], region=REGION)

    assert faults(verdict) == {Fault.MIXED_RUNS, Fault.MISSING_STAMP}


def test_a_region_of_another_size_is_not_judged() -> None:
    """With the wrong number of slots the windows would be wrong, so there is no verdict."""
    with pytest.raises(WrongRegion, match="4 slots"):
        verify(after(20, make_run(2)), region=Region(REGION.offset_bytes, SLOTS - 1))


def test_a_verdict_becomes_json() -> None:
    """The verdict of an inconsistent set can be printed as JSON as it is."""
    images = after(20, make_run(2))
    images[0] = after(10, make_run(2))[0]

    text = json.dumps(asdict(verify(images, region=REGION)))

    assert json.loads(text)["outcome"] == "inconsistent"
    assert json.loads(text)["violations"][0]["fault"] == "missing stamp"
