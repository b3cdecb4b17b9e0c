import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
import requests
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given, settings
from hypothesis import strategies as st

from onecut.errors import Unauthenticated
from onecut.service import signing
from onecut.service.signing import Authorization, WireRequest

ACCESS, SECRET = "AKEXAMPLE", "SKEXAMPLESECRET"
PROJECT = "0123456789abcdef0123456789abcdef"
SIGNED = ("content-type", "host", "user-agent", "x-project-id", "x-sdk-date")
SIGNED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def _headers(content_type: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"host", b"evs.example.test:8443"),
        (b"user-agent", b"probe/1"),
        (b"x-project-id", PROJECT.encode()),
        (b"x-sdk-date", b"20260102T030405Z"),
        (b"content-type", content_type),
        (b"accept-encoding", b"gzip"),
    ]


LIST = WireRequest(
    "GET",
    f"/v5/{PROJECT}/snapshot-groups/detail".encode(),
    b"limit=10&tags=%5B%7B%22key%22%3A%22a%20b%22%2C%22value%22%3A%22~%2A%E4%B8%AD%22%7D%5D",
    _headers(b"application/json"),
    b"",
)
CREATE = WireRequest(
    "POST",
    f"/v5/{PROJECT}/snapshot-groups".encode(),
    b"",
    _headers(b"application/json;charset=utf-8"),
    b'{"snapshot_group": {"name": "n"}}',
)
LIST_AUTHORIZATION = Authorization(
    ACCESS,
    SIGNED,
    "95bc1087682e7f893bf9d32843e16bc99c68f9ee18845ed22b817e90e9ffc394",
)
CREATE_AUTHORIZATION = Authorization(
    ACCESS,
    SIGNED,
    "0ce99f77baa79adc9c2c31f492624778b36f19d9a2b79b31bdfcb7adde03d142",
)


def test_the_documented_vectors_verify() -> None:
    """Both vectors of the EVS dossier, computed with the vendor's signer, are right."""
    signing.verify(LIST, LIST_AUTHORIZATION, SECRET)
    signing.verify(CREATE, CREATE_AUTHORIZATION, SECRET)


def _with_header(request: WireRequest, name: bytes, value: bytes) -> WireRequest:
    return replace(request, headers=[(n, value if n == name else v) for n, v in request.headers])


@pytest.mark.parametrize(
    "tampered",
    [
        replace(CREATE, method="PUT"),
        replace(CREATE, raw_path=CREATE.raw_path + b"/x"),
        replace(CREATE, raw_path=CREATE.raw_path.replace(b"0", b"1", 1)),
        replace(CREATE, raw_path=b"/\xff"),
        replace(CREATE, query_string=b"limit=1"),
        replace(CREATE, query_string=b"%ff=1"),
        replace(CREATE, body=CREATE.body + b" "),
        replace(CREATE, body=b""),
        _with_header(CREATE, b"host", b"evs.example.test"),
        _with_header(CREATE, b"user-agent", b"probe/2"),
        _with_header(CREATE, b"user-agent", b"\xff"),
        _with_header(CREATE, b"x-project-id", b"f" * 32),
        _with_header(CREATE, b"x-sdk-date", b"20260102T030406Z"),
        replace(CREATE, headers=CREATE.headers[1:]),
        replace(CREATE, headers=[*CREATE.headers, (b"host", b"evs.example.test:8443")]),
    ],
)
def test_a_request_with_any_part_changed_is_refused(tampered: WireRequest) -> None:
    """Method, path, query, body, each signed header, and a signed header that is missing or doubled."""
    with pytest.raises(Unauthenticated):
        signing.verify(tampered, CREATE_AUTHORIZATION, SECRET)


def test_another_secret_or_signature_is_refused() -> None:
    """Neither a signature by another secret nor one with a digit changed passes."""
    changed = replace(CREATE_AUTHORIZATION, signature="1" + CREATE_AUTHORIZATION.signature[1:])
    with pytest.raises(Unauthenticated):
        signing.verify(CREATE, changed, SECRET)
    with pytest.raises(Unauthenticated):
        signing.verify(CREATE, CREATE_AUTHORIZATION, SECRET + "x")


def test_a_body_is_not_exchanged_by_calling_it_unsigned() -> None:
    """Neither an unsigned header nor a signed one on a JSON body makes the body's hash optional."""
    other = replace(CREATE, body=b'{"snapshot_group": {"name": "evil"}}')
    digest = hashlib.sha256(CREATE.body).hexdigest().encode()
    for value in (b"UNSIGNED-PAYLOAD", digest):
        added = replace(other, headers=[*other.headers, (b"x-sdk-content-sha256", value)])
        with pytest.raises(Unauthenticated):
            signing.verify(added, CREATE_AUTHORIZATION, SECRET)

    # Signed by the secret's owner, yet a JSON body: the word would let anybody on the way exchange it.
    names = (*SIGNED, "x-sdk-content-sha256")
    headers = [*CREATE.headers, (b"x-sdk-content-sha256", b"UNSIGNED-PAYLOAD")]
    lines = "".join(f"{name}:{dict(headers)[name.encode()].decode()}\n" for name in names)
    canonical = f"POST\n{CREATE.raw_path.decode()}/\n\n{lines}\n{';'.join(names)}\nUNSIGNED-PAYLOAD"
    to_sign = f"SDK-HMAC-SHA256\n20260102T030405Z\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.new(SECRET.encode(), to_sign.encode(), hashlib.sha256).hexdigest()
    with pytest.raises(Unauthenticated):
        signing.verify(replace(CREATE, headers=headers), Authorization(ACCESS, names, signature), SECRET)


@pytest.mark.parametrize("minutes", [-15, 0, 15])
def test_a_date_within_fifteen_minutes_passes(minutes: int) -> None:
    """The window is closed: exactly fifteen minutes, before or after, is in."""
    signing.check_date(CREATE_AUTHORIZATION, CREATE.headers, SIGNED_AT + timedelta(minutes=minutes))


@pytest.mark.parametrize("seconds", [-901, 901])
def test_a_date_beyond_fifteen_minutes_is_refused(seconds: int) -> None:
    """One second more is out, before or after, and the message tells this server's time."""
    with pytest.raises(Unauthenticated, match="which reads 2026"):
        signing.check_date(CREATE_AUTHORIZATION, CREATE.headers, SIGNED_AT + timedelta(seconds=seconds))


@pytest.mark.parametrize("date", [b"", b"2026-01-02", b"20261302T030405Z", b"20260102T030405", b"2026010 T030405Z"])
def test_a_date_that_is_none_is_refused(date: bytes) -> None:
    """Only a date that exists, in the form of the signature guide, is read."""
    with pytest.raises(Unauthenticated, match="X-Sdk-Date is not"):
        signing.check_date(CREATE_AUTHORIZATION, _with_header(CREATE, b"x-sdk-date", date).headers, SIGNED_AT)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer abc",
        "SDK-HMAC-SM3 Access=A, SignedHeaders=host;x-sdk-date, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=host;x-sdk-date, Signature=" + "0" * 63,
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=host;x-sdk-date, Signature=" + "0" * 64 + " ",
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=x-sdk-date, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=host, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=A, SignedHeaders=host;host;x-sdk-date, Signature=" + "0" * 64,
        "SDK-HMAC-SHA256 Access=é, SignedHeaders=host;x-sdk-date, Signature=" + "0" * 64,
    ],
)
def test_a_malformed_authorization_is_refused(value: str) -> None:
    """Only the documented scheme and form is read, and host and x-sdk-date must be signed."""
    with pytest.raises(Unauthenticated):
        signing.parse_authorization(value.encode())


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SEGMENT = TEXT.filter(lambda segment: segment not in {".", ".."})  # HTTP libraries resolve these before sending
VALUE = st.one_of(
    TEXT,
    st.integers(),
    st.booleans(),
    st.lists(TEXT, max_size=4),
    st.lists(st.integers(0, 200), max_size=4),
)


def _sign(request: SdkRequest) -> tuple[WireRequest, Authorization]:
    """Sign by the vendor's signer, and send as far as the vendor's HTTP library does: to bytes on the wire."""
    signed = Signer(BasicCredentials(ACCESS, SECRET)).sign(request)
    wire = requests.Request(signed.method, f"https://{signed.host}{signed.uri}").prepare()
    raw_path, _, query = (wire.path_url or "").partition("?")
    headers = [(n.lower().encode(), v.encode("latin-1")) for n, v in signed.header_params.items()]
    authorization = signing.parse_authorization(dict(headers)[b"authorization"])
    return WireRequest(signed.method, raw_path.encode(), query.encode(), headers, signed.body or b""), authorization


@settings(deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]),
    segments=st.lists(SEGMENT, min_size=1, max_size=4),
    query=st.dictionaries(TEXT, VALUE, max_size=4),
    agent=TEXT,
    content_type=st.sampled_from([None, "application/json", "application/json;charset=utf-8", "text/plain"]),
    body=TEXT,
)
def test_whatever_the_vendors_signer_signs_verifies(  # noqa: PLR0917 - hypothesis passes by name
    method: str,
    segments: list[str],
    query: dict[str, object],
    agent: str,
    content_type: str | None,
    body: str,
) -> None:
    """Paths in any script, lists and numbers in queries, any body and type, as the SDK puts them on the wire."""
    headers = {"User-Agent": agent, "X-Project-Id": PROJECT}
    if content_type is not None:
        headers["Content-Type"] = content_type
    path = "/v5/" + "/".join(quote(segment, safe="") for segment in segments)
    request, authorization = _sign(
        SdkRequest(
            method, "https", "evs.test:8776", path, query_params=list(query.items()), header_params=headers, body=body
        ),
    )

    signing.verify(request, authorization, SECRET)

    with pytest.raises(Unauthenticated):
        signing.verify(replace(request, query_string=request.query_string + b"&x=1"), authorization, SECRET)


def test_a_body_that_is_not_json_may_be_unsigned() -> None:
    """The SDK marks such bodies as unsigned; they pass, whatever they hold."""
    headers = {"Content-Type": "text/plain"}
    request, authorization = _sign(
        SdkRequest("POST", "https", "evs.test", "/x", query_params=[], header_params=headers, body="a"),
    )

    signing.verify(replace(request, body=b"b"), authorization, SECRET)


@pytest.mark.parametrize(
    "same",
    [
        lambda request: replace(request, query_string=b"b=x+y&a=2&a=1"),
        lambda request: replace(request, query_string=b"%61=1&a=2&b=x%20y"),
        lambda request: replace(request, raw_path=b"/v5/%61"),
        lambda request: replace(request, raw_path=b"/v5/a/"),
    ],
)
def test_forms_that_the_service_reads_alike_are_one_request(same: Callable[[WireRequest], WireRequest]) -> None:
    """Hand-written clients may order the query, and escape more or less, than the canonical form does."""
    request, authorization = _sign(
        SdkRequest(
            "GET", "https", "evs.test", "/v5/a", query_params=[("a", ["1", "2"]), ("b", "x y")], header_params={}
        ),
    )

    signing.verify(same(request), authorization, SECRET)
