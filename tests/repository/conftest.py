"""Stores and repositories for tests."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from archived import CHUNK

from onecut.repository.address import open_store
from onecut.repository.repository import Repository
from onecut.repository.store import ObjectStore


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 endpoint on loopback, in a process of its own."""
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


@pytest.fixture
def s3_address(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    bucket = f"b{uuid.uuid4().hex}"
    urlopen(Request(f"{s3_endpoint}/{bucket}", method="PUT"), timeout=10).close()  # noqa: S310 - loopback
    return f"s3://{bucket}/some/prefix?endpoint={s3_endpoint}&region=us-east-1"


@pytest.fixture(params=["memory", "local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Each kind of store, empty."""
    match request.param:
        case "memory":
            return open_store("memory:")
        case "local":
            return open_store(str(tmp_path / "store"))
        case _:
            return open_store(request.getfixturevalue("s3_address"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the repository of this test lies."""
    return tmp_path / "repository"


@pytest.fixture
def repository(folder: Path) -> Repository:
    """An empty repository in a folder, with small chunks."""
    return Repository.create(open_store(os.fspath(folder)), chunk_bytes=CHUNK)
