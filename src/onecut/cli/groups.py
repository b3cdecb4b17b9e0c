"""``onecut group``: one cut across many volumes, and the way back."""

from typing import Any

import click

from onecut.cli.client import Api
from onecut.cli.output import json_option, show, show_one

COLUMNS = ("id", "name", "status", "server_id", "created_at", "tags")
MEMBER_COLUMNS = ("id", "name", "status", "volume_id", "size", "progress")


@click.group("group")
def group() -> None:
    """Snapshot groups: one cut across many volumes while they are written to."""


@group.command("create")
@click.option("--server", default=None, help="All volumes attached to this server (name or id).")
@click.option("--volume", "volumes", multiple=True, help="This volume (name or id); may be given several times.")
@click.option("--name", default="", help="Name of the group.")
@click.option("--description", default="", help="Description of the group.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag; may be given several times.")
@click.option("--instant-access", is_flag=True, help="Keep the points beside the disks, for use at once.")
@click.option("--full", is_flag=True, help="Full snapshots instead of incremental ones.")
@json_option
@click.pass_obj
def create(
    api: Api,
    *,
    server: str | None,
    volumes: tuple[str, ...],
    name: str,
    description: str,
    tags: tuple[str, ...],
    instant_access: bool,
    full: bool,
    as_json: bool,
) -> None:
    """Take one cut across volumes, and wait for it."""
    wanted: dict[str, Any] = {
        "name": name,
        "description": description,
        "instant_access": instant_access,
        "incremental": not full,
        "tags": dict(tag.partition("=")[::2] for tag in tags),
    }
    if server is not None:
        wanted["server_id"] = api.find("server", server)
    if volumes:
        wanted["volume_ids"] = [api.find("volume", volume) for volume in volumes]
    answer = api.call("POST", "/v5/{p}/snapshot-groups", body={"snapshot_group": wanted})
    job = api.wait(answer["job_id"], "cutting")
    cut = job["entities"]["cut"]
    fields = {
        "id": answer["snapshot_group_id"],
        "members": len(job["entities"]["sub_jobs"]),
        "taken at": cut["taken_at"],
        "longest pause": f"{cut['pause_ms']:.1f} ms",
    }
    show_one(answer | {"cut": cut}, fields, as_json=as_json)


@group.command("list")
@json_option
@click.pass_obj
def list_(api: Api, *, as_json: bool) -> None:
    """List snapshot groups, the newest first."""
    answer = api.call("GET", "/v5/{p}/snapshot-groups/detail")
    show(answer, answer["snapshot_groups"], COLUMNS, as_json=as_json)


@group.command("show")
@click.argument("name")
@json_option
@click.pass_obj
def show_(api: Api, name: str, *, as_json: bool) -> None:
    """Show the group NAME (or id) and its members."""
    answer = api.call("GET", f"/v5/{{p}}/snapshot-groups/{api.find('group', name)}")
    found = answer["snapshot_group"]
    members = api.call("GET", "/v5/{p}/snapshots/detail", query={"snapshot_group_id": found["id"]})["snapshots"]
    show_one(answer | {"snapshots": members}, {column: found[column] for column in COLUMNS}, as_json=as_json)
    if not as_json:
        click.echo()
        show(members, members, MEMBER_COLUMNS, as_json=False)


@group.command("rollback")
@click.argument("name")
@click.option("--no-undo", is_flag=True, help="Do not keep the state before as a group of its own.")
@json_option
@click.pass_obj
def rollback(api: Api, name: str, *, no_undo: bool, as_json: bool) -> None:
    """Give all volumes of the group NAME (or id) its content back: all of them, or none. They must be detached."""
    path = f"/v5/{{p}}/snapshot-groups/{api.find('group', name)}/rollback"
    answer = api.call("POST", path, body={"rollback": {"undo": not no_undo}})
    api.wait(answer["job_id"], f"rolling back to {name}")
    show_one(answer, {"undo group": answer.get("undo_snapshot_group_id") or "none"}, as_json=as_json)


@group.command("volumes")
@click.argument("name")
@click.option("--name", "volume_name", default="", help="Name of the new volumes.")
@click.option("--server", default=None, help="Attach them to this server (name or id).")
@json_option
@click.pass_obj
def volumes_(api: Api, name: str, *, volume_name: str, server: str | None, as_json: bool) -> None:
    """Make new volumes from all members of the group NAME (or id)."""
    wanted = {"name": volume_name} | ({"server_id": api.find("server", server)} if server is not None else {})
    path = f"/v5/{{p}}/snapshot-groups/{api.find('group', name)}/volumes"
    answer = api.call("POST", path, body={"volumes": wanted})
    api.wait(answer["job_id"], f"making volumes from {name}")
    show(answer, [{"id": volume_id} for volume_id in answer["volume_ids"]], ["id"], as_json=as_json)


@group.command("delete")
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def delete(api: Api, names: tuple[str, ...]) -> None:
    """Delete the groups NAMES (or ids) and their snapshots."""
    for name in names:
        answer = api.call("DELETE", f"/v5/{{p}}/snapshot-groups/{api.find('group', name)}")
        api.wait(answer["job_id"], f"deleting {name}")
