import json
import socket
from collections.abc import Callable, Iterator
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from identity_site import Site, serving

from onecut.api.auth import ANONYMOUS_BODY_BYTES, BODY_BYTES

Send = Callable[..., httpx.Response]


@pytest.fixture
def send_signed(site: Site, client: httpx.Client) -> Send:
    """Return a call that signs by the vendor's signer and sends; *changed* headers are put in after signing."""

    def call(
        method: str,
        path: str,
        *,
        body: str = "",
        query: list[tuple[str, object]] | None = None,
        keys: tuple[str, str] = (site.admin.access_key, site.admin.secret_key),
        project_id: str | None = None,
        date: str | None = None,
        changed: dict[str, str] | None = None,
    ) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        headers |= {"X-Project-Id": project_id} if project_id else {}
        headers |= {"X-Sdk-Date": date or f"{site.clock.now():%Y%m%dT%H%M%SZ}"}
        host = client.base_url.netloc.decode()
        request = SdkRequest("GET", "http", host, path, query_params=query or [], header_params=headers, body=body)
        request.method = method
        signed = Signer(BasicCredentials(*keys)).sign(request)
        return client.request(method, signed.uri, content=body, headers=signed.header_params | (changed or {}))

    return call


def _is_gateway_refusal(answer: httpx.Response, status: int, code: str) -> bool:
    body = answer.json()
    assert set(body) == {"error_code", "error_msg", "request_id"}
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return (answer.status_code, body["error_code"]) == (status, code)


class TestWhoCalls:
    def test_a_token_and_a_signature_open_the_same_call(
        self,
        site: Site,
        client: httpx.Client,
        token: str,
        send_signed: Send,
    ) -> None:
        """Either way is enough for a project call, and the body comes through whole."""
        path = f"/v5/{site.admin.project_id}/snapshot-policies"

        by_token = client.post(path, headers={"X-Auth-Token": token}, content=b"x" * 1000).json()
        signed = send_signed("POST", path, body="x" * 1000, query=[("a", ["2", "1"])]).json()

        assert (by_token["how"], by_token["length"]) == ("token", 1000)
        assert (signed["how"], signed["length"], signed["query"]) == ("signature", 1000, [["a", "1"], ["a", "2"]])

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"X-Auth-Token": "wrong"},
            {"X-Auth-Token": ""},
            {"X-Auth-Token": "\xff"},
            {"Authorization": "Bearer abc"},
            {"Authorization": "SDK-HMAC-SHA256"},
        ],
    )
    def test_a_request_without_a_valid_token_or_signature_is_refused(
        self,
        site: Site,
        client: httpx.Client,
        headers: dict[str, str],
    ) -> None:
        """On any path that is not public, also one that does not exist, in the gateway's form."""
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        for path in (f"/v5/{site.admin.project_id}/snapshot-policies", "/v3/projects", "/none"):
            assert _is_gateway_refusal(client.get(path, headers=raw), 401, "APIGW.0301")

    def test_two_tokens_are_refused(self, site: Site, client: httpx.Client, token: str) -> None:
        """Which of them a proxy looked at, nobody can say."""
        headers = [("X-Auth-Token", token), ("X-Auth-Token", "other")]

        assert client.get(f"/v5/{site.admin.project_id}/snapshot-policies", headers=headers).status_code == 401

    def test_a_tampered_signed_request_is_refused(self, site: Site, client: httpx.Client, send_signed: Send) -> None:
        """Another body, header or secret, an unknown key, a stale date, a temporary key: each is 401."""
        path = f"/v5/{site.admin.project_id}/snapshot-policies"
        stale = f"{site.clock.now() - timedelta(minutes=16):%Y%m%dT%H%M%SZ}"
        keys = (site.admin.access_key, site.admin.secret_key)

        for answer in (
            send_signed("POST", path, changed={"Content-Type": "text/plain"}),
            send_signed("GET", path, keys=(keys[0], "wrong")),
            send_signed("GET", path, keys=("UNKNOWN", keys[1])),
            send_signed("GET", path, date=stale),
            send_signed("GET", path, changed={"X-Security-Token": "x"}),
            send_signed("GET", path, changed={"Host": "elsewhere"}),
        ):
            assert _is_gateway_refusal(answer, 401, "APIGW.0301")
        assert client.get(path).status_code == 401

    def test_an_unknown_key_is_told_like_a_wrong_signature(self, site: Site, send_signed: Send) -> None:
        """Nobody learns from the answer which access keys there are."""
        path = f"/v5/{site.admin.project_id}/snapshot-policies"

        wrong = send_signed("GET", path, keys=(site.admin.access_key, "wrong")).json()
        unknown = send_signed("GET", path, keys=("UNKNOWN", "wrong")).json()

        assert wrong["error_msg"] == unknown["error_msg"]

    def test_public_paths_need_neither(self, client: httpx.Client) -> None:
        """Reading them is open to all; writing to them is not."""
        assert client.get("/healthz").status_code == 200
        assert client.get("/healthz/").status_code == 404  # past authentication; the application has no such path
        assert client.get("/v2").status_code == 404
        assert client.post("/healthz").status_code == 401

    def test_a_database_that_does_not_answer_is_a_503(self, site: Site, client: httpx.Client, token: str) -> None:
        """Not a 401 that would make clients throw good tokens away, and not a stack trace."""
        with site.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE token RENAME TO gone")

        answer = client.get("/v3/projects", headers={"X-Auth-Token": token})

        assert _is_gateway_refusal(answer, 503, "EVS.5503")


class TestProject:
    def test_a_foreign_project_answers_as_one_that_does_not_exist(
        self,
        site: Site,
        client: httpx.Client,
        token: str,
        send_signed: Send,
    ) -> None:
        """Word for word, by token and by signature."""
        site.add_tenant("other")
        paths = [f"/v5/{project_id}/snapshot-policies" for project_id in (site.project_of("other"), "f" * 32)]

        answers = [client.get(path, headers={"X-Auth-Token": token}) for path in paths]
        answers += [send_signed("GET", path) for path in paths]

        assert {answer.status_code for answer in answers} == {400}
        assert len({answer.text for answer in answers}) == 1
        assert answers[0].json()["error"]["code"] == "Common.0018"

    def test_a_token_is_good_for_its_own_project_only(
        self,
        site: Site,
        client: httpx.Client,
        sign_in: Send,
    ) -> None:
        """Not for the user's other project, and a domain's token for none."""
        second = site.add_project("region-2")
        by_scope = {
            "region-2": sign_in(scope={"project": {"id": second}}),
            "domain": sign_in(scope={"domain": {"name": site.admin.domain_name}}),
        }

        def status(scope: str, project_id: str) -> int:
            headers = {"X-Auth-Token": by_scope[scope].headers["X-Subject-Token"]}
            return client.get(f"/v5/{project_id}/snapshot-policies", headers=headers).status_code

        assert status("region-2", second) == 200
        assert status("region-2", site.admin.project_id) == 400
        assert status("domain", second) == 400

    def test_an_x_project_id_that_is_not_the_paths_is_refused(self, site: Site, send_signed: Send) -> None:
        """Both projects are the signer's own, yet one of the two must be a mistake."""
        second = site.add_project("region-2")
        path = f"/v5/{site.admin.project_id}/snapshot-policies"

        assert send_signed("GET", path, project_id=site.admin.project_id).status_code == 200
        refused = send_signed("GET", path, project_id=second)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "Common.0018")

    @pytest.mark.parametrize("project_id", ["{project_id}", "%7Bproject_id%7D", "F" * 32, "0" * 31, "null"])
    def test_a_project_id_that_is_none_is_evs_0001(self, client: httpx.Client, token: str, project_id: str) -> None:
        """An SDK client without a project sends the placeholder itself."""
        answer = client.get(f"/v5/{project_id}/snapshot-policies", headers={"X-Auth-Token": token})

        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "EVS.0001")


class TestBody:
    def test_a_body_at_the_limit_passes_and_one_byte_more_does_not(
        self,
        site: Site,
        client: httpx.Client,
        token: str,
    ) -> None:
        """Whether its length is told or it comes in chunks."""
        path, headers = f"/v5/{site.admin.project_id}/snapshot-policies", {"X-Auth-Token": token}

        def chunks(length: int) -> Iterator[bytes]:
            yield b"x" * (length - 1)
            yield b"x"

        assert client.post(path, headers=headers, content=b"x" * BODY_BYTES).json()["length"] == BODY_BYTES
        assert client.post(path, headers=headers, content=chunks(BODY_BYTES)).json()["length"] == BODY_BYTES
        for content in (b"x" * (BODY_BYTES + 1), chunks(BODY_BYTES + 1)):
            answer = client.post(path, headers=headers, content=content)
            assert _is_gateway_refusal(answer, 413, "APIGW.0201")

    def test_who_is_not_known_sends_less(self, client: httpx.Client) -> None:
        """A sign-in of more than 64 KiB is refused unread; without credentials nothing is read at all."""
        long = b" " * (ANONYMOUS_BODY_BYTES + 1)

        assert _is_gateway_refusal(client.post("/v3/auth/tokens", content=long), 413, "APIGW.0201")
        assert client.post("/v3/auth/projects", content=long).status_code == 401

    def test_a_body_that_never_ends_is_given_up(self, site: Site) -> None:
        """The answer comes after the time-out, while the client still holds the rest back."""
        with serving(site.app(body_timeout_s=0.2)) as url, socket.create_connection(_address(url), 10) as line:
            line.sendall(b"POST /v3/auth/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")

            answer = line.recv(65536)

        assert answer.startswith(b"HTTP/1.1 408 ")

    def test_without_credentials_the_answer_does_not_wait_for_the_body(self, url: str) -> None:
        """A client that nobody knows can't keep the service waiting, whatever it announces."""
        with socket.create_connection(_address(url), 10) as line:
            line.sendall(b"POST /v3/projects HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")

            assert line.recv(65536).startswith(b"HTTP/1.1 401 ")

    def test_a_client_that_leaves_half_way_harms_nobody(self, url: str) -> None:
        """The next one is served."""
        with socket.create_connection(_address(url), 10) as line:
            line.sendall(b"POST /v3/auth/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")

        assert httpx.get(f"{url}/healthz").status_code == 200


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


class TestRequestId:
    def test_every_answer_has_one(self, client: httpx.Client, token: str) -> None:
        """Good, refused or not found; each its own."""
        answers = [
            client.get("/healthz"),
            client.get("/v3/projects"),
            client.get("/v3/projects", headers={"X-Auth-Token": token}),
            client.get("/none", headers={"X-Auth-Token": token}),
        ]

        assert len({answer.headers["X-Request-Id"] for answer in answers}) == 4

    @pytest.mark.parametrize(
        ("claimed", "kept"),
        [("trace-0123456789", True), ("x", False), ("a b" * 5, False), ("x" * 65, False), ("<script>abc", False)],
    )
    def test_a_clients_own_is_kept_when_it_is_harmless(self, client: httpx.Client, claimed: str, kept: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """8 to 64 letters, digits, dashes and underscores; anything else is replaced."""
        answer = client.get("/healthz", headers={"X-Request-Id": claimed})

        assert (answer.headers["X-Request-Id"] == claimed) is kept


def test_no_secret_is_logged(
    site: Site,
    client: httpx.Client,
    sign_in: Send,
    send_signed: Send,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Neither good nor refused credentials reach standard output or standard error."""
    token = sign_in().headers["X-Subject-Token"]
    sign_in(password="wrong-password-1")
    client.get("/v3/projects", headers={"X-Auth-Token": "wrong-token-1"})
    signed = send_signed("GET", "/v3/projects", keys=(site.admin.access_key, "wrong"))
    client.get("/v3/auth/tokens", headers={"X-Auth-Token": token, "X-Subject-Token": token})

    said = "".join(capfd.readouterr())

    assert "request_refused" in said
    authorization = signed.request.headers["Authorization"]
    for secret in (token, "wrong-token-1", "wrong-password-1", site.admin.password, authorization):
        assert secret not in said
    assert json.loads(signed.request.content or b"null") is None
