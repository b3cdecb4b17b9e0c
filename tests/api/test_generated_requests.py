"""
Requests made up from the OpenAPI document, good ones and bad ones, thousands of them.

Whatever comes, the service answers as its document says, never with an error of its own, and a request that it
refuses changes nothing.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from orders import members, new_server, new_volumes, take_group
from running import Site, running_site, wait_until
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from onecut.api.app import create_app

DOCUMENT: Final = create_app().openapi()
EXAMPLES: Final = 60
"""Requests of each kind, good and bad, for each operation; some operations have fewer that differ."""

REQUESTS: Final = 5000
"""Least number of requests that all tests of this file make together."""

SAFE: Final = {"GET", "HEAD"}
SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS: Final[list[Any]] = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]


@dataclass
class Target:
    """A running service with something of each kind, and what its database says of changes."""

    site: Site
    known: dict[str, list[str]]
    """Ids that are there, by the name of the path's parameter."""
    database: sqlite3.Connection
    sent: int = 0

    def version(self) -> int:
        """Return a number that changes whenever anybody else commits a change (SQLite, PRAGMA data_version)."""
        (version,) = self.database.execute("PRAGMA data_version").fetchone()
        return int(version)

    def wait_until_idle(self) -> None:
        """Wait until no job is left, so that the next change is the next request's."""
        query = "SELECT count(*) FROM job WHERE status IN ('INIT', 'RUNNING')"
        wait_until(lambda: self.database.execute(query).fetchone() == (0,), "the end of all jobs")


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A service with the memory engine; at the end, as many requests were made as are promised."""
    data: Path = tmp_path_factory.mktemp("generated")
    with (
        running_site(data) as site,
        closing(sqlite3.connect(data / "onecut.db", check_same_thread=False)) as database,
    ):
        found = Target(site, _something_of_each(site), database)
        yield found
        assert found.sent >= REQUESTS


def _something_of_each(site: Site) -> dict[str, list[str]]:
    server_id = new_server(site)
    volume_ids = [*new_volumes(site, 2, server_id), *new_volumes(site, 2)]
    group_id = take_group(site, volume_ids)
    snapshots = members(site, group_id)
    return {
        "server_id": [server_id],
        "volume_id": volume_ids,
        "snapshot_group_id": [group_id],
        "snapshot_id": [each["id"] for each in snapshots],
    }


CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.slow
@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_whatever_is_asked_gets_a_documented_answer(target: Target, operation: Any, mode: GenerationMode) -> None:
    """The answer has a documented status, type and form, it is no 5xx, and who is refused has changed nothing."""

    @settings(max_examples=EXAMPLES, database=None, phases=[Phase.generate], derandomize=True)
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        _aim(case, target, data)
        _send(case, target, {"X-Auth-Token": target.site.client.headers["X-Auth-Token"]})

    ask()


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_who_has_not_signed_in_gets_nothing(target: Target, operation: Any) -> None:
    """Without a token every operation that is not public answers 401, and changes nothing."""

    @settings(max_examples=EXAMPLES // 6, database=None, phases=[Phase.generate], derandomize=True)
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy())
        _aim(case, target, data)
        status = _send(case, target, {})
        assert status == 401 or not operation.definition.raw["security"]

    ask()


def _aim(case: Case[Any], target: Target, data: st.DataObject) -> None:
    """Let most requests go to our own project, and half of them to what is there."""
    ours: dict[str, Any] = {
        name: data.draw(st.sampled_from(target.known[name]))
        for name in case.path_parameters
        if name in target.known and data.draw(st.booleans())
    }
    if "project_id" in case.path_parameters and data.draw(st.integers(0, 9)):
        ours["project_id"] = target.site.project_id
    case.path_parameters.update(ours)


def _send(case: Case[Any], target: Target, headers: dict[str, str]) -> int:
    """Send a request, check the answer, and return its status."""
    target.sent += 1
    target.wait_until_idle()
    before = target.version()
    answer = case.call(base_url=target.site.onecut.endpoint, headers=headers)
    case.validate_response(answer, checks=CHECKS)
    if answer.status_code >= 400 or case.method in SAFE:
        assert target.version() == before, f"{answer.status_code} {answer.text}"
    return int(answer.status_code)
