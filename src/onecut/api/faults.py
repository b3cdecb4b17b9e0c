"""
The only place that turns errors into HTTP.

Bodies are those of EVS (``{"error": {"code", "message"}}``), of the API gateway for what happens before EVS is
reached (``{"error_code", "error_msg", "request_id"}``), of Keystone under the IAM paths, and of Cinder under its own.
Source: EVS API reference, error codes.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from onecut.api.cinder_faults import cinder_error, is_cinder
from onecut.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    QuotaExceeded,
    Refused,
    SnapshotInCreation,
    Unauthenticated,
    WrongState,
)
from onecut.repository.errors import Damaged, TryLater

log = structlog.get_logger()

STATUS: Final[Mapping[type[Refused], HTTPStatus]] = {
    BadRequest: HTTPStatus.BAD_REQUEST,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    WrongState: HTTPStatus.BAD_REQUEST,  # as EVS.1046, EVS.1047 and EVS.2043 are documented
    SnapshotInCreation: HTTPStatus.BAD_REQUEST,
    QuotaExceeded: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,  # Cinder's overLimit, and EVS.5413
}

CODE_OF_FIELD: Final[Mapping[str, str]] = {
    "limit": "EVS.1023",
    "sort_key": "EVS.1039",
    "sort_dir": "EVS.1040",
    "marker": "EVS.1024",
    "tags": "EVS.1062",
    "volume_ids": "EVS.1002",
    "volume_id": "EVS.1002",
    "snapshot_id": "EVS.2045",
    "multiattach": "EVS.1054",
    "count": "EVS.1021",
    "size": "EVS.1010",
    "new_size": "EVS.1015",
    "availability_zone": "EVS.1036",
    "volume_type": "EVS.2070",
    "enterprise_project_id": "EVS.2059",
    "bssParam": "EVS.2147",
    "bss_param": "EVS.2147",
}
"""The documented code for a malformed field; every other field gets EVS.5400."""

VALUE_CHARS: Final = 60
"""How much of a wrong value a message shows."""

SECRET_FIELDS: Final = frozenset({"password", "id", "auth", "token", "secret", "auth_key"})
"""Fields whose value, or what is in it, a message never shows (under the IAM paths, ``id`` may be a token)."""


def evs_error(status: int, code: str, message: str) -> JSONResponse:
    """Build an error in EVS's own form."""
    return JSONResponse({"error": {"code": code, "message": message}}, status)


def keystone_error(status: int, message: str) -> JSONResponse:
    """Build an error in Keystone's form."""
    return JSONResponse({"error": {"code": status, "title": HTTPStatus(status).phrase, "message": message}}, status)


def install(app: FastAPI) -> None:
    """Make *app* answer every error in the documented form."""
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unroutable)
    app.add_exception_handler(OperationalError, _database_away)
    app.add_exception_handler(TryLater, _repository_away)
    app.add_exception_handler(Damaged, _repository_damaged)
    app.add_exception_handler(Exception, _broken)


def is_iam(path: str) -> bool:
    """Whether errors of this path have Keystone's form."""
    return path.startswith(("/v3/auth", "/v3/projects", "/v3/regions", "/v3.0/"))


def _answer(request: Request, status: int, code: str, message: str) -> JSONResponse:
    if is_iam(request.url.path):
        return keystone_error(status, message)
    form = cinder_error if is_cinder(request.url.path) else evs_error
    return form(status, code, message)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)  # noqa: S101 - Starlette calls a handler only for its own class
    return _answer(request, _status(error, request.url.path), error.code, error.message)


def _status(error: Refused, path: str) -> HTTPStatus:
    if isinstance(error, SnapshotInCreation) and error.single:
        return HTTPStatus.CONFLICT
    if isinstance(error, QuotaExceeded) and error.code in {"EVS.1034", "EVS.1042"} and not is_cinder(path):
        return HTTPStatus.BAD_REQUEST  # as they are documented
    return STATUS[type(error)]


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - see _refused
    first = error.errors()[0]
    path = [str(part) for part in first["loc"][1:]]
    known = (CODE_OF_FIELD[part] for part in reversed(path) if part in CODE_OF_FIELD)
    code = first.get("ctx", {}).get("code") or next(known, "EVS.5400")
    return _answer(request, HTTPStatus.BAD_REQUEST, code, _sentence(first, path))


def _sentence(first: Mapping[str, Any], path: list[str]) -> str:
    if first["type"] == "json_invalid":
        return f"the body is not JSON: {first['ctx']['error']}"
    where = ".".join(path) or "the body"
    what = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] == "missing" or not SECRET_FIELDS.isdisjoint(path):
        return f"{where}: {what}"
    value = repr(first["input"])
    return f"{where}: {what}; got {value if len(value) <= VALUE_CHARS else value[:VALUE_CHARS] + '...'}"


async def _unroutable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - see _refused
    called = f"{request.method} {request.url.path}"
    if error.status_code == HTTPStatus.NOT_FOUND:
        return _answer(request, HTTPStatus.NOT_FOUND, "APIGW.0101", f"there is no such API: {called}")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        answer = _answer(request, error.status_code, "EVS.5405", f"this path has no such method: {called}")
    else:
        answer = _answer(request, error.status_code, "EVS.5400", f"{error.detail}: {called}")
    answer.headers.update(error.headers or {})  # Allow, Retry-After
    return answer


async def _database_away(request: Request, error: Exception) -> JSONResponse:
    log.error("database_refused", error=str(error))
    return _answer(
        request, HTTPStatus.SERVICE_UNAVAILABLE, "EVS.5503", "the database does not answer; try again later"
    )


async def _repository_away(request: Request, error: Exception) -> JSONResponse:
    log.error("repository_refused", error=str(error))
    return _answer(
        request, HTTPStatus.SERVICE_UNAVAILABLE, "EVS.5503", "the repository does not answer; try again later"
    )


async def _repository_damaged(request: Request, error: Exception) -> JSONResponse:
    return _answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "EVS.5500", f"in the repository, {error}")


async def _broken(request: Request, error: Exception) -> JSONResponse:
    # Starlette answers this one outside all middleware, so the id that authentication gave is set here.
    request_id = getattr(request.state, "request_id", "")
    log.error("request_broken", path=request.url.path, request_id=request_id, exc_info=error)
    message = f"internal error; the log has the details under request {request_id}"
    answer = _answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, "EVS.5500", message)
    answer.headers["X-Request-Id"] = request_id
    return answer
