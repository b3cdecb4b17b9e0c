"""``onecut admin``: who may use how much. Works on the database itself, while the service runs or not."""

import click

from onecut.cli.admin_domains import domain
from onecut.cli.admin_keys import key
from onecut.cli.admin_projects import project
from onecut.cli.admin_quotas import quota
from onecut.cli.admin_roles import role
from onecut.cli.admin_users import user


@click.group("admin")
def admin() -> None:
    """Who may use how much: domains, projects, quotas, users, roles and access keys, in the database itself."""


for group in (domain, project, quota, user, role, key):
    admin.add_command(group)
