"""``onecut admin key``: the access keys that users sign requests with."""

import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from onecut.cli.direct import Books, Row, changing, data_option, private_file, reading
from onecut.cli.output import json_option, show, show_one
from onecut.clock import time_text
from onecut.db.identity import AccessKey, Project, User
from onecut.errors import BadRequest
from onecut.service import access_keys, identity, named

COLUMNS = ("access", "user", "status", "created", "description")


@click.group("key")
def key() -> None:
    """Access keys: what users sign requests with; two for each user."""


@key.command("create")
@click.argument("user_name", metavar="USER")
@click.option("--description", default="", help="What it is for.")
@click.option(
    "--save",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a credentials file for the commands to FILE (mode 0600), and print no secret.",
)
@click.option("--project", help="Project of that file (name or id); default: the only one that the user may use.")
@data_option
@json_option
def create(
    *, user_name: str, description: str, save: Path | None, project: str | None, data: Path | None, as_json: bool
) -> None:
    """Make an access key for USER (name or id). The secret key is told this once."""
    with nullcontext() if save is None else private_file(save) as file, changing(data) as opened:
        user = named.find(opened.session, User, user_name)
        named.check_description(description)
        made, secret_key = access_keys.create(
            opened.session, opened.service_key(), user.id, description, opened.clock.now()
        )
        row = _row(made, user)
        if file is None:
            row["secret"] = secret_key
        else:
            json.dump(_credentials(opened, user, project, made.access, secret_key), file, indent=2)
            file.flush()
            os.fsync(file.fileno())  # before the commit: a key whose secret nobody has is of no use
    show_one({"key": row}, row, as_json=as_json)


@key.command("list")
@data_option
@json_option
def list_(*, data: Path | None, as_json: bool) -> None:
    """List everybody's access keys, without their secrets."""
    with reading(data) as opened:
        rows = [_row(found, user) for found, user in access_keys.list_all(opened.session)]
    show({"keys": rows}, rows, COLUMNS, as_json=as_json)


@key.command("set")
@click.argument("access")
@click.option("--enable/--disable", "active", default=None, help="Let it sign, or not, from now on.")
@click.option("--description", help="What it is for.")
@data_option
@json_option
def set_(*, access: str, active: bool | None, description: str | None, data: Path | None, as_json: bool) -> None:
    """Change the access key ACCESS."""
    with changing(data) as opened:
        named.check_description(description or "")
        found = access_keys.find(opened.session, access)
        access_keys.change(found, active=active, description=description)
        row = _row(found, opened.session.get_one(User, found.user_id))
    show_one({"key": row}, row, as_json=as_json)


@key.command("delete")
@click.argument("access")
@data_option
def delete(*, access: str, data: Path | None) -> None:
    """Delete the access key ACCESS; it signs nothing from then on."""
    with changing(data) as opened:
        opened.session.delete(access_keys.find(opened.session, access))


def _row(found: AccessKey, user: User) -> Row:
    return {
        "access": found.access,
        "user": user.name,
        "status": "active" if found.active else "inactive",
        "created": time_text(found.created_at),
        "description": found.description,
    }


def _credentials(opened: Books, user: User, project: str | None, access: str, secret_key: str) -> dict[str, Any]:
    """Return what a client needs to know, in the form of the first start's ``credentials.json``."""
    used = _project(opened, user, project)
    return {
        "endpoint": _endpoint(opened),
        "region": identity.region_of(used),
        "user_name": user.name,
        "project_name": used.name,
        "project_id": used.id,
        "access_key": access,
        "secret_key": secret_key,
    }


def _project(opened: Books, user: User, name: str | None) -> Project:
    usable = identity.usable_projects(opened.session, user.id)
    found = [project for project in usable if name is None or name in {project.id, project.name}]
    if len(found) != 1:
        raise BadRequest(
            f"project: user {user.name} has a role in {len(found)} of that name; name one with --project"
        )
    return found[0]


def _endpoint(opened: Books) -> str:
    """Return where the service listens, as it wrote down when it started last."""
    path = opened.settings.data / "credentials.json"
    told = json.loads(path.read_text()) if path.exists() else {}
    endpoint: str = told.get("endpoint") or opened.settings.endpoint or f"http://{opened.settings.listen}"
    return endpoint
