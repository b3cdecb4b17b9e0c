"""``onecut volume``: disks."""

from collections.abc import Callable
from typing import Any

import click

from onecut.cli.client import Api
from onecut.cli.output import json_option, show, show_one

COLUMNS = ("id", "name", "status", "size", "volume_type", "server_id", "device")


def performance_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose a volume's performance."""
    for option in (
        click.option("--throughput", type=click.IntRange(min=1), default=None, help="MiB/s (GPSSD2)."),
        click.option("--iops", type=click.IntRange(min=1), default=None, help="IOPS (GPSSD2, ESSD2)."),
    ):
        command = option(command)
    return command


@click.group("volume")
def volume() -> None:
    """Volumes: disks that a server writes to."""


@volume.command("create")
@click.option("--name", default="", help="Name; several volumes get a suffix -0001, -0002, ...")
@click.option("--size", type=click.IntRange(min=1), required=True, help="Size in GiB.")
@click.option("--type", "volume_type", default="SSD", show_default=True, help="Volume type.")
@click.option("--zone", default="az1", show_default=True, help="Availability zone.")
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="How many.")
@click.option("--snapshot", default=None, help="Begin as this snapshot (name or id).")
@click.option("--server", default=None, help="Attach to this server (name or id).")
@performance_options
@json_option
@click.pass_obj
def create(
    api: Api,
    *,
    name: str,
    size: int,
    volume_type: str,
    zone: str,
    count: int,
    snapshot: str | None,
    server: str | None,
    iops: int | None,
    throughput: int | None,
    as_json: bool,
) -> None:
    """Make one volume or several."""
    wanted: dict[str, Any] = {
        "name": name, "size": size, "volume_type": volume_type, "availability_zone": zone, "count": count,
        **performance(iops, throughput),
    }  # fmt: skip
    if snapshot is not None:
        wanted["snapshot_id"] = api.find("snapshot", snapshot)
    body: dict[str, Any] = {"volume": wanted}
    if server is not None:
        body["server_id"] = api.find("server", server)
    answer = api.call("POST", "/v2.1/{p}/cloudvolumes", body=body)
    api.wait(answer["job_id"], f"creating volume {name}")
    show(answer, [{"id": volume_id} for volume_id in answer["volume_ids"]], ["id"], as_json=as_json)


@volume.command("list")
@click.option("--server", default=None, help="Only those attached to this server (name or id).")
@json_option
@click.pass_obj
def list_(api: Api, *, server: str | None, as_json: bool) -> None:
    """List volumes."""
    query = {"server_id": api.find("server", server)} if server is not None else {}
    answer = api.call("GET", "/v2/{p}/cloudvolumes/detail", query=query)
    show(answer, [_row(found) for found in answer["volumes"]], COLUMNS, as_json=as_json)


@volume.command("show")
@click.argument("name")
@json_option
@click.pass_obj
def show_(api: Api, name: str, *, as_json: bool) -> None:
    """Show the volume NAME (or id)."""
    answer = api.call("GET", f"/v2/{{p}}/cloudvolumes/{api.find('volume', name)}")
    row = _row(answer["volume"])
    uris = [attachment["uri"] for attachment in answer["volume"]["attachments"]]
    show_one(answer, {column: row[column] for column in COLUMNS} | {"uri": ", ".join(uris)}, as_json=as_json)


@volume.command("uri")
@click.argument("name")
@click.pass_obj
def uri(api: Api, name: str) -> None:
    """Print the NBD URI that opens the attached volume NAME (or id)."""
    for attachment in attachments(api, api.find("volume", name)):
        click.echo(attachment["uri"])


@volume.command("attach")
@click.argument("name")
@click.argument("server")
@click.option("--device", default=None, help="Device name, such as /dev/vdb; default: the next free one.")
@click.pass_obj
def attach(api: Api, name: str, server: str, *, device: str | None) -> None:
    """Attach the volume NAME to SERVER (names or ids), and print its NBD URI."""
    volume_id, server_id = api.find("volume", name), api.find("server", server)
    wanted = {"volumeId": volume_id} | ({"device": device} if device is not None else {})
    answer = api.call("POST", f"/v1/{{p}}/cloudservers/{server_id}/attachvolume", body={"volumeAttachment": wanted})
    api.wait(answer["job_id"], f"attaching {name}")
    for attachment in attachments(api, volume_id):
        if attachment["server_id"] == server_id:
            click.echo(attachment["uri"])


@volume.command("detach")
@click.argument("name")
@click.option("--server", default=None, help="From this server only (a shared disk may have several).")
@click.pass_obj
def detach(api: Api, name: str, *, server: str | None) -> None:
    """Detach the volume NAME (or id). When this returns, no client can write to it any more."""
    volume_id = api.find("volume", name)
    servers = [found["server_id"] for found in attachments(api, volume_id)]
    for server_id in [api.find("server", server)] if server is not None else servers:
        answer = api.call("DELETE", f"/v1/{{p}}/cloudservers/{server_id}/detachvolume/{volume_id}")
        api.wait(answer["job_id"], f"detaching {name}")


@volume.command("extend")
@click.argument("name")
@click.argument("size", type=click.IntRange(min=1))
@click.pass_obj
def extend(api: Api, name: str, size: int) -> None:
    """Make the volume NAME (or id) SIZE GiB large; an attached one grows when it is detached."""
    path = f"/v2.1/{{p}}/cloudvolumes/{api.find('volume', name)}/action"
    api.wait(api.call("POST", path, body={"os-extend": {"new_size": size}})["job_id"], f"extending {name}")


@volume.command("qos")
@click.argument("name")
@performance_options
@click.pass_obj
def qos(api: Api, name: str, *, iops: int | None, throughput: int | None) -> None:
    """Limit the clients of the volume NAME (or id) to other IOPS and MiB/s (GPSSD2, ESSD2)."""
    path = f"/v5/{{p}}/cloudvolumes/{api.find('volume', name)}/qos"
    api.wait(api.call("PUT", path, body={"qos_modify": performance(iops, throughput)})["job_id"], f"changing {name}")


@volume.command("retype")
@click.argument("name")
@click.argument("new_type", metavar="TYPE")
@performance_options
@click.pass_obj
def retype(api: Api, name: str, new_type: str, *, iops: int | None, throughput: int | None) -> None:
    """Give the volume NAME (or id) another TYPE."""
    path = f"/v2/{{p}}/volumes/{api.find('volume', name)}/retype"
    body = {"os-retype": {"new_type": new_type, **performance(iops, throughput)}}
    api.wait(api.call("POST", path, body=body)["job_id"], f"retyping {name}")


@volume.command("delete")
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def delete(api: Api, names: tuple[str, ...]) -> None:
    """Delete the volumes NAMES (or ids); their snapshots stay."""
    for name in names:
        answer = api.call("DELETE", f"/v2/{{p}}/cloudvolumes/{api.find('volume', name)}")
        api.wait(answer["job_id"], f"deleting {name}")


def attachments(api: Api, volume_id: str) -> list[dict[str, Any]]:
    """Return a volume's attachments."""
    found: list[dict[str, Any]] = api.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}")["volume"]["attachments"]
    return found


def performance(iops: int | None, throughput: int | None) -> dict[str, int]:
    """Return what was chosen."""
    chosen = {"iops": iops, "throughput": throughput}
    return {name: value for name, value in chosen.items() if value is not None}


def _row(found: dict[str, Any]) -> dict[str, Any]:
    places = found["attachments"]
    return found | {
        "server_id": ", ".join(place["server_id"] for place in places),
        "device": ", ".join(place["device"] for place in places),
    }
