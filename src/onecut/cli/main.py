"""The ``onecut`` command."""

from pathlib import Path

import click

from onecut import __version__
from onecut.cli.client import Api, Credentials
from onecut.cli.demo import demo
from onecut.cli.groups import group
from onecut.cli.jobs import job
from onecut.cli.serve import serve
from onecut.cli.servers import server
from onecut.cli.snapshots import snapshot
from onecut.cli.volumes import volume
from onecut.cli.witness import witness


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="onecut")
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


for command in (serve, server, volume, group, snapshot, job, witness, demo):
    main.add_command(command)
