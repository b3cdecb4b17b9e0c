"""
Giving a volume to another project: one offers it and hands over a key, the other accepts with it.

Refused is what EVS refuses, a volume with snapshots: they are stored under the keys of the project that took them,
and no other project can read them. So the first snapshot in the new project begins a chain of its own.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import exists, select, update
from sqlalchemy.orm import Session

from onecut.db.deleted_rows import remember
from onecut.db.moves import move
from onecut.db.policies import PolicyVolume
from onecut.db.snapshots import Snapshot
from onecut.db.tags import Tag
from onecut.db.transfers import VolumeTransfer
from onecut.db.volumes import Volume
from onecut.errors import BadRequest, NotFound
from onecut.service import listing, quotas, secrets, volumes
from onecut.service.listing import Page

SORT_COLUMNS: Final = {"created_at": VolumeTransfer.created_at}


@dataclass(frozen=True)
class Offer:
    """A transfer that was just made, and the only time that its key is in plain text."""

    transfer: VolumeTransfer
    auth_key: str


def create(session: Session, project_id: str, volume_id: str, now: datetime, *, name: str) -> Offer:
    """
    Offer a volume to whoever gets the key.

    Raises:
        NotFound: There is no such volume.
        WrongState: It is not `available`.
        BadRequest: It has snapshots, is being filled from one, or has a snapshot policy.
    """
    volume = volumes.find(session, project_id, volume_id, lock=True)
    move(session, Volume, [volume.id], to="awaiting-transfer", now=now)
    if session.scalar(select(exists().where(Snapshot.volume_id == volume.id))):
        raise BadRequest(f"volume_id: volume {volume.id} has snapshots; delete them before it is transferred")
    if session.scalar(select(exists().where(PolicyVolume.volume_id == volume.id))):
        raise BadRequest(f"volume_id: volume {volume.id} has a snapshot policy; disassociate it before")
    if volume.hydration is not None:
        raise BadRequest(
            f"volume_id: volume {volume.id} is still being filled from a snapshot of this project; "
            "wait until that is done"
        )
    key = secrets.new_token()
    transfer = VolumeTransfer(
        id=str(uuid4()),
        project_id=project_id,
        volume_id=volume.id,
        name=name,
        auth_key_sha256=secrets.token_digest(key),
        created_at=now,
    )
    session.add(transfer)
    return Offer(transfer, key)


def find(session: Session, project_id: str, transfer_id: str, *, lock: bool = False) -> VolumeTransfer:
    """
    Return a transfer that the project offers; with *lock* nobody else ends it before the transaction does.

    Raises:
        NotFound: There is none of that id.
    """
    query = select(VolumeTransfer).where(VolumeTransfer.id == transfer_id, VolumeTransfer.project_id == project_id)
    transfer = session.scalar(query.with_for_update() if lock else query)
    if transfer is None:
        raise NotFound("volume transfer", transfer_id)
    return transfer


def list_page(session: Session, project_id: str, page: Page) -> Sequence[VolumeTransfer]:
    """Return one page of the transfers that the project offers."""
    query = select(VolumeTransfer).where(VolumeTransfer.project_id == project_id)
    return listing.rows(
        session, query, page, project_id=project_id, row_id=VolumeTransfer.id, sort_columns=SORT_COLUMNS
    )


def accept(session: Session, project_id: str, transfer_id: str, auth_key: str, now: datetime) -> VolumeTransfer:
    """
    Give the volume of a transfer, with its tags, to the project, and return the transfer, which is over.

    Of the other project nothing stays on the volume: neither the snapshot it was made from nor its enterprise
    project, which are unknown here.

    Raises:
        NotFound: There is no such transfer, or the key is another's: whoever has not got it is told no more.
        QuotaExceeded: The project's quotas have no room for the volume; see `quotas.check_volumes`.
    """
    transfer = session.scalar(select(VolumeTransfer).where(VolumeTransfer.id == transfer_id).with_for_update())
    if transfer is None or not hmac.compare_digest(transfer.auth_key_sha256, secrets.token_digest(auth_key)):
        raise NotFound("volume transfer", transfer_id)
    volume = _bring_back(session, transfer, now)
    remember(session, Volume, [volume.id], now)
    volume.project_id, volume.enterprise_project_id, volume.snapshot_id = project_id, "0", None
    tags = update(Tag).where(Tag.resource_id == volume.id, Tag.resource_type == "volume")
    session.execute(tags.values(project_id=project_id))
    quotas.check_volumes(session, project_id, [volume])
    return transfer


def delete(session: Session, project_id: str, transfer_id: str, now: datetime) -> None:
    """
    Take an offer back.

    Raises:
        NotFound: There is no such transfer.
    """
    _bring_back(session, find(session, project_id, transfer_id, lock=True), now)


def _bring_back(session: Session, transfer: VolumeTransfer, now: datetime) -> Volume:
    """End a transfer, and let its volume be used again."""
    volume = session.get_one(Volume, transfer.volume_id, with_for_update={"of": Volume})
    remember(session, VolumeTransfer, [transfer.id], now)
    session.delete(transfer)
    move(session, Volume, [volume.id], to=volumes.state_at_rest(volume), now=now, only_from={"awaiting-transfer"})
    return volume
