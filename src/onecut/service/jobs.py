"""What a client sees of a job."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from onecut.db.jobs import Job
from onecut.errors import BadRequest
from onecut.jobs import queue


def find(session: Session, project_id: str, job_id: str) -> tuple[Job, Sequence[Job]]:
    """
    Return a job of the project, and its sub jobs in the order of its members.

    Raises:
        BadRequest: There is none of that id in this project (Common.0011, as EVS answers).
    """
    job = session.scalar(select(Job).where(Job.id == job_id, Job.project_id == project_id))
    if job is None:
        raise BadRequest(f"job_id: job {job_id} does not exist", code="Common.0011")
    return job, queue.sub_jobs(session, job_id)
