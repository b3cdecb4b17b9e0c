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
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from onecut.repository.errors import Damaged, InUse, NoSuchObject, ObjectExists
from onecut.repository.lease import deletion_path, leases
from onecut.repository.manifest import Chain, SnapshotManifest, read_snapshot, to_bytes
from onecut.repository.page import Entry, Ref
from onecut.repository.repository import Reader, Repository, chunk_path, page_path
from onecut.repository.shares import share
from onecut.repository.store import ObjectStore, PutMode
from onecut.repository.tree import Tree, visit_own

DELETED_AT_ONCE: Final = 1000
"""Objects that are deleted in one go; S3 takes as many in one request."""


@dataclass
class DeletionPlan:
    """What deleting a snapshot frees."""

    manifest: SnapshotManifest
    chunks: int = 0
    pages: int = 0
    stored_bytes: int = 0
    """Bytes of the chunks' objects."""
    unreadable: int = 0
    """Pages that were gone or damaged. What only they led to is left to a thorough collection (`collector`)."""


def plan_deletion(repository: Repository, chain: Chain, snapshot_id: str) -> DeletionPlan:
    """
    Say what deleting a snapshot would free, and change nothing.

    Raises:
        NoSuchSnapshot: There is none of that id.
        Damaged: Its trees can't be read.
    """
    manifest = repository.snapshot(chain, snapshot_id)
    own = _Own(DeletionPlan(manifest))
    _visit(repository, manifest, own)
    return own.plan


def delete_snapshot(repository: Repository, chain: Chain, snapshot_id: str) -> DeletionPlan:
    """
    Delete a snapshot and what only it held, and say what that was. A deletion that was interrupted is completed.

    Raises:
        NoSuchSnapshot: There is none of that id.
        InUse: A lease holds it, or a deletion in the same chain waits for one. It is deleted when asked again, or by
            the collector, once the lease has ended; new leases on it are refused.
        Damaged: A manifest of the chain, or a page of a neighbour, can't be read: nobody can tell what it holds.
    """
    pending = pending_deletion(repository, chain)
    if pending is not None and pending.snapshot_id != snapshot_id:
        finish_deletion(repository, pending)
        pending = None
    if pending is None:
        pending = repository.snapshot(chain, snapshot_id)
        try:
            repository.store.put(deletion_path(chain), to_bytes(pending), PutMode.CREATE)
        except ObjectExists:
            raise InUse(f"another snapshot of chain {chain.path} is being deleted") from None
    return finish_deletion(repository, pending)


def pending_deletion(repository: Repository, chain: Chain) -> SnapshotManifest | None:
    """Return the manifest of the snapshot of which a deletion was begun in a chain."""
    try:
        data = repository.store.get(deletion_path(chain))
    except NoSuchObject:
        return None
    return recorded(repository, chain, data)


def recorded(repository: Repository, chain: Chain, data: bytes) -> SnapshotManifest:
    """Read the record of a deletion, which is the snapshot's manifest."""
    plain = json.loads(data)
    path = f"snapshots/{chain.path}/{plain['snapshot_id']}.{plain['run_id']}.json"
    return read_snapshot(path, data, repository.keys(chain.project_id))


def finish_deletion(repository: Repository, manifest: SnapshotManifest) -> DeletionPlan:
    """Carry out a deletion whose record is there; raises `InUse` while a lease holds the snapshot."""
    for known in leases(repository, manifest.chain):
        if known.lease.holds == manifest.snapshot_id:
            raise InUse(f"snapshot {manifest.snapshot_id} is in use by {known.lease.kind} {known.lease.lease_id}")
    own = _Deleted(DeletionPlan(manifest), repository.store)
    repository.store.delete([manifest.path])
    _visit(repository, manifest, own)
    repository.store.delete([deletion_path(manifest.chain)])
    return own.plan


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
    others = list(neighbours(manifest, repository.manifests(manifest.chain)))
    reader = repository.reader(manifest.chain.project_id)
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

    def chunk(self, entry: Entry) -> None:
        """Take a chunk."""
        self.plan.chunks += 1
        self.plan.stored_bytes += entry.amount

    def entry(self, entry: Entry) -> None:
        """Ignore an entry of the shares: it stands for no object of its own."""

    def page(self, ref: Ref, height: int) -> None:  # noqa: ARG002 - the other one needs them
        """Take a page."""
        self.plan.pages += 1

    def unreadable(self, damage: Damaged) -> None:  # noqa: ARG002 - the page is named by verify, not here
        """Take note of a page that can't be opened."""
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
            repeated = share(self.reader, self.shares, entry) is not None
        except Damaged as damage:
            self.own.unreadable(damage)  # nobody can tell, so the chunk stays
            return
        if repeated:
            if entry.place in self.taken or any(share(self.reader, tree, entry) for tree in self.neighbours):
                return
            self.taken.add(entry.place)
        self.own.chunk(entry)

    def page(self, ref: Ref, height: int) -> None:
        """Take a page."""
        self.own.page(ref, height)

    def unreadable(self, damage: Damaged) -> None:
        """Take note of a page that can't be opened."""
        self.own.unreadable(damage)
