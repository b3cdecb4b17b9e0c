import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.region.region import Region
from huaweicloudsdkevs.v2 import EvsClient, ListVolumesRequest
from identity_site import Site
from running import wait_until

from onecut.service.passwords import MAX_CHECKS, MAX_FAILURES

Send = Callable[..., httpx.Response]
KEYS = "/v3.0/OS-CREDENTIAL/credentials"


def _is_keystone_refusal(answer: httpx.Response, status: int) -> bool:
    error = answer.json()["error"]
    assert set(error) == {"code", "title", "message"}
    return bool(answer.status_code == error["code"] == status)


@pytest.fixture
def as_admin(client: httpx.Client, token: str) -> httpx.Client:
    client.headers["X-Auth-Token"] = token
    return client


class TestSignIn:
    def test_a_password_gives_a_token_and_says_what_for(self, site: Site, sign_in: Send, url: str) -> None:
        """Header, times, user, project, roles and catalog are in IAM's form."""
        answer = sign_in(scope={"project": {"name": "region-1"}})

        assert answer.status_code == 201
        assert len(answer.headers["X-Subject-Token"]) == 43
        token = answer.json()["token"]
        domain = token["user"]["domain"]
        issued, expires = (
            datetime.strptime(token[at], "%Y-%m-%dT%H:%M:%S.%f%z") for at in ("issued_at", "expires_at")
        )
        assert (expires - issued).total_seconds() == 24 * 3600
        assert token["methods"] == ["password"]
        assert (token["user"]["name"], domain["name"]) == (site.admin.user_name, site.admin.domain_name)
        assert token["project"] == {"id": site.admin.project_id, "name": "region-1", "domain": domain}
        assert token["roles"] == [{"id": "0", "name": "admin"}]
        urls = {entry["type"]: entry["endpoints"][0]["url"] for entry in token["catalog"]}
        assert urls == {
            "identity": f"{url}/v3",
            "volumev2": f"{url}/v2/{site.admin.project_id}",
            "volumev3": f"{url}/v3/{site.admin.project_id}",
            "block-storage": f"{url}/v3/{site.admin.project_id}",
            "evs": f"{url}/v5/{site.admin.project_id}",
        }
        regions = {entry["type"]: {each["region"] for each in entry["endpoints"]} for entry in token["catalog"]}
        assert regions.pop("identity") == {"*", "region-1"}
        assert set(map(frozenset, regions.values())) == {frozenset({"region-1"})}

    def test_nocatalog_leaves_the_catalog_out(self, as_admin: httpx.Client, token: str) -> None:
        """Any text will do, also an exchange of tokens obeys it."""
        auth = {"identity": {"methods": ["token"], "token": {"id": token}}}

        answer = as_admin.post("/v3/auth/tokens?nocatalog=x", json={"auth": auth})

        assert answer.status_code == 201
        assert answer.json()["token"]["methods"] == ["token"]
        assert "catalog" not in answer.json()["token"]

    def test_a_domains_token_names_the_domain(self, site: Site, sign_in: Send) -> None:
        """It has no project, and its catalog no project's services."""
        token = sign_in(scope={"domain": {"name": site.admin.domain_name}}).json()["token"]

        assert token["domain"] == token["user"]["domain"]
        assert "project" not in token
        assert [entry["type"] for entry in token["catalog"]] == ["identity"]

    def test_a_wrong_name_is_told_like_a_wrong_password(self, sign_in: Send) -> None:
        """One sentence for user, domain and password."""
        answers = [sign_in(password="wrong"), sign_in(user="nobody"), sign_in(domain="nowhere")]

        assert all(_is_keystone_refusal(answer, 401) for answer in answers)
        assert len({answer.text for answer in answers}) == 1

    def test_who_guesses_is_locked_out_but_tokens_go_on(self, as_admin: httpx.Client, sign_in: Send) -> None:
        """After five wrong passwords the right one is refused for a while; what was issued stays good."""
        for _ in range(MAX_FAILURES):
            sign_in(password="wrong")

        locked = sign_in()

        assert _is_keystone_refusal(locked, 401)
        assert "too many wrong passwords" in locked.json()["error"]["message"]
        assert as_admin.get("/v3/projects").status_code == 200

    @pytest.mark.usefixtures("costly_passwords")
    def test_a_crowd_of_sign_ins_keeps_nobody_else_waiting(
        self,
        site: Site,
        as_admin: httpx.Client,
        sign_in: Send,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """While guesses queue for the two places, calls by token are answered before they are through."""
        monkeypatch.setattr("onecut.api.iam.SIGN_IN_WAIT_S", 60)  # nobody is sent away, however slow the machine is
        waiting = site.passwords.limiter.statistics
        with ThreadPoolExecutor(12) as crowd:
            guesses = [crowd.submit(sign_in, user=f"nobody-{number}") for number in range(12)]
            deadline = time.monotonic() + 10
            while waiting().tasks_waiting < 8:
                assert time.monotonic() < deadline, "the crowd does not queue"
                time.sleep(0.01)

            answered = [as_admin.get("/v3/projects").status_code]

            assert waiting().tasks_waiting > 0
            assert answered == [200]
            assert {guess.result().status_code for guess in guesses} == {401}

    def test_who_waits_too_long_for_a_sign_in_is_told_to_come_back(
        self,
        site: Site,
        sign_in: Send,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """503, while those whose turn came are answered, however long theirs takes."""
        monkeypatch.setattr("onecut.api.iam.SIGN_IN_WAIT_S", 0.05)
        check, may = site.passwords.check, threading.Event()

        def held_up(*asked: Any) -> bool:
            may.wait()
            return check(*asked)

        monkeypatch.setattr(site.passwords, "check", held_up)
        with ThreadPoolExecutor(MAX_CHECKS) as crowd:
            try:
                first = [crowd.submit(sign_in) for _ in range(MAX_CHECKS)]
                wait_until(
                    lambda: site.passwords.limiter.statistics().borrowed_tokens == MAX_CHECKS, "all places are taken"
                )
                assert _is_keystone_refusal(sign_in(), 503)
            finally:
                may.set()
        assert [answer.result().status_code for answer in first] == [201] * MAX_CHECKS

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b"\xff\xfe",
            b"[" * 50_000,
            b'{"auth": 1e999}',
            b'{"auth": ' + b"9" * 5000 + b"}",
            b'{"auth": {}}',
            b'{"auth": {"identity": {"methods": []}}}',
            b'{"auth": {"identity": {"methods": "password"}}}',
            b'{"auth": {"identity": {"methods": ["password"]}}}',
            b'{"auth": {"identity": {"methods": ["totp"]}}}',
            b'{"auth": {"identity": {"methods": ["token"], "token": {"id": 7}}}}',
            b'{"auth": {"identity": {"methods": ["token"], "token": {"id": "\\ud800"}}}}',
            b'{"auth": {"identity": {"methods": ["token"], "token": {"id": ""}}}}',
        ],
    )
    def test_a_body_that_makes_no_sense_is_a_400(self, client: httpx.Client, body: bytes) -> None:
        """Never a 500; the answer has Keystone's form."""
        answer = client.post("/v3/auth/tokens", content=body, headers={"Content-Type": "application/json"})

        assert _is_keystone_refusal(answer, 400)

    @pytest.mark.parametrize(
        "change",
        [
            {"name": "\ud800"},
            {"name": "x" * 65},
            {"name": "a\0"},
            {"name": 1},
            {"password": None},
            {"password": "\ud800"},
            {"password": "x" * 129},
            {"domain": {}},
            {"domain": "onecut"},
        ],
    )
    def test_a_user_that_makes_no_sense_is_a_400(self, client: httpx.Client, change: dict[str, object]) -> None:
        """JSON types are not converted, lengths are limited, and what is no text is refused."""
        user: dict[str, object] = {"name": "admin", "password": "x", "domain": {"name": "onecut"}}
        content = json.dumps(_by_password(user | change))

        answer = client.post("/v3/auth/tokens", content=content, headers={"Content-Type": "application/json"})

        assert _is_keystone_refusal(answer, 400)

    @pytest.mark.parametrize(
        "scope",
        [
            {},
            {"project": {}},
            {"domain": {}},
            {"project": {"id": "a"}, "domain": {"id": "b"}},
            {"project": {"id": 1}},
            "unscoped",
            [],
        ],
    )
    def test_a_scope_that_makes_no_sense_is_a_400(self, sign_in: Send, scope: object) -> None:
        """Exactly one of project and domain, by id or name."""
        assert _is_keystone_refusal(sign_in(scope=scope), 400)

    def test_a_foreign_scope_is_a_401(self, site: Site, sign_in: Send) -> None:
        """As in Keystone; somebody else's project is told like none."""
        site.add_tenant("other")
        answers = [
            sign_in(scope={"project": {"id": project_id}}) for project_id in (site.project_of("other"), "f" * 32)
        ]

        assert all(_is_keystone_refusal(answer, 401) for answer in answers)
        assert len({answer.text for answer in answers}) == 1


def _by_password(user: dict[str, object]) -> dict[str, object]:
    return {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}


class TestTokenCalls:
    def test_a_token_is_validated(self, as_admin: httpx.Client, sign_in: Send) -> None:
        """GET tells again what the sign-in told, HEAD the status alone; both echo the token in the header."""
        told = sign_in()
        subject = {"X-Subject-Token": told.headers["X-Subject-Token"]}

        shown = as_admin.get("/v3/auth/tokens", headers=subject)
        checked = as_admin.head("/v3/auth/tokens", headers=subject)

        assert shown.json() == told.json()
        assert (shown.status_code, checked.status_code, checked.content) == (200, 200, b"")
        assert shown.headers["X-Subject-Token"] == checked.headers["X-Subject-Token"] == subject["X-Subject-Token"]

    def test_a_revoked_token_opens_nothing(self, as_admin: httpx.Client, token: str) -> None:
        """From the moment the revocation is answered."""
        answer = as_admin.delete("/v3/auth/tokens", headers={"X-Subject-Token": token})

        assert (answer.status_code, answer.content) == (204, b"")
        assert as_admin.get("/v3/projects").status_code == 401

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_an_unknown_subject_is_a_404_and_a_missing_one_a_400(self, as_admin: httpx.Client, method: str) -> None:
        """The answer does not repeat the token."""
        unknown = as_admin.request(method, "/v3/auth/tokens", headers={"X-Subject-Token": "no-such-token"})

        assert _is_keystone_refusal(unknown, 404)
        assert "no-such-token" not in unknown.text
        assert _is_keystone_refusal(as_admin.request(method, "/v3/auth/tokens"), 400)


class TestProjects:
    def test_the_lookup_of_an_sdk_client_finds_exactly_one(
        self, site: Site, as_admin: httpx.Client, url: str
    ) -> None:
        """The project is named after the region; every documented field is there."""
        site.add_project("region-1_team")

        answer = as_admin.get("/v3/projects", params={"name": "region-1"}).json()

        (project,) = answer["projects"]
        domain_id = as_admin.get("/v3/auth/domains").json()["domains"][0]["id"]
        assert project == {
            "id": site.admin.project_id,
            "name": "region-1",
            "domain_id": domain_id,
            "parent_id": domain_id,
            "enabled": True,
            "is_domain": False,
            "description": "",
            "links": {"self": f"{url}/v3/projects/{site.admin.project_id}", "next": None, "previous": None},
        }
        assert answer["links"] == {"self": f"{url}/v3/projects?name=region-1", "next": None, "previous": None}

    def test_links_lead_through_the_pages(self, site: Site, as_admin: httpx.Client) -> None:
        """Following `next` from the first page gives every project once; the filters stay."""
        for number in range(4):
            site.add_project(f"p{number}")
        site.add_project("off", enabled=False)

        link, names = "/v3/projects?enabled=true&per_page=2", []
        while link:
            answer = as_admin.get(link).json()
            names += [project["name"] for project in answer["projects"]]
            link = answer["links"]["next"]

        assert names == ["p0", "p1", "p2", "p3", "region-1"]

    @pytest.mark.parametrize(
        "query",
        [
            "page=0",
            "page=x",
            "per_page=0",
            "per_page=5001",
            "page=99999999999999999999",
            "enabled=perhaps",
            "name=%00",
            "name=",
        ],
    )
    def test_a_query_that_makes_no_sense_is_a_400(self, as_admin: httpx.Client, query: str) -> None:
        """The message names the parameter."""
        answer = as_admin.get(f"/v3/projects?{query}")

        assert _is_keystone_refusal(answer, 400)
        assert query.partition("=")[0] in answer.json()["error"]["message"]

    def test_regions_domains_and_catalog_are_the_callers(self, site: Site, as_admin: httpx.Client) -> None:
        """Another tenant's are in none of the lists."""
        site.add_project("region-2")
        site.add_tenant("other")

        regions = as_admin.get("/v3/regions").json()["regions"]
        domains = as_admin.get("/v3/auth/domains").json()["domains"]
        projects = as_admin.get("/v3/auth/projects").json()["projects"]
        catalog = as_admin.get("/v3/auth/catalog").json()["catalog"]

        assert [region["id"] for region in regions] == ["region-1", "region-2"]
        assert [domain["name"] for domain in domains] == [site.admin.domain_name]
        assert [project["name"] for project in projects] == ["region-1", "region-2"]
        assert {entry["type"] for entry in catalog} == {"identity", "volumev2", "volumev3", "block-storage", "evs"}


class TestAccessKeys:
    def test_a_key_is_made_shown_changed_and_deleted(self, site: Site, as_admin: httpx.Client, url: str) -> None:
        """The secret is told once, and signs at once; the list has the oldest key first."""
        site.clock.jump(timedelta(seconds=1))
        user_id = as_admin.get(KEYS).json()["credentials"][0]["user_id"]

        made = as_admin.post(KEYS, json={"credential": {"user_id": user_id, "description": "ci"}})

        assert made.status_code == 201
        key = made.json()["credential"]
        secret = key.pop("secret")
        assert set(key) == {"access", "user_id", "status", "description", "create_time"}
        assert key["status"] == "active"
        path = f"{KEYS}/{key['access']}"
        assert as_admin.get(path).json() == {"credential": key}
        assert as_admin.get(KEYS, params={"user_id": user_id}).json()["credentials"][1] == key
        assert _project_of(url, key["access"], secret)

        changed = as_admin.put(path, json={"credential": {"status": "inactive"}})
        assert changed.json()["credential"] == key | {"status": "inactive"}
        assert as_admin.delete(path).status_code == 204
        assert _is_keystone_refusal(as_admin.get(path), 404)

    def test_what_a_key_may_not_be_is_refused(self, site: Site, as_admin: httpx.Client) -> None:
        """A third key, somebody else's, an unknown status, a text too long: nothing changes."""
        before = as_admin.get(KEYS).json()
        user_id = before["credentials"][0]["user_id"]
        other, foreign, _ = site.add_tenant("other")
        path = f"{KEYS}/{site.admin.access_key}"

        assert _is_keystone_refusal(as_admin.post(KEYS, json={"credential": {"user_id": other}}), 403)
        assert _is_keystone_refusal(as_admin.get(KEYS, params={"user_id": other}), 403)
        assert _is_keystone_refusal(as_admin.get(f"{KEYS}/{foreign}"), 404)
        assert _is_keystone_refusal(as_admin.put(path, json={"credential": {"status": "off"}}), 400)
        assert _is_keystone_refusal(as_admin.put(path, json={"credential": {"description": "x" * 256}}), 400)
        assert as_admin.get(KEYS).json() == before
        assert as_admin.post(KEYS, json={"credential": {"user_id": user_id}}).status_code == 201
        third = as_admin.post(KEYS, json={"credential": {"user_id": user_id}})
        assert _is_keystone_refusal(third, 400)
        assert "akSkNumExceed" in third.json()["error"]["message"]


def _project_of(url: str, access_key: str, secret_key: str) -> str:
    """Let the unmodified SDK look its project up by the region's name, and use it."""
    credentials = BasicCredentials(access_key, secret_key).with_iam_endpoint(url)
    region = Region("region-1", url)
    sdk = EvsClient.new_builder().with_credentials(credentials).with_region(region).build()
    assert sdk.list_volumes(ListVolumesRequest()).count == 0
    return str(credentials.project_id)


def test_the_official_sdk_signs_in_by_key_and_finds_its_project(site: Site, url: str) -> None:
    """Nothing but endpoint, region and key pair is given to it."""
    assert _project_of(url, site.admin.access_key, site.admin.secret_key) == site.admin.project_id


def test_the_openapi_document_has_every_call(site: Site) -> None:
    """It is built without a warning, and names each path once."""
    paths = site.app().openapi()["paths"]

    assert {"/v3/auth/tokens", "/v3/projects", "/v3/regions", KEYS, f"{KEYS}/{{access_key}}"} <= set(paths)
