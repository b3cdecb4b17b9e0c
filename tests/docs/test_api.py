"""The API page has a line for each route, that of operations one for each of the SDK: how it is served and tested."""

import re
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from sdk import sdk_operations

from onecut.api.app import create_app

ROOT = Path(__file__).parents[2]
PAGE = "docs/reference/api.md"
STORIES = "tests/api/test_every_operation.py"
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE"}

Route = tuple[str, str]


@pytest.fixture(scope="module")
def served() -> dict[Route, bool]:
    """Every route by method and path, and whether it is marked as our own."""
    paths = create_app().openapi()["paths"]
    return {
        (method.upper(), path): operation.get("x-onecut-extension", False)
        for path, operations in paths.items()
        for method, operation in operations.items()
    }


def _nameless(route: Route) -> Route:
    return route[0], re.sub(r"{\w+}", "{}", route[1])


def test_the_page_lists_the_routes_and_no_others(page: Callable[[str], Any], served: dict[Route, bool]) -> None:
    """Each route has one line, and each line has a route; the API's own description is the only hidden one."""
    told = [(row[0], row[1]) for row in page(PAGE).rows() if row[0] in METHODS]

    assert sorted(told) == sorted([*served, ("GET", "/openapi.json")])


def test_our_own_operations_are_marked_in_both_places(page: Callable[[str], Any], served: dict[Route, bool]) -> None:
    """What the page calls an extension carries `x-onecut-extension` in the API's description, and the reverse."""
    told = {(row[0], row[1]) for row in page(PAGE).rows() if row[2] == "extension"}

    # The description does not describe itself.
    assert told - {("GET", "/openapi.json")} == {route for route, extension in served.items() if extension}


def test_every_operation_of_the_sdk_stands_beside_its_route(page: Callable[[str], Any]) -> None:
    """Each of the SDK's operations is named once, in the line of the request that it makes."""
    told = [
        (name, _nameless((row[0], row[1])))
        for row in page(PAGE).rows()
        if row[0] in METHODS
        for name in re.findall(r"`(\w+)`", row[2])
    ]
    served_one_by_one = {("show_version", ("GET", f"/{name}")) for name in ("v1", "v2", "v3")}

    asked = {(name, _nameless(route)) for name, route in sdk_operations().items() if name != "show_version"}
    assert sorted(told) == sorted(asked | served_one_by_one)


class TestOperations:
    """``docs/reference/operations.md``: a line for each of the SDK's operations, and for each other route."""

    @pytest.fixture
    def rows(self, page: Callable[[str], Any]) -> list[list[str]]:
        return [row for row in page("docs/reference/operations.md").rows() if len(row) == 6]

    def test_the_table_has_the_requests_of_the_sdk(self, rows: list[list[str]], served: dict[Route, bool]) -> None:
        """Each operation has one line, with the request that the SDK makes; and the request has a route."""
        operations = sdk_operations()
        routes = {_nameless(route) for route in served} | {("GET", "/{}")}  # the versions have a route each

        assert len(operations) == 68
        assert sorted((row[0], row[1]) for row in rows) == sorted(
            (name, f"{method} {path}") for name, (method, path) in operations.items()
        )
        assert {_nameless(route) for route in operations.values()} <= routes

    @pytest.fixture
    def others(self, page: Callable[[str], Any]) -> list[list[str]]:
        found: list[list[str]] = page("docs/reference/operations.md").section("## Beside the SDK").rows()
        return found

    def test_what_is_called_besides_is_all_the_rest(self, others: list[list[str]], served: dict[Route, bool]) -> None:
        """Each route that no operation of the SDK asks for has one line, with both versions where there are two."""
        asked = {_nameless(route) for route in sdk_operations().values()} | {
            ("GET", f"/v{each}") for each in (1, 2, 3)
        }
        told = [
            (method, path.replace("{v2,v3}", version))
            for method, path in (row[1].split(" ") for row in others)
            for version in (("v2", "v3") if "{v2,v3}" in path else ("",))
        ]

        assert sorted(told) == sorted(route for route in served if _nameless(route) not in asked)

    def test_each_is_supported_or_refused_and_says_how(self, rows: list[list[str]], others: list[list[str]]) -> None:
        """Only what always answers a documented error is refused, and nothing is there in part."""
        stories = story_module()

        assert {row[0] for row in rows if row[2] == "refused"} == stories.ALWAYS_REFUSED
        assert {row[2] for row in rows} == {"yes", "refused"}
        assert {row[2] for row in others} == {"yes"}
        assert [row[0] for row in rows + others if not row[3].endswith(".") or "stub" in row[3].lower()] == []

    def test_the_story_of_each_shows_its_effect(self, rows: list[list[str]]) -> None:
        """The story that a line names is there, and names the operation as one whose effect it shows."""
        stories = story_module()

        assert [row[0] for row in rows if row[0] not in stories.operations_of(getattr(stories, row[4]))] == []

    def test_the_tests_of_limits_mention_the_operation(self, rows: list[list[str]], others: list[list[str]]) -> None:
        """The file that a line names is there, and has the words of the operation's path."""
        unmentioned = [
            (row[0], word)
            for row in rows + others
            for word in re.findall(r"(?<=/)(?!v\d)[\w-]+", row[1])
            if not re.search(rf"\b{word}\b", (ROOT / row[-1]).read_text())
        ]

        assert unmentioned == []


def story_module() -> Any:
    """Load the stories of the SDK's operations."""
    spec = spec_from_file_location("test_every_operation", ROOT / STORIES)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
