"""
Collect what nobody owns: planned first, then done.

Everything in a repository is answered for by a manifest, a lease or the record of a deletion, so ordinary collection
never searches: it gives up runs whose lease was not renewed for the grace period, completes deletions, and ends
leases of readers that are gone. A thorough collection also marks everything that manifests reach, and takes the rest;
only a damaged page, or somebody's hand in the store, gives it anything to do.

A run is given up by putting an object in its manifest's place. If the run was faster, it has a snapshot and is left
alone; if not, its own attempt to put the manifest fails. That object stays for a week, and a run that has slept for
a day, by a clock that goes on while the machine sleeps, does not try (`archive.SLEPT_S`).
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from onecut.repository.delete import finish_deletion, recorded
from onecut.repository.errors import InUse, ObjectExists
from onecut.repository.lease import CLOCK, Lease, drop_lease, leases, store_time
from onecut.repository.manifest import Chain, SnapshotManifest, snapshot_path
from onecut.repository.mark import Marks, mark_chain
from onecut.repository.repository import ABANDONED, OBJECTS_PER_FOLDER, Repository
from onecut.repository.store import ObjectInfo, PutMode

GRACE: Final = timedelta(hours=24)
"""A lease that was not renewed for so long belongs to nobody any more; a living run renews it every minute."""

ABANDONED_FOR: Final = timedelta(days=7)
"""For so long the mark of a given-up run stays; only a process that slept for all that time could miss it."""

RUN_ROOMS: Final = ("chunks", "trees")


@dataclass
class CollectionPlan:
    """What a collection will do."""

    runs: list[Lease] = field(default_factory=list)
    """Archive runs that died."""
    run_objects: int = 0
    run_bytes: int = 0
    readers: list[Lease] = field(default_factory=list)
    """Leases of readers that died."""
    deletions: list[SnapshotManifest] = field(default_factory=list)
    """Deletions that were not completed."""
    markers: list[str] = field(default_factory=list)
    """Marks of given-up runs, and of the present moment, that have served their time."""
    unreferenced: list[ObjectInfo] = field(default_factory=list)
    """Objects that nothing leads to; looked for in a thorough collection only."""


def plan_collection(repository: Repository, *, grace: timedelta = GRACE, thorough: bool = False) -> CollectionPlan:
    """
    Say what a collection would do, and change nothing.

    Raises:
        Damaged: A manifest, or in a thorough collection a page, can't be read: nobody can tell what it holds.
    """
    plan = CollectionPlan()
    # First of all: then no object of a run that begins later is among them, and a run that ends has its manifest.
    objects = [info for room in RUN_ROOMS for info in repository.store.list(room)] if thorough else []
    now = store_time(repository.store)
    known = list(leases(repository))
    for each in known:
        if now - each.renewed_at >= grace:
            (plan.runs if each.lease.kind == "archive" else plan.readers).append(each.lease)
    for lease in plan.runs:
        for info in _objects_of(repository, lease.lease_id):
            plan.run_objects += 1
            plan.run_bytes += info.size_bytes
    for info in repository.store.list("deletions"):
        chain = Chain(*info.path.removesuffix(".json").split("/")[1:])
        plan.deletions.append(recorded(repository, chain, repository.store.get(info.path)))
    plan.markers.extend(_old_markers(repository, now - ABANDONED_FOR))
    plan.markers.extend(info.path for info in repository.store.list(CLOCK) if now - info.modified_at >= grace)
    if thorough:
        leased = {each.lease.lease_id for each in known}
        plan.unreferenced.extend(_unreferenced(repository, objects, leased))
    return plan


def execute(repository: Repository, plan: CollectionPlan) -> None:
    """
    Carry out a plan. What has changed since is looked at again, so an old plan does no harm.

    A deletion whose snapshot is in use is left for the next time.
    """
    for lease in plan.readers:
        drop_lease(repository, lease)
    for lease in plan.runs:
        abandon(repository, lease)
    for manifest in plan.deletions:
        try:
            finish_deletion(repository, manifest)
        except InUse:
            continue
    repository.store.delete([*plan.markers, *(info.path for info in plan.unreferenced)])


def abandon(repository: Repository, lease: Lease) -> None:
    """Give a run up: it can't be completed any more, and what it wrote goes. A completed one keeps its snapshot."""
    assert lease.snapshot_id is not None  # noqa: S101 - the lease of an archive
    path = snapshot_path(lease.chain, lease.snapshot_id, lease.lease_id)
    try:
        repository.store.put(path, ABANDONED, PutMode.CREATE)
    except ObjectExists:
        manifest = repository.read_manifest(path)
        if manifest is not None:
            sweep(repository, manifest)
            drop_lease(repository, lease)
            return
    repository.store.delete([info.path for info in _objects_of(repository, lease.lease_id)])
    drop_lease(repository, lease)


def sweep(repository: Repository, manifest: SnapshotManifest) -> None:
    """Delete what an earlier attempt of a completed run stored and the last one did not use."""
    used = {"chunks": manifest.added_chunks, "trees": manifest.added_pages}
    objects = _objects_of(repository, manifest.run_id)
    repository.store.delete([info.path for info in objects if _ordinal(info) >= used[info.path.split("/")[0]]])


def _objects_of(repository: Repository, run_id: str) -> Iterator[ObjectInfo]:
    for room in RUN_ROOMS:
        yield from repository.store.list(f"{room}/{run_id}")


def _ordinal(info: ObjectInfo) -> int:
    _, _, folder, name = info.path.split("/")
    return int(folder, 16) * OBJECTS_PER_FOLDER + int(name, 16)


def _old_markers(repository: Repository, before: datetime) -> Iterator[str]:
    for info in repository.store.list("snapshots"):
        small = info.size_bytes == len(ABANDONED)
        if small and info.modified_at < before and repository.store.get(info.path) == ABANDONED:
            yield info.path


def _unreferenced(
    repository: Repository, objects: Iterable[ObjectInfo], leased: Container[str]
) -> Iterator[ObjectInfo]:
    marks = Marks()
    for chain in repository.chains():
        mark_chain(repository, chain, marks)
    for info in objects:
        room, run_id, *_ = info.path.split("/")
        if run_id not in leased and not marks.has(room, bytes.fromhex(run_id), _ordinal(info)):
            yield info
