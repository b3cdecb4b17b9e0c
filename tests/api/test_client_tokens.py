"""``X-Client-Token``: the same request is one creation, for 8 hours, whoever asks how often and when."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import huaweicloudsdkevs.v2 as evs
import pytest
from held_up import HeldUpEngine
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from orders import create_at_once
from running import Site, running_site
from sdk import evs_client
from sqlalchemy import func, select

from onecut.clock import JumpingClock
from onecut.db.client_tokens import ClientToken
from onecut.db.identity import Project
from onecut.service import idempotency
from onecut.service.identity import new_id

TOKEN = "b104b8db-170d-441b-897a-3c8ba9c5a214"
VOLUME = {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "name": "data"}
CALLERS = 12


def ask(site: Site, token: str | None = TOKEN, *, version: str = "v2.1", **fields: Any) -> httpx.Response:
    """Ask for a volume by a client token."""
    headers = {} if token is None else {"X-Client-Token": token}
    path = f"/{version}/{site.project_id}/cloudvolumes"
    return site.client.post(path, json={"volume": VOLUME | fields}, headers=headers)


def made(site: Site, **fields: Any) -> httpx.Response:
    """Ask for a volume by the token, and wait until it is made."""
    answer = ask(site, **fields)
    assert answer.status_code == 202, answer.text
    site.done(answer.json())
    return answer


def refused(answer: httpx.Response, code: str) -> str:
    """Check that an answer is this refusal, and return its message."""
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text
    return str(answer.json()["error"]["message"])


def count(site: Site) -> tuple[int, int]:
    """Return how many volumes and how many tokens there are."""
    with site.database.reading() as session:
        tokens = session.scalar(select(func.count()).select_from(ClientToken))
    return site.call("GET", "/v2/{p}/cloudvolumes/detail", 200)["count"], tokens or 0


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock(datetime.now(UTC))


@pytest.fixture
def timed(tmp_path: Path, clock: JumpingClock) -> Iterator[Site]:
    """A site whose clock stands still until it is moved."""
    with running_site(tmp_path, clock=clock) as site:
        yield site


class TestRepeating:
    @pytest.mark.parametrize(("version", "status"), [("v2.1", 202), ("v2", 200), ("v3", 200)])
    def test_the_same_request_is_one_creation(self, site: Site, version: str, status: int) -> None:
        """On every path of the creation: same status, same bytes, one volume; without a token there is another."""
        first = ask(site, version=version, count=2)
        site.done(first.json())

        again = ask(site, TOKEN.upper(), version=version, count=2)
        assert (again.status_code, again.content) == (first.status_code, first.content) == (status, first.content)
        assert count(site) == (2, 1)
        assert ask(site, None, version=version).json()["volume_ids"] != first.json()["volume_ids"]
        assert count(site) == (3, 1)

    def test_spaces_and_the_order_of_keys_do_not_matter(self, site: Site) -> None:
        """A client that writes its request anew may write it otherwise."""
        first = made(site)
        body = json.dumps({"volume": dict(reversed(VOLUME.items()))}, indent=4)
        path = f"/v2.1/{site.project_id}/cloudvolumes"

        headers = {"X-Client-Token": TOKEN, "Content-Type": "application/json"}
        again = site.client.post(path, content=body, headers=headers)
        assert again.content == first.content

    def test_the_reply_is_the_same_while_the_first_request_is_carried_out(self, tmp_path: Path) -> None:
        """Nobody waits for the job, and no second one is begun."""
        engines: list[HeldUpEngine] = []

        def make_engine(_settings: Any, _database: Any, clock: Any) -> HeldUpEngine:
            engines.append(HeldUpEngine(clock))
            return engines[0]

        with running_site(tmp_path, make_engine=make_engine) as site:
            first = ask(site)
            again = [ask(site).content for _ in range(3)]
            job = site.call("GET", f"/v1/{{p}}/jobs/{first.json()['job_id']}", 200)
            engines[0].may.set()
            assert again == [first.content] * 3
            assert job["status"] in {"INIT", "RUNNING"}
            site.done(first.json())
            assert ask(site).content == first.content
            assert count(site) == (1, 1)

    def test_equal_requests_at_once_are_one_creation(self, site: Site) -> None:
        """All of them get the same reply, and there is one volume."""
        answers = create_at_once(site, TOKEN, CALLERS)

        assert set(answers) == {answers[0]}
        assert b"job_id" in answers[0]
        assert count(site) == (1, 1)

    def test_it_is_known_after_a_restart(self, tmp_path: Path) -> None:
        """The token is as durable as the volume."""
        with running_site(tmp_path) as site:
            first = made(site)
        with running_site(tmp_path) as site:
            assert ask(site).content == first.content
            assert count(site) == (1, 1)

    def test_the_vendors_client_sends_it(self, site: Site) -> None:
        """Twice the same call of the SDK is one volume; its refusals arrive with their codes."""
        client = evs_client(site.credentials)
        body = evs.CreateVolumeRequestBody(volume=evs.CreateVolumeOption(**VOLUME))

        answers = [client.create_volume(evs.CreateVolumeRequest(x_client_token=TOKEN, body=body)) for _ in range(2)]
        assert answers[0].volume_ids == answers[1].volume_ids
        assert count(site) == (1, 1)
        with pytest.raises(ClientRequestException) as refusal:
            client.create_volume(evs.CreateVolumeRequest(x_client_token="no-uuid", body=body))
        assert (refusal.value.status_code, refusal.value.error_code) == (400, "EVS.2218")


class TestRefusals:
    def test_what_is_no_uuid_is_refused(self, site: Site) -> None:
        """400 EVS.2218 naming header and value; nothing is made."""
        for token in ("", "x", TOKEN.replace("-", ""), f"{{{TOKEN}}}", TOKEN + "0", "g" + TOKEN[1:]):
            message = refused(ask(site, token), "EVS.2218")
            assert message == f"X-Client-Token: must be a UUID with dashes; got {token!r}"
        assert count(site) == (0, 0)

    @pytest.mark.parametrize(
        ("change", "part"),
        [({"size": 11}, "body"), ({"name": "other"}, "body"), ({"count": 2}, "body"), ({"version": "v2"}, "URL")],
    )
    def test_another_request_by_the_same_token_is_refused(
        self, site: Site, change: dict[str, Any], part: str
    ) -> None:
        """400 EVS.2219 says what differs; nothing is made, and the first request can still be repeated."""
        first = made(site)

        message = refused(ask(site, **change), "EVS.2219")
        assert message == f"X-Client-Token: {TOKEN} was first used with another {part}; take a new one"
        assert (count(site), ask(site).content) == ((1, 1), first.content)

    def test_it_belongs_to_one_project_of_an_account(self, site: Site) -> None:
        """In another project of the same account it is EVS.2219: the account's tokens are one list."""
        made(site)
        with site.database.writing() as session:
            domain_id = session.get_one(Project, site.project_id).domain_id
            other = Project(id=new_id(), domain_id=domain_id, name="other")
            session.add(other)
        scope = {"auth": {"identity": {"methods": ["token"], "token": {"id": site.client.headers["X-Auth-Token"]}},
                          "scope": {"project": {"id": other.id}}}}  # fmt: skip
        token = site.client.post("/v3/auth/tokens", json=scope).headers["X-Subject-Token"]

        headers = {"X-Client-Token": TOKEN, "X-Auth-Token": token}
        answer = site.client.post(f"/v2.1/{other.id}/cloudvolumes", json={"volume": VOLUME}, headers=headers)
        assert "another URL" in refused(answer, "EVS.2219")
        assert count(site) == (1, 1)

    def test_another_account_has_tokens_of_its_own(self, site: Site) -> None:
        """The same token of another account is a new one, so nobody learns who has used it."""
        first, other = made(site), site.second_tenant()

        headers = {"X-Client-Token": TOKEN}
        theirs = other.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": VOLUME}, headers=headers)
        assert theirs["volume_ids"] != first.json()["volume_ids"]
        assert other.call("GET", "/v2/{p}/cloudvolumes/detail", 200)["count"] == 1

    def test_it_is_valid_for_8_hours(self, timed: Site, clock: JumpingClock) -> None:
        """The last moment still repeats; a moment later it is EVS.2220, and nothing is made."""
        first = made(timed)

        clock.jump(timedelta(hours=8))
        assert ask(timed).content == first.content
        clock.jump(timedelta(microseconds=1))
        message = refused(ask(timed), "EVS.2220")
        assert message == f"X-Client-Token: {TOKEN} was first used more than 8 hours ago; take a new one"
        assert count(timed) == (1, 1)

    def test_it_is_known_for_7_days_and_then_forgotten(self, timed: Site, clock: JumpingClock) -> None:
        """Until then it is EVS.2220; from then on it is as new. Younger tokens stay."""
        made(timed)
        clock.jump(timedelta(hours=8))
        ask(timed, "c" + TOKEN[1:])
        clock.jump(timedelta(days=7) - timedelta(hours=8))
        idempotency.forget(timed.database, clock.now())
        with timed.database.reading() as session:
            assert session.scalars(select(ClientToken.token)).all() == [TOKEN, "c" + TOKEN[1:]]

        clock.jump(timedelta(microseconds=1))
        idempotency.forget(timed.database, clock.now())
        with timed.database.reading() as session:
            assert session.scalars(select(ClientToken.token)).all() == ["c" + TOKEN[1:]]

    def test_a_volume_that_is_gone_can_not_be_told_of(self, site: Site) -> None:
        """400 EVS.2222 when one of those that were made was deleted; it is not made again."""
        first = made(site, count=2)
        [gone, _] = first.json()["volume_ids"]
        site.done(site.call("DELETE", f"/v2/{{p}}/cloudvolumes/{gone}", 200))

        message = refused(ask(site, count=2), "EVS.2222")
        assert message == f"X-Client-Token: of the 2 volumes that {TOKEN} made, 1 are left"
        assert count(site) == (1, 1)

    def test_a_refused_creation_uses_no_token(self, site: Site) -> None:
        """The corrected request may come by the same token."""
        refused(ask(site, availability_zone="mars"), "EVS.1036")
        refused(ask(site, size="big"), "EVS.1010")
        assert count(site) == (0, 0)

        made(site)
        assert count(site) == (1, 1)
