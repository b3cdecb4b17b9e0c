"""A volume's place at a server: who may have one, and under which device name."""

import itertools
import string
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from onecut.db.servers import Server
from onecut.db.volumes import Attachment, Volume
from onecut.errors import BadRequest

SERVER_DISKS_MAX: Final = 128
"""Disks of one server: twice what one snapshot group holds. (ECS itself allows 24 or 60, by flavor.)"""

SHARED_SERVERS_MAX: Final = 16
"""Servers of one shared disk (EVS user guide, shared disks)."""


def device_names() -> Iterator[str]:
    """Give device names in their order: ``/dev/vda`` to ``/dev/vdz``, then ``/dev/vdaa`` and so on."""
    letters = string.ascii_lowercase
    for name in itertools.chain(letters, (first + second for first in letters for second in letters)):
        yield f"/dev/vd{name}"


def locked_server(session: Session, project_id: str, server_id: str) -> Server | None:
    """Return a server of the project and hold it until the transaction ends; None when there is none."""
    query = select(Server).where(Server.id == server_id, Server.project_id == project_id)
    return session.scalar(query.with_for_update())


def place_new(
    session: Session, project_id: str, server_id: str, volumes: Sequence[Volume], now: datetime
) -> list[Attachment]:
    """
    Give volumes that are about to be made their places at a server, in their order.

    Raises:
        BadRequest: The server does not exist (EVS.2131); see `place` for the others.
    """
    server = locked_server(session, project_id, server_id)
    if server is None:
        raise BadRequest(f"server_id: server {server_id} does not exist", code="EVS.2131")
    return [place(session, server, volume, now) for volume in volumes]


def place(
    session: Session, server: Server, volume: Volume, now: datetime, *, device: str | None = None
) -> Attachment:
    """
    Give a volume a place at a server that the transaction holds: *device*, or the first free one.

    Raises:
        BadRequest: The server is being deleted, lies in another zone, has the volume already, has no place left, or
            has another disk at *device* (all EVS.2134).
    """
    if server.task_state is not None:
        raise _refusal(f"server {server.id} is {server.task_state}")
    if server.availability_zone != volume.availability_zone:
        raise _refusal(
            f"volume {volume.id} is in {volume.availability_zone}, server {server.id} in {server.availability_zone}"
        )
    present = session.scalars(select(Attachment).where(Attachment.server_id == server.id)).all()
    if any(attachment.volume_id == volume.id for attachment in present):
        raise _refusal(f"volume {volume.id} is attached to server {server.id} already")
    if len(present) >= SERVER_DISKS_MAX:
        raise _refusal(f"server {server.id} has {len(present)} disks; the limit is {SERVER_DISKS_MAX}")
    taken = {attachment.device for attachment in present}
    if device in taken:
        raise _refusal(f"device: {device} of server {server.id} is taken")
    attachment = Attachment(
        id=str(uuid4()),
        volume=volume,
        server=server,
        device=device or next(name for name in device_names() if name not in taken),
        attached_at=now,
    )
    session.add(attachment)
    session.flush()
    return attachment


def _refusal(message: str) -> BadRequest:
    return BadRequest(message, code="EVS.2134")
