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


def make_cluster(bin_folder: Path, cluster: Path, *options: str | Path) -> None:
    """Make a cluster that its user `onecut` may enter without a password; *options* are those of initdb."""
    make = as_server_user(bin_folder / "initdb", "-D", cluster, "-U", "onecut", "-A", "trust", *options)
    subprocess.run(make, check=True, capture_output=True, cwd="/")


def give_to_server(folder: Path) -> None:
    """Let PostgreSQL's user write to a folder."""
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")


@contextmanager
def serving_cluster(bin_folder: Path, cluster: Path, socket_folder: Path, *, stop: str = "fast") -> Iterator[None]:
    """Run a server on a cluster, with its socket and its log in a folder; *stop* is pg_ctl's mode of stopping it."""
    serve = as_server_user(bin_folder / "postgres", "-D", cluster, "-k", socket_folder, "-c", "listen_addresses=")
    with (socket_folder / "log").open("w") as log:
        server = subprocess.Popen(serve, stdout=log, stderr=log, cwd="/")
    try:
        ask = [str(bin_folder / "pg_isready"), "-h", str(socket_folder)]
        wait_until(lambda: subprocess.run(ask, check=False, capture_output=True).returncode == 0, "PostgreSQL")
        yield
    finally:
        subprocess.run(
            as_server_user(bin_folder / "pg_ctl", "-D", cluster, "stop", "-m", stop),
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        server.wait(DEADLINE_S)


@contextmanager
def running_postgres(bin_folder: Path) -> Iterator[str]:
    """Run a server on an empty cluster, and return the SQLAlchemy URL of its database."""
    with short_folder() as folder:
        give_to_server(folder)
        make_cluster(bin_folder, folder / "cluster", "--no-sync")
        with serving_cluster(bin_folder, folder / "cluster", folder, stop="immediate"):
            yield f"postgresql+psycopg://onecut@/postgres?host={folder}"
