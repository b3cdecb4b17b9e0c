"""
Who calls: a token or a signature, checked before anything of the body is parsed.

The order is fixed: a request that nobody may make is refused from its headers, then the body is read up to a limit
of bytes and of time, then a signature is verified over it. Only then does the application see the request. What is
refused here is answered in the API gateway's form. Tokens, keys and the ``Authorization`` header are never logged.
"""

import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Final, TypeVar
from uuid import uuid4

import anyio
import structlog
from fastapi import Depends, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.datastructures import Headers, MutableHeaders, State
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onecut.api.actions import action_of
from onecut.api.routing import HANDLERS
from onecut.api.template import path_template
from onecut.db.threads import in_thread
from onecut.errors import BadRequest, Forbidden, Unauthenticated
from onecut.service import identity, roles, signing
from onecut.service.identity import Caller
from onecut.service.roles import Role
from onecut.units import KiB, MiB

log = structlog.get_logger()

BODY_BYTES: Final = 1 * MiB
"""Above every body that EVS documents; the gateway's own 12 MB is for services that take files."""
ANONYMOUS_BODY_BYTES: Final = 64 * KiB
"""A sign-in is some hundred bytes. Nobody knows yet who sends it."""
BODY_TIMEOUT_S: Final = 30.0
"""From the end of the headers to the end of the body."""

PUBLIC_PATHS: Final = frozenset({
    "/", "/v1", "/v2", "/v3", "/healthz", "/readyz", "/metrics", "/openapi.json",
})  # fmt: skip
"""May be read by anybody; one slash at the end is the same path."""
SIGN_IN: Final = ("POST", "/v3/auth/tokens")

_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")
PROJECT_ID: Final = re.compile(r"^[0-9a-f]{32}$")

Found = TypeVar("Found")


class _Refusal(Exception):
    """The request ends here, with this answer."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class _Gone(Exception):
    """The client went away before its body was complete."""


class Authentication:
    """
    Pure ASGI middleware; leaves `Caller` and request id in ``scope["state"]``, as ``caller`` and ``request_id``.

    Needs ``database``, ``clock`` and ``secrets`` (the service key) in ``app.state``. A public path has no caller.
    """

    def __init__(self, app: ASGIApp, *, body_timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._app = app
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Authenticate an HTTP request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope))
        state = scope.setdefault("state", {})
        state["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            state["caller"], body = await self._admit(scope, receive)
        except _Gone:
            return
        except _Refusal as refusal:
            log.info("request_refused", request_id=request_id, status=int(refusal.status), reason=refusal.message)
            answer = {"error_code": refusal.code, "error_msg": refusal.message, "request_id": request_id}
            await JSONResponse(answer, refusal.status)(scope, receive, send_with_id)
            return
        await self._app(scope, _replay(body, receive), send_with_id)

    async def _admit(self, scope: Scope, receive: Receive) -> tuple[Caller | None, bytes]:
        """Return who calls (None on a public path) and the whole body."""
        if is_public(scope["method"], scope["path"]):
            return None, await self._read(receive, ANONYMOUS_BODY_BYTES)
        headers = Headers(scope=scope)
        try:
            if "x-auth-token" not in headers:
                return await self._admit_signed(scope, receive, headers)
            caller = await _caller_by_token(scope["app"].state, headers)
            return caller, await self._read(receive, BODY_BYTES) if _has_body(headers) else b""
        except Unauthenticated as error:
            raise _Refusal(HTTPStatus.UNAUTHORIZED, error.code, error.message) from error

    async def _admit_signed(self, scope: Scope, receive: Receive, headers: Headers) -> tuple[Caller, bytes]:
        if "authorization" not in headers:
            raise Unauthenticated("the request has neither X-Auth-Token nor a signature in Authorization")
        state: State = scope["app"].state
        authorization = signing.parse_authorization(_single(headers, "authorization").encode("latin-1"))
        if "x-security-token" in headers:
            raise Unauthenticated("temporary access keys (X-Security-Token) are not supported")
        signing.check_date(authorization, scope["headers"], state.clock.now())

        def find() -> identity.Signer:
            with state.database.asking_once() as asker:
                return identity.find_signer(asker, state.secrets, authorization.access_key)

        signer = await _look_up(find)
        body = await self._read(receive, BODY_BYTES)
        request = signing.WireRequest(
            scope["method"], scope["raw_path"], scope["query_string"], scope["headers"], body
        )
        signing.verify(request, authorization, signer.secret_key)
        project_id = _single(headers, "x-project-id") if "x-project-id" in headers else None
        return signer.caller(project_id), body

    async def _read(self, receive: Receive, limit: int) -> bytes:
        """Read a body of at most *limit* bytes, whatever its Content-Length says."""
        body = bytearray()
        try:
            with anyio.fail_after(self._body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    body += message.get("body", b"")
                    if len(body) > limit:
                        raise _Refusal(
                            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                            "APIGW.0201",
                            f"the body is longer than {limit} bytes",
                        )
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            message_text = f"the body did not arrive within {self._body_timeout_s:g} seconds"
            raise _Refusal(HTTPStatus.REQUEST_TIMEOUT, "APIGW.0201", message_text) from error


async def current_caller(request: Request) -> Caller:
    """Return who calls; for handlers of paths that are not public."""
    caller: Caller = request.state.caller
    return caller


async def project_caller(project_id: str, request: Request) -> Caller:
    """
    Return who calls, once it is sure that they may use the project of the path, and make this call in it.

    A project id that is no id at all (``{project_id}`` left in place by an SDK client, for one) is 400 EVS.0001.
    Any other that the request may not use is 400 Common.0018, word for word the same whether the project belongs to
    somebody else, is not the one that the token or ``X-Project-Id`` names, or does not exist. A token whose user has
    lost every role in its project is 403 EVS.0003, an action that the role does not permit 403 EVS.1027.
    """
    if not PROJECT_ID.fullmatch(project_id):
        raise BadRequest("project_id: must be 32 lower-case hex digits", code="EVS.0001")
    caller = await current_caller(request)
    role = role_in(caller, project_id, field="project_id")
    action = action_of(request.method, path_template(request.scope) or "")
    if action is not None:
        roles.require(role, action, project_id)
    return caller


def role_in(caller: Caller, project_id: str, *, field: str) -> Role:
    """Return the caller's role in a project, or refuse one that the request may not use, whosever it is."""
    role = caller.roles.get(project_id)
    if role is None and project_id == caller.project_id:
        raise Forbidden(f"the user has no role in project {project_id} any more", code="EVS.0003")
    if role is None:
        raise BadRequest(f"{field}: is not the project that this request may use", code="Common.0018")
    return role


CurrentCaller = Annotated[Caller, Depends(current_caller)]
ProjectCaller = Annotated[Caller, Depends(project_caller)]


def is_public(method: str, path: str) -> bool:
    """Whether nobody needs to sign in for a call."""
    path = path.removesuffix("/") or "/"
    return (method, path) == SIGN_IN or (method in {"GET", "HEAD"} and path in PUBLIC_PATHS)


def _has_body(headers: Headers) -> bool:
    """Whether a request brings a body; one without either header has none (RFC 9112, section 6.3)."""
    return "content-length" in headers or "transfer-encoding" in headers


def _request_id(headers: Headers) -> str:
    """Take the client's own id when it is harmless in logs and headers, else make one."""
    claimed = headers.get("x-request-id", "")
    return claimed if _REQUEST_ID.fullmatch(claimed) else uuid4().hex


def _single(headers: Headers, name: str) -> str:
    values = headers.getlist(name)
    if len(values) != 1:
        raise Unauthenticated(f"the header {name} must come exactly once")
    return values[0]


async def _caller_by_token(state: State, headers: Headers) -> Caller:
    token, now = _single(headers, "x-auth-token"), state.clock.now()

    def find() -> Caller:
        with state.database.asking_once() as asker:
            return identity.caller_by_token(asker, token, now)

    return await _look_up(find)


async def _look_up(find: Callable[[], Found]) -> Found:
    """Ask the database in a worker thread; the event loop never waits for it."""
    try:
        return await in_thread(find, HANDLERS)
    except OperationalError as error:
        log.error("database_refused", error=str(error.orig))  # noqa: TRY400 - the sentence says it all
        message = "the database does not answer; try again later"
        raise _Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "EVS.5503", message) from error


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the application the body that was read, then what the server has to say (that the client left)."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
