"""
Collect what nobody owns: planned first, then done.

Everything in a repository is answered for by a manifest, a lease or the record of a deletion, so ordinary collection
never searches: it gives up runs whose lease was not renewed for the grace period, completes deletions, and ends
leases of readers that are gone. A thorough collection also marks everything that manifests reach, and takes the rest;
only damage, or somebody's hand in the store, gives it anything to do. A deletion that met damage notes that one is
needed, and the note goes when nothing was damaged any more.

Damage stops nobody but those whom it concerns: what can't be read is reported and left, and so is what might belong
to it.

A run is given up by putting an object in its manifest's place. If the run was faster, it has a snapshot and is left
alone; if not, its own attempt to put the manifest fails. That object stays for a week, and a run that has slept for
a day, by a clock that goes on while the machine sleeps, does not try (`archive.SLEPT_S`).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from onecut.repository.delete import LEFTOVERS, finish_deletion, note_leftovers, recorded
from onecut.repository.errors import Damaged, InUse, NoSuchObject, ObjectExists
from onecut.repository.lease import CLOCK, ROOM, Lease, drop_lease, read_lease, store_time
from onecut.repository.manifest import Chain, SnapshotManifest, snapshot_path
from onecut.repository.mark import Marks, mark_chain
from onecut.repository.repository import ABANDONED, OBJECTS_PER_FOLDER, Repository
from onecut.repository.store import ObjectInfo, PutMode

GRACE: Final = timedelta(hours=24)
"""A lease that was not renewed for so long belongs to nobody any more; a living run renews it every minute."""

ABANDONED_FOR: Final = timedelta(days=7)
"""For so long the mark of a given-up run stays; only a process that slept for all that time could miss it."""

RUN_ROOMS: Final = ("chunks", "trees")

_PLACE: Final = re.compile(r"(chunks|trees)/[0-9a-f]{32}/[0-9a-f]{6}/[0-9a-f]{3}")


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
    """Marks of given-up runs, and of the present moment, that have served their time; notes of what is looked for."""
    unreferenced: list[ObjectInfo] = field(default_factory=list)
    """Objects that nothing leads to; looked for in a thorough collection only."""
    unreadable: list[Damaged] = field(default_factory=list)
    """What could not be read. It stays, and what it might answer for."""
    expired: list[str] = field(default_factory=list)
    """Leases and records that could not be read for so long that whoever put them has ended."""


def plan_collection(repository: Repository, *, grace: timedelta = GRACE, thorough: bool = False) -> CollectionPlan:
    """
    Say what a collection would do, and change nothing.

    It is thorough if that is asked for, or if a deletion has noted that it could not read everything.
    """
    plan, store = CollectionPlan(), repository.store
    notes = [info.path for info in store.list(LEFTOVERS)]
    # Before leases and manifests: then no object of a run that begins later is among them, and a run that ends has
    # its manifest.
    seen = _seen(repository) if thorough or notes else None
    now = store_time(store)
    leased = _plan_leases(repository, plan, now, grace)
    _plan_deletions(repository, plan, now)
    plan.markers.extend(_old_markers(repository, now - ABANDONED_FOR))
    plan.markers.extend(info.path for info in store.list(CLOCK) if now - info.modified_at >= grace)
    if seen is not None and _plan_unreferenced(repository, plan, seen, leased):
        plan.markers.extend(notes)
    return plan


def _plan_leases(repository: Repository, plan: CollectionPlan, now: datetime, grace: timedelta) -> set[str]:
    """Plan what is to be done about leases, and return the ids of all."""
    leased = set()
    for info in repository.store.list(ROOM):
        leased.add(info.path.rpartition("/")[2].removesuffix(".json"))
        try:
            lease = read_lease(repository, info.path)
        except Damaged as damage:
            _leave(plan, damage, info, now)
            continue
        if lease is not None and now - info.modified_at >= grace:
            (plan.runs if lease.kind == "archive" else plan.readers).append(lease)
    for lease in plan.runs:
        for info in _objects_of(repository, lease.lease_id):
            plan.run_objects += 1
            plan.run_bytes += info.size_bytes
    return leased


def _plan_deletions(repository: Repository, plan: CollectionPlan, now: datetime) -> None:
    for info in repository.store.list("deletions"):
        try:
            chain = Chain(*info.path.removesuffix(".json").split("/")[1:])
            plan.deletions.append(recorded(repository, chain, repository.store.get(info.path)))
        except NoSuchObject:  # it was completed meanwhile
            continue
        except (TypeError, ValueError):
            plan.unreadable.append(Damaged(info.path, "it has not the name of a deletion's record"))
        except Damaged as damage:
            _leave(plan, damage, info, now)


def _leave(plan: CollectionPlan, damage: Damaged, info: ObjectInfo, now: datetime) -> None:
    """
    Report a lease or record that can't be read.

    A process that works writes its lease anew every minute, so one that stays damaged is a dead one's. For as long
    as the marks of given-up runs it is heeded all the same, as it might hold anything.
    """
    plan.unreadable.append(damage)
    if now - info.modified_at >= ABANDONED_FOR:
        plan.expired.append(info.path)


def execute(repository: Repository, plan: CollectionPlan) -> None:
    """
    Carry out a plan. What has changed since is looked at again, so an old plan does no harm.

    A deletion whose snapshot is in use, or might be, is left for the next time.
    """
    for lease in plan.readers:
        drop_lease(repository, lease)
    for lease in plan.runs:
        abandon(repository, lease)
    for manifest in plan.deletions:
        try:
            finish_deletion(repository, manifest)
        except (InUse, Damaged):
            continue
    if plan.expired:
        note_leftovers(repository.store)  # what they answered for is anybody's guess
    gone = [*plan.expired, *plan.markers, *(info.path for info in plan.unreferenced)]
    repository.store.delete(gone)


def abandon(repository: Repository, lease: Lease) -> None:
    """Give a run up: it can't be completed any more, and what it wrote goes. A completed one keeps its snapshot."""
    assert lease.snapshot_id is not None  # noqa: S101 - the lease of an archive
    path = snapshot_path(lease.chain, lease.snapshot_id, lease.lease_id)
    try:
        repository.store.put(path, ABANDONED, PutMode.CREATE)
    except ObjectExists:
        try:
            manifest = repository.read_manifest(path)
        except Damaged:  # of a completed run, most likely; what the run stored goes after that snapshot
            drop_lease(repository, lease)
            return
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


def _seen(repository: Repository) -> Marks:
    """Mark what there is of chunks and pages: a list of it would be large."""
    seen = Marks()
    for info in _chunks_and_pages(repository):
        seen.add(*_place(info))
    return seen


def _plan_unreferenced(repository: Repository, plan: CollectionPlan, seen: Marks, leased: set[str]) -> bool:
    """
    Plan to delete what was seen and nothing leads to, and say whether all manifests and pages could be read.

    Chains share no runs. So in a run that a chain's trees lead to, nobody else has anything; but a run that nothing
    leads to may be of a chain that can't be read.
    """
    reached: dict[bytes, Marks] = {}
    complete = True
    for chain in repository.chains():
        marks = Marks()
        try:
            mark_chain(repository, chain, marks)
        except Damaged as damage:
            plan.unreadable.append(damage)
            complete = False
        else:
            reached.update(dict.fromkeys(marks.runs, marks))
    for info in _chunks_and_pages(repository):
        room, run, ordinal = _place(info)
        if run.hex() in leased or not seen.has(room, run, ordinal):
            continue
        marks_of_run = reached.get(run)
        if complete if marks_of_run is None else not marks_of_run.has(room, run, ordinal):
            plan.unreferenced.append(info)
    return complete


def _chunks_and_pages(repository: Repository) -> Iterator[ObjectInfo]:
    """Yield all objects that have a place; whatever else somebody put among them is left alone."""
    for room in RUN_ROOMS:
        yield from (info for info in repository.store.list(room) if _PLACE.fullmatch(info.path))


def _place(info: ObjectInfo) -> tuple[str, bytes, int]:
    room, run_id, *_ = info.path.split("/")
    return room, bytes.fromhex(run_id), _ordinal(info)
