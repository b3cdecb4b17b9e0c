"""What a client sees of a job."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, or_, select

from onecut.db.jobs import Job
from onecut.db.session import Asker
from onecut.errors import BadRequest


class ShownJob(NamedTuple):
    """What is shown of a job; the fields are those of `onecut.db.jobs.Job`."""

    id: str
    job_type: str
    status: str
    entities: Mapping[str, Any]
    error_code: str | None
    fail_reason: str | None
    created_at: datetime
    begin_at: datetime | None
    end_at: datetime | None


# Asked again and again by whoever waits for a job: built once, and read as rows. The job comes before its sub jobs.
_JOB: Final = (
    select(*(getattr(Job, name) for name in ShownJob._fields))
    .where(
        Job.project_id == bindparam("project_id"),
        or_(Job.id == bindparam("job_id"), Job.parent_id == bindparam("job_id")),
    )
    .order_by(Job.id != bindparam("job_id"), Job.position)
)


def find(asker: Asker, project_id: str, job_id: str) -> tuple[ShownJob, Sequence[ShownJob]]:
    """
    Return a job of the project, and its sub jobs in the order of its members.

    Raises:
        BadRequest: There is none of that id in this project (Common.0011, as EVS answers).
    """
    found = [ShownJob(*row) for row in asker.execute(_JOB, {"project_id": project_id, "job_id": job_id})]
    if not found or found[0].id != job_id:
        raise BadRequest(f"job_id: job {job_id} does not exist", code="Common.0011")
    return found[0], found[1:]
