"""
Delete one snapshot, and free what only it held.

What may go follows from two facts. An object is written once, under the name of the run that wrote it; and a
snapshot refers to objects of its own run and to those that its base refers to, nothing else. So the snapshots that
hold, or held, an object are connected in the tree of lineage, in which the dead keep their places. Go from a snapshot
to another that holds an object of it: everyone on the way holds or held it, and the first one who lives holds it.
Hence whatever none of a snapshot's living neighbours holds, nobody holds; its neighbours are those who live and
between whom and it there are only dead. Pages that a neighbour has too are not opened, so the work follows what is
freed.

And what nobody holds stays so: no run refers to objects of another run except through its base, which its lease
keeps. Hence a deletion that is late, or carried out twice at once, takes nothing that it should not.

The order is fixed: record of the deletion, manifest, chunks, pages from the leaves to the root, the record. Whoever
finds the record carries on: a page that is gone had nothing left beneath it.

What can't be read keeps no deletion from its end. Nobody can tell what a damaged manifest or page holds, so what it
might hold stays, with a note that tells the collector to search for it.
"""

import contextlib
import json
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from onecut.repository.errors import Damaged, InUse, NoSuchObject, NoSuchSnapshot, ObjectExists
from onecut.repository.lease import deletion_path, leases
from onecut.repository.manifest import Chain, SnapshotManifest, read_snapshot, snapshot_path, to_bytes
from onecut.repository.page import Entry, Ref
from onecut.repository.repository import Reader, Repository, chunk_path, page_path
from onecut.repository.shares import share
from onecut.repository.store import ObjectStore, PutMode
from onecut.repository.tree import Tree, visit_own

DELETED_AT_ONCE: Final = 1000
"""Objects that are deleted in one go; S3 takes as many in one request."""

LEFTOVERS: Final = "leftovers"
"""Where a deletion notes that something stays which it could not tell the owner of."""


@dataclass
class DeletionPlan:
    """What deleting a snapshot frees."""

    chunks: int = 0
    pages: int = 0
    stored_bytes: int = 0
    """Bytes of all these objects."""
    unreadable: int = 0
    """Manifests and pages that were gone or damaged. What they might lead to is left to a thorough collection."""


def plan_deletion(repository: Repository, chain: Chain, snapshot_id: str) -> DeletionPlan:
    """
    Say what deleting a snapshot would free, and change nothing.

    Raises:
        NoSuchSnapshot: There is none of that id.
    """
    own = _Own(DeletionPlan(), repository.reader(chain.project_id))
    try:
        _visit(repository, repository.snapshot(chain, snapshot_id), own)
    except Damaged as damage:
        own.unreadable(damage)
    return own.plan


def delete_snapshot(repository: Repository, chain: Chain, snapshot_id: str) -> DeletionPlan:
    """
    Delete a snapshot and what only it held, and say what that was. A deletion that was interrupted is completed.

    Raises:
        NoSuchSnapshot: There is none of that id.
        InUse: A lease holds it, or a deletion in the same chain waits for one. It is deleted when asked again, or by
            the collector, once the lease has ended; new leases on it are refused.
        Damaged: A lease or the record of a deletion in the chain can't be read: nobody can tell what is in use.
    """
    pending = pending_deletion(repository, chain)
    if pending is not None and pending.snapshot_id != snapshot_id:
        finish_deletion(repository, pending)
        pending = None
    if pending is None:
        try:
            pending = repository.snapshot(chain, snapshot_id)
        except Damaged as damage:
            return _delete_unread(repository, chain, snapshot_id, damage.path)
        try:
            repository.store.put(deletion_path(chain), to_bytes(pending), PutMode.CREATE)
        except ObjectExists:
            raise InUse(f"another snapshot of chain {chain.path} is being deleted") from None
    return finish_deletion(repository, pending)


def _delete_unread(repository: Repository, chain: Chain, snapshot_id: str, path: str) -> DeletionPlan:
    """
    Delete a snapshot's manifest that can't be read, and nothing else.

    It needs no record: who wants to use the snapshot must read the manifest, and nothing is freed.
    """
    _refuse_in_use(repository, chain, snapshot_id)
    note_leftovers(repository.store)
    repository.store.delete([path])
    try:
        plan = delete_snapshot(repository, chain, snapshot_id)  # what was damaged may have been a given-up run's mark
    except NoSuchSnapshot:
        plan = DeletionPlan()
    plan.unreadable += 1
    return plan


def note_leftovers(store: ObjectStore) -> None:
    """Let the next collection be a thorough one. Each note has a name of its own: none is taken for another's."""
    store.put(f"{LEFTOVERS}/{uuid.uuid4().hex}", b"")


def pending_deletion(repository: Repository, chain: Chain) -> SnapshotManifest | None:
    """Return the manifest of the snapshot of which a deletion was begun in a chain."""
    try:
        data = repository.store.get(deletion_path(chain))
    except NoSuchObject:
        return None
    return recorded(repository, chain, data)


def recorded(repository: Repository, chain: Chain, data: bytes) -> SnapshotManifest:
    """Read the record of a deletion, which is the snapshot's manifest; raises `Damaged` when it is none."""
    try:
        plain = json.loads(data)
        path = snapshot_path(chain, plain["snapshot_id"], plain["run_id"])
        return read_snapshot(path, data, repository.keys(chain.project_id))
    except (ValueError, KeyError, TypeError, Damaged) as error:
        raise Damaged(deletion_path(chain), "it is no record of a deletion") from error


def finish_deletion(repository: Repository, manifest: SnapshotManifest) -> DeletionPlan:
    """
    Carry out a deletion whose record is there.

    Raises:
        InUse: A lease holds the snapshot.
        Damaged: A lease of the chain can't be read: it might.
    """
    _refuse_in_use(repository, manifest.chain, manifest.snapshot_id)
    reader, store = repository.reader(manifest.chain.project_id), repository.store
    own = _Deleted(DeletionPlan(), reader, store, begun_before=_gone(store, manifest.path))
    store.delete([manifest.path])
    _visit(repository, manifest, own)
    store.delete([deletion_path(manifest.chain)])
    return own.plan


def _refuse_in_use(repository: Repository, chain: Chain, snapshot_id: str) -> None:
    for known in leases(repository, chain):
        if known.lease.holds == snapshot_id:
            raise InUse(f"snapshot {snapshot_id} is in use by {known.lease.kind} {known.lease.lease_id}")


def _gone(store: ObjectStore, path: str) -> bool:
    try:
        store.head(path)
    except NoSuchObject:
        return True
    return False


def neighbours(manifest: SnapshotManifest, others: Sequence[SnapshotManifest]) -> Iterator[SnapshotManifest]:
    """Yield the living snapshots between which and *manifest* the tree of lineage has dead ones only, or none."""
    living = {other.snapshot_id: other for other in others if other.snapshot_id != manifest.snapshot_id}
    line = {each: step for step, each in enumerate([manifest.snapshot_id, *manifest.lineage.ancestors])}
    nearest = min((step for each, step in line.items() if each in living), default=len(line))
    for other in living.values():
        for each in (other.snapshot_id, *other.lineage.ancestors):
            if each in line:  # here the two lines meet
                if line[each] < nearest or (each == other.snapshot_id and line[each] == nearest):
                    yield other
                break
            if each in living and each != other.snapshot_id:
                break


def _visit(repository: Repository, manifest: SnapshotManifest, own: "_Own") -> None:
    try:
        others = list(neighbours(manifest, repository.manifests(manifest.chain)))
    except Damaged as damage:
        own.unreadable(damage)  # that snapshot may hold anything of this one's
        return
    reader = own.reader
    shares = [other.share_tree for other in others]
    blocks = _Blocks(own, reader, manifest.share_tree, shares)
    visit_own(reader, manifest.block_tree, [other.block_tree for other in others], blocks)
    own.flush()
    # Last: until all chunks are gone, the shares say which of them a neighbour has under another number.
    visit_own(reader, manifest.share_tree, shares, own)
    own.flush()


@dataclass
class _Own:
    """Takes what only the snapshot holds. This one counts it."""

    plan: DeletionPlan
    reader: Reader

    def chunk(self, entry: Entry) -> None:
        """Take a chunk."""
        self.plan.chunks += 1
        self.plan.stored_bytes += entry.amount

    def entry(self, entry: Entry) -> None:
        """Ignore an entry of the shares: it stands for no object of its own."""

    def page(self, ref: Ref, height: int) -> None:  # noqa: ARG002 - the other one needs them
        """Take a page."""
        self.plan.pages += 1
        with contextlib.suppress(Damaged):  # one that is gone or damaged takes no space, or was told as unreadable
            self.plan.stored_bytes += self.reader.page_bytes(ref)

    def unreadable(self, damage: Damaged) -> None:  # noqa: ARG002 - the object is named by verify, not here
        """Take note of a manifest or page that can't be read."""
        self.plan.unreadable += 1

    def flush(self) -> None:
        """Finish with everything that was taken."""


@dataclass
class _Deleted(_Own):
    """
    Deletes what only the snapshot holds, in bulk.

    Whatever an interruption leaves must still be found from the root. So chunks go before pages, and pages of lesser
    heights before those above them.
    """

    store: ObjectStore
    begun_before: bool
    """Whether an earlier attempt may have deleted pages."""
    chunks: list[str] = field(default_factory=list)
    pages: dict[int, list[str]] = field(default_factory=dict)
    waiting: int = 0

    def chunk(self, entry: Entry) -> None:
        """Take a chunk."""
        super().chunk(entry)
        self.chunks.append(chunk_path(*entry.place))
        self._count()

    def page(self, ref: Ref, height: int) -> None:
        """Take a page."""
        super().page(ref, height)
        self.pages.setdefault(height, []).append(page_path(*ref.place))
        self._count()

    def unreadable(self, damage: Damaged) -> None:
        """Take note of it in the store too, before anything is deleted that shows it."""
        if self.begun_before and _gone(self.store, damage.path):
            return
        super().unreadable(damage)
        if self.plan.unreadable == 1:
            note_leftovers(self.store)

    def flush(self) -> None:
        """Delete everything that was taken."""
        for paths in [self.chunks, *(paths for _, paths in sorted(self.pages.items()))]:
            self.store.delete(paths)
        self.chunks, self.pages, self.waiting = [], {}, 0

    def _count(self) -> None:
        self.waiting += 1
        if self.waiting >= DELETED_AT_ONCE:
            self.flush()


@dataclass
class _Blocks:
    """Sorts out of a block tree's own entries those whose chunk a neighbour has under another number."""

    own: _Own
    reader: Reader
    shares: Tree
    neighbours: Sequence[Tree]
    taken: set[tuple[bytes, int]] = field(default_factory=set)
    """Repeated chunks that were taken already: each is met once for every number that refers to it."""

    def entry(self, entry: Entry) -> None:
        """Take the chunk unless it is held elsewhere."""
        try:
            if self._held_elsewhere(entry):
                return
        except Damaged as damage:
            self.own.unreadable(damage)  # nobody can tell, so the chunk stays
            return
        self.own.chunk(entry)

    def _held_elsewhere(self, entry: Entry) -> bool:
        if share(self.reader, self.shares, entry) is None:
            return False
        if entry.place in self.taken or any(share(self.reader, tree, entry) for tree in self.neighbours):
            return True
        self.taken.add(entry.place)
        return False

    def page(self, ref: Ref, height: int) -> None:
        """Take a page."""
        self.own.page(ref, height)

    def unreadable(self, damage: Damaged) -> None:
        """Take note of a page that can't be opened."""
        self.own.unreadable(damage)
