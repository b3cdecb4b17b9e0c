"""``onecut admin role``: what users may do."""

from pathlib import Path

import click
from sqlalchemy.orm import Session

from onecut.cli.direct import Row, changing, data_option, reading
from onecut.cli.output import json_option, show, show_one
from onecut.db.identity import Project, User
from onecut.service import named, roles
from onecut.service.roles import ROLES, Role

COLUMNS = ("user", "role", "project", "domain")
EVERY_PROJECT = "(all)"

project_option = click.option("--project", help="In this project (name or id); default: in all of the user's domain.")


@click.group("role")
def role() -> None:
    """Roles: what users may do in a project, or in all projects of their domain."""


@role.command("grant")
@click.argument("user_name", metavar="USER")
@click.argument("role_name", metavar="ROLE", type=click.Choice(ROLES))
@project_option
@data_option
@json_option
def grant(*, user_name: str, role_name: Role, project: str | None, data: Path | None, as_json: bool) -> None:
    """Give USER (name or id) the ROLE reader, operator or admin, in place of the one held there."""
    with changing(data) as opened:
        user = named.find(opened.session, User, user_name)
        place = _place(opened.session, user, project)
        roles.grant(opened.session, user, role_name, place)
        row = {"user": user.name, "role": role_name, "project": place.name if place else EVERY_PROJECT}
    show_one({"role": row}, row, as_json=as_json)


@role.command("revoke")
@click.argument("user_name", metavar="USER")
@project_option
@data_option
def revoke(*, user_name: str, project: str | None, data: Path | None) -> None:
    """Take the role of USER (name or id) away. A role in all projects is another than one in a project."""
    with changing(data) as opened:
        user = named.find(opened.session, User, user_name)
        roles.revoke(opened.session, user, _place(opened.session, user, project))


@role.command("list")
@click.option("--user", "user_name", help="Only those of this user (name or id).")
@data_option
@json_option
def list_(*, user_name: str | None, data: Path | None, as_json: bool) -> None:
    """List who has which role where."""
    with reading(data) as opened:
        user = None if user_name is None else named.find(opened.session, User, user_name)
        rows: list[Row] = [
            {
                "user": owner.name,
                "role": found.role,
                "project": EVERY_PROJECT if project is None else project.name,
                "domain": domain.name,
            }
            for found, owner, domain, project in roles.list_grants(opened.session, user)
        ]
    show({"roles": rows}, rows, COLUMNS, as_json=as_json)


def _place(session: Session, user: User, project: str | None) -> Project | None:
    return None if project is None else named.find(session, Project, project, Project.domain_id == user.domain_id)
