"""
Putting jobs into the database, and marking what became of them.

::

    INIT ──begin──> RUNNING ──finish──> SUCCESS
                       └──────fail────> FAIL

A job is written in the transaction of the change that asks for it, so there is never one without the other.
Only a top job is begun; its sub jobs (one per member) tell a client what became of each.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import uuid4

from sqlalchemy import bindparam, or_, select
from sqlalchemy.orm import Session

from onecut.db.jobs import Job
from onecut.db.rows import ask_rows, change_rows, changing, write_rows
from onecut.db.session import Database

FAIL_REASON_CHARS = 1024
"""Longest reason that is kept; the log has the rest."""

OPEN: Final = ("INIT", "RUNNING")
"""States of a job that has not ended."""


class OpenJob(NamedTuple):
    """A job that has not ended, as the worker sees it; the fields are those of `onecut.db.jobs.Job`."""

    id: str
    project_id: str
    job_type: str
    step: str | None
    request: dict[str, Any]


# What each step of each job asks and writes: built once.
_ITS_OWN: Final = or_(Job.id == bindparam("of"), Job.parent_id == bindparam("of"))
_OPEN_JOBS: Final = (
    select(*(getattr(Job, name) for name in OpenJob._fields))
    .where(Job.status.in_(OPEN), Job.parent_id.is_(None), Job.id.not_in(bindparam("but", expanding=True)))
    .order_by(Job.created_at, Job.id)
    .limit(bindparam("most"))
)
_BEGUN: Final = (
    changing(Job).where(_ITS_OWN, Job.status == "INIT").values(status="RUNNING", begin_at=bindparam("now"))
)
_STEP: Final = changing(Job).where(Job.id == bindparam("of")).values(step=bindparam("to"))
_MEMBER_DONE: Final = (
    changing(Job)
    .where(Job.parent_id == bindparam("of"), Job.position == bindparam("at"), Job.status.in_(OPEN))
    .values(status="SUCCESS", end_at=bindparam("now"))
)
_ENDED: Final = (
    changing(Job)
    .where(_ITS_OWN, Job.status.in_(OPEN))
    .values(
        status=bindparam("to"),
        end_at=bindparam("now"),
        error_code=bindparam("code"),
        fail_reason=bindparam("reason"),
    )
)


@dataclass(frozen=True)
class SubJob:
    """One member's share of a job that is about to be added."""

    job_type: str
    entities: dict[str, Any]


@dataclass(frozen=True)
class JobOrder:
    """A job that is about to be added."""

    project_id: str
    job_type: str
    request: dict[str, Any]
    entities: dict[str, Any] = field(default_factory=dict)
    sub_jobs: Sequence[SubJob] = ()


def add(session: Session, order: JobOrder, now: datetime) -> str:
    """Add a job and its sub jobs to the open transaction, and return the job's id (32 hex characters)."""
    common = {"project_id": order.project_id, "status": "INIT", "created_at": now}
    job_id = uuid4().hex
    job = {"id": job_id, "job_type": order.job_type, "request": order.request, "entities": order.entities}
    sub_jobs = [
        {
            "id": uuid4().hex,
            "job_type": sub.job_type,
            "request": {},
            "entities": sub.entities,
            "parent_id": job_id,
            "position": position,
        }
        for position, sub in enumerate(order.sub_jobs)
    ]
    write_rows(session, Job, [common | {"parent_id": None, "position": 0} | job, *(common | sub for sub in sub_jobs)])
    session.info["jobs_added"] = True
    return job_id


def ring_when_added(database: Database, ring: Callable[[], None]) -> None:
    """Call *ring*, in the committing thread, after each commit that added a job."""

    def committed(session: Session) -> None:
        if session.info.get("jobs_added", False):
            ring()

    database.when_committed.append(committed)


def tell_when_ended(database: Database, tell: Callable[[str], None]) -> None:
    """Call *tell* with the id of each job that has ended, in the committing thread."""

    def committed(session: Session) -> None:
        for job_id in session.info.get("jobs_ended", ()):
            tell(job_id)

    database.when_committed.append(committed)


def open_jobs(session: Session, *, but: Collection[str], most: int) -> Sequence[OpenJob]:
    """Return the top jobs that have not ended, the oldest first: at most *most* of them, and none of *but*."""
    found = ask_rows(session, _OPEN_JOBS, {"but": list(but), "most": most})
    return [OpenJob(*row) for row in found]


def is_open(session: Session, job_type: str, request: dict[str, Any]) -> bool:
    """Whether a job that asks for just the same has not ended."""
    query = select(Job.request).where(Job.status.in_(OPEN), Job.parent_id.is_(None), Job.job_type == job_type)
    return request in session.scalars(query).all()


def sub_jobs(session: Session, job_id: str) -> Sequence[Job]:
    """Return a job's sub jobs in the order of its members."""
    return session.scalars(select(Job).where(Job.parent_id == job_id).order_by(Job.position)).all()


def begin(session: Session, job_id: str, step: str, now: datetime) -> None:
    """Write down the step that is about to be taken; with the first one the job, and its sub jobs, have begun."""
    change_rows(session, _BEGUN, {"of": job_id, "now": now})
    change_rows(session, _STEP, {"of": job_id, "to": step})


def finish(session: Session, job_id: str, now: datetime) -> None:
    """Mark a job, and those of its sub jobs that have not ended, as done."""
    _end(session, job_id, now, to="SUCCESS")


def finish_member(session: Session, job_id: str, position: int, now: datetime) -> None:
    """Mark one member's share as done while the job goes on; a job without sub jobs has no such share."""
    change_rows(session, _MEMBER_DONE, {"of": job_id, "at": position, "now": now})


def fail(session: Session, job_id: str, now: datetime, *, code: str, reason: str) -> None:
    """Mark a job, and those of its sub jobs that have not ended, as failed."""
    reason = reason[:FAIL_REASON_CHARS]
    _end(session, job_id, now, to="FAIL", code=code, reason=reason)


def _end(
    session: Session, job_id: str, now: datetime, *, to: str, code: str | None = None, reason: str | None = None
) -> None:
    change_rows(session, _ENDED, {"of": job_id, "now": now, "to": to, "code": code, "reason": reason})
    session.info.setdefault("jobs_ended", []).append(job_id)
