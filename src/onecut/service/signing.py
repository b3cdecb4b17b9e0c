"""
Verify requests signed with SDK-HMAC-SHA256, as the vendor's SDK signs them.

Nothing here reads a clock, a database or a socket. A request is verified from the bytes that came over the wire;
where two wire forms share one canonical form (``%2F`` and ``/`` in the path, ``+`` and ``%20`` in the query), both
are read alike by the rest of the service too, so changing one into the other changes nothing.

A signature has no nonce: within `WINDOW` an equal request may be sent again by whoever saw it.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from onecut.errors import Unauthenticated

ALGORITHM: Final = "SDK-HMAC-SHA256"

WINDOW: Final = timedelta(minutes=15)
"""How far ``X-Sdk-Date`` may be from now, before or after. Source: API signature guide."""

UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
REQUIRED_HEADERS: Final = frozenset({"host", "x-sdk-date"})
MAX_QUERY_FIELDS: Final = 256
"""Far above what any EVS call takes; bounds the work done for a caller whom nobody knows yet."""

# The SDK separates the parts with a comma and a space; hand-written signers leave the space out.
_AUTHORIZATION = re.compile(
    rf"{ALGORITHM} Access=([A-Za-z0-9_-]{{1,128}})"
    r", ?SignedHeaders=([a-z0-9;.-]{1,2048})"
    r", ?Signature=([0-9a-f]{64})",
)
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_MISMATCH = "the access key is unknown or inactive, or the signature does not match the request"


@dataclass(frozen=True)
class Authorization:
    """What an ``Authorization`` header claims."""

    access_key: str
    signed_headers: tuple[str, ...]
    """Lower-case names, in the order in which they were signed."""
    signature: str
    """64 lower-case hex digits."""


@dataclass(frozen=True)
class WireRequest:
    """A request as it came over the wire, nothing decoded."""

    method: str
    raw_path: bytes
    query_string: bytes
    headers: Sequence[tuple[bytes, bytes]]
    """Lower-case names, as ASGI gives them."""
    body: bytes


def parse_authorization(value: bytes) -> Authorization:
    """
    Read an ``Authorization`` header.

    Raises:
        Unauthenticated: Another scheme, a malformed header, or a list of signed headers without `REQUIRED_HEADERS`.
    """
    match = _AUTHORIZATION.fullmatch(value.decode("latin-1"))
    if match is None:
        raise Unauthenticated(
            f"Authorization is not of the form {ALGORITHM} Access=..., SignedHeaders=..., Signature=...",
        )
    names = tuple(match[2].split(";"))
    if not REQUIRED_HEADERS.issubset(names) or len(set(names)) != len(names):
        raise Unauthenticated("SignedHeaders must name host and x-sdk-date, and no header twice")
    return Authorization(match[1], names, match[3])


def check_date(authorization: Authorization, headers: Iterable[tuple[bytes, bytes]], now: datetime) -> None:
    """
    Check that the request was signed within `WINDOW` of *now*.

    This needs neither the secret nor the body, so it comes first.

    Raises:
        Unauthenticated: ``X-Sdk-Date`` is missing, malformed or too far from *now*.
    """
    value = _signed_values(authorization.signed_headers, headers)["x-sdk-date"]
    if not _DATE.fullmatch(value):
        raise Unauthenticated("X-Sdk-Date is not of the form YYYYMMDDTHHMMSSZ")
    try:
        signed_at = datetime.strptime(value, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise Unauthenticated("X-Sdk-Date is not a date") from error
    if abs(now - signed_at) > WINDOW:
        raise Unauthenticated(
            f"X-Sdk-Date is more than 15 minutes from this server's clock, which reads {now:%Y%m%dT%H%M%SZ}",
        )


def verify(request: WireRequest, authorization: Authorization, secret_key: str) -> None:
    """
    Check that *request* was signed with *secret_key*; `check_date` is the caller's to call.

    Raises:
        Unauthenticated: It was not, or it was changed since.
    """
    signed = _signed_values(authorization.signed_headers, request.headers)
    right = False
    for query in _canonical_queries(request.query_string):
        expected = _signature(request, query, signed, secret_key)
        right |= hmac.compare_digest(expected, authorization.signature)
    if not right:
        raise Unauthenticated(_MISMATCH)


def sign(request: WireRequest, access_key: str, secret_key: str, *, signed_headers: Sequence[str]) -> str:
    """Return the ``Authorization`` header for *request*, which has the headers named, ``X-Sdk-Date`` among them."""
    signed = _signed_values(sorted(signed_headers), request.headers)
    signature = _signature(request, _canonical_queries(request.query_string)[0], signed, secret_key)
    return f"{ALGORITHM} Access={access_key}, SignedHeaders={';'.join(signed)}, Signature={signature}"


def unknown_key() -> Unauthenticated:
    """Return the error for an access key that can't be used; it reads like the one for a wrong signature."""
    return Unauthenticated(_MISMATCH)


def _signed_values(names: Sequence[str], headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the signed headers' values in signing order. One that is missing or comes twice can't be trusted."""
    found: dict[str, list[bytes]] = {name: [] for name in names}
    for raw_name, value in headers:
        found.get(raw_name.decode("latin-1"), []).append(value)
    for name, values in found.items():
        if len(values) != 1:
            raise Unauthenticated(f"the signed header {name} must come exactly once")
    # The SDK signs text and sends its UTF-8 bytes.
    return {name: _text(values[0]).strip() for name, values in found.items()}


def _payload_hash(signed: Mapping[str, str], body: bytes) -> str:
    """
    Return what the signer put for the body.

    The SDK leaves a body unsigned only when its type is neither JSON nor BSON. Any other use of the word would let
    a body be exchanged under a valid signature, so it is taken only in that case, and only from signed headers.
    """
    if not body:
        return hashlib.sha256(b"").hexdigest()
    content_type = signed.get("content-type", "application/json")
    if signed.get("x-sdk-content-sha256") == UNSIGNED_PAYLOAD and not content_type.startswith(
        (
            "application/json",
            "application/bson",
        )
    ):
        return UNSIGNED_PAYLOAD
    return hashlib.sha256(body).hexdigest()


def _canonical_path(raw_path: bytes) -> str:
    path = quote(_text(unquote_to_bytes(raw_path)), safe="/~")
    return path if path.endswith("/") else path + "/"


def _canonical_queries(query_string: bytes) -> tuple[str, ...]:
    """
    Return the canonical forms the query may have been signed in: sorted by name and value, and as it was sent.

    The documented order is sorted. The SDK sorts lists by their values' own types (9 before 10) and sends exactly
    what it signed, so the order on the wire is right as well.
    """
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_QUERY_FIELDS,
        )
    except ValueError as error:
        raise Unauthenticated("the query is not percent-encoded UTF-8, or has too many fields") from error
    orders = (sorted(pairs), pairs) if sorted(pairs) != pairs else (pairs,)
    return tuple("&".join(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in o) for o in orders)


def _signature(request: WireRequest, query: str, signed: Mapping[str, str], secret_key: str) -> str:
    canonical = "\n".join(
        (
            request.method.upper(),
            _canonical_path(request.raw_path),
            query,
            *(f"{name}:{value}" for name, value in signed.items()),
            "",
            ";".join(signed),
            _payload_hash(signed, request.body),
        )
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"{ALGORITHM}\n{signed['x-sdk-date']}\n{digest}"
    return hmac.new(secret_key.encode(), text.encode(), hashlib.sha256).hexdigest()


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Unauthenticated("a signed part of the request is not UTF-8") from error
