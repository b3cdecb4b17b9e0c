from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from identity_site import Site, serving
from running import NO_TLS

from onecut.clock import JumpingClock
from onecut.db.schema import Base
from onecut.db.session import Database
from onecut.service import identity
from onecut.service.passwords import Passwords
from onecut.service.secrets import ServiceKey


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    database = Database(f"sqlite:///{tmp_path}/onecut.db")
    Base.metadata.create_all(database.engine)
    clock = JumpingClock(datetime.now(UTC))
    service_key, passwords = ServiceKey.open(tmp_path / "secret.key"), Passwords(clock)
    with database.writing() as session:
        admin = identity.bootstrap(session, service_key, passwords, region="region-1", now=clock.now())
    assert admin is not None
    yield Site(database, clock, service_key, passwords, admin)
    database.close()


@pytest.fixture
def url(site: Site) -> Iterator[str]:
    with serving(site.app()) as served_at:
        yield served_at


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, verify=NO_TLS) as http:
        yield http


@pytest.fixture
def sign_in(site: Site, client: httpx.Client) -> Callable[..., httpx.Response]:
    """Return a call that signs in; *scope* is left out when absent."""

    def call(
        user: str = site.admin.user_name,
        password: str = site.admin.password,
        domain: str = site.admin.domain_name,
        scope: object = None,
    ) -> httpx.Response:
        user_body = {"name": user, "password": password, "domain": {"name": domain}}
        auth: dict[str, object] = {"identity": {"methods": ["password"], "password": {"user": user_body}}}
        if scope is not None:
            auth["scope"] = scope
        return client.post("/v3/auth/tokens", json={"auth": auth})

    return call


@pytest.fixture
def token(sign_in: Callable[..., httpx.Response]) -> str:
    return sign_in().headers["X-Subject-Token"]
