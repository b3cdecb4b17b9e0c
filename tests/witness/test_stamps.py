"""A stamp says who it is, and betrays every mixture."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecut.witness.stamps import STAMP_BYTES, Region, Run, Stamp, UnreadableStamp, build_stamp, read_stamp

RUN = Run(run_id=bytes(range(16)), started_ns=1_700_000_000_000_000_000, disks=3, slots=4)
SECTOR_BYTES = 512


@given(st.integers(0, 2**64 - 1))
def test_a_stamp_is_read_back_as_it_was_built(sequence: int) -> None:
    """Whatever the sequence number, a stamp fills one block and comes back with its disk."""
    block = build_stamp(RUN, sequence)

    assert len(block) == STAMP_BYTES
    assert read_stamp(block) == Stamp(RUN, sequence % 3, sequence)


def test_the_format_does_not_change_by_accident() -> None:
    """The head of a stamp has the documented layout: other versions must be able to read it."""
    block = build_stamp(RUN, 7)

    assert block[:8] == b"ONECUTWS"
    assert [int.from_bytes(block[at : at + 4]) for at in (8, 12, 16, 20)] == [1, 1, 3, 4]
    assert int.from_bytes(block[24:32]) == 7
    assert int.from_bytes(block[32:40]) == RUN.started_ns
    assert block[40:56] == RUN.run_id
    assert block[96:112] == b"ONECUTWS" + (7).to_bytes(8)


@pytest.mark.parametrize("block", [bytes(STAMP_BYTES), b"\xff" * STAMP_BYTES, bytes(range(256)) * 16])
def test_a_block_that_no_witness_wrote_is_no_stamp(block: bytes) -> None:
    """Zeros and other people's data are blank, not damaged."""
    assert read_stamp(block) is None


@given(st.integers(1, STAMP_BYTES // SECTOR_BYTES - 1), st.booleans())
def test_a_block_of_two_writes_is_torn(sectors: int, blank_first: bool) -> None:  # noqa: FBT001
    """Wherever the tear is, and also when the head is not ours, the block is found out."""
    old = bytes(STAMP_BYTES) if blank_first else build_stamp(RUN, 5)
    torn = old[: sectors * SECTOR_BYTES] + build_stamp(RUN, 17)[sectors * SECTOR_BYTES :]

    with pytest.raises(UnreadableStamp, match=r"torn or damaged.*17"):
        read_stamp(torn)


@given(st.integers(0, STAMP_BYTES - 1), st.integers(1, 255))
def test_no_damaged_byte_goes_unnoticed(position: int, change: int) -> None:
    """A stamp with any one byte changed is unreadable."""
    block = bytearray(build_stamp(RUN, 5))
    block[position] ^= change

    with pytest.raises(UnreadableStamp):
        read_stamp(bytes(block))


def test_a_stamp_of_another_format_is_not_guessed_at() -> None:
    """A later format version is refused by its number."""
    block = bytearray(build_stamp(RUN, 5))
    block[11] = 2

    with pytest.raises(UnreadableStamp, match="format 2"):
        read_stamp(bytes(block))


@pytest.mark.parametrize(("offset_bytes", "slots"), [(-4096, 16), (512, 16), (0, 0)])
def test_a_region_that_can_not_hold_stamps_is_refused(offset_bytes: int, slots: int) -> None:
    """A region lies on block borders and has at least one slot."""
    with pytest.raises(ValueError, match="region"):
        Region(offset_bytes, slots)
