"""A service of one's own in a temporary folder, for the demo and the benchmarks; nothing of it stays."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from onecut.cli.client import Api

START_DEADLINE_S = 60.0
STOP_DEADLINE_S = 60.0
DAEMON_DEADLINE_S = 60.0


@contextmanager
def throwaway_service(parent: Path | None = None) -> Iterator[Api]:
    """Run a service in a temporary folder; see `throwaway_process`."""
    with throwaway_process(parent) as (api, _):
        yield api


@contextmanager
def throwaway_process(
    parent: Path | None = None, *, module: Sequence[str] = ("onecut", "serve")
) -> Iterator[tuple[Api, int]]:
    """
    Run a service in a temporary folder, and yield its API and process id.

    The service, and the daemon it started, are ended at the end of the block.

    Args:
        parent: Where the folder is made; by default where temporary files belong.
        module: What Python runs, with its first arguments.
    """
    folder = Path(tempfile.mkdtemp(prefix="onecut-", dir=parent))
    command = [sys.executable, "-m", *module, "--listen", "127.0.0.1:0", "--data", str(folder / "data")]
    with (folder / "log").open("w") as log:
        service = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own command
    api = Api(folder / "data" / "credentials.json")
    try:
        _wait_until_ready(service, api, folder / "log")
        yield api, service.pid
    finally:
        api.close()
        service.terminate()
        service.wait(STOP_DEADLINE_S)
        end_daemon(folder / "data" / "run" / "qsd.pid")
        shutil.rmtree(folder)


def _wait_until_ready(service: subprocess.Popen[bytes], api: Api, log: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while service.poll() is None and time.monotonic() < deadline:
        if _answers(api):
            return
        time.sleep(0.05)
    raise click.ClickException(f"the service did not start: {log.read_text().strip()[-1000:]}")


def _answers(api: Api) -> bool:
    try:
        api.call("GET", "/readyz")
    except click.ClickException:
        return False
    return True


def end_daemon(pid_file: Path) -> None:
    """End the daemon that a service left running, and wait until it is gone."""
    if not pid_file.exists():
        return
    try:
        daemon = os.pidfd_open(int(pid_file.read_text()))
    except ProcessLookupError:
        return
    try:
        for how in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(daemon, how)
            # It flushes what its clients wrote before it goes, which may take a while on a busy disk.
            if select.select([daemon], [], [], DAEMON_DEADLINE_S)[0]:
                return
    finally:
        os.close(daemon)
