"""``onecut serve``: the service in the foreground."""

import json
import logging
import os
import sys
from pathlib import Path

import click
import structlog
import uvloop

from onecut.cli.settings import load_settings
from onecut.config import Settings
from onecut.errors import Misconfigured
from onecut.wiring import MakeEngine, Onecut, qemu_engine

SECRETS = frozenset({"password", "secret_key"})
"""Not printed: what a service prints ends in a log."""


@click.command("serve")
@click.option("--listen", metavar="HOST:PORT", default=None, help="Where to listen (default: 127.0.0.1:8776).")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder for everything the service keeps (default: ./onecut-data).",
)
def serve(listen: str | None, data: Path | None) -> None:
    """Run the service in the foreground. Ctrl-C ends it; attached disks go on being served."""
    run(load_settings(listen=listen, data=data))


def run(settings: Settings, *, make_engine: MakeEngine = qemu_engine) -> None:
    """
    Serve until a signal comes.

    Raises:
        click.ClickException: An operator must act first; the sentence says on what.
    """
    _log_to_stderr(settings.log_level)
    os.umask(0o077)  # whatever it writes is its own
    try:
        uvloop.run(_serve(Onecut(settings, make_engine=make_engine)))
    except Misconfigured as error:
        raise click.ClickException(str(error)) from error


async def _serve(service: Onecut) -> None:
    async with service.running() as onecut:
        click.echo(_greeting(onecut))
        await onecut.until_stopped()


def _greeting(onecut: Onecut) -> str:
    lines = [f"Onecut listens on {onecut.endpoint}"]
    if onecut.first_start:
        told = json.loads(onecut.credentials_path.read_text())
        lines += [
            f"This is the first start. It made an account, whose secrets are in {onecut.credentials_path}:",
            *(f"  {name:12}  {value}" for name, value in told.items() if name not in SECRETS),
            "Try, in another terminal: onecut server create db1",
        ]
    return "\n".join(lines)


def _log_to_stderr(level: str) -> None:
    """Log one event a line: for people on a terminal, as JSON otherwise."""
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks
            if not sys.stderr.isatty()
            else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
