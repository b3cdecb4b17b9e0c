"""``onecut admin project``: the tenants that all resources belong to."""

from pathlib import Path

import click

from onecut.cli.direct import Row, changing, data_option, enabled_text, reading
from onecut.cli.output import json_option, show, show_one
from onecut.db.identity import Domain, Project
from onecut.service import domains, named, projects

COLUMNS = ("id", "name", "domain", "status", "description")


@click.group("project")
def project() -> None:
    """Projects: the tenants that all resources belong to."""


@project.command("create")
@click.argument("name")
@click.option("--domain", help="Its domain (name or id); default: the only one.")
@click.option("--description", default="", help="What it is for.")
@data_option
@json_option
def create(*, name: str, domain: str | None, description: str, data: Path | None, as_json: bool) -> None:
    """Make a project called NAME: the region's name, or that with an underscore and more behind it."""
    with changing(data) as opened:
        owner = domains.find(opened.session, domain)
        row = _row(projects.create(opened.session, owner, name, description), owner)
    show_one({"project": row}, row, as_json=as_json)


@project.command("list")
@data_option
@json_option
def list_(*, data: Path | None, as_json: bool) -> None:
    """List all projects."""
    with reading(data) as opened:
        rows = [_row(found, owner) for found, owner in projects.list_all(opened.session)]
    show({"projects": rows}, rows, COLUMNS, as_json=as_json)


@project.command("set")
@click.argument("name")
@click.option("--enable/--disable", "enabled", default=None, help="Let calls in, or none, from now on.")
@click.option("--description", help="What it is for.")
@data_option
@json_option
def set_(*, name: str, enabled: bool | None, description: str | None, data: Path | None, as_json: bool) -> None:
    """Change the project NAME (or id). Its disks go on being served while it is disabled."""
    with changing(data) as opened:
        found = named.find(opened.session, Project, name)
        projects.change(found, enabled=enabled, description=description)
        row = _row(found, opened.session.get_one(Domain, found.domain_id))
    show_one({"project": row}, row, as_json=as_json)


@project.command("delete")
@click.argument("name")
@data_option
def delete(*, name: str, data: Path | None) -> None:
    """Delete the project NAME (or id), which must own nothing any more."""
    with changing(data) as opened:
        projects.remove(opened.session, named.find(opened.session, Project, name))


def _row(found: Project, owner: Domain) -> Row:
    return {
        "id": found.id,
        "name": found.name,
        "domain": owner.name,
        "status": enabled_text(enabled=found.enabled),
        "description": found.description,
    }
