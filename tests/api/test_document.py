"""The OpenAPI document tells the whole truth: examples are taken, errors have the forms it says, ids are unique."""

import json
from collections import Counter
from typing import Any

import jsonschema_rs
import pytest
from fastapi.routing import iter_route_contexts
from pydantic import TypeAdapter

from onecut.api.app import create_app
from onecut.api.client_tokens import UUID_EITHER_CASE
from onecut.api.document import operations
from onecut.api.fields import TAG_KEY, TAG_VALUE, UUID
from onecut.api.volumes import IDS

APP = create_app()
DOCUMENT = APP.openapi()


def bodies() -> list[Any]:
    """List the operations that take a body, each with its example."""
    return [
        pytest.param(method, path, media["example"], id=operation["operationId"])
        for method, path, operation in operations(DOCUMENT)
        for media in operation.get("requestBody", {}).get("content", {}).values()
    ]


@pytest.fixture(scope="module")
def taken() -> dict[tuple[str, str], TypeAdapter[Any]]:
    """What validates the body of each operation."""
    found: dict[tuple[str, str], TypeAdapter[Any]] = {}
    for route in iter_route_contexts(APP.routes):
        body: Any = route.body_field.field_info.annotation if getattr(route, "body_field", None) else None
        found |= {(method, str(route.path)): TypeAdapter(body) for method in getattr(route, "methods", ()) if body}
    return found


@pytest.mark.parametrize(("method", "path", "example"), bodies())
def test_each_body_has_an_example_that_is_taken(
    taken: dict[tuple[str, str], TypeAdapter[Any]], method: str, path: str, example: Any
) -> None:
    """What a reader copies from the document passes the validation that requests pass."""
    taken[method, path].validate_json(json.dumps(example), strict=True)


def test_a_document_that_is_changed_changes_no_other() -> None:
    """Who gets the document of an application may do with it what they like: no example is shared."""
    told = json.dumps(DOCUMENT)
    changed, other = create_app().openapi(), create_app().openapi()
    for _, _, operation in operations(changed):
        for media in operation.get("requestBody", {}).get("content", {}).values():
            media["example"].clear()
    assert json.dumps(other) == told
    assert json.dumps(create_app().openapi()) == told


def valid(schema: dict[str, Any], example: Any) -> bool:
    """Say whether an example is one of its schema, which may refer to others of the document."""
    return jsonschema_rs.is_valid({**schema, "components": DOCUMENT["components"]}, example)


def test_each_parameter_has_an_example_that_is_one() -> None:
    """A reader sees what an id, a filter or a header looks like."""
    wrong = [
        f"{method} {path} {parameter['name']}"
        for method, path, operation in operations(DOCUMENT)
        for parameter in operation.get("parameters", [])
        if parameter["example"] is None or not valid(parameter["schema"], parameter["example"])
    ]
    assert wrong == []


def test_each_answer_with_a_body_has_an_example_that_is_one() -> None:
    """Success and errors; every operation has an error's example, and a success's unless its answer is empty."""
    for method, path, operation in operations(DOCUMENT):
        where = f"{method} {path}"
        told = {
            status: media
            for status, response in operation["responses"].items()
            for media in response.get("content", {}).values()
        }
        assert [status for status, media in told.items() if not valid(media["schema"], media["example"])] == [], where
        assert any(status[0] in "45" for status in told), where
        silent = {status for status in operation["responses"] if status[0] in "23"} - set(told)
        assert not silent or method in {"HEAD", "POST", "PUT", "DELETE"}, where


def test_each_answer_says_what_it_holds() -> None:
    """No schema lets everything pass; what is an object by name only is told of in words."""
    for method, path, operation in operations(DOCUMENT):
        for status, response in operation["responses"].items():
            for media in response.get("content", {}).values():
                assert media["schema"].keys() & {"$ref", "anyOf", "items"} or media["schema"]["type"] == "string", (
                    method,
                    path,
                    status,
                )


def test_headers_of_answers_are_told() -> None:
    """Each answer has the request's id, a token's its token, and one of Cinder's later version its microversion."""
    for method, path, operation in operations(DOCUMENT):
        responses = operation["responses"]
        assert all("X-Request-Id" in response["headers"] for response in responses.values()), (method, path)
    tokens = DOCUMENT["paths"]["/v3/auth/tokens"]
    assert "X-Subject-Token" in tokens["post"]["responses"]["201"]["headers"]
    assert "X-Subject-Token" in tokens["get"]["responses"]["200"]["headers"]
    listed = DOCUMENT["paths"]["/v3/{project_id}/volumes"]["get"]["responses"]
    assert "OpenStack-API-Version" in listed["200"]["headers"]
    assert listed["406"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/CinderError"}
    assert "406" not in DOCUMENT["paths"]["/v2/{project_id}/volumes"]["get"]["responses"]


def test_operation_ids_are_unique() -> None:
    """Generators of clients make one function for each."""
    ids = Counter(operation["operationId"] for _, _, operation in operations(DOCUMENT))
    assert [each for each, count in ids.items() if count > 1] == []


def test_every_operation_says_what_it_is_and_what_it_answers() -> None:
    """Summary, a success, a schema behind each answer with a body, and who may call."""
    for method, path, operation in operations(DOCUMENT):
        where = f"{method} {path}"
        assert operation.get("summary"), where
        assert "security" in operation, where
        assert any(status[0] in "23" for status in operation["responses"]), where
        assert "422" not in operation["responses"], where


LIMITS = {
    "_NewVolume.size": {"minimum": 10, "maximum": 32768},
    "_NewVolume.count": {"minimum": 1, "maximum": 100},
    "_NewVolume.name": {"maxLength": 255},
    "_NewVolume.snapshot_id": {"pattern": UUID},
    "_NewVolume.tags": {"maxProperties": 20},
    "NewSize.new_size": {"minimum": 10, "maximum": 32768},
    "ExtendVolumes.volumes": {"minItems": 1, "maxItems": 100},
    "Unsubscribe.volume_ids": {"minItems": 1, "maxItems": 60},
    "GroupWanted.volume_ids": {"maxItems": 64, "uniqueItems": True},
    "Tag.key": {"pattern": TAG_KEY},
    "Tag.value": {"pattern": TAG_VALUE},
    "TagsToAdd.tags": {"maxItems": 20, "uniqueItems": True},
    "SearchVolumes.tags": {"maxItems": 10, "uniqueItems": True},
    "PolicyWanted.retention_days": {"minimum": -1, "maximum": 65536, "not": {"const": 0}},
    "_NewServer.count": {"minimum": 1, "maximum": 500},
    "GET /v5/{project_id}/snapshots/detail tags": {"type": "string", "contentMediaType": "application/json"},
    "GET /v2/{project_id}/cloudvolumes/detail ids": {"pattern": IDS},
    "GET /v2/{project_id}/cloudvolumes/detail id": {"pattern": UUID},
    "POST /v2.1/{project_id}/cloudvolumes X-Client-Token": {"pattern": UUID_EITHER_CASE},
    "GET /v3/{project_id}/volumes OpenStack-API-Version": {
        "pattern": r"^([a-z-]+ [\w.]+, *)*volume (3\.0|latest)(, *[a-z-]+ [\w.]+)*$"
    },
    "GET /v1/{project_id}/cloudservers/{server_id} server_id": {"pattern": UUID},
}
"""What checks of our own keep, by field of a body or by parameter."""


@pytest.mark.parametrize(("where", "limits"), LIMITS.items(), ids=LIMITS)
def test_the_limits_that_our_own_checks_keep_are_told(where: str, limits: dict[str, Any]) -> None:
    """A client that heeds the document is not refused for a field."""
    schema = described(where)
    (told,) = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    assert {**schema, **told}.items() >= limits.items()


def described(where: str) -> dict[str, Any]:
    """Return the schema of a field or of a parameter."""
    *operation, name = where.split(" ")
    if not operation:
        body, _, field = name.partition(".")
        found: dict[str, Any] = DOCUMENT["components"]["schemas"][body]["properties"][field]
        return found
    method, path = operation
    parameters = DOCUMENT["paths"][path][method.lower()]["parameters"]
    (schema,) = [parameter["schema"] for parameter in parameters if parameter["name"] == name]
    return dict(schema)


def test_references_lead_somewhere() -> None:
    """No schema is named that the document does not have."""
    text = json.dumps(DOCUMENT)
    named = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert named <= set(DOCUMENT["components"]["schemas"])
