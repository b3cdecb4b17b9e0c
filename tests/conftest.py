"""What tests of several rooms share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Site, running_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running service with the memory engine, on real HTTP; its first user is signed in."""
    with running_site(tmp_path) as site:
        yield site
