"""``onecut server``: what disks are attached to."""

import click

from onecut.cli.client import Api
from onecut.cli.output import json_option, show, show_one

COLUMNS = ("id", "name", "status", "created")


@click.group("server")
def server() -> None:
    """Servers: what disks are attached to."""


@server.command("create")
@click.argument("name")
@json_option
@click.pass_obj
def create(api: Api, name: str, *, as_json: bool) -> None:
    """Make a server called NAME."""
    answer = api.call("POST", "/v1/{p}/cloudservers", body={"server": {"name": name}})
    api.wait(answer["job_id"], f"creating server {name}")
    show_one(answer, {"id": answer["serverIds"][0], "name": name}, as_json=as_json)


@server.command("list")
@json_option
@click.pass_obj
def list_(api: Api, *, as_json: bool) -> None:
    """List all servers."""
    answer = api.call("GET", "/v1/{p}/cloudservers/detail")
    show(answer, answer["servers"], COLUMNS, as_json=as_json)


@server.command("show")
@click.argument("name")
@json_option
@click.pass_obj
def show_(api: Api, name: str, *, as_json: bool) -> None:
    """Show the server NAME (or id) and its disks."""
    answer = api.call("GET", f"/v1/{{p}}/cloudservers/{api.find('server', name)}")
    found = answer["server"]
    disks = {disk["device"]: disk["id"] for disk in found["os-extended-volumes:volumes_attached"]}
    show_one(answer, {column: found.get(column) for column in COLUMNS} | {"disks": disks}, as_json=as_json)


@server.command("delete")
@click.argument("name")
@click.option("--volumes", is_flag=True, help="Delete its disks too, instead of detaching them.")
@click.pass_obj
def delete(api: Api, name: str, *, volumes: bool) -> None:
    """Delete the server NAME (or id); its disks are detached."""
    body = {"servers": [{"id": api.find("server", name)}], "delete_volume": volumes}
    api.wait(api.call("POST", "/v1/{p}/cloudservers/delete", body=body)["job_id"], f"deleting server {name}")
