"""
What may be done with servers: what volumes are attached to. Onecut does not run them.

The calls are those of ECS. Its documented codes are used for an unknown server (Ecs.0114) and a wrong parameter
(Ecs.0005); a volume in a wrong state is EVS.5400, and a place that a server can't give is EVS.2134.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import false, func, select
from sqlalchemy.orm import Session

from onecut.db.moves import move
from onecut.db.servers import Server
from onecut.db.volumes import Attachment, Volume
from onecut.errors import BadRequest, NotFound, WrongState
from onecut.jobs import queue
from onecut.jobs.queue import JobOrder, SubJob
from onecut.service import attachments, catalog, deletions, listing, recycle_policy, volumes
from onecut.service.listing import Page

BATCH_MAX: Final = 500
"""Servers of one request (ECS API reference, creating servers)."""

NAME_CHARS: Final = 64

STATUS: Final = "ACTIVE"
"""The status of every server, in ECS's words; one that is being deleted says so by its task state."""

SORT_COLUMNS: Final = {"created_at": Server.created_at}


@dataclass(frozen=True)
class ServerOrder:
    """A server that is about to be added."""

    name: str
    description: str = ""
    availability_zone: str | None = None
    """None is the first zone."""
    enterprise_project_id: str = "0"


@dataclass(frozen=True)
class ServerFilter:
    """Which servers a list holds; None lets every server pass."""

    name: str | None = None
    """A part of the name."""
    status: str | None = None
    enterprise_project_id: str | None = None


@dataclass(frozen=True)
class Target:
    """A server that a volume shall be attached to."""

    server_id: str
    device: str | None = None
    """None is the first free one."""


def create(
    session: Session, project_id: str, order: ServerOrder, now: datetime, *, zones: Sequence[str], count: int = 1
) -> tuple[str, list[str]]:
    """
    Add *count* servers, and return the id of a job and theirs.

    There is nothing to wait for, so the job, which ECS clients ask for, has succeeded already. Several servers are
    named `name-0001` and so on.

    Raises:
        BadRequest: The zone does not exist, or *count* or a name is out of its limits (Ecs.0005).
    """
    zone = order.availability_zone or zones[0]
    catalog.check_zone(zone, zones, code="Ecs.0005")
    if not 1 <= count <= BATCH_MAX:
        raise BadRequest(f"count: must be 1 to {BATCH_MAX}, not {count}", code="Ecs.0005")
    servers = [
        Server(
            id=str(uuid4()),
            project_id=project_id,
            name=name,
            description=order.description,
            availability_zone=zone,
            enterprise_project_id=order.enterprise_project_id,
            created_at=now,
            updated_at=now,
        )
        for name in _names(order.name, count)
    ]
    session.add_all(servers)
    server_ids = [server.id for server in servers]
    sub_jobs = _sub_jobs("createSingleServer", server_ids)
    job = JobOrder(project_id, "createServer", {"server_ids": server_ids}, sub_jobs=sub_jobs)
    job_id = queue.add(session, job, now)
    queue.begin(session, job_id, "create", now)
    queue.finish(session, job_id, now)
    return job_id, server_ids


def find(session: Session, project_id: str, server_id: str) -> Server:
    """
    Return a server of the project.

    Raises:
        NotFound: There is none of that id in this project (Ecs.0114).
    """
    server = session.scalar(select(Server).where(Server.id == server_id, Server.project_id == project_id))
    if server is None:
        raise NotFound("server", server_id, code="Ecs.0114")
    return server


def list_page(session: Session, project_id: str, wanted: ServerFilter, page: Page) -> tuple[Sequence[Server], int]:
    """Return one page of the project's servers that pass a filter, and how many pass it in all."""
    query = select(Server).where(Server.project_id == project_id)
    if wanted.name is not None:
        query = query.where(Server.name.contains(wanted.name, autoescape=True))
    if wanted.status not in {None, STATUS}:
        query = query.where(false())
    if wanted.enterprise_project_id is not None:
        query = query.where(Server.enterprise_project_id == wanted.enterprise_project_id)
    total = session.scalar(select(func.count()).select_from(query.with_only_columns(Server.id).subquery()))
    return listing.rows(
        session, query, page, project_id=project_id, row_id=Server.id, sort_columns=SORT_COLUMNS
    ), total or 0


def attachments_of(session: Session, server_ids: Collection[str]) -> Mapping[str, list[Attachment]]:
    """Return the attachments of several servers by server id, in the order in which they were made."""
    found: dict[str, list[Attachment]] = {server_id: [] for server_id in server_ids}
    query = select(Attachment).where(Attachment.server_id.in_(found))
    for attachment in session.scalars(query.order_by(Attachment.attached_at, Attachment.device)):
        found[attachment.server_id].append(attachment)
    return found


def find_attachment(session: Session, project_id: str, server_id: str, volume_id: str) -> Attachment:
    """
    Return the attachment of a volume to a server of the project.

    Raises:
        NotFound: The server does not exist (Ecs.0114), or the volume is not attached to it.
    """
    find(session, project_id, server_id)
    query = select(Attachment).where(Attachment.server_id == server_id, Attachment.volume_id == volume_id)
    attachment = session.scalar(query)
    if attachment is None:
        raise NotFound(f"attachment to server {server_id} of volume", volume_id)
    return attachment


def update_attachment(
    session: Session, project_id: str, server_id: str, volume_id: str, *, delete_on_termination: bool
) -> None:
    """
    Say whether a volume is deleted with its server.

    Raises:
        NotFound: As `find_attachment`.
    """
    attachment = find_attachment(session, project_id, server_id, volume_id)
    attachment.delete_on_termination = delete_on_termination


def order_attachment(
    session: Session, project_id: str, volume_id: str, targets: Sequence[Target], now: datetime, *, batch: bool
) -> str:
    """
    Order that a volume be attached to servers, and return the job's id.

    Args:
        session: An open writing transaction.
        project_id: Whose volume and servers.
        volume_id: The volume; one with several targets must be shared.
        targets: The servers.
        now: The time on the attachments.
        batch: Whether the batch call was used, whose job has one sub job per server.

    Raises:
        NotFound: The volume or a server does not exist.
        WrongState: The volume is neither detached, nor shared and in use (EVS.5400).
        BadRequest: A server can't give it a place, or it would have too many servers (EVS.2134).
    """
    # Servers before volumes, each in the order of their ids, as in `order_deletion`: nobody waits in a circle.
    targets = sorted(targets, key=lambda target: target.server_id)
    servers = [_locked(session, project_id, target.server_id) for target in targets]
    volume = volumes.find(session, project_id, volume_id, lock=True)
    attachable = {"available", "in-use"} if volume.multiattach else {"available"}
    move(session, Volume, [volume.id], to="attaching", now=now, only_from=attachable)
    _check_sharing(volume, targets)
    added = [
        attachments.place(session, server, volume, now, device=target.device)
        for server, target in zip(servers, targets, strict=True)
    ]
    return _add_job(session, project_id, "attachVolume", added, now, batch="batchAttachVolume" if batch else None)


def order_detachment(
    session: Session,
    project_id: str,
    volume_id: str,
    server_ids: Sequence[str],
    now: datetime,
    *,
    batch: bool,
    force: bool = False,
) -> str:
    """
    Order that a volume be detached from servers, and return the job's id.

    A detached client can't write any more, whatever it does. *force* also detaches a volume that is in `error`
    because its data can't be opened.

    Raises:
        NotFound: The volume or a server does not exist, or the two are not attached.
        WrongState: The volume is not in use (EVS.5400).
    """
    volume = volumes.find(session, project_id, volume_id, lock=True)
    ended = [find_attachment(session, project_id, server_id, volume_id) for server_id in sorted(set(server_ids))]
    if not (force and volume.status == "error"):
        move(session, Volume, [volume.id], to="detaching", now=now)
    return _add_job(session, project_id, "detachVolume", ended, now, batch="batchDetachVolume" if batch else None)


def order_deletion(
    session: Session, project_id: str, server_ids: Sequence[str], now: datetime, *, delete_volumes: bool
) -> str:
    """
    Order that servers be deleted, and return the job's id. Their volumes are detached first.

    A volume is deleted too when *delete_volumes* is set, or its attachment says so, and no other server has it. With
    the recycle bin on it goes there, as in `volumes.order_deletion`.

    Raises:
        NotFound: A server does not exist (Ecs.0114).
        WrongState: A server is being deleted already, or a volume of it is neither in use nor in `error`
            (EVS.5400), or may not be deleted (EVS.1046).
        SnapshotInCreation: A snapshot of a volume that goes too is being created.
    """
    servers = [_locked(session, project_id, server_id) for server_id in sorted(set(server_ids))]
    for server in servers:
        if server.task_state is not None:
            raise WrongState("server", server.id, server.task_state, {STATUS})
        server.task_state, server.updated_at = "deleting", now
    ended = session.scalars(
        select(Attachment).where(Attachment.server_id.in_([server.id for server in servers])).order_by(Attachment.id)
    ).all()
    in_use = {attachment.volume_id for attachment in ended if attachment.volume.status != "error"}
    move(session, Volume, in_use, to="detaching", now=now)
    doomed = _doomed(ended, delete_volumes=delete_volumes)
    for volume_id in doomed:
        volumes.refuse_while_snapshot_is_created(session, volume_id)
    policy = recycle_policy.show(session, project_id)
    old_enough = {attachment.volume_id for attachment in ended if policy.takes(attachment.volume, now)}
    binned = sorted(in_use & old_enough & set(doomed))
    deletions.order_with_volumes(session, set(doomed) - set(binned), now)
    request: dict[str, Any] = {
        "server_ids": [server.id for server in servers],
        "attachment_ids": [attachment.id for attachment in ended],
        "volume_ids": sorted({attachment.volume_id for attachment in ended}),
        "doomed_ids": sorted(set(doomed) - set(binned)),
        "binned_ids": binned,
        "keep_days": policy.keep_days,
    }
    sub_jobs = _sub_jobs("deleteSingleServer", request["server_ids"])
    return queue.add(session, JobOrder(project_id, "deleteServer", request, sub_jobs=sub_jobs), now)


def _locked(session: Session, project_id: str, server_id: str) -> Server:
    server = attachments.locked_server(session, project_id, server_id)
    if server is None:
        raise NotFound("server", server_id, code="Ecs.0114")
    return server


def _names(name: str, count: int) -> list[str]:
    names = [name] if count == 1 else [f"{name}-{number:04}" for number in range(1, count + 1)]
    if len(names[0]) > NAME_CHARS:
        raise BadRequest(f"name: must be at most {NAME_CHARS} characters, is {len(names[0])}", code="Ecs.0005")
    return names


def _check_sharing(volume: Volume, targets: Sequence[Target]) -> None:
    if len(targets) > 1 and not volume.multiattach:
        raise BadRequest(f"serverinfo: volume {volume.id} is not shared; it can have one server", code="EVS.2134")
    if (number := len(volume.attachments) + len(targets)) > attachments.SHARED_SERVERS_MAX:
        limit = f"a shared volume has at most {attachments.SHARED_SERVERS_MAX} servers"
        raise BadRequest(f"serverinfo: {limit}, not {number}", code="EVS.2134")


def _doomed(ended: Sequence[Attachment], *, delete_volumes: bool) -> list[str]:
    """Return the ids of the volumes that go with their servers: no other attachment is left to them."""
    ended_ids = {attachment.id for attachment in ended}
    return sorted(
        {
            attachment.volume_id
            for attachment in ended
            if (delete_volumes or attachment.delete_on_termination)
            and ended_ids.issuperset(other.id for other in attachment.volume.attachments)
        }
    )


def _add_job(
    session: Session,
    project_id: str,
    job_type: str,
    subjects: Sequence[Attachment],
    now: datetime,
    *,
    batch: str | None,
) -> str:
    request = {"attachment_ids": [attachment.id for attachment in subjects], "volume_id": subjects[0].volume_id}
    entities: list[dict[str, Any]] = [
        {"volume_id": attachment.volume_id, "server_id": attachment.server_id} for attachment in subjects
    ]
    if batch is None:
        return queue.add(session, JobOrder(project_id, job_type, request, entities[0]), now)
    sub_jobs = [SubJob(job_type, entity) for entity in entities]
    return queue.add(session, JobOrder(project_id, batch, request, sub_jobs=sub_jobs), now)


def _sub_jobs(job_type: str, server_ids: Sequence[str]) -> list[SubJob]:
    return [SubJob(job_type, {"server_id": server_id}) for server_id in server_ids]
