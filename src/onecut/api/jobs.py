"""
Jobs. The path is shared by EVS and ECS, and both versions of it answer alike.

Who asks with ``Prefer: wait=SECONDS`` (RFC 7240, section 4.3) is answered when the job has ended, and need not ask
again and again. Nobody is kept for longer than `WAIT_LIMIT_S`: then the answer is the job as it is.
"""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request
from pydantic import BaseModel, Field

from onecut.api.auth import project_caller
from onecut.api.dependencies import Store
from onecut.api.routing import HANDLERS, Router
from onecut.db.session import Database
from onecut.db.threads import in_thread
from onecut.jobs import queue
from onecut.jobs.endings import Endings
from onecut.service import jobs
from onecut.service.jobs import ShownJob

WAIT_LIMIT_S: Final = 4.0
"""Less than what a stop of the service leaves to requests that are under way."""

LOOK_EVERY_S: Final = 1.0
"""How often it is looked whether another service on the same database has ended the job."""

_WAIT: Final = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)

Preferences = Annotated[
    str,
    Header(
        alias="Prefer",
        description="`wait=SECONDS`: answer when the job has ended, after so many seconds (4 at most) in any case. "
        "Other preferences are ignored (RFC 7240).",
        json_schema_extra={"x-onecut-extension": True},
    ),
]

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
async def show_job(
    project_id: str, job_id: str, database: Store, request: Request, prefer: Preferences = ""
) -> JobView:
    """Tell how far a job is, and what came of it."""
    ask = partial(in_thread, partial(look, database, project_id, job_id), HANDLERS)
    wanted_s = _wait_s(prefer)
    if not wanted_s:
        return await ask()
    endings: Endings = request.app.state.endings
    with endings.of(job_id) as waiting:
        until = asyncio.get_running_loop().time() + wanted_s
        job = await ask()
        while job.status in queue.OPEN and (left_s := until - asyncio.get_running_loop().time()) > 0:
            await waiting.wait(min(left_s, LOOK_EVERY_S))
            job = await ask()
    return job


def _wait_s(prefer: str) -> float:
    """Return how long a client would wait; what is malformed is ignored (RFC 7240, section 2)."""
    found = _WAIT.search(prefer)
    return min(int(found[1]), WAIT_LIMIT_S) if found else 0.0


def look(database: Database, project_id: str, job_id: str) -> JobView:
    """Tell how far a job of a project is now; raises `BadRequest` if there is none (Common.0011)."""
    with database.asking_once() as asker:
        job, sub_jobs = jobs.find(asker, project_id, job_id)
    entities = job.entities
    if sub_jobs:
        entities = {**entities, "sub_jobs": [_view(sub, sub.entities) for sub in sub_jobs]}
    return JobView(**_view(job, entities))


def _view(job: ShownJob, entities: Mapping[str, Any]) -> dict[str, Any]:
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
