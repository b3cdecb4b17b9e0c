"""
Judge whether images of several disks show one instant.

The run wrote stamp *k* only after stamp *k - 1* was acknowledged. So with *K* the newest stamp on any image, every
disk must hold its own latest stamp up to *K*, and behind it all that its ring has room for. What earlier runs left in
the ring proves nothing and is passed over: of several runs the latest is judged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from onecut.errors import OnecutError
from onecut.witness.stamps import STAMP_BYTES, Region, Run, Stamp, UnreadableStamp, read_stamp


class ReadAt(Protocol):
    """An image that can be read anywhere; an `NbdClient` is one."""

    def read(self, offset: int, length: int, /) -> bytes:
        """Return *length* bytes from *offset* on."""
        ...


class WrongRegion(OnecutError):
    """The run used another number of slots than the region to be verified has."""


class Outcome(StrEnum):
    """The verdict in a word."""

    CONSISTENT = "consistent"
    INCONSISTENT = "inconsistent"
    NOTHING_TO_JUDGE = "nothing to judge"
    """No image holds a stamp, so nothing is proved either way."""


class Fault(StrEnum):
    """What is wrong with an image or a set of images."""

    MISSING_STAMP = "missing stamp"
    MISSING_DISK = "missing disk"
    MIXED_RUNS = "mixed runs"
    EXTRA_IMAGE = "extra image"
    UNREADABLE_STAMP = "unreadable stamp"
    MISPLACED_STAMP = "misplaced stamp"


@dataclass(frozen=True)
class Violation:
    """One thing that can't be in images of one instant."""

    fault: Fault
    disk: int | None
    """The run's index of the disk, where it is known."""
    sentence: str


@dataclass(frozen=True)
class DiskReport:
    """What one image holds."""

    image: int
    """Its place among the images given."""
    disk: int | None
    """The run's index of this disk; None when the image has no stamp of the run."""
    newest_sequence: int | None


@dataclass(frozen=True)
class Verdict:
    """The judgement; `dataclasses.asdict` makes JSON of it."""

    outcome: Outcome
    run_id: str | None
    """Of the run that was judged, in hexadecimal."""
    newest_sequence: int | None
    disks: Sequence[DiskReport]
    violations: Sequence[Violation]


@dataclass(frozen=True)
class _Scan:
    """What was found in the slots of one image."""

    image: int
    stamps: Sequence[tuple[int, Stamp]]
    unreadable: Sequence[tuple[int, UnreadableStamp]]


@dataclass(frozen=True)
class _Member:
    """One image seen as part of the run that is judged."""

    image: int
    disk: int | None
    held: frozenset[int]
    """Sequence numbers of the run's stamps that are where they belong."""
    misplaced: Sequence[tuple[int, Stamp]]
    other_run: bool
    """Whether it holds stamps of other runs only."""

    @property
    def newest(self) -> int | None:
        return max(self.held, default=None)


def verify(images: Sequence[ReadAt], *, region: Region | None = None) -> Verdict:
    """
    Judge *images*, one of each disk of the run, in any order.

    A write in progress when the images were taken may be there or not. A torn one counts against them: a cut falls
    between writes, not into one.

    Args:
        images: Read at the region only; whatever they raise passes through.
        region: As in the run; by default the first 64 KiB.

    Raises:
        WrongRegion: The run used another number of slots.
    """
    region = region or Region()
    scans = [_scan(number, image, region) for number, image in enumerate(images)]
    violations = [violation for scan in scans for violation in _unreadable(scan)]
    run = _latest_run(scans)
    if run is None:
        reports = [DiskReport(scan.image, None, None) for scan in scans]
        outcome = Outcome.INCONSISTENT if violations else Outcome.NOTHING_TO_JUDGE
        return Verdict(outcome, None, None, reports, violations)
    if run.slots != region.slots:
        raise WrongRegion(f"the run used {run.slots} slots on each disk, but {region.slots} were to be verified")
    members = [_member(scan, run) for scan in scans]
    holder = _holder_of_newest(members)
    for judge in (_misplaced, _wrong_set, _mixed, _missing):
        violations += judge(run, members)
    return Verdict(
        outcome=Outcome.INCONSISTENT if violations else Outcome.CONSISTENT,
        run_id=run.run_id.hex(),
        newest_sequence=None if holder is None else holder.newest,
        disks=[DiskReport(member.image, member.disk, member.newest) for member in members],
        violations=violations,
    )


def _scan(number: int, image: ReadAt, region: Region) -> _Scan:
    data = image.read(region.offset_bytes, region.slots * STAMP_BYTES)
    stamps: list[tuple[int, Stamp]] = []
    unreadable: list[tuple[int, UnreadableStamp]] = []
    for slot in range(region.slots):
        try:
            stamp = read_stamp(data[slot * STAMP_BYTES : (slot + 1) * STAMP_BYTES])
        except UnreadableStamp as error:
            unreadable.append((slot, error))
        else:
            if stamp is not None:
                stamps.append((slot, stamp))
    return _Scan(number, stamps, unreadable)


def _latest_run(scans: Sequence[_Scan]) -> Run | None:
    runs = {stamp.run for scan in scans for _, stamp in scan.stamps}
    return max(runs, key=lambda run: (run.started_ns, run.run_id), default=None)


def _member(scan: _Scan, run: Run) -> _Member:
    ours = [(slot, stamp) for slot, stamp in scan.stamps if stamp.run == run]
    _, newest = max(ours, key=lambda found: found[1].sequence, default=(0, None))
    disk = None if newest is None else newest.disk
    well_placed = {
        stamp.sequence for slot, stamp in ours if stamp.disk == disk and slot == run.slot_of(stamp.sequence)
    }
    misplaced = [(slot, stamp) for slot, stamp in ours if stamp.sequence not in well_placed]
    return _Member(scan.image, disk, frozenset(well_placed), misplaced, other_run=bool(scan.stamps) and not ours)


def _holder_of_newest(members: Sequence[_Member]) -> _Member | None:
    holders = [member for member in members if member.newest is not None]
    return max(holders, key=lambda member: max(member.held), default=None)


def _unreadable(scan: _Scan) -> Iterator[Violation]:
    for slot, error in scan.unreadable:
        yield Violation(Fault.UNREADABLE_STAMP, None, f"Slot {slot} of image {scan.image} {error}.")


def _misplaced(run: Run, members: Sequence[_Member]) -> Iterator[Violation]:
    for member in members:
        for slot, stamp in member.misplaced:
            yield Violation(
                Fault.MISPLACED_STAMP,
                member.disk,
                f"Stamp {stamp.sequence} was found in slot {slot} of image {member.image}; it belongs into slot "
                f"{run.slot_of(stamp.sequence)} of disk {stamp.disk}.",
            )


def _wrong_set(run: Run, members: Sequence[_Member]) -> Iterator[Violation]:
    """Check that there is one image for each disk, as far as images tell which disk they are of."""
    for disk in range(run.disks):
        images = [member.image for member in members if member.disk == disk]
        if len(images) > 1:
            sentence = f"Images {', '.join(map(str, images))} are all of disk {disk}."
            yield Violation(Fault.EXTRA_IMAGE, disk, sentence)
    if len(members) < run.disks:
        sentence = f"The run wrote to {run.disks} disks, but only {len(members)} images were given."
        yield Violation(Fault.MISSING_DISK, None, sentence)
    elif len(members) > run.disks:
        sentence = f"The run wrote to {run.disks} disks, but {len(members)} images were given."
        yield Violation(Fault.EXTRA_IMAGE, None, sentence)


def _mixed(run: Run, members: Sequence[_Member]) -> Iterator[Violation]:
    """Find images left behind in another run, once the run judged had written to every disk."""
    holder = _holder_of_newest(members)
    if holder is None or holder.newest is None or holder.newest < run.disks - 1:
        return
    for member in members:
        if member.other_run:
            sentence = f"Image {member.image} holds stamps of another run only, not of the run that is judged."
            yield Violation(Fault.MIXED_RUNS, None, sentence)


def _missing(run: Run, members: Sequence[_Member]) -> Iterator[Violation]:
    """Compare each disk with what it must hold, given the newest stamp on any disk."""
    holder = _holder_of_newest(members)
    if holder is None or holder.newest is None:
        return
    for disk in range(run.disks):
        held = {sequence for member in members if member.disk == disk for sequence in member.held}
        lacking = [sequence for sequence in run.window_on(disk, holder.newest) if sequence not in held]
        if lacking:
            yield Violation(Fault.MISSING_STAMP, disk, _lack_sentence(disk, held, lacking, holder))


def _lack_sentence(disk: int, held: set[int], lacking: list[int], holder: _Member) -> str:
    has = f"its newest is {max(held)}" if held else "no image holds any of its stamps of this run"
    more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
    return (
        f"Disk {disk} lacks stamp {lacking[-1]}{more} ({has}), but disk {holder.disk} holds stamp {holder.newest}, "
        "which was written only after all before it were complete."
    )
