"""The OpenAPI document tells the whole truth: examples are taken, errors have the forms it says, ids are unique."""

import json
from collections import Counter
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts
from pydantic import TypeAdapter

from onecut.api.app import create_app
from onecut.api.document import operations

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


def test_references_lead_somewhere() -> None:
    """No schema is named that the document does not have."""
    text = json.dumps(DOCUMENT)
    named = {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert named <= set(DOCUMENT["components"]["schemas"])
