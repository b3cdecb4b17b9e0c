"""``onecut witness``: does one cut really show one instant? Stamps are written, groups are judged."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import click
from rich.console import Console
from rich.status import Status

from onecut.cli.client import Api
from onecut.cli.output import json_option, show_one
from onecut.cli.volumes import attachments
from onecut.nbd.client import NbdClient
from onecut.witness import run as runs
from onecut.witness.verify import Outcome, Verdict, verify

EXIT_INCONSISTENT = 1
EXIT_NOTHING_TO_JUDGE = 3


@click.group("witness")
def witness() -> None:
    """The write-order witness: stamps on all disks in turn, and a verdict on what a group holds of them."""


@witness.command("run")
@click.option("--server", default=None, help="All volumes attached to this server (name or id).")
@click.option("--volume", "volumes", multiple=True, help="This attached volume; may be given several times.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long to write.",
)
@click.option("--load", type=click.IntRange(0, runs.MOST_LOAD_THREADS), default=0, help="Further random writers.")
@click.option("--yes", is_flag=True, help="Do not ask: the volumes' content is overwritten.")
@json_option
@click.pass_obj
def run(
    api: Api, *, server: str | None, volumes: tuple[str, ...], seconds: float, load: int, yes: bool, as_json: bool
) -> None:
    """Write numbered stamps to volumes in turn, each acknowledged before the next. OVERWRITES their first 64 KiB."""
    uris = _attached_uris(api, server, volumes)
    if not yes:
        what = "everything on" if load else "the first 64 KiB of"
        click.confirm(f"This overwrites {what} {len(uris)} volumes. Go on?", abort=True, err=True)
    with Status("writing stamps", console=Console(stderr=True)) as status:
        report = runs.run(
            uris,
            duration_s=seconds,
            load_threads=load,
            on_progress=lambda at: status.update(f"{at.stamps_written} stamps in {at.seconds:.0f} s"),
        )
    fields = {
        "run": report.run_id,
        "stamps": report.stamps_written,
        "longest write": f"{max(report.longest_write_ms):.1f} ms",
    }
    show_one(dataclasses.asdict(report), fields, as_json=as_json)


@witness.command("verify")
@click.option("--group", "groups", multiple=True, required=True, help="Group to judge (name or id).")
@json_option
@click.pass_context
def verify_(context: click.Context, *, groups: tuple[str, ...], as_json: bool) -> None:
    """
    Say whether a group shows one instant.

    Several groups are judged together as if they were one: disks cut one after another, for a control.
    Exits with 0 when consistent, 1 when not, 3 when there are no stamps.
    """
    api: Api = context.obj
    verdict = judge(api, [api.find("group", group) for group in groups])
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(verdict), indent=2))
    else:
        click.echo(verdict.outcome)
        for violation in verdict.violations:
            click.echo(f"  {violation.sentence}")
    if verdict.outcome is Outcome.INCONSISTENT:
        context.exit(EXIT_INCONSISTENT)
    if verdict.outcome is Outcome.NOTHING_TO_JUDGE:
        context.exit(EXIT_NOTHING_TO_JUDGE)


def judge(api: Api, group_ids: Sequence[str]) -> Verdict:
    """Judge the members of groups together, through new volumes that are gone afterwards."""
    with ExitStack() as stack:
        server_id = stack.enter_context(_temporary_server(api))
        uris = [uri for group_id in group_ids for uri in _open_members(api, group_id, server_id)]
        return verify([stack.enter_context(NbdClient.connect(uri)) for uri in uris])


@contextmanager
def _temporary_server(api: Api) -> Iterator[str]:
    """Make a server, and delete it with all its volumes at the end."""
    answer = api.call("POST", "/v1/{p}/cloudservers", body={"server": {"name": f"witness-{uuid4().hex[:8]}"}})
    api.wait(answer["job_id"], "opening the group")
    server_id: str = answer["serverIds"][0]
    try:
        yield server_id
    finally:
        body = {"servers": [{"id": server_id}], "delete_volume": True}
        api.wait(api.call("POST", "/v1/{p}/cloudservers/delete", body=body)["job_id"], "cleaning up")


def _open_members(api: Api, group_id: str, server_id: str) -> list[str]:
    body = {"volumes": {"server_id": server_id}}
    answer = api.call("POST", f"/v5/{{p}}/snapshot-groups/{group_id}/volumes", body=body)
    api.wait(answer["job_id"], "opening the group")
    return [_uri_at(attachments(api, volume_id), server_id) for volume_id in answer["volume_ids"]]


def _uri_at(found: Sequence[dict[str, Any]], server_id: str) -> str:
    uri: str = next(attachment["uri"] for attachment in found if attachment["server_id"] == server_id)
    return uri


def _attached_uris(api: Api, server: str | None, volumes: Sequence[str]) -> list[str]:
    if (server is None) == (not volumes):
        raise click.UsageError("give either --server or --volume")
    if server is None:
        places = [attachments(api, api.find("volume", volume)) for volume in volumes]
    else:
        query = {"server_id": api.find("server", server), "sort_dir": "asc"}
        places = [
            found["attachments"] for found in api.call("GET", "/v2/{p}/cloudvolumes/detail", query=query)["volumes"]
        ]
    if not places or not all(places):
        raise click.ClickException("the witness writes to attached volumes; attach them first")
    return [place[0]["uri"] for place in places]
