"""What tests of several rooms share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from running import Site, running_site

# How fast an example is says something of the machine's load, and nothing of the code.
settings.register_profile("onecut", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("onecut")


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


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running service with the memory engine, on real HTTP; its first user is signed in."""
    with running_site(tmp_path) as site:
        yield site
