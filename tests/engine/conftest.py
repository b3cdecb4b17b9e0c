"""Sites: one of each engine for the contract, and the real daemon for what only it can show."""

from collections.abc import AsyncIterator

import pytest
from engine_sites import MemorySite, QemuSite, Site


@pytest.fixture
async def qemu() -> AsyncIterator[QemuSite]:
    site = QemuSite()
    try:
        await site.engine.start()
        yield site
    finally:
        await site.end()


@pytest.fixture(params=["memory", "qemu"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    if request.param == "memory":
        yield MemorySite()
        return
    real = QemuSite()
    try:
        await real.engine.start()
        yield real
    finally:
        await real.end()
