"""What tests of several rooms share."""

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import argon2
import pytest
import structlog
from folders import quick_root
from hypothesis import HealthCheck, settings
from running import Site, running_site

# How fast an example is says something of the machine's load, and nothing of the code.
settings.register_profile("onecut", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("onecut")


def pytest_configure() -> None:
    """Let pytest make its folders where they are quick; a root that somebody chose stays."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(quick_root()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that have slow tests: otherwise one process is left alone with them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True, scope="session")
def _log_to_stderr() -> None:
    """Keep what the service logs off standard output, where a command under test may print."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.__stderr__),
    )


@pytest.fixture(autouse=True, scope="session")
def _quick_passwords() -> Iterator[None]:
    """
    Hash passwords with argon2id at its least cost, in services that run in the tests' own process.

    Three hashes at full cost are nine tenths of what such a service's start takes.
    """
    with pytest.MonkeyPatch.context() as patch:
        quick = functools.partial(argon2.PasswordHasher, time_cost=1, memory_cost=8, parallelism=1)
        patch.setattr("onecut.service.passwords.PasswordHasher", quick)
        yield


@pytest.fixture
def costly_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords at their full cost in this test."""
    monkeypatch.setattr("onecut.service.passwords.PasswordHasher", argon2.PasswordHasher)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running service with the memory engine, on real HTTP; its first user is signed in."""
    with running_site(tmp_path) as site:
        yield site
