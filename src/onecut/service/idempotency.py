"""
Creating once, however often a client asks: the header ``X-Client-Token`` (EVS API reference, creating disks).

The token is written in the transaction of the creation, so there is never one without the other. Of equal requests at
the same time the database lets one through; the others wait for the end of its transaction and repeat its reply, no
matter how far its job is. A request that is refused leaves no token.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from onecut.db.client_tokens import ClientToken
from onecut.db.identity import Project
from onecut.db.session import Database
from onecut.db.volumes import Volume
from onecut.errors import BadRequest

log = structlog.get_logger()

VALID_FOR: Final = timedelta(hours=8)
"""How long after its first use a token repeats the reply (EVS API reference)."""

KNOWN_FOR: Final = timedelta(days=7)
"""How long it is told from a new one. A client that asks again after a long weekend gets no second volume."""

Reply = tuple[str, list[str]]
"""The id of the job, and those of the volumes."""


@dataclass(frozen=True)
class ClientRequest:
    """A request that its client has named."""

    token: str
    """A UUID in lower case."""
    path: str
    """Of its URL, with the project."""
    body: bytes
    """JSON."""

    def body_sha256(self) -> str:
        """Return the digest of the body, whatever its spaces and the order of its keys."""
        canonical = json.dumps(json.loads(self.body), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def once(
    session: Session, project_id: str, request: ClientRequest, now: datetime, create: Callable[[], Reply]
) -> Reply:
    """
    Call *create*, or return what it returned when the request's token was first used.

    Raises:
        BadRequest: The token was used for another URL, project or body (EVS.2219), or more than 8 hours ago
            (EVS.2220), or a volume that it made is gone, or in the recycle bin (EVS.2222).
    """
    domain_id = session.get_one(Project, project_id).domain_id
    claim = ClientToken(
        domain_id=domain_id,
        token=request.token,
        path=request.path,
        body_sha256=request.body_sha256(),
        created_at=now,
    )
    try:
        with session.begin_nested():
            session.add(claim)
    except IntegrityError:
        return _repeat(session, project_id, request, session.get_one(ClientToken, (domain_id, request.token)), now)
    claim.job_id, claim.volume_ids = create()
    return claim.job_id, claim.volume_ids


def _repeat(session: Session, project_id: str, request: ClientRequest, first: ClientToken, now: datetime) -> Reply:
    for part, asked, used in (
        ("URL", request.path, first.path),
        ("body", request.body_sha256(), first.body_sha256),
    ):
        if asked != used:
            raise BadRequest(
                f"X-Client-Token: {request.token} was first used with another {part}; take a new one", code="EVS.2219"
            )
    if now - first.created_at > VALID_FOR:
        hours = VALID_FOR // timedelta(hours=1)
        raise BadRequest(
            f"X-Client-Token: {request.token} was first used more than {hours} hours ago; take a new one",
            code="EVS.2220",
        )
    of_the_project = Volume.project_id == project_id, Volume.pre_deleted_at.is_(None)
    there = select(func.count()).where(Volume.id.in_(first.volume_ids), *of_the_project)
    if (number := session.scalar(there)) != len(first.volume_ids):
        raise BadRequest(
            f"X-Client-Token: of the {len(first.volume_ids)} volumes that {request.token} made, {number} are left",
            code="EVS.2222",
        )
    return first.job_id, first.volume_ids


def forget(database: Database, now: datetime) -> None:
    """Remove the tokens that need not be known any more."""
    with database.writing() as session:
        old = delete(ClientToken).where(ClientToken.created_at < now - KNOWN_FOR).returning(ClientToken.token)
        number = len(session.scalars(old).all())
    if number:
        log.info("client_tokens_forgotten", number=number)
