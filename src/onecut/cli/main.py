"""The ``onecut`` command."""

from importlib import import_module
from pathlib import Path
from typing import Final

import click

from onecut.cli.client import Api, Credentials

COMMANDS: Final = {
    "serve": "serve",
    "demo": "demo",
    "server": "servers",
    "volume": "volumes",
    "group": "groups",
    "snapshot": "snapshots",
    "policy": "policies",
    "job": "jobs",
    "repository": "repository",
    "witness": "witness",
    "admin": "admin",
}
"""Each command's module. Modules are imported when called: the service's take a second that other commands save."""


class Commands(click.Group):
    """The commands, in the order in which a newcomer meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command's module, and return the command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"onecut.cli.{COMMANDS[cmd_name]}"), cmd_name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="onecut")
@click.option(
    "--credentials",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="ONECUT_CREDENTIALS",
    default=Credentials.default_path,
    show_default="credentials.json in ONECUT_DATA, or in ./onecut-data",
    help="File that the service wrote at its first start.",
)
@click.pass_context
def main(context: click.Context, credentials: Path) -> None:
    """Block storage that speaks the Huawei Cloud EVS API: one cut across many disks while they are written to."""
    context.obj = Api(credentials)
    context.call_on_close(context.obj.close)
