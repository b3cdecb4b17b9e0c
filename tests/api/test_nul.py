"""The character U+0000, which no database takes, in every id and filter of every call."""

from collections.abc import Iterator
from typing import Final

import pytest
from operations import Operation, operations
from running import Site

from onecut.api.app import create_app

CALLS: Final = operations(create_app())


def places(call: Operation) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the name of each id and filter of a call, with a request that has the character there."""
    for name in call.path_ids:
        yield name, {name: "a%00b"}
    for parameter in call.description.get("parameters", ()):
        if parameter["in"] == "query":
            yield parameter["name"], {}


def test_it_is_refused_in_every_id_and_filter(site: Site) -> None:
    """400, and the message names the field; the answer is the same on every database, as none is asked."""
    wrong, asked = [], 0
    for call in CALLS:
        for name, ids in places(call):
            request = call.request(site.project_id, {str(key): str(value) for key, value in ids.items()})
            request["params"] = {} if ids else {name: "a\0b"}
            answer = site.client.request(**request)
            asked += 1
            if answer.status_code != 400 or f"{name}: must not contain the character U+0000" not in answer.text:
                wrong.append((str(call), name, answer.status_code, answer.text))

    assert wrong == []
    assert asked > 300


@pytest.mark.parametrize("path", ["/v3/projects?name=%00", "/v3/auth/projects?page=%00"])
def test_it_is_refused_in_keystones_form(site: Site, path: str) -> None:
    """Under the IAM paths, where the project is not in the path."""
    answer = site.client.get(path)

    assert (answer.status_code, "U+0000" in answer.json()["error"]["message"]) == (400, True)
