"""
What is decided about the runs that archive snapshots, and what is noted of them.

A run is decided about and written down before it is begun; whatever goes wrong with it is met by another decision.
Each step down is written down too, with its reason: only what changed; all of the disk, compared with the base; all
of it, upon nothing. So no error leads round in a circle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from uuid import uuid4

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from onecut.db.archives import Archive, SnapshotChain
from onecut.db.jobs import Job
from onecut.db.snapshots import Snapshot
from onecut.jobs.points import SOUND
from onecut.repository.manifest import Chain, SnapshotManifest


@dataclass(frozen=True)
class Run:
    """One run, as it was written down."""

    snapshot_id: str
    chain: Chain
    run_id: str
    name: str
    group_id: str | None
    cut_at: datetime
    pause_ms: float
    base_id: str | None
    """The snapshot it builds upon."""
    full_because: str | None
    """Why all of the disk is read; None when only what changed since the base is."""
    extra: Mapping[str, str]
    """What the manifest keeps for whoever finds the repository without the database."""

    @property
    def since(self) -> str | None:
        """The point whose changes are read; None for all of the disk."""
        return self.base_id if self.full_because is None else None


class Turn(Enum):
    """Why a snapshot is not archived now."""

    NOT_WANTED = "archived already, being deleted, or gone"
    NOT_YET = "an older snapshot of the volume comes first"


def decide(session: Session, snapshot_id: str, now: datetime) -> Run | Turn:
    """Return the snapshot's run as it was written down, or decide about it now; or say why there is none."""
    snapshot = session.scalar(select(Snapshot).where(Snapshot.id == snapshot_id).with_for_update(of=Snapshot))
    if snapshot is None or snapshot.archive is None or snapshot.status not in SOUND:
        return Turn.NOT_WANTED
    if snapshot.archive.archived_at is not None or snapshot.archive.failure is not None:
        return Turn.NOT_WANTED
    if (
        session.scalar(_older(snapshot, snapshot.archive, Archive.archived_at.is_(None), Archive.failure.is_(None)))
        is not None
    ):
        return Turn.NOT_YET
    if snapshot.archive.run_id is None:
        _decide(session, snapshot, snapshot.archive, now)
    return _run(snapshot, snapshot.archive)


def _decide(session: Session, snapshot: Snapshot, archive: Archive, now: datetime) -> None:
    base = session.scalar(_older(snapshot, archive, Archive.archived_at.is_not(None)))
    archive.run_id = uuid4().hex
    if base is None:
        _begin_chain(session, snapshot, archive, "no earlier snapshot of the volume is archived", now)
    elif not snapshot.incremental:
        _begin_chain(session, snapshot, archive, "a full snapshot was asked for", now)
    elif (damaged := _damaged_like(session, base)) is not None:
        _begin_chain(session, snapshot, archive, f"snapshot {damaged} before it is damaged", now)
    else:
        assert base.archive is not None  # noqa: S101 - selected so
        archive.chain_id, archive.base_id = base.archive.chain_id, base.id
        if base.point != "held":
            archive.full_because = f"the engine has no point of snapshot {base.id} before it any more"
    session.flush()
    session.refresh(archive)


def _older(snapshot: Snapshot, archive: Archive, *conditions: ColumnElement[bool]) -> Select[Snapshot]:
    """Select the newest of the volume's sound snapshots before *snapshot* that are to be archived."""
    return (
        select(Snapshot)
        .join(Archive, Archive.snapshot_id == Snapshot.id)
        .where(
            Snapshot.volume_id == snapshot.volume_id,
            Snapshot.status.in_(SOUND),
            Archive.id < archive.id,
            *conditions,
        )
        .order_by(Archive.id.desc())
        .limit(1)
    )


def _damaged_like(session: Session, base: Snapshot) -> str | None:
    """Return the newest damaged snapshot of *base*'s chain: the damage may be in what both have."""
    assert base.archive is not None  # noqa: S101 - it is archived
    damaged = (
        select(Snapshot.id)
        .join(Archive, Archive.snapshot_id == Snapshot.id)
        .where(Archive.chain_id == base.archive.chain_id, Snapshot.fault.is_not(None))
    )
    return session.scalar(damaged.order_by(Archive.id.desc()).limit(1))


def _begin_chain(session: Session, snapshot: Snapshot, archive: Archive, reason: str, now: datetime) -> None:
    chain = SnapshotChain(
        id=str(uuid4()),
        project_id=snapshot.project_id,
        volume_id=snapshot.volume_id,
        availability_zone=snapshot.availability_zone,
        created_at=now,
        updated_at=now,
    )
    session.add(chain)
    session.flush()
    archive.chain_id, archive.base_id, archive.full_because = chain.id, None, reason


def _run(snapshot: Snapshot, archive: Archive) -> Run:
    assert snapshot.cut is not None  # noqa: S101 - it is archived after its cut
    assert archive.chain_id is not None  # noqa: S101 - decided
    assert archive.run_id is not None  # noqa: S101 - decided
    return Run(
        snapshot_id=snapshot.id,
        chain=Chain(snapshot.project_id, snapshot.volume_id, archive.chain_id),
        run_id=archive.run_id,
        name=snapshot.name,
        group_id=snapshot.snapshot_group_id,
        cut_at=datetime.fromisoformat(snapshot.cut["taken_at"]).replace(tzinfo=UTC),
        pause_ms=snapshot.cut["pause_ms"],
        base_id=archive.base_id,
        full_because=archive.full_because,
        extra={
            "cut_id": snapshot.cut["id"],
            "volume_type": snapshot.volume_type,
            "availability_zone": snapshot.availability_zone,
        },
    )


def read_all(session: Session, snapshot_id: str, reason: str) -> None:
    """Let the snapshot be archived by a new run that reads all of the disk and compares it with the base."""
    archive = _archive(session, snapshot_id)
    archive.run_id, archive.full_because = uuid4().hex, reason


def build_on_nothing(session: Session, snapshot_id: str, reason: str, now: datetime) -> None:
    """Let the snapshot be archived by a new run that begins a new chain."""
    snapshot, archive = session.get_one(Snapshot, snapshot_id), _archive(session, snapshot_id)
    archive.run_id = uuid4().hex
    _begin_chain(session, snapshot, archive, reason, now)


def _archive(session: Session, snapshot_id: str) -> Archive:
    return session.scalars(select(Archive).where(Archive.snapshot_id == snapshot_id)).one()


def begin_again(session: Session, snapshot_id: str) -> None:
    """Let the snapshot be archived by a new run, otherwise as before."""
    _archive(session, snapshot_id).run_id = uuid4().hex


def give_up(session: Session, snapshot_id: str, reason: str) -> None:
    """Note that a snapshot is not going to be archived; newer ones of its volume need not wait for it."""
    archive = session.scalar(select(Archive).where(Archive.snapshot_id == snapshot_id))
    if archive is not None and archive.archived_at is None:
        archive.failure = reason


def mark_damaged(session: Session, snapshot_id: str, reason: str) -> None:
    """Show that a snapshot is damaged in the repository. Its state stays: what is sound of it can be read."""
    snapshot = session.get(Snapshot, snapshot_id)
    if snapshot is not None:
        snapshot.fault = reason


def record(session: Session, manifest: SnapshotManifest, now: datetime) -> None:
    """Note that a snapshot is in the repository; noting it again changes nothing."""
    snapshot = session.get(Snapshot, manifest.snapshot_id)
    archive = snapshot.archive if snapshot is not None else None
    if snapshot is None or archive is None or archive.archived_at is not None:
        return
    chain = session.get_one(SnapshotChain, manifest.chain.chain_id, with_for_update=True)
    chain.stored_bytes += manifest.added_bytes
    chain.updated_at = now
    archive.archived_at, archive.root, archive.stored_bytes = now, manifest.root, manifest.added_bytes
    snapshot.category = "standard"
    snapshot.progress_percent = 100


def tell_progress(session: Session, percents: Mapping[str, int], job_rows: Mapping[str, str]) -> None:
    """Show how far archives are, on the snapshots and in their jobs: *job_rows* names the one of each snapshot."""
    for snapshot_id, percent in percents.items():
        snapshot = session.get(Snapshot, snapshot_id)
        if snapshot is not None and snapshot.status == "creating":
            snapshot.progress_percent = percent
        job = session.get(Job, job_rows[snapshot_id])
        if job is not None:
            job.entities = job.entities | {"progress": f"{percent}%"}
