"""
What a stamp looks like, and where it goes.

Stamp *k* of a run over *n* disks goes to disk ``k % n``, into slot ``(k // n) % slots`` of a ring of blocks there.
One stamp fills one block of 4096 bytes::

      0   8  magic "ONECUTWS"
      8   4  format version, 1
     12   4  disk index
     16   4  number of disks
     20   4  number of slots in each disk's ring
     24   8  sequence number k
     32   8  start of the run, nanoseconds since 1970: tells a later run from an earlier one
     40  16  run id, random
     56   8  zeros
     64  32  BLAKE2b-256 of everything else
     96      magic and k, again and again, up to the end

All numbers are in network byte order. The filling makes a block that mixes two writes recognisable, also when the
first part is the one that is not ours.
"""

from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final

from onecut.errors import OnecutError
from onecut.units import KiB

STAMP_BYTES: Final = 4 * KiB
"""Length of every stamp. Part of the format."""

_MAGIC = b"ONECUTWS"
_VERSION = 1
_HEAD = Struct("!8sIIIIQQ16s8x")
_DIGEST_BYTES = 32
_FILLING = Struct("!8sQ")
_FILLING_START = _HEAD.size + _DIGEST_BYTES
_FILLINGS = (STAMP_BYTES - _FILLING_START) // _FILLING.size


class UnreadableStamp(OnecutError):
    """A block was written by a witness, but is torn, damaged, or of another format version."""


@dataclass(frozen=True)
class Region:
    """The part of each disk that the witness overwrites: a ring of *slots* blocks from *offset_bytes* on."""

    offset_bytes: int = 0
    slots: int = 16

    def __post_init__(self) -> None:
        if self.offset_bytes < 0 or self.offset_bytes % STAMP_BYTES or self.slots < 1:
            raise ValueError(f"a region needs slots, and an offset that is a multiple of {STAMP_BYTES} bytes")

    @property
    def end_bytes(self) -> int:
        """First byte after the region."""
        return self.slot_offset_bytes(self.slots)

    def slot_offset_bytes(self, slot: int) -> int:
        """Where *slot* begins on the disk."""
        return self.offset_bytes + slot * STAMP_BYTES


@dataclass(frozen=True)
class Run:
    """What all stamps of one run have in common."""

    run_id: bytes
    started_ns: int
    disks: int
    slots: int

    def disk_of(self, sequence: int) -> int:
        """Return the index of the disk that stamp *sequence* goes to."""
        return sequence % self.disks

    def slot_of(self, sequence: int) -> int:
        """Return the slot that stamp *sequence* goes to."""
        return sequence // self.disks % self.slots

    def latest_on(self, disk: int, sequence: int) -> int:
        """Return the last stamp up to *sequence* that goes to *disk*; negative when there is none."""
        return sequence - (sequence - disk) % self.disks

    def window_on(self, disk: int, sequence: int) -> range:
        """Return the stamps *disk* must hold when *sequence* is the newest: one per slot written so far."""
        latest = self.latest_on(disk, sequence)
        oldest = max(disk, latest - (self.slots - 1) * self.disks)
        return range(oldest, latest + 1, self.disks)


@dataclass(frozen=True)
class Stamp:
    """One numbered write."""

    run: Run
    disk: int
    sequence: int


def build_stamp(run: Run, sequence: int) -> bytes:
    """Return the block for stamp *sequence*."""
    disk = run.disk_of(sequence)
    head = _HEAD.pack(_MAGIC, _VERSION, disk, run.disks, run.slots, sequence, run.started_ns, run.run_id)
    filling = _FILLING.pack(_MAGIC, sequence) * _FILLINGS
    return head + _digest(head, filling) + filling


def read_stamp(block: bytes) -> Stamp | None:
    """
    Read a block back; None when no witness ever wrote there.

    Raises:
        UnreadableStamp: The block is torn, damaged, or of another format version.
    """
    if _MAGIC not in block:
        return None
    head, digest, filling = block[: _HEAD.size], block[_HEAD.size : _FILLING_START], block[_FILLING_START:]
    magic, version, disk, disks, slots, sequence, started_ns, run_id = _HEAD.unpack(head)
    if magic == _MAGIC and version != _VERSION:
        raise UnreadableStamp(f"is a stamp of format {version}, which is not known here")
    if digest != _digest(head, filling):
        raise UnreadableStamp(f"is torn or damaged: {_mixture(filling)}")
    if not disks or not slots or disk != sequence % disks:
        raise UnreadableStamp(f"contradicts itself: stamp {sequence} for disk {disk} of {disks}")
    return Stamp(Run(run_id, started_ns, disks, slots), disk, sequence)


def _digest(head: bytes, filling: bytes) -> bytes:
    return blake2b(head + filling, digest_size=_DIGEST_BYTES).digest()


def _mixture(filling: bytes) -> str:
    """Say which stamps a damaged block is made of."""
    sequences = sorted({sequence for magic, sequence in _FILLING.iter_unpack(filling) if magic == _MAGIC})
    if not sequences:
        return "only its head is a stamp"
    return "it holds parts of stamp " + " and ".join(map(str, sequences[:4]))
