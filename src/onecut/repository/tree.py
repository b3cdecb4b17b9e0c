"""
Trees: persistent maps from keys to entries, in content-addressed pages.

A page at height h covers 512 * 32**h keys. A range with at most 512 entries is one leaf, whatever its height; a range
with more is an inner page over 32 ranges; a range with none is absent. The shape depends on nothing but the entries,
so equal maps have equal root digests, and a sparse map is small however far apart its keys lie.

An update writes the pages above changed keys and refers to all others where they are. It reads the changes as a
stream, so its memory does not grow with their number.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Protocol, TypeGuard

from onecut.repository.errors import Damaged
from onecut.repository.page import FAN_OUT, LEAF_ENTRIES, Entry, Inner, Leaf, Page, Ref, span

Change = tuple[int, Entry | None]


@dataclass(frozen=True)
class Lifted:
    """The root of a tree, an inner page at *height*, where the root of a higher tree is wanted."""

    root: Ref
    height: int


Node = Ref | Leaf | Lifted | None
"""A range of a tree: a stored page, a leaf in memory, a lower tree's root, or nothing."""


class Range(NamedTuple):
    """The keys that a page stands for: those from *low* on that a page at *height* covers."""

    height: int
    low: int

    @property
    def end(self) -> int:
        """The first key beyond."""
        return self.low + span(self.height)

    def child(self, slot: int) -> "Range":
        """Return the range of the child in *slot*."""
        return Range(self.height - 1, self.low + slot * span(self.height - 1))

    def slot(self, key: int) -> int:
        """Return the slot of the child that stands for *key*."""
        return (key - self.low) // span(self.height - 1)


class PageSource(Protocol):
    """Reads pages."""

    def page(self, ref: Ref) -> Page:
        """Return the page at *ref*, verified; raises `Damaged`."""
        ...


class PageSink(PageSource, Protocol):
    """Reads pages and stores new ones."""

    def save(self, page: Page, count: int) -> Ref:
        """Store a new page that has *count* entries beneath it."""
        ...


@dataclass(frozen=True)
class Tree:
    """One map. Its height follows from how many keys it may have, not from how many it has."""

    root: Ref | None
    height: int

    @classmethod
    def over(cls, keys: int, root: Ref | None = None) -> "Tree":
        """Return a tree whose keys are all below *keys*."""
        height = 0
        while span(height) < keys:
            height += 1
        return cls(root, height)


def lookup(pages: PageSource, tree: Tree, key: int) -> Entry | None:
    """Return the entry under *key*."""
    return _find(pages, tree.root, Range(tree.height, 0), key) if key < span(tree.height) else None


def nth(pages: PageSource, tree: Tree, rank: int) -> tuple[int, Entry]:
    """Return the key and entry that have *rank* smaller keys before them."""
    node = tree.root
    while node is not None:
        page = pages.page(node)
        if isinstance(page, Leaf):
            return page.keys[rank], page.at(rank)
        for _, node in sorted(page.children.items()):
            if rank < node.entries:
                break
            rank -= node.entries
    raise IndexError(rank)


def entries(pages: PageSource, tree: Tree, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, Entry]]:
    """Yield keys and entries from *begin* to before *end*, in order."""
    yield from _entries(pages, tree.root, Range(tree.height, 0), begin, span(tree.height) if end is None else end)


def differences(
    pages: PageSource, old: Tree, new: Tree, begin: int = 0
) -> Iterator[tuple[int, Entry | None, Entry | None]]:
    """
    Yield each key from *begin* on whose content differs, with its old and its new entry.

    Pages of equal digest are passed over, so this takes time in proportion to the difference.
    """
    height = max(old.height, new.height)
    yield from _differences(pages, (_lifted(old, height), _lifted(new, height)), Range(height, 0), begin)


def update(pages: PageSink, tree: Tree, changes: Iterable[Change], height: int) -> Tree:
    """
    Return the tree that results from *changes*, which are in the order of their keys, as a tree of *height*.

    A tree that becomes lower must lose all keys that it can't hold any more.
    """
    top = max(tree.height, height)
    node = _Update(pages, _Stream(changes), height).updated(_lifted(tree, top), Range(top, 0))
    if isinstance(node, Leaf):
        node = pages.save(node, len(node))
    return Tree(node, height)


class Visitor(Protocol):
    """Is told what only one tree holds."""

    def entry(self, entry: Entry) -> None:
        """Take an entry that stands under its key in no other tree."""
        ...

    def page(self, ref: Ref, height: int) -> None:
        """Take a page that no other tree has, after all that lies beneath it, which has lesser heights."""
        ...

    def unreadable(self, damage: Damaged) -> None:
        """Take note of a page that can't be opened, its own or another's: what lies beneath is left alone."""
        ...


def visit_own(pages: PageSource, tree: Tree, others: Iterable[Tree], visitor: Visitor) -> None:
    """
    Tell *visitor* which pages and entries of *tree* are in none of the *others*, by place and not by content.

    A page that another tree has too is not opened, so this takes time in proportion to what only *tree* has. Nobody
    can tell what a page holds that can't be read, so nothing of the range that it stands for is called *tree*'s own,
    but for the pages above.
    """
    others = list(others)
    height = max([tree.height, *(other.height for other in others)])
    _visit_own(pages, _lifted(tree, height), [_lifted(other, height) for other in others], Range(height, 0), visitor)


class _Stream:
    """Changes that can be looked at before they are taken."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self._rest = iter(changes)
        self._ahead: deque[Change] = deque()

    def any_below(self, end: int) -> bool:
        """Whether the next change has a key below *end*."""
        if not self._ahead:
            self._ahead.extend(islice(self._rest, 1))
        return bool(self._ahead) and self._ahead[0][0] < end

    def take(self, end: int, most: int) -> list[Change]:
        """Take at most *most* changes with keys below *end*."""
        taken: list[Change] = []
        while len(taken) < most and self.any_below(end):
            taken.append(self._ahead.popleft())
        return taken


@dataclass(frozen=True)
class _Update:
    """One update of one tree."""

    pages: PageSink
    changes: _Stream
    height: int
    """Of the resulting tree."""

    def updated(self, node: Node, keys: Range) -> Ref | Leaf | None:
        """
        Return the range as it is after the changes: a stored page, or a leaf that is not stored yet.

        A leaf is left to its parent to store, which may find that it fits into one with its neighbours.
        """
        if not self.changes.any_below(keys.end) and self.stays(node, keys):
            return node
        page = Leaf() if node is None else _opened(self.pages, node)
        if isinstance(page, Leaf):
            while len(page) <= LEAF_ENTRIES and (batch := self.changes.take(keys.end, LEAF_ENTRIES)):
                page = page.changed(batch)
            if len(page) <= LEAF_ENTRIES:
                return page if len(page) else None
        children: dict[int, Ref | Leaf] = {}
        for slot in range(FAN_OUT):
            child = self.updated(_child(page, slot, keys), keys.child(slot))
            if child is not None:
                children[slot] = child
        return self.joined(children, keys.height)

    def stays(self, node: Node, keys: Range) -> TypeGuard[Ref | None]:
        """Whether a range without changes may remain what it is: an inner page above the new root may not."""
        if isinstance(node, Ref):
            return node.entries <= LEAF_ENTRIES or keys.height <= self.height
        return node is None

    def joined(self, children: dict[int, Ref | Leaf], height: int) -> Ref | Leaf | None:
        """Make one leaf of children that fit into one, else an inner page."""
        if height > self.height:
            return self.lowered(children.get(0))
        total = sum(child.entries if isinstance(child, Ref) else len(child) for child in children.values())
        if total > LEAF_ENTRIES:
            return self.pages.save(
                Inner(height, {slot: self.stored(child) for slot, child in children.items()}), total
            )
        joined = Leaf()
        for slot in sorted(children):
            page = _opened(self.pages, children[slot])
            assert isinstance(page, Leaf)  # noqa: S101 - a page over so few entries is a leaf
            joined.extend(page, 0, len(page))
        return joined if len(joined) else None

    def lowered(self, node: Ref | Leaf | None) -> Ref | Leaf | None:
        """Return the only child as the root of a lower tree. A leaf is stored anew: it stands for more keys now."""
        if isinstance(node, Ref) and node.entries <= LEAF_ENTRIES:
            page = self.pages.page(node)
            assert isinstance(page, Leaf)  # noqa: S101 - a page over so few entries is a leaf
            return page
        return node

    def stored(self, node: Ref | Leaf) -> Ref:
        return self.pages.save(node, len(node)) if isinstance(node, Leaf) else node


def _entries(pages: PageSource, node: Node, keys: Range, begin: int, end: int) -> Iterator[tuple[int, Entry]]:
    if node is None or keys.low >= end or keys.end <= begin:
        return
    page = _opened(pages, node)
    if isinstance(page, Leaf):
        yield from page.part(begin, end).items()
        return
    for slot in _slots(page):
        yield from _entries(pages, _child(page, slot, keys), keys.child(slot), begin, end)


def _differences(
    pages: PageSource, nodes: tuple[Node, Node], keys: Range, begin: int
) -> Iterator[tuple[int, Entry | None, Entry | None]]:
    if keys.end <= begin or _same_content(*nodes):
        return
    old, new = (Leaf() if node is None else _opened(pages, node) for node in nodes)
    if isinstance(old, Leaf) and isinstance(new, Leaf):
        yield from _leaf_differences(old, new, max(keys.low, begin), keys.end)
        return
    for slot in sorted({*_slots(old), *_slots(new)}):
        children = _child(old, slot, keys), _child(new, slot, keys)
        yield from _differences(pages, children, keys.child(slot), begin)


def _leaf_differences(old: Leaf, new: Leaf, begin: int, end: int) -> Iterator[tuple[int, Entry | None, Entry | None]]:
    before, after = dict(old.part(begin, end).items()), dict(new.part(begin, end).items())
    for key in sorted({*before, *after}):
        was, now = before.get(key), after.get(key)
        if was is None or now is None or was.digest != now.digest:
            yield key, was, now


def _visit_own(pages: PageSource, node: Node, others: Sequence[Node], keys: Range, visitor: Visitor) -> None:
    if node is None or (isinstance(node, Ref) and _held(node, others)):
        return
    try:
        _visit_below(pages, node, others, keys, visitor)
    except Damaged as damage:
        visitor.unreadable(damage)
    if isinstance(node, Ref):
        visitor.page(node, keys.height)


def _visit_below(
    pages: PageSource, node: Ref | Leaf | Lifted, others: Sequence[Node], keys: Range, visitor: Visitor
) -> None:
    page = _opened(pages, node)
    if isinstance(page, Leaf):
        _visit_leaf(pages, page, others, keys, visitor)
        return
    opened = [_opened(pages, other) for other in others if other is not None]
    for slot in _slots(page):
        there = [_child(other, slot, keys) for other in opened]
        _visit_own(pages, _child(page, slot, keys), there, keys.child(slot), visitor)


def _visit_leaf(pages: PageSource, leaf: Leaf, others: Sequence[Node], keys: Range, visitor: Visitor) -> None:
    for key, entry in leaf.items():
        found = (_find(pages, other, keys, key) for other in others)
        if all(other is None or other.place != entry.place for other in found):
            visitor.entry(entry)


def _held(node: Ref, others: Sequence[Node]) -> bool:
    """
    Whether one of the *others* has this very page.

    Comparing pages of the same range suffices: a page keeps its range for ever, because a leaf that would come to
    stand for another range is stored anew (`_Update.joined`).
    """
    return any(isinstance(other, Ref) and other.place == node.place for other in others)


def _find(pages: PageSource, node: Node, keys: Range, key: int) -> Entry | None:
    while node is not None:
        page = _opened(pages, node)
        if isinstance(page, Leaf):
            return page.get(key)
        slot = keys.slot(key)
        node, keys = _child(page, slot, keys), keys.child(slot)
    return None


def _same_content(old: Node, new: Node) -> bool:
    if isinstance(old, Ref) and isinstance(new, Ref):
        return old.digest == new.digest
    return old is None and new is None


def _lifted(tree: Tree, height: int) -> Node:
    """Return a tree's root for use as the root of a higher one. A leaf may stand at any height."""
    if tree.root is None or tree.root.entries <= LEAF_ENTRIES or tree.height == height:
        return tree.root
    return Lifted(tree.root, tree.height)


def _opened(pages: PageSource, node: Ref | Leaf | Inner | Lifted) -> Page | Lifted:
    return pages.page(node) if isinstance(node, Ref) else node


def _slots(page: Page | Lifted) -> Iterable[int]:
    match page:
        case Inner():
            return sorted(page.children)
        case Lifted():
            return (0,)
        case Leaf():
            return range(FAN_OUT)


def _child(page: Page | Lifted, slot: int, keys: Range) -> Node:
    """Return what *page*, which stands for *keys*, has in *slot*."""
    match page:
        case Inner():
            return page.children.get(slot)
        case Lifted():
            if slot:
                return None
            return page.root if page.height == keys.height - 1 else page
        case Leaf():
            child = keys.child(slot)
            part = page.part(child.low, child.end)
            return part if len(part) else None
