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
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from onecut.db.jobs import Job
from onecut.db.rows import write_rows
from onecut.db.session import Database

FAIL_REASON_CHARS = 1024
"""Longest reason that is kept; the log has the rest."""

OPEN: Final = ("INIT", "RUNNING")
"""States of a job that has not ended."""


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
        if session.info.pop("jobs_added", False):
            ring()

    database.when_committed.append(committed)


def open_jobs(session: Session, *, but: Collection[str] = (), most: int | None = None) -> Sequence[Job]:
    """Return the top jobs that have not ended, the oldest first: at most *most* of them, and none of *but*."""
    query = select(Job).where(Job.status.in_(OPEN), Job.parent_id.is_(None), Job.id.not_in(but))
    return session.scalars(query.order_by(Job.created_at, Job.id).limit(most)).all()


def is_open(session: Session, job_type: str, request: dict[str, Any]) -> bool:
    """Whether a job that asks for just the same has not ended."""
    return any(job.job_type == job_type and job.request == request for job in open_jobs(session))


def sub_jobs(session: Session, job_id: str) -> Sequence[Job]:
    """Return a job's sub jobs in the order of its members."""
    return session.scalars(select(Job).where(Job.parent_id == job_id).order_by(Job.position)).all()


def begin(session: Session, job_id: str, step: str, now: datetime) -> None:
    """Write down the step that is about to be taken; with the first one the job, and its sub jobs, have begun."""
    session.execute(
        update(Job)
        .where((Job.id == job_id) | (Job.parent_id == job_id), Job.status == "INIT")
        .values(status="RUNNING", begin_at=now)
    )
    session.execute(update(Job).where(Job.id == job_id).values(step=step))


def finish(session: Session, job_id: str, now: datetime) -> None:
    """Mark a job, and those of its sub jobs that have not ended, as done."""
    session.execute(_unended(job_id).values(status="SUCCESS", end_at=now))


def finish_member(session: Session, job_id: str, position: int, now: datetime) -> None:
    """Mark one member's share as done while the job goes on; a job without sub jobs has no such share."""
    session.execute(
        update(Job)
        .where(Job.parent_id == job_id, Job.position == position, Job.status.in_(OPEN))
        .values(status="SUCCESS", end_at=now)
    )


def fail(session: Session, job_id: str, now: datetime, *, code: str, reason: str) -> None:
    """Mark a job, and those of its sub jobs that have not ended, as failed."""
    reason = reason[:FAIL_REASON_CHARS]
    session.execute(_unended(job_id).values(status="FAIL", end_at=now, error_code=code, fail_reason=reason))


def _unended(job_id: str) -> Any:  # noqa: ANN401 - SQLAlchemy's Update, whose values are set by the callers
    return update(Job).where((Job.id == job_id) | (Job.parent_id == job_id), Job.status.in_(OPEN))
