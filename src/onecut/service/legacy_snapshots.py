"""
What may be done with legacy snapshots: those of the cloudsnapshots and Cinder calls.

A legacy snapshot is a point of the engine and is never archived, so it is there at once, and goes with its volume.
The older calls know no others; the v5 calls show, roll back and delete both kinds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume
from onecut.errors import BadRequest, NotFound, WrongState
from onecut.jobs import queue
from onecut.jobs import snapshots as snapshot_jobs
from onecut.service import deletions, quotas, snapshots, volumes
from onecut.service.listing import Page
from onecut.service.snapshots import NewSnapshot, SnapshotFilter
from onecut.states import VOLUME_CUTTABLE

LEGACY_MAX: Final = 7
"""Legacy snapshots of one volume (EVS user guide)."""

REFUSED_ACTIONS: Final[Mapping[str, str]] = {
    "os-reset_status": "a state follows from what was done with the snapshot; it can't be set",
    "os-update_snapshot_status": "a state follows from what was done with the snapshot; it can't be set",
    "os-unmanage": "a snapshot's data is nobody else's",
}
"""Cinder's actions on snapshots that make no sense here, and why."""


@dataclass(frozen=True)
class NewLegacySnapshot:
    """A legacy snapshot that is asked for."""

    volume_id: str
    name: str = ""
    description: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    force: bool = False
    """Whether the volume may be attached."""


@dataclass(frozen=True)
class Listed:
    """One page of a list of legacy snapshots."""

    snapshots: Sequence[Snapshot]
    total: int
    """How many pass the filter, on this page or not."""
    more: bool
    """Whether there is a page behind this one."""


def create(session: Session, project_id: str, wanted: NewLegacySnapshot, now: datetime) -> Snapshot:
    """
    Order a legacy snapshot of one volume, and return it.

    It may be taken while another snapshot of the volume is being created: EVS limits standard ones only.

    Raises:
        NotFound: There is no such volume.
        WrongState: The volume is neither `available` nor `in-use`.
        BadRequest: It is attached and *force* is not given, or it has as many legacy snapshots as it may.
        QuotaExceeded: The project would have too many snapshots.
    """
    volume = volumes.find(session, project_id, wanted.volume_id, lock=True)
    _check_volume(session, volume, force=wanted.force)
    standard = NewSnapshot(
        volume.id,
        wanted.name,
        wanted.description,
        incremental=False,
        enterprise_project_id=volume.enterprise_project_id,
    )
    snapshot = Snapshot(
        **snapshots.fields(volume, standard, None, now), legacy=True, metadata_=dict(wanted.metadata), archive=None
    )
    session.add(snapshot)
    session.flush()
    quotas.check_snapshots(session, project_id, {volume.volume_type})
    queue.add(session, snapshot_jobs.create_legacy_order(project_id, volume.id, snapshot.id), now)
    return snapshot


def _check_volume(session: Session, volume: Volume, *, force: bool) -> None:
    if volume.status not in VOLUME_CUTTABLE:
        raise WrongState("volume", volume.id, volume.status, VOLUME_CUTTABLE)
    if volume.status == "in-use" and not force:
        raise BadRequest(f"force: must be true for volume {volume.id}, which is in-use")
    same_volume = (Snapshot.volume_id == volume.id, Snapshot.legacy, Snapshot.status != "error")
    count = session.scalar(select(func.count()).select_from(Snapshot).where(*same_volume)) or 0
    if count >= LEGACY_MAX:
        raise BadRequest(f"volume {volume.id} has {count} legacy snapshots; the limit is {LEGACY_MAX}")


def find(session: Session, project_id: str, snapshot_id: str) -> Snapshot:
    """
    Return a legacy snapshot of the project.

    Raises:
        NotFound: There is none of that id in this project; a standard snapshot is none.
    """
    snapshot = snapshots.find(session, project_id, snapshot_id)
    if not snapshot.legacy:
        raise NotFound("snapshot", snapshot_id)
    return snapshot


def list_page(session: Session, project_id: str, wanted: SnapshotFilter, page: Page) -> Listed:
    """
    Return one page of the project's legacy snapshots that pass a filter.

    Raises:
        BadRequest: More ids than a list takes (EVS.2228), or an unknown marker (EVS.1024).
    """
    legacy = replace(wanted, legacy=True)
    found = snapshots.list_page(session, project_id, legacy, replace(page, limit=page.limit + 1))
    total = snapshots.count(session, project_id, legacy)
    return Listed(found[: page.limit], total, len(found) > page.limit)


def update(
    session: Session, project_id: str, snapshot_id: str, now: datetime, *, name: str | None, description: str | None
) -> Snapshot:
    """
    Give a legacy snapshot another name or description; None leaves one as it is.

    Raises:
        NotFound: There is no such legacy snapshot.
        WrongState: Something is being done with it.
    """
    find(session, project_id, snapshot_id)
    return snapshots.update(
        session, project_id, snapshot_id, now, name=name, description=description, instant_access=None
    )


def find_metadata(session: Session, project_id: str, snapshot_id: str) -> dict[str, str]:
    """Return a legacy snapshot's metadata; raises `NotFound`."""
    return find(session, project_id, snapshot_id).metadata_


def put_metadata(
    session: Session, project_id: str, snapshot_id: str, now: datetime, wanted: Mapping[str, str]
) -> dict[str, str]:
    """Add metadata to a legacy snapshot's, and return all of it; raises as `update` does."""
    snapshot = _touched(session, project_id, snapshot_id, now)
    snapshot.metadata_ = snapshot.metadata_ | dict(wanted)
    return snapshot.metadata_


def replace_metadata(
    session: Session, project_id: str, snapshot_id: str, now: datetime, wanted: Mapping[str, str]
) -> dict[str, str]:
    """Let a legacy snapshot have this metadata and no other, and return it; raises as `update` does."""
    snapshot = _touched(session, project_id, snapshot_id, now)
    snapshot.metadata_ = dict(wanted)
    return snapshot.metadata_


def remove_metadata(session: Session, project_id: str, snapshot_id: str, now: datetime, key: str) -> None:
    """Remove one key, which must be there (`NotFound`); raises as `update` does."""
    snapshot = _touched(session, project_id, snapshot_id, now)
    if key not in snapshot.metadata_:
        raise NotFound("metadata key", key)
    snapshot.metadata_ = {other: value for other, value in snapshot.metadata_.items() if other != key}


def _touched(session: Session, project_id: str, snapshot_id: str, now: datetime) -> Snapshot:
    """Lock a legacy snapshot that is about to change, and date the change; raises as `update` does."""
    return update(session, project_id, snapshot_id, now, name=None, description=None)


def order_deletion(session: Session, project_id: str, snapshot_id: str, now: datetime) -> None:
    """
    Order the deletion of a legacy snapshot.

    Raises:
        NotFound: There is no such legacy snapshot.
        WrongState, BadRequest: See `deletions.order`.
    """
    find(session, project_id, snapshot_id)
    deletions.order(session, snapshots.find(session, project_id, snapshot_id, lock=True), now)


def order_rollback(session: Session, project_id: str, snapshot_id: str, now: datetime, *, volume_id: str) -> None:
    """Order that a legacy snapshot's volume gets its content again; raises as `snapshots.order_rollback` does."""
    find(session, project_id, snapshot_id)
    snapshots.order_rollback(session, project_id, snapshot_id, now, volume_id=volume_id)


def refuse_action(session: Session, project_id: str, snapshot_id: str, action: str) -> None:
    """Refuse an action that makes no sense here, or that nobody knows. Raises `NotFound` before that."""
    find(session, project_id, snapshot_id)
    raise BadRequest(f"{action}: {REFUSED_ACTIONS.get(action, 'there is no such action on a snapshot')}")
