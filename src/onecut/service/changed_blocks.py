"""Which blocks differ between two archived snapshots of a volume."""

from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from onecut.db.archives import Archive
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot
from onecut.errors import BadRequest
from onecut.repository.errors import Damaged
from onecut.repository.image import ChangedBlocks, Image
from onecut.repository.manifest import Chain, snapshot_path
from onecut.repository.repository import Repository
from onecut.service import snapshots

log = structlog.get_logger()


@dataclass(frozen=True)
class Comparison:
    """One page of the blocks in which two snapshots differ."""

    snapshot_id: str
    base_id: str | None
    size_bytes: int
    """Of the newer one's disk."""
    block_bytes: int
    found: ChangedBlocks


def compare(
    database: Database,
    repository: Repository,
    project_id: str,
    snapshot_id: str,
    *,
    base_id: str | None,
    marker: int,
    limit: int,
    now: datetime,
) -> Comparison:
    """
    Return blocks of a snapshot that differ from another's of the same volume, or from zeros without one.

    No transaction is open while the repository is read. Damage that is met is noted on the snapshot.

    Raises:
        NotFound: There is no such snapshot in the project.
        BadRequest: The two are not of the same volume, or one is not archived.
        Damaged: A part of their trees can't be read.
        TryLater: The repository is away.
    """
    with database.reading() as session:
        path = _archived(snapshots.find(session, project_id, snapshot_id))
        base_path = None
        if base_id is not None:
            base_path = _base(session, project_id, base_id, snapshots.find(session, project_id, snapshot_id))
    try:
        image = _image(repository, path)
        base = None if base_path is None else _image(repository, base_path)
        found = image.changed_blocks(base, marker=marker, limit=limit)
    except Damaged as damage:
        _note(database, snapshot_id, damage, now)
        raise
    return Comparison(snapshot_id, base_id, image.size_bytes, image.manifest.chunk_bytes, found)


def _base(session: Session, project_id: str, base_id: str, snapshot: Snapshot) -> str:
    base = snapshots.find(session, project_id, base_id)
    if base.volume_id != snapshot.volume_id:
        raise BadRequest(
            f"base: must be a snapshot of volume {snapshot.volume_id}, as snapshot {snapshot.id} is; "
            f"snapshot {base.id} is of volume {base.volume_id}"
        )
    return _archived(base)


def _archived(snapshot: Snapshot) -> str:
    """Return the name of a snapshot's manifest."""
    archive = snapshot.archive
    if archive is None or archive.archived_at is None or archive.chain_id is None or archive.run_id is None:
        raise BadRequest(f"snapshot {snapshot.id} is not archived; only archived snapshots can be compared")
    return snapshot_path(
        Chain(snapshot.project_id, snapshot.volume_id, archive.chain_id), snapshot.id, archive.run_id
    )


def _image(repository: Repository, path: str) -> Image:
    manifest = repository.read_manifest(path)
    if manifest is None:
        raise repository.explain_missing(path)
    return Image(repository, manifest)


def _note(database: Database, snapshot_id: str, damage: Damaged, now: datetime) -> None:
    """Note damage on the snapshot whose archive wrote the object, or else on the one that was asked about."""
    log.error("repository_damaged", snapshot_id=snapshot_id, path=damage.path, reason=damage.reason)
    with database.writing() as session:
        writer = select(Snapshot).join(Archive, Archive.snapshot_id == Snapshot.id)
        written = writer.where(Archive.run_id.in_(damage.path.replace(".", "/").split("/")))
        snapshot = session.scalar(written.limit(1)) or session.get(Snapshot, snapshot_id)
        if snapshot is not None and snapshot.fault is None:
            snapshot.fault, snapshot.updated_at = str(damage), now
