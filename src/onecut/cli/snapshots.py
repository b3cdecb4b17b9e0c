"""``onecut snapshot``: one volume at one cut."""

import click

from onecut.cli.client import Api
from onecut.cli.output import json_option, show, show_one

COLUMNS = ("id", "name", "status", "volume_id", "size", "snapshot_group_id", "created_at")


@click.group("snapshot")
def snapshot() -> None:
    """Snapshots: one volume at one cut."""


@snapshot.command("create")
@click.argument("volume")
@click.option("--name", default="", help="Name of the snapshot.")
@json_option
@click.pass_obj
def create(api: Api, volume: str, *, name: str, as_json: bool) -> None:
    """Take a snapshot of VOLUME (name or id)."""
    body = {"snapshot": {"volume_id": api.find("volume", volume), "name": name}}
    answer = api.call("POST", "/v5/{p}/snapshots", body=body)
    api.wait(answer["job_id"], f"taking a snapshot of {volume}")
    show_one(answer, {"id": answer["snapshot_id"]}, as_json=as_json)


@snapshot.command("list")
@click.option("--group", default=None, help="Only members of this group (name or id).")
@click.option("--volume", default=None, help="Only those of this volume (name or id).")
@json_option
@click.pass_obj
def list_(api: Api, *, group: str | None, volume: str | None, as_json: bool) -> None:
    """List snapshots, the newest first."""
    query = {
        "snapshot_group_id": api.find("group", group) if group is not None else None,
        "volume_id": api.find("volume", volume) if volume is not None else None,
    }
    answer = api.call("GET", "/v5/{p}/snapshots/detail", query=query)
    show(answer, answer["snapshots"], COLUMNS, as_json=as_json)


@snapshot.command("show")
@click.argument("name")
@json_option
@click.pass_obj
def show_(api: Api, name: str, *, as_json: bool) -> None:
    """Show the snapshot NAME (or id)."""
    answer = api.call("GET", f"/v5/{{p}}/snapshots/{api.find('snapshot', name)}")
    show_one(answer, answer["snapshot"], as_json=as_json)


@snapshot.command("rollback")
@click.argument("name")
@click.pass_obj
def rollback(api: Api, name: str) -> None:
    """Give the detached volume of the snapshot NAME (or id) its content back."""
    snapshot_id = api.find("snapshot", name)
    volume_id = api.call("GET", f"/v5/{{p}}/snapshots/{snapshot_id}")["snapshot"]["volume_id"]
    body = {"rollback": {"volume_id": volume_id}}
    answer = api.call("POST", f"/v5/{{p}}/snapshots/{snapshot_id}/rollback", body=body)
    api.wait(answer["job_id"], f"rolling back to {name}")


@snapshot.command("delete")
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def delete(api: Api, names: tuple[str, ...]) -> None:
    """Delete the snapshots NAMES (or ids)."""
    for name in names:
        answer = api.call("DELETE", f"/v5/{{p}}/snapshots/{api.find('snapshot', name)}")
        api.wait(answer["job_id"], f"deleting {name}")
