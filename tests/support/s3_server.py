"""A real S3 endpoint on loopback, in a process of its own."""

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
"""Environment variables of whoever opens a bucket."""


@contextmanager
def running_s3() -> Iterator[str]:
    """Run a server without any bucket, and yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def new_bucket(endpoint: str) -> str:
    """Make an empty bucket, and return the address of a store in it."""
    bucket = f"b{uuid.uuid4().hex}"
    urlopen(Request(f"{endpoint}/{bucket}", method="PUT"), timeout=10).close()  # noqa: S310 - loopback
    return f"s3://{bucket}/some/prefix?endpoint={endpoint}&region=us-east-1"


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
