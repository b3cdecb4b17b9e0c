"""
One page of a tree: a leaf of entries, or an inner page of references.

A page's bytes are in two parts. The first says *what* the page holds: keys and digests. The page's digest covers it
alone, so that equal content has an equal digest whatever its history. The second says *where* that lies: which run
wrote it, under which ordinal. A wrong "where" is found out by the digest of what it leads to; a checksum over the
whole page names the page itself when its bytes have changed.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from struct import Struct
from typing import Final, NamedTuple

from onecut.repository.errors import Damaged
from onecut.repository.keys import DIGEST_BYTES, digest

LEAF_ENTRIES: Final = 512
"""Most entries of a leaf. With 32 children to an inner page, a tree over 1 TiB is four pages deep."""

FAN_OUT: Final = 32
"""Children of an inner page."""

MAGIC: Final = b"OCP1"
LEAF: Final = 0
INNER: Final = 1
HEADER: Final = Struct("<4sBBHI4x")  # magic, kind, height, number of runs, number of rows, zeros
RUN_BYTES: Final = 16


class Entry(NamedTuple):
    """What a leaf holds under a key."""

    digest: bytes
    run: bytes
    """The archive run that stored the chunk, 16 bytes."""
    ordinal: int
    """The chunk's number within its run."""
    amount: int
    """Bytes that the chunk's object takes; in a tree of shares, how many keys refer to the chunk."""

    @property
    def place(self) -> tuple[bytes, int]:
        """Which object: run and ordinal. An object is written once and never becomes another."""
        return self.run, self.ordinal


class Ref(NamedTuple):
    """Where a page lies, and what it holds."""

    digest: bytes
    run: bytes
    ordinal: int
    entries: int
    """How many entries are beneath it."""

    @property
    def place(self) -> tuple[bytes, int]:
        """Which object: run and ordinal."""
        return self.run, self.ordinal


def span(height: int) -> int:
    """Return how many keys a page at *height* covers."""
    return LEAF_ENTRIES << 5 * height  # FAN_OUT ** height


@dataclass
class Leaf:
    """Entries in columns, in the order of their keys: a page is decoded and encoded without touching each entry."""

    keys: "array[int]" = field(default_factory=lambda: array("Q"))
    digests: bytearray = field(default_factory=bytearray)
    runs: list[bytes] = field(default_factory=list)
    ordinals: "array[int]" = field(default_factory=lambda: array("I"))
    amounts: "array[int]" = field(default_factory=lambda: array("I"))

    def __len__(self) -> int:
        return len(self.keys)

    def at(self, position: int) -> Entry:
        """Return the entry in this row."""
        begin = position * DIGEST_BYTES
        return Entry(
            bytes(self.digests[begin : begin + DIGEST_BYTES]),
            self.runs[position],
            self.ordinals[position],
            self.amounts[position],
        )

    def get(self, key: int) -> Entry | None:
        """Return the entry under *key*."""
        position = bisect_left(self.keys, key)
        return self.at(position) if position < len(self.keys) and self.keys[position] == key else None

    def items(self) -> Iterator[tuple[int, Entry]]:
        """Yield keys and entries."""
        for position, key in enumerate(self.keys):
            yield key, self.at(position)

    def part(self, begin: int, end: int) -> "Leaf":
        """Return a leaf of the entries with keys from *begin* to before *end*."""
        first, last = bisect_left(self.keys, begin), bisect_left(self.keys, end)
        if first == 0 and last == len(self.keys):
            return self
        return Leaf(
            self.keys[first:last],
            self.digests[first * DIGEST_BYTES : last * DIGEST_BYTES],
            self.runs[first:last],
            self.ordinals[first:last],
            self.amounts[first:last],
        )

    def changed(self, changes: Sequence[tuple[int, Entry | None]]) -> "Leaf":
        """Return a leaf with *changes* applied, which are in the order of their keys; None takes a key away."""
        new = Leaf()
        position = 0
        for key, entry in changes:
            until = bisect_left(self.keys, key, position)
            new.extend(self, position, until)
            position = until + 1 if until < len(self.keys) and self.keys[until] == key else until
            if entry is not None:
                new.append(key, entry)
        new.extend(self, position, len(self.keys))
        return new

    def append(self, key: int, entry: Entry) -> None:
        """Add an entry after all others."""
        self.keys.append(key)
        self.digests += entry.digest
        self.runs.append(entry.run)
        self.ordinals.append(entry.ordinal)
        self.amounts.append(entry.amount)

    def extend(self, other: "Leaf", begin: int, end: int) -> None:
        """Add the rows *begin* to before *end* of *other* after all others."""
        if begin < end:
            self.keys += other.keys[begin:end]
            self.digests += other.digests[begin * DIGEST_BYTES : end * DIGEST_BYTES]
            self.runs += other.runs[begin:end]
            self.ordinals += other.ordinals[begin:end]
            self.amounts += other.amounts[begin:end]

    def encoded(self, key: bytes) -> tuple[bytes, bytes]:
        """Return the page's digest and bytes."""
        what = self.keys.tobytes() + self.digests
        runs, columns = _where(self.runs, self.ordinals)
        head = HEADER.pack(MAGIC, LEAF, 0, runs, len(self.keys))
        return _identity(key, LEAF, 0, what), _summed(key, head + what + columns + self.amounts.tobytes())


@dataclass
class Inner:
    """References to pages one step lower, by slot; a slot that is missing holds nothing."""

    height: int
    children: dict[int, Ref]

    def encoded(self, key: bytes) -> tuple[bytes, bytes]:
        """Return the page's digest and bytes."""
        slots = sorted(self.children)
        rows = [self.children[slot] for slot in slots]
        counts = array("Q", (row.entries for row in rows)).tobytes()
        what = bytes(slots) + counts + b"".join(row.digest for row in rows)
        runs, columns = _where([row.run for row in rows], array("I", (row.ordinal for row in rows)))
        head = HEADER.pack(MAGIC, INNER, self.height, runs, len(rows))
        return _identity(key, INNER, self.height, what), _summed(key, head + what + columns)


Page = Leaf | Inner


def decode(path: str, data: bytes, key: bytes, expected: bytes) -> Page:
    """
    Read a page from its bytes, verified.

    Raises:
        Damaged: The bytes are not the page that *expected*, the digest in the page above, stands for.
    """
    if len(data) < HEADER.size + DIGEST_BYTES or data[: len(MAGIC)] != MAGIC:
        raise Damaged(path, "it is no page of a known format")
    body = memoryview(data)[:-DIGEST_BYTES]
    if digest(key, body) != data[-DIGEST_BYTES:]:
        raise Damaged(path, "its bytes do not have the checksum at its end")
    _, kind, height, runs, rows = HEADER.unpack_from(body)
    # Sound bytes can only differ from what was expected when another page stands under this name.
    per_row = 8 + DIGEST_BYTES if kind == LEAF else 1 + 8 + DIGEST_BYTES
    what = body[HEADER.size : HEADER.size + rows * per_row]
    if _identity(key, kind, height, what) != expected:
        raise Damaged(path, "it is not the page that the one above it names")
    where = body[HEADER.size + rows * per_row :]
    return _leaf(what, where, runs, rows) if kind == LEAF else _inner(height, what, where, runs, rows)


def _leaf(what: memoryview, where: memoryview, runs: int, rows: int) -> Leaf:
    keys = array("Q", bytes(what[: rows * 8]))
    run_column, ordinals, rest = _places(where, runs, rows)
    return Leaf(keys, bytearray(what[rows * 8 :]), run_column, ordinals, array("I", bytes(rest)))


def _inner(height: int, what: memoryview, where: memoryview, runs: int, rows: int) -> Inner:
    counts = array("Q", bytes(what[rows : rows * 9]))
    digests = bytes(what[rows * 9 :])
    run_column, ordinals, _ = _places(where, runs, rows)
    refs = (
        Ref(digests[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES], run_column[row], ordinals[row], counts[row])
        for row in range(rows)
    )
    return Inner(height, dict(zip(what[:rows], refs, strict=True)))


def _where(runs: Sequence[bytes], ordinals: "array[int]") -> tuple[int, bytes]:
    """Return how many different runs there are, and the columns: runs, each row's run, each row's ordinal."""
    table = {run: index for index, run in enumerate(sorted(set(runs)))}
    indexes = array("H", (table[run] for run in runs))
    return len(table), b"".join(chain(table, (indexes.tobytes(), ordinals.tobytes())))


def _places(where: memoryview, runs: int, rows: int) -> tuple[list[bytes], "array[int]", memoryview]:
    table = [bytes(where[index * RUN_BYTES : (index + 1) * RUN_BYTES]) for index in range(runs)]
    where = where[runs * RUN_BYTES :]
    indexes = array("H", bytes(where[: rows * 2]))
    ordinals = array("I", bytes(where[rows * 2 : rows * 6]))
    return [table[index] for index in indexes], ordinals, where[rows * 6 :]


def _identity(key: bytes, kind: int, height: int, what: bytes | bytearray | memoryview) -> bytes:
    return digest(key, bytes((kind, height)), what)


def _summed(key: bytes, body: bytes) -> bytes:
    return body + digest(key, body)
