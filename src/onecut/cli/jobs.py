"""``onecut job``: what became of an accepted request."""

import click

from onecut.cli.client import Api
from onecut.cli.output import json_option, show_one

FIELDS = ("job_id", "job_type", "status", "begin_time", "end_time", "error_code", "fail_reason")


@click.group("job")
def job() -> None:
    """Jobs: what became of an accepted request."""


@job.command("show")
@click.argument("job_id")
@json_option
@click.pass_obj
def show_(api: Api, job_id: str, *, as_json: bool) -> None:
    """Show the job JOB_ID."""
    answer = api.call("GET", f"/v1/{{p}}/jobs/{job_id}")
    show_one(answer, {field: answer[field] for field in FIELDS}, as_json=as_json)


@job.command("wait")
@click.argument("job_id")
@json_option
@click.pass_obj
def wait(api: Api, job_id: str, *, as_json: bool) -> None:
    """Wait until the job JOB_ID has ended; exit with 1 when it failed."""
    answer = api.wait(job_id, f"waiting for job {job_id}")
    show_one(answer, {field: answer[field] for field in FIELDS}, as_json=as_json)
