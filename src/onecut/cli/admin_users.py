"""``onecut admin user``: who signs in."""

from pathlib import Path

import click

from onecut.cli.direct import Row, changing, data_option, enabled_text, password_stdin_option, read_password, reading
from onecut.cli.output import json_option, show, show_one
from onecut.db.identity import Domain, User
from onecut.service import domains, named, users

COLUMNS = ("id", "name", "domain", "status")


@click.group("user")
def user() -> None:
    """Users: who signs in."""


@user.command("create")
@click.argument("name")
@click.option("--domain", help="The user's domain (name or id); default: the only one.")
@password_stdin_option
@data_option
@json_option
def create(*, name: str, domain: str | None, password_stdin: bool, data: Path | None, as_json: bool) -> None:
    """Make a user called NAME, who may do nothing before a role is granted. The password is asked for."""
    password = read_password(from_stdin=password_stdin)
    with changing(data) as opened:
        owner = domains.find(opened.session, domain)
        row = _row(users.create(opened.session, opened.passwords, owner, name, password), owner)
    show_one({"user": row}, row, as_json=as_json)


@user.command("list")
@data_option
@json_option
def list_(*, data: Path | None, as_json: bool) -> None:
    """List all users."""
    with reading(data) as opened:
        rows = [_row(found, owner) for found, owner in users.list_all(opened.session)]
    show({"users": rows}, rows, COLUMNS, as_json=as_json)


@user.command("set")
@click.argument("name")
@click.option("--enable/--disable", "enabled", default=None, help="Let the user in, or not, from now on.")
@click.option("--password", "new_password", is_flag=True, help="Ask for a new password; the user's tokens end.")
@password_stdin_option
@data_option
@json_option
def set_(
    *,
    name: str,
    enabled: bool | None,
    new_password: bool,
    password_stdin: bool,
    data: Path | None,
    as_json: bool,
) -> None:
    """Change the user NAME (or id)."""
    password = read_password(from_stdin=password_stdin) if new_password or password_stdin else None
    with changing(data) as opened:
        found = named.find(opened.session, User, name)
        if enabled is not None:
            found.enabled = enabled
        if password is not None:
            users.set_password(opened.session, opened.passwords, found, password)
        row = _row(found, opened.session.get_one(Domain, found.domain_id))
    show_one({"user": row}, row, as_json=as_json)


@user.command("delete")
@click.argument("name")
@data_option
def delete(*, name: str, data: Path | None) -> None:
    """Delete the user NAME (or id), whose access keys must be deleted before."""
    with changing(data) as opened:
        users.remove(opened.session, named.find(opened.session, User, name))


def _row(found: User, owner: Domain) -> Row:
    return {
        "id": found.id,
        "name": found.name,
        "domain": owner.name,
        "status": enabled_text(enabled=found.enabled),
    }
