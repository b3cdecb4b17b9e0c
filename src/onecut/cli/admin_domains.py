"""``onecut admin domain``: the accounts that projects and users belong to."""

from pathlib import Path

import click

from onecut.cli.direct import Row, changing, data_option, enabled_text, reading
from onecut.cli.output import json_option, show, show_one
from onecut.db.identity import Domain
from onecut.service import domains

COLUMNS = ("id", "name", "status")


@click.group("domain")
def domain() -> None:
    """Domains: the accounts that projects and users belong to."""


@domain.command("create")
@click.argument("name")
@data_option
@json_option
def create(*, name: str, data: Path | None, as_json: bool) -> None:
    """Make a domain called NAME."""
    with changing(data) as opened:
        row = _row(domains.create(opened.session, name))
    show_one({"domain": row}, row, as_json=as_json)


@domain.command("list")
@data_option
@json_option
def list_(*, data: Path | None, as_json: bool) -> None:
    """List all domains."""
    with reading(data) as opened:
        rows = [_row(found) for found in domains.list_all(opened.session)]
    show({"domains": rows}, rows, COLUMNS, as_json=as_json)


@domain.command("set")
@click.argument("name")
@click.option("--enable/--disable", "enabled", required=True, help="Let its users in, or none of them, from now on.")
@data_option
@json_option
def set_(*, name: str, enabled: bool, data: Path | None, as_json: bool) -> None:
    """Enable or disable the domain NAME (or id)."""
    with changing(data) as opened:
        found = domains.find(opened.session, name)
        found.enabled = enabled
        row = _row(found)
    show_one({"domain": row}, row, as_json=as_json)


def _row(found: Domain) -> Row:
    return {"id": found.id, "name": found.name, "status": enabled_text(enabled=found.enabled)}
