"""What tests of the services share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from workshop import Workshop, open_workshop


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    """Services and jobs over the memory engine."""
    with open_workshop(tmp_path) as shop:
        yield shop
