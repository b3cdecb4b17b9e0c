"""The API page has a line for each route, and says of each of the SDK's operations whether it is served."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
from huaweicloudsdkevs.v2 import EvsClient

from onecut.api.app import create_app

PAGE = "docs/reference/api.md"
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


def sdk_operations() -> dict[str, Route]:
    """Read from the SDK's client which request each of its methods makes."""
    source = inspect.getsource(EvsClient)
    found = re.findall(r'def _(\w+)_http_info\(.*?"method": "(\w+)",\s*"resource_path": "([^"]+)"', source, re.DOTALL)
    return {name: (method, path) for name, method, path in found}


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


def test_every_operation_of_the_sdk_is_told_to_be_served_or_not(
    page: Callable[[str], Any], served: dict[Route, bool]
) -> None:
    """An operation stands beside its route, or under those that are not served: never both, never neither."""
    operations = sdk_operations()
    routes = {_nameless(route) for route in served} | {("GET", "/{}")}  # /{version}: we have the versions one by one
    text = page(PAGE)
    not_served = {row[0] for row in text.section("## Not served yet").rows()}
    beside_a_route = {name for row in text.rows() if row[0] in METHODS for name in re.findall(r"`(\w+)`", row[2])}

    assert len(operations) == 68
    assert not_served == {name for name, route in operations.items() if _nameless(route) not in routes}
    assert beside_a_route == set(operations) - not_served
    assert {(row[0], row[1], row[2]) for row in text.section("## Not served yet").rows()} == {
        (name, *operations[name]) for name in not_served
    }
