"""``onecut policy``: snapshots that are taken by themselves."""

from typing import Any

import click

from onecut.cli.client import Api
from onecut.cli.output import json_option, show, show_one

COLUMNS = ("id", "name", "days", "hours", "retention_days", "created_at", "tags")
SHARE_COLUMNS = ("due_at", "volume_id", "status", "snapshot_id", "reason")

volumes_option = click.option(
    "--volume", "volumes", multiple=True, required=True, help="This volume (name or id); may be given several times."
)


@click.group("policy")
def policy() -> None:
    """Snapshot policies: snapshots that are taken by themselves, and deleted in time."""


@policy.command("create")
@click.argument("name")
@click.option(
    "--hour",
    "hours",
    type=click.IntRange(0, 23),
    multiple=True,
    required=True,
    help="Hour of the day in UTC+8; may be given several times.",
)
@click.option(
    "--weekday",
    "weekdays",
    type=click.IntRange(1, 7),
    multiple=True,
    help="Day of the week, 1 is Monday; may be given several times.",
)
@click.option("--every", "interval_days", type=click.IntRange(1, 30), default=None, help="Every so many days.")
@click.option(
    "--keep", "retention_days", type=int, required=True, help="Days until a snapshot is deleted; -1: never."
)
@click.option("--volume", "volumes", multiple=True, help="This volume (name or id); may be given several times.")
@click.option("--server", default=None, help="All volumes that are attached to this server now (name or id).")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag; may be given several times.")
@json_option
@click.pass_obj
def create(
    api: Api,
    *,
    name: str,
    hours: tuple[int, ...],
    weekdays: tuple[int, ...],
    interval_days: int | None,
    retention_days: int,
    volumes: tuple[str, ...],
    server: str | None,
    tags: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make a policy called NAME, of the days given by --weekday or --every."""
    volume_ids = [api.find("volume", volume) for volume in volumes]
    if server is not None:
        query = {"server_id": api.find("server", server)}
        volume_ids += [
            found["id"] for found in api.call("GET", "/v2/{p}/cloudvolumes/detail", query=query)["volumes"]
        ]
    wanted: dict[str, Any] = {
        "name": name,
        "time_points": [str(hour) for hour in hours],
        "retention_days": retention_days,
        "tags": dict(tag.partition("=")[::2] for tag in tags),
    }
    if weekdays:
        wanted["repeat_weekdays"] = [str(day) for day in weekdays]
    if interval_days is not None:
        wanted["repeat_interval_days"] = interval_days
    answer = api.call("POST", "/v5/{p}/snapshot-policies", body={"snapshot_policy": wanted})
    made = answer["snapshot_policy"]
    if volume_ids:
        api.call("POST", f"/v5/{{p}}/snapshot-policies/{made['id']}/associate", body=volume_ids)
    show_one(answer, {"id": made["id"], "volumes": len(volume_ids)}, as_json=as_json)


@policy.command("list")
@json_option
@click.pass_obj
def list_(api: Api, *, as_json: bool) -> None:
    """List policies, the newest first."""
    answer = api.call("GET", "/v5/{p}/snapshot-policies")
    show(answer, [_row(found) for found in answer["snapshot_policies"]], COLUMNS, as_json=as_json)


@policy.command("show")
@click.argument("name")
@json_option
@click.pass_obj
def show_(api: Api, name: str, *, as_json: bool) -> None:
    """Show the policy NAME (or id), and what became of each volume at the latest time points."""
    answer = api.call("GET", f"/v5/{{p}}/snapshot-policies/{api.find('policy', name)}")
    row, told = _row(answer["snapshot_policy"]), answer["snapshot_policy"]["onecut"]
    fields = {column: row[column] for column in COLUMNS} | {
        "next_at": told["next_at"],
        "volumes": ", ".join(told["volume_ids"]),
    }
    show_one(answer, fields, as_json=as_json)
    if not as_json:
        shares = [share | {"due_at": run["due_at"]} for run in told["runs"] for share in run["volumes"]]
        click.echo()
        show(shares, shares, SHARE_COLUMNS, as_json=False)


@policy.command("associate")
@click.argument("name")
@volumes_option
@click.pass_obj
def associate(api: Api, name: str, volumes: tuple[str, ...]) -> None:
    """Let the policy NAME (or id) take snapshots of volumes too."""
    _change_volumes(api, name, "associate", volumes)


@policy.command("disassociate")
@click.argument("name")
@volumes_option
@click.pass_obj
def disassociate(api: Api, name: str, volumes: tuple[str, ...]) -> None:
    """Let the policy NAME (or id) take no more snapshots of volumes; those it took stay."""
    _change_volumes(api, name, "disassociate", volumes)


@policy.command("delete")
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def delete(api: Api, names: tuple[str, ...]) -> None:
    """Delete the policies NAMES (or ids); the snapshots they took stay until their end."""
    for name in names:
        api.call("DELETE", f"/v5/{{p}}/snapshot-policies/{api.find('policy', name)}")


def _change_volumes(api: Api, name: str, how: str, volumes: tuple[str, ...]) -> None:
    path = f"/v5/{{p}}/snapshot-policies/{api.find('policy', name)}/{how}"
    api.call("POST", path, body=[api.find("volume", volume) for volume in volumes])


def _row(found: dict[str, Any]) -> dict[str, Any]:
    weekdays, interval_days = found["repeat_weekdays"], found["repeat_interval_days"]
    days = f"weekdays {', '.join(weekdays)}" if weekdays else f"every {interval_days}"
    return found | {"days": days, "hours": ", ".join(found["time_points"])}
