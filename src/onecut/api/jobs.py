"""Jobs. The path is shared by EVS and ECS, and both versions of it answer alike."""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel, Field

from onecut.api.auth import project_caller
from onecut.api.dependencies import Reading
from onecut.api.routing import Router
from onecut.db.jobs import Job
from onecut.service import jobs

router = Router(tags=["jobs"], dependencies=[Depends(project_caller)])


class SubJobView(BaseModel):
    """One member's share of a job."""

    status: Annotated[str, Field(description="INIT, RUNNING, SUCCESS or FAIL.")]
    job_id: str
    job_type: str
    begin_time: str
    end_time: Annotated[str, Field(description="Empty while the job has not ended.")]
    error_code: str | None
    fail_reason: str | None
    entities: Annotated[dict[str, Any], Field(description="What the job is about.")]


class JobView(SubJobView):
    """A job; `entities.sub_jobs` holds the members' shares when there are several."""


@router.get("/v1/{project_id}/jobs/{job_id}", summary="Show a job")
@router.get("/v2/{project_id}/jobs/{job_id}", summary="Show a job")
def show_job(project_id: str, job_id: str, session: Reading) -> JobView:
    """Tell how far a job is, and what came of it."""
    job, sub_jobs = jobs.find(session, project_id, job_id)
    entities = job.entities
    if sub_jobs:
        entities = entities | {"sub_jobs": [_view(sub, sub.entities) for sub in sub_jobs]}
    return JobView(**_view(job, entities))


def _view(job: Job, entities: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": job.status,
        "job_id": job.id,
        "job_type": job.job_type,
        "begin_time": _time(job.begin_at or job.created_at),
        "end_time": "" if job.end_at is None else _time(job.end_at),
        "error_code": job.error_code,
        "fail_reason": job.fail_reason,
        "entities": entities,
    }


def _time(moment: datetime) -> str:
    """Print a moment as the job API does, unlike the rest of EVS: ``2026-01-15T22:10:05.120Z``."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
