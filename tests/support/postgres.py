"""A PostgreSQL of a test's own: in a temporary folder, on a Unix socket, ended with the test."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from folders import short_folder
from running import DEADLINE_S, wait_until

DEBIAN_FOLDERS = "/usr/lib/postgresql"


def programs() -> Path | None:
    """Find the folder of PostgreSQL's server programs: where Debian keeps them, or on PATH."""
    of_debian = sorted(Path(DEBIAN_FOLDERS).glob("*/bin/postgres"))
    found = of_debian[-1] if of_debian else shutil.which("postgres")
    return None if found is None else Path(found).resolve().parent


def as_server_user(*command: str | Path) -> list[str]:
    """Have a command run as PostgreSQL's user where we are root, whom its server refuses."""
    words = [str(word) for word in command]
    return ["runuser", "-u", "postgres", "--", *words] if os.geteuid() == 0 else words


@contextmanager
def running_postgres(bin_folder: Path) -> Iterator[str]:
    """Run a server on an empty cluster, and return the SQLAlchemy URL of its database."""
    with short_folder() as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        cluster = folder / "cluster"
        make = as_server_user(bin_folder / "initdb", "-D", cluster, "-U", "onecut", "-A", "trust", "--no-sync")
        subprocess.run(make, check=True, capture_output=True, cwd="/")
        serve = as_server_user(bin_folder / "postgres", "-D", cluster, "-k", folder, "-c", "listen_addresses=")
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(serve, stdout=log, stderr=log, cwd="/")
        try:
            ask = [str(bin_folder / "pg_isready"), "-h", str(folder)]
            wait_until(lambda: subprocess.run(ask, check=False, capture_output=True).returncode == 0, "PostgreSQL")
            yield f"postgresql+psycopg://onecut@/postgres?host={folder}"
        finally:
            subprocess.run(
                as_server_user(bin_folder / "pg_ctl", "-D", cluster, "stop", "-m", "immediate"),
                check=True, capture_output=True, cwd="/",
            )  # fmt: skip
            server.wait(DEADLINE_S)
