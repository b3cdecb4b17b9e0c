"""
The OpenAPI document: what FastAPI reads off the handlers, and what it can't know.

Bodies and queries are described by the very models that requests are validated against. Added here: how one signs in,
the errors in their documented forms, headers of answers, examples, and operation ids, which are the handlers' names.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from onecut.api import examples
from onecut.api.auth import PROJECT_ID, is_public
from onecut.api.cinder import MICROVERSION_HEADER
from onecut.api.cinder_faults import is_cinder, kind_of
from onecut.api.faults import is_iam

Operation = dict[str, Any]

SECURITY_SCHEMES: Final = {
    "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token", "description": "Of `POST /v3/auth/tokens`."},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`SDK-HMAC-SHA256`, with an access key; the SDK signs each request so.",
    },
}

ERROR_SCHEMAS: Final[Mapping[str, Mapping[str, Any]]] = {
    "EvsError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {
                    "code": {"type": "string", "examples": ["EVS.1002"]},
                    "message": {"type": "string", "description": "Names the field, its value and the limit."},
                },
            }
        },
    },
    "GatewayError": {
        "type": "object",
        "required": ["error_code", "error_msg", "request_id"],
        "properties": {
            "error_code": {"type": "string", "examples": ["APIGW.0301"]},
            "error_msg": {"type": "string"},
            "request_id": {"type": "string"},
        },
    },
    "CinderError": {
        "type": "object",
        "description": "One key, which says what kind of error it is.",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string", "examples": ["EVS.5404"]}, "message": {"type": "string"}},
        },
    },
    "KeystoneError": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "title", "message"],
                "properties": {
                    "code": {"type": "integer", "examples": [401]},
                    "title": {"type": "string"},
                    "message": {"type": "string"},
                },
            }
        },
    },
}

REASONS: Final[Mapping[int, str]] = {
    400: "The request is wrong, or its resource's state does not allow it; nothing changed.",
    401: "Nobody knows who asks.",
    403: "The caller may not do this.",
    404: "There is no such resource for this caller.",
    406: "Another microversion is asked for.",
    408: "The body did not arrive in time.",
    409: "A snapshot of the volume is being created; ask again later (EVS.2409).",
    413: "A quota is used up, or the body is too long.",
    500: "A fault of the service; the log has the details under the request's id.",
    503: "The database, the repository or the engine does not answer; ask again later.",
}

HEADERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "X-Request-Id": {
        "description": "The request's own, when it has 8 to 64 letters, digits, `-` or `_`; else one that was made.",
        "schema": {"type": "string", "examples": [examples.REQUEST_ID]},
    },
    "X-Subject-Token": {
        "description": "The token that the answer is about.",
        "schema": {"type": "string", "examples": [examples.PARAMETERS["X-Subject-Token"]]},
    },
    MICROVERSION_HEADER: {
        "description": "The microversion that answers.",
        "schema": {"type": "string", "examples": [examples.PARAMETERS[MICROVERSION_HEADER]]},
    },
}
"""Headers of answers."""

TOLD_TOKENS: Final = frozenset(("/v3/auth/tokens", "2", method) for method in ("POST", "GET", "HEAD"))
"""Answers with a token: path, first digit of the status, method."""

GATEWAY_STATUSES: Final = frozenset({401, 408, 413})
"""Answered before the operation is reached."""

PUBLIC_STATUSES: Final = (500, 503)
SIGN_IN_STATUSES: Final = (400, 401, 403, 404, 408, 413, 500, 503)
STATUSES: Final = (400, 401, 403, 404, 408, 409, 413, 500, 503)


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the document of an application; it is made once, and shares no value with another one."""
    if not app.openapi_schema:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        components = document.setdefault("components", {})
        components["securitySchemes"] = SECURITY_SCHEMES
        schemas = components.setdefault("schemas", {})
        schemas |= ERROR_SCHEMAS
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for method, path, operation in operations(document):
            _complete(method, path, operation)
            _exemplify(f"{method} {path}", operation, schemas)
        app.openapi_schema = deepcopy(document)
    return app.openapi_schema


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    """Yield method, path and description of each operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def operation_id(route: APIRoute) -> str:
    """
    Name an operation by its handler, by its version, and, because EVS and Cinder share nouns, by Cinder.

    Handlers are named after what they do, which is also how the SDK names its methods.
    """
    path = route.path_format
    version = path.split("/")[1].replace(".", "_")
    words = ["cinder"] if is_cinder(path) else []
    words += [route.name, version] if version.startswith("v") else [route.name]
    return "_".join([*words, min(route.methods or ()).lower()])


def _complete(method: str, path: str, operation: Operation) -> None:
    """Add what can't be read off a handler."""
    public = is_public(method, path)
    operation["security"] = [] if public else [{name: []} for name in SECURITY_SCHEMES]
    for parameter in operation.get("parameters", []):
        if parameter["name"] == "project_id":
            parameter["schema"]["pattern"] = PROJECT_ID.pattern
    responses = operation["responses"]
    responses.pop("422", None)
    versioned = any(parameter["name"] == MICROVERSION_HEADER for parameter in operation.get("parameters", []))
    for status in (*_statuses(method, public=public), *((406,) if versioned else ())):
        responses.setdefault(str(status), _error(status, path))
    for status, response in responses.items():
        names = ["X-Request-Id"]
        names += [MICROVERSION_HEADER] if versioned and status[0] == "2" else []
        names += ["X-Subject-Token"] if (path, status[0], method) in TOLD_TOKENS else []
        response["headers"] = {name: HEADERS[name] for name in names}


def _exemplify(name: str, operation: Operation, schemas: Mapping[str, Any]) -> None:
    """Add an example to each parameter, to the body, and to each answer with a body."""
    for parameter in operation.get("parameters", []):
        parameter["example"] = examples.parameter(name, parameter["name"])
    for media in operation.get("requestBody", {}).get("content", {}).values():
        schema = media["schema"].get("$ref", operation["operationId"])
        media["example"] = examples.BODIES[schema.rsplit("/", 1)[-1]]
    for response in operation["responses"].values():
        for kind, media in response.get("content", {}).items():
            if "example" not in media:
                text = kind == "text/plain"
                media["example"] = examples.METRICS if text else _answer(media["schema"], schemas)


def _answer(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an example is of any type
    """Put an example of an answer together: of an array with one item, of several forms the first."""
    if schema.get("type") == "array":
        return [_answer(schema["items"], schemas)]
    return examples.answer(schema.get("anyOf", [schema])[0], schemas)


def _statuses(method: str, *, public: bool) -> tuple[int, ...]:
    if not public:
        return STATUSES
    return SIGN_IN_STATUSES if method == "POST" else PUBLIC_STATUSES


def _error(status: int, path: str) -> dict[str, Any]:
    forms = [_form(path), "GatewayError"] if status in GATEWAY_STATUSES else [_form(path)]
    refs = [{"$ref": f"#/components/schemas/{form}"} for form in forms]
    schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
    example = examples.error(forms[-1], status, HTTPStatus(status).phrase, kind_of(status))
    return {"description": REASONS[status], "content": {"application/json": {"schema": schema, "example": example}}}


def _form(path: str) -> str:
    if is_iam(path):
        return "KeystoneError"
    return "CinderError" if is_cinder(path) else "EvsError"
