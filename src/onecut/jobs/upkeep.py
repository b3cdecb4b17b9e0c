"""
What else is done to the repository: binding groups, taking snapshots out, collecting what nobody owns, verifying.

Every act bears being done again, and waits while the repository is away.
"""

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from onecut.db.archives import Archive
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.errors import OnecutError
from onecut.jobs import served
from onecut.jobs.archive_runs import mark_damaged
from onecut.jobs.archiver import PATIENCE, STORE_LATER, ArchiveMetrics, give_run_up
from onecut.jobs.patience import persist
from onecut.jobs.transaction import transact
from onecut.repository.collector import GRACE, execute, plan_collection
from onecut.repository.delete import delete_snapshot, plan_deletion
from onecut.repository.errors import Damaged, InUse, NoSuchSnapshot, RepositoryError
from onecut.repository.groups import delete_group, put_group
from onecut.repository.manifest import Chain, GroupManifest, GroupMember
from onecut.repository.repository import Repository
from onecut.repository.retry import Backoff
from onecut.repository.verify import Verification, verify
from onecut.units import GiB

log = structlog.get_logger()

Result = TypeVar("Result")

IN_USE: Final = Backoff(first_s=1.0, longest_s=30.0, total_s=inf)
"""How a deletion waits for an archive, which may take hours: each time it looks what it would free."""

CONSISTENCY = "crash"
"""What a cut reaches: all members show one instant, as after a power failure."""


@dataclass(frozen=True)
class _Stored:
    """A snapshot's place in the repository."""

    chain: Chain
    snapshot_id: str
    run_id: str
    volume_id: str
    pause_ms: float | None
    root: str | None
    """None until it is archived."""
    size_bytes: int


class Upkeep:
    """Acts on the repository in threads of its own."""

    def __init__(
        self,
        database: Database,
        repository: Repository,
        *,
        patience: Backoff = PATIENCE,
        metrics: ArchiveMetrics | None = None,
    ) -> None:
        self._database, self._repository, self._patience = database, repository, patience
        self._metrics = metrics or ArchiveMetrics(CollectorRegistry())
        self._closed = threading.Event()
        self._threads = ThreadPoolExecutor(4, "upkeep")
        self._chain_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._group_locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def close(self) -> None:
        """End the threads, once what they are doing is done: nothing of the service works on after it has stopped."""
        self._closed.set()
        self._threads.shutdown(cancel_futures=True)

    async def bind(self, group_id: str) -> None:
        """
        Write a group's manifest over the members it has left, and note its digest; without members there is none.

        A group of which a member is not archived yet is left for the job that archives it.
        """
        async with self._group_locks.setdefault(group_id, asyncio.Lock()):  # who looks last writes last
            await self._bind_anew(group_id)

    async def _bind_anew(self, group_id: str) -> None:
        found = await self._ask(lambda session: _group(session, group_id))
        if found is None:
            return
        group, members = found
        digest = await self._patiently(lambda: self._bind(group, members))

        def note(session: Session) -> None:
            row = session.get(SnapshotGroup, group_id)
            if row is not None:
                row.digest = digest

        await self._ask(note)

    def _bind(self, group: GroupManifest, members: Sequence[_Stored]) -> str | None:
        if not members:
            delete_group(self._repository, group.project_id, group.group_id)
            return None
        bound = [self._bound(member) for member in members]
        return put_group(self._repository, replace(group, members=bound)).digest

    def _bound(self, member: _Stored) -> GroupMember:
        try:
            manifest = self._repository.snapshot(member.chain, member.snapshot_id)
            root, size_bytes = manifest.root, manifest.size_bytes
        except (Damaged, NoSuchSnapshot) as damage:  # the others are bound to what it was all the same
            log.warning("bound_unread", snapshot_id=member.snapshot_id, reason=str(damage))
            assert member.root is not None  # noqa: S101 - it was archived
            root, size_bytes = member.root, member.size_bytes
        return GroupMember(
            volume_id=member.volume_id,
            chain_id=member.chain.chain_id,
            snapshot_id=member.snapshot_id,
            root=root,
            size_bytes=size_bytes,
            pause_ms=member.pause_ms,
        )

    async def erase(self, snapshot_ids: Collection[str]) -> None:
        """Take snapshots out of the repository with what only they hold, and what an archive of them had begun."""
        found = [await self._ask(partial(_stored, snapshot_id=each)) for each in snapshot_ids]
        stored = [each for each in found if each is not None]
        for each in stored:  # first of all: an archive that was begun may hold one of the others, or another job's
            await self._patiently(partial(give_run_up, self._repository, each.chain, each.run_id, each.snapshot_id))
        for each in stored:
            await self._erase(each)

    async def _erase(self, stored: _Stored) -> None:
        for pause_s in IN_USE.pauses():
            try:
                async with self._chain_lock(stored.chain):
                    await self._note_freed(stored)
                    # A volume may still be restored from it; then it goes when that one needs it no more (`images`).
                    if not await self._ask(lambda session: served.doom(session, stored.snapshot_id)):
                        await self._patiently(lambda: self._take_out(stored.chain, stored.snapshot_id))
                    return
            except InUse as use:
                log.info("deletion_waits", snapshot_id=stored.snapshot_id, reason=str(use))
            await asyncio.sleep(pause_s)

    async def take_out(self, chain: Chain, snapshot_id: str) -> None:
        """
        Take one snapshot out of the repository.

        Raises:
            InUse: An archive builds on it; ask again later.
        """
        async with self._chain_lock(chain):
            await self._patiently(lambda: self._take_out(chain, snapshot_id))

    def _chain_lock(self, chain: Chain) -> asyncio.Lock:
        """One deletion at a time in each chain: what it frees depends on who else is there."""
        return self._chain_locks.setdefault(chain.chain_id, asyncio.Lock())

    async def _note_freed(self, stored: _Stored) -> None:
        freed_bytes = await self._patiently(lambda: self._freed_by(stored))

        def note(session: Session) -> None:
            noted = update(Archive).where(Archive.snapshot_id == stored.snapshot_id)
            session.execute(noted.values(freed_bytes=freed_bytes))

        if freed_bytes is not None:
            await self._ask(note)

    def _freed_by(self, stored: _Stored) -> int | None:
        """Say what a deletion would free; None when it has been begun, or there is nothing."""
        try:
            return plan_deletion(self._repository, stored.chain, stored.snapshot_id).stored_bytes
        except NoSuchSnapshot:
            return None

    def _take_out(self, chain: Chain, snapshot_id: str) -> None:
        try:
            delete_snapshot(self._repository, chain, snapshot_id)
        except NoSuchSnapshot:
            log.info("not_in_repository", snapshot_id=snapshot_id)

    async def collect(self, grace: timedelta = GRACE) -> None:
        """Free what dead runs and interrupted deletions left, once."""
        await self._in_thread(lambda: self._collect(grace))

    def _collect(self, grace: timedelta) -> None:
        plan = plan_collection(self._repository, grace=grace)
        execute(self._repository, plan)
        log.info(
            "collected",
            runs=len(plan.runs),
            run_bytes=plan.run_bytes,
            readers=len(plan.readers),
            deletions=len(plan.deletions),
            unreferenced=len(plan.unreferenced),
            unreadable=[damage.path for damage in plan.unreadable],
        )

    async def collect_for_ever(self, *, every_s: float, grace: timedelta) -> None:
        """Collect now and then; a repository that can't be collected now is collected later."""
        while True:
            try:
                await self.collect(grace)
            except OnecutError as error:
                log.warning("collection_failed", reason=str(error))
            await asyncio.sleep(every_s)

    async def verify(self, share: float) -> None:
        """Read manifests, pages and a random share of the chunks, once, and show damage on the snapshots."""
        report = await self._in_thread(
            lambda: verify(self._repository, sample=share, progress=lambda _chunks: self._stop_when_closed())
        )
        await self._show_damage(report)
        log.info("verified", snapshots=report.snapshots, chunks=report.chunks, damaged=len(report.damaged))

    async def follow_damage(self, snapshot_id: str, damage: Damaged) -> None:
        """Show damage that was met in one snapshot on all of its chain that have it."""
        stored = await self._ask(partial(_stored, snapshot_id=snapshot_id))
        if stored is None:
            return

        def holders() -> Verification:
            return verify(
                self._repository,
                sample=0,
                only=lambda manifest: manifest.chain == stored.chain,
                known=[damage],
                progress=lambda _chunks: self._stop_when_closed(),
            )

        await self._show_damage(await self._patiently(holders))

    async def _show_damage(self, report: Verification) -> None:
        reasons = {each.name: str(Damaged(each.path, each.reason)) for each in reversed(report.findings)}
        damaged = await self._ask(partial(_mark_damaged, reasons={each: reasons[each] for each in report.damaged}))
        for snapshot_id in damaged:
            log.error("repository_damaged", snapshot_id=snapshot_id, reason=reasons[snapshot_id])
            self._metrics.damages.inc()

    async def verify_for_ever(self, *, every_s: float, share: float) -> None:
        """Do so now and then; a repository that can't be read now is verified later."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.verify(share)
            except OnecutError as error:
                log.warning("verification_failed", reason=str(error))

    def _stop_when_closed(self) -> None:
        """Called by the working thread: a verification takes longer than a service that stops can wait."""
        if self._closed.is_set():
            raise RepositoryError("the service stops")

    async def _patiently(self, act: Callable[[], Result]) -> Result:
        return await persist(lambda: self._in_thread(act), self._patience.pauses(), STORE_LATER)

    async def _in_thread(self, act: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, act)

    async def _ask(self, act: Callable[[Session], Result]) -> Result:
        return await transact(self._database, act)


def _mark_damaged(session: Session, reasons: Mapping[str, str]) -> list[str]:
    """
    Note damage, and return the ids of the snapshots that were not known to be damaged.

    One that is being deleted was read while its objects went.
    """
    there = select(Snapshot.id).where(
        Snapshot.id.in_(reasons), Snapshot.fault.is_(None), Snapshot.status.not_in(("deleting", "error_deleting"))
    )
    found = list(session.scalars(there.order_by(Snapshot.id)))
    for snapshot_id in found:
        mark_damaged(session, snapshot_id, reasons[snapshot_id])
    return found


def _stored(session: Session, snapshot_id: str) -> _Stored | None:
    """Say where a snapshot is in the repository, or would be; None when nothing of it was ever sent there."""
    snapshot = session.get(Snapshot, snapshot_id)
    archive = snapshot.archive if snapshot is not None else None
    if snapshot is None or archive is None or archive.chain_id is None or archive.run_id is None:
        return None
    chain = Chain(snapshot.project_id, snapshot.volume_id, archive.chain_id)
    pause_ms = snapshot.cut["pause_ms"] if snapshot.cut else None
    size_bytes = snapshot.size_gib * GiB
    return _Stored(chain, snapshot_id, archive.run_id, snapshot.volume_id, pause_ms, archive.root, size_bytes)


def _group(session: Session, group_id: str) -> tuple[GroupManifest, list[_Stored]] | None:
    """Return a group's manifest without its members, and where they are; None when there is nothing to bind."""
    group = session.get(SnapshotGroup, group_id)
    if group is None or group.cut is None:
        return None
    left = select(Snapshot).where(
        Snapshot.snapshot_group_id == group_id, Snapshot.status.not_in(("deleting", "error_deleting"))
    )
    members = session.scalars(left.order_by(Snapshot.name, Snapshot.id)).all()
    if any(member.archive is None or member.archive.archived_at is None for member in members):
        return None
    manifest = GroupManifest(
        project_id=group.project_id,
        group_id=group.id,
        name=group.name,
        cut_id=group.id,
        cut_at=datetime.fromisoformat(group.cut["taken_at"]).replace(tzinfo=UTC).isoformat(),
        prepare_ms=group.cut["prepare_ms"],
        pause_ms=group.cut["pause_ms"],
        consistency=CONSISTENCY,
        members=(),
    )
    return manifest, [stored for member in members if (stored := _stored(session, member.id)) is not None]
