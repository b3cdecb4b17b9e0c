"""``onecut admin quota``: how much a project may have."""

from pathlib import Path
from typing import Any, Final

import click
from sqlalchemy.orm import Session

from onecut.cli.direct import Row, changing, data_option, reading
from onecut.cli.output import json_option, show, show_one
from onecut.db.identity import Project
from onecut.service import named, quotas

COLUMNS = ("resource", "limit", "in_use", "reserved")

WORDS: Final = {"none": quotas.NONE, "default": None}
"""Limits that are no numbers: there is none, or it is that of the settings."""


class LimitType(click.ParamType[int | None]):
    """A number, or one of `WORDS`."""

    name = "limit"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:  # noqa: ANN401 - click's signature
        """Return the limit as `quotas.set_limit` takes it; what is neither is the command line's fault."""
        if value in WORDS:
            return WORDS[value]
        if not str(value).isdecimal():
            self.fail(f"{value!r} is neither a number nor one of {', '.join(WORDS)}", param, ctx)
        return int(value)


@click.group("quota")
def quota() -> None:
    """Quotas: how much a project may have."""


@quota.command("show")
@click.argument("project_name", metavar="PROJECT")
@data_option
@json_option
def show_(*, project_name: str, data: Path | None, as_json: bool) -> None:
    """Show the limits of PROJECT (name or id), and what it has."""
    with reading(data) as opened:
        project = named.find(opened.session, Project, project_name)
        rows = _rows(opened.session, project)
    show({"quotas": rows}, [_cells(row) for row in rows], COLUMNS, as_json=as_json)


@quota.command("set")
@click.argument("project_name", metavar="PROJECT")
@click.argument("resource")
@click.argument("limit", type=LimitType())
@data_option
@json_option
def set_(*, project_name: str, resource: str, limit: int | None, data: Path | None, as_json: bool) -> None:
    """Give PROJECT (name or id) its own LIMIT of a RESOURCE: a number, none, or default for the settings' one."""
    with changing(data) as opened:
        project = named.find(opened.session, Project, project_name)
        quotas.set_limit(opened.session, project.id, resource, limit)
        (row,) = [row for row in _rows(opened.session, project) if row["resource"] == resource]
    show_one({"quota": row}, _cells(row), as_json=as_json)


def _rows(session: Session, project: Project) -> list[Row]:
    return [
        {"resource": resource, "limit": found.limit, "in_use": found.in_use, "reserved": found.reserved}
        for resource, found in quotas.show(session, project.id).items()
    ]


def _cells(row: Row) -> Row:
    return row | {"limit": "none"} if row["limit"] == quotas.NONE else row
