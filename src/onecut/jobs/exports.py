"""
Making and ending the exports of attachments.

As long as there may be an export there is an attachment row that owns it: a row is written before its export is
made, and goes only after `unexport` has returned. So nothing that can write is ever forgotten.

Clients of an export see the size that the disk had when it was made. So the disk of a volume that is extended while
it is attached grows later: after its export has ended, and before its attachment's row goes.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final

import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from onecut.clock import Clock
from onecut.db.moves import move
from onecut.db.session import Database
from onecut.db.volumes import Attachment, Volume
from onecut.engine.port import Engine
from onecut.errors import EngineDown, EngineError, VolumeUnusable
from onecut.jobs.patience import persist
from onecut.jobs.transaction import read, transact
from onecut.units import GiB

log = structlog.get_logger()

IN_MOTION: Final = frozenset({"attaching", "detaching"})


class Exports:
    """The exports of attachments, made and ended together with what the rows say of them."""

    def __init__(self, engine: Engine, database: Database, clock: Clock, *, pauses_s: Sequence[float]) -> None:
        self._engine, self._database, self._clock, self._pauses_s = engine, database, clock, pauses_s

    async def begin(self, attachment_id: str) -> None:
        """Export a volume for an attachment, and write down the URI; raises as `make` does."""
        query = select(Attachment).where(Attachment.id == attachment_id)
        uri = await self.make(attachment_id, await read(self._database, lambda session: session.scalar(query)))
        await transact(self._database, lambda session: write_uri(session, attachment_id, uri))

    async def make(self, attachment_id: str, attachment: Attachment | None) -> str:
        """
        Export a volume for an attachment, and return the URI, which is still to be written down.

        Args:
            attachment_id: The attachment's id.
            attachment: Its row, as it was just now; None when it is gone.

        Raises:
            EngineError: The export can't be made, or was given up before a crash.
        """
        if attachment is None:
            raise EngineError(f"attachment {attachment_id} had been given up when the service was started again")
        return await persist(lambda: self._engine.export(attachment_id, attachment.volume_id), self._pauses_s)

    async def end(self, attachment_id: str) -> None:
        """
        End an export, and only then its row; one that is gone already is no error.

        A disk that waits for that to grow does so in between. One that can't is detached all the same, and shown in
        `error_extending` with the size that it has: no server has to keep it until there is space.
        """
        await persist(lambda: self._engine.unexport(attachment_id), self._pauses_s)
        grown = await self._catch_up(attachment_id)
        end = partial(_forget, attachment_id=attachment_id, grown=grown, now=self._clock.now())
        await transact(self._database, end)

    async def extend(self, volume_id: str, size_gib: int) -> None:
        """Make the disk of a volume larger, unless it is attached: then `end` does."""
        if not await self.of_volumes([volume_id]):
            await self._grow(volume_id, size_gib)

    async def _catch_up(self, attachment_id: str) -> bool:
        """Make a disk as large as its volume has been since it was attached; False when that can't be done."""
        waiting = (
            select(Volume.id, Volume.size_gib)
            .join(Attachment)
            .where(Attachment.id == attachment_id, Volume.attached_gib.is_not(None), Volume.status != "deleting")
        )
        for volume_id, size_gib in await read(self._database, lambda session: session.execute(waiting).all()):
            try:
                await self._grow(volume_id, size_gib)
            except EngineDown:
                raise
            except EngineError as error:
                log.warning("disk_not_grown", volume_id=volume_id, size_gib=size_gib, reason=str(error))
                return False
        return True

    async def _grow(self, volume_id: str, size_gib: int) -> None:
        await persist(lambda: self._engine.extend_volume(volume_id, size_gib * GiB), self._pauses_s)

    async def of_volumes(self, volume_ids: Iterable[str]) -> Sequence[str]:
        """Return the ids of the volumes' attachments."""
        query = select(Attachment.id).where(Attachment.volume_id.in_(list(volume_ids))).order_by(Attachment.id)
        return await read(self._database, lambda session: session.scalars(query).all())


def _forget(session: Session, attachment_id: str, now: datetime, *, grown: bool) -> None:
    """Remove an attachment. Only a volume that is not shared waits to grow, so it has no other one."""
    its = select(Attachment.volume_id).where(Attachment.id == attachment_id).scalar_subquery()
    waiting = select(Volume).where(Volume.id == its, Volume.attached_gib.is_not(None))
    for volume in session.scalars(waiting.with_for_update(of=Volume)):
        if not grown:
            volume.size_gib = volume.attached_gib or volume.size_gib
            if volume.status == "detaching":  # else its data can't be opened, and it says so
                move(session, Volume, [volume.id], to="error_extending", now=now)
        volume.attached_gib = None
    session.execute(delete(Attachment).where(Attachment.id == attachment_id))


def write_uri(session: Session, attachment_id: str, uri: str) -> None:
    """Write down where an attachment's export is."""
    session.execute(update(Attachment).where(Attachment.id == attachment_id).values(uri=uri))


async def refresh_uris(engine: Engine, database: Database) -> None:
    """Write down the URIs anew where they changed, as they do when the folder of the sockets is moved."""
    served = select(Attachment.id, Attachment.volume_id, Attachment.uri).where(Attachment.uri.is_not(None))
    for attachment_id, volume_id, known in await read(database, lambda session: session.execute(served).all()):
        with suppress(VolumeUnusable):  # its volume is marked as such; the export comes back with its data
            uri = await engine.export(attachment_id, volume_id)
            if uri != known:
                await transact(database, partial(write_uri, attachment_id=attachment_id, uri=uri))


def settle(session: Session, volume_ids: Iterable[str], clock: Clock) -> None:
    """Bring volumes that were being attached or detached to rest: in use as long as an attachment is left."""
    query = select(Volume).where(Volume.id.in_(list(volume_ids)), Volume.status.in_(IN_MOTION))
    for volume in session.scalars(query.order_by(Volume.id).with_for_update(of=Volume)):
        at_rest = "in-use" if volume.attachments else "available"
        move(session, Volume, [volume.id], to=at_rest, now=clock.now(), only_from=IN_MOTION)
