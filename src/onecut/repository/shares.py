"""
Count the chunks that several chunk numbers of one snapshot refer to.

A chunk with a single reference needs no count: where it is no longer referred to under its number, it is not
referred to at all. A chunk that was ever repeated stays in the tree of shares until its last reference goes, so that
a deletion can ask a neighbouring snapshot whether it has the chunk anywhere, without searching it.
"""

from typing import Final

from blake3 import blake3

from onecut.repository.page import Entry
from onecut.repository.tree import PageSink, PageSource, Tree, lookup, update

SHARES_PER_RUN: Final = 1 << 17
"""Chunks of one run that may become repeated; further repeats are stored again. Bounds the memory of a run."""


def share_key(place: tuple[bytes, int]) -> int:
    """Return a chunk's key in a tree of shares."""
    run, ordinal = place
    return int.from_bytes(blake3(run + ordinal.to_bytes(4, "little")).digest(8), "little")


def share(pages: PageSource, tree: Tree, entry: Entry) -> Entry | None:
    """Return the share of the chunk that *entry* refers to; None when it has no count in *tree*."""
    if tree.root is None:
        return None
    found = lookup(pages, tree, share_key(entry.place))
    return found if found is not None and found.place == entry.place else None


class Shares:
    """The shares of a snapshot in the making: the base's, and how they change."""

    def __init__(self, pages: PageSink, base: Tree) -> None:
        self._pages, self._base = pages, base
        self._changed: dict[int, Entry] = {}
        self._repeated = 0

    def dropped(self, entry: Entry) -> None:
        """Count one reference less to a chunk of the base."""
        if self._base.root is None:
            return
        key = share_key(entry.place)
        known = self._changed.get(key) or share(self._pages, self._base, entry)
        if known is not None and known.place == entry.place:
            self._changed[key] = known._replace(amount=known.amount - 1)

    def repeated(self, entry: Entry) -> bool:
        """
        Count one more reference to a chunk of this run, the second or a further one.

        False when it can't be counted, because there are too many or its key is taken; then it must not be made.
        """
        key = share_key(entry.place)
        known = self._changed.get(key)
        if known is None:
            if self._repeated >= SHARES_PER_RUN or lookup(self._pages, self._base, key) is not None:
                return False
            self._repeated += 1
            self._changed[key] = entry._replace(amount=2)
            return True
        if known.place != entry.place:
            return False
        self._changed[key] = known._replace(amount=known.amount + 1)
        return True

    def updated(self) -> Tree:
        """Store the changed pages and return the tree."""
        changes = ((key, entry if entry.amount else None) for key, entry in sorted(self._changed.items()))
        return update(self._pages, self._base, changes, self._base.height)
