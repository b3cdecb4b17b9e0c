"""Stores and repositories for tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from archived import CHUNK
from s3_server import CREDENTIALS, new_bucket, running_s3

from onecut.repository.address import open_store
from onecut.repository.repository import Repository
from onecut.repository.store import ObjectStore


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A real S3 endpoint on loopback, in a process of its own."""
    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture
def s3_address(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    return new_bucket(s3_endpoint)


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
