"""
Requests made up from the OpenAPI document, good ones and bad ones, thousands of them.

Whatever comes, the service answers as its document says, never with an error of its own, and a request that it
refuses changes nothing.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from orders import delete_volumes, new_server, new_volumes, take_group
from running import Site, running_site, wait_until
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import update

from onecut.api.app import create_app
from onecut.api.examples import BODIES
from onecut.clock import JumpingClock
from onecut.db.volumes import Volume

DOCUMENT: Final = create_app().openapi()
EXAMPLES: Final = 16
"""Requests of each kind, good and bad, for each operation; some operations have fewer that differ."""

REQUESTS: Final = 5000
"""Least number of requests that all tests of this file make together."""

SAFE: Final = {"GET", "HEAD"}
LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)
NO_QUOTAS: Final[dict[str, Any]] = {"quota_volumes": -1, "quota_gigabytes": -1, "quota_snapshots": -1}
KIND_OF_FIELD: Final = {"volumeId": "volume_id", "volume_ids": "volume_id", "snapshot_ids": "snapshot_id"}
SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS: Final[list[Any]] = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]


@dataclass(frozen=True)
class Kind:
    """One kind of thing that requests are about."""

    name: str
    """Of its ids, in paths and in bodies."""
    ids: str
    """SQL for the ids of all that are there."""
    ready: str
    """SQL condition for one that much can be done with; there is always such a one."""
    make: Callable[[Site], object]

    def is_missing(self, database: sqlite3.Connection) -> bool:
        """Whether there is none that is ready."""
        return database.execute(f"{self.ids} WHERE {self.ready} LIMIT 1").fetchone() is None

    def known(self, database: sqlite3.Connection) -> list[str]:
        """Return all ids, at most a hundred, and first of what is ready."""
        return [found for (found,) in database.execute(f"{self.ids} ORDER BY NOT ({self.ready}) LIMIT 100")]


@dataclass
class Target:
    """A running service with something of each kind, and what its database says of changes."""

    site: Site
    database: sqlite3.Connection
    known: dict[str, list[str]] = field(default_factory=dict)
    """Ids that are there, by their names in paths and bodies."""
    sent: int = 0

    def furnish(self) -> None:
        """Have something of each kind, whatever the requests before have deleted, and know its ids."""
        self.wait_until_idle()
        for kind in KINDS:
            if kind.is_missing(self.database):
                kind.make(self.site)
                self.wait_until_idle()
        self.known.clear()
        for kind in KINDS:
            self.known.setdefault(kind.name, []).extend(kind.known(self.database))
        self.known["resource_id"] = [*self.known["volume_id"], *self.known["snapshot_id"]]
        self.known["target_project_id"] = [self.site.project_id]

    def version(self) -> int:
        """Return a number that changes whenever anybody else commits a change (SQLite, PRAGMA data_version)."""
        (version,) = self.database.execute("PRAGMA data_version").fetchone()
        return int(version)

    def wait_until_idle(self) -> None:
        """Wait until no job is left, nor an image that one used, so that the next change is the next request's."""
        query = "SELECT 1 FROM job WHERE status IN ('INIT', 'RUNNING') UNION SELECT 1 FROM served_image"
        wait_until(lambda: self.database.execute(query).fetchone() is None, "the end of all jobs")

    def spare_token(self) -> str:
        """Return another token of the same user, which may be revoked."""
        token = self.site.client.headers["X-Auth-Token"]
        body = {"auth": {"identity": {"methods": ["token"], "token": {"id": token}}}}
        answer = self.site.client.post("/v3/auth/tokens", json=body)
        assert answer.status_code == 201
        return answer.headers["X-Subject-Token"]


def _binned_volume(site: Site) -> None:
    volume_ids = new_volumes(site, 1)
    with site.database.writing() as session:  # only what is old enough goes to the bin
        session.execute(update(Volume).where(Volume.id.in_(volume_ids)).values(created_at=LONG_AGO))
    site.call("PUT", "/v3/{p}/recycle-bin-volumes/policy", 204, json={"switch": True})
    delete_volumes(site, volume_ids)


def _legacy_snapshot(site: Site) -> None:
    (volume_id,) = new_volumes(site, 1)
    site.call("POST", "/v2/{p}/cloudsnapshots", 202, json={"snapshot": {"volume_id": volume_id}})


def _transfer(site: Site) -> None:
    (volume_id,) = new_volumes(site, 1)
    site.call("POST", "/v3/{p}/os-volume-transfer", 202, json={"transfer": {"volume_id": volume_id}})


def _policy(site: Site) -> None:
    site.call("POST", "/v5/{p}/snapshot-policies", 201, json=BODIES["CreatePolicy"])


def _access_key(site: Site) -> None:
    own = {"X-Subject-Token": site.client.headers["X-Auth-Token"]}
    user = site.call("GET", "/v3/auth/tokens", 200, headers=own)["token"]["user"]
    site.call("POST", "/v3.0/OS-CREDENTIAL/credentials", 201, json={"credential": {"user_id": user["id"]}})


KINDS: Final = [
    Kind("server_id", "SELECT id FROM server", "task_state IS NULL", new_server),
    Kind(
        "volume_id",
        "SELECT id FROM volume",
        "status = 'in-use'",
        lambda site: new_volumes(site, 1, new_server(site)),
    ),
    Kind("volume_id", "SELECT id FROM volume", "status = 'available'", lambda site: new_volumes(site, 2)),
    Kind("volume_id", "SELECT id FROM volume", "pre_deleted_at IS NOT NULL", _binned_volume),
    Kind(
        "snapshot_group_id",
        "SELECT id FROM snapshot_group",
        "status = 'available'",
        lambda site: take_group(site, new_volumes(site, 2)),
    ),
    Kind(
        "snapshot_id",
        "SELECT id FROM snapshot",
        "NOT legacy AND status = 'available'",
        lambda site: take_group(site, new_volumes(site, 2)),
    ),
    Kind("snapshot_id", "SELECT id FROM snapshot", "legacy AND status = 'available'", _legacy_snapshot),
    Kind("snapshot_policy_id", "SELECT id FROM snapshot_policy", "TRUE", _policy),
    Kind("transfer_id", "SELECT id FROM volume_transfer", "TRUE", _transfer),
    Kind("access_key", "SELECT access FROM access_key", "TRUE", _access_key),
    Kind("job_id", "SELECT id FROM job", "TRUE", new_server),
]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A service with the memory engine, whose clock stands still: nothing becomes due between two requests."""
    data: Path = tmp_path_factory.mktemp("generated")
    with (
        running_site(data, clock=JumpingClock(datetime.now(UTC)), **NO_QUOTAS) as site,
        closing(sqlite3.connect(data / "onecut.db", check_same_thread=False)) as database,
    ):
        yield Target(site, database)


CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def _modes(operation: Any) -> list[GenerationMode]:
    """Return whether good and bad requests can be made up: nothing can be wrong where nothing is asked."""
    raw = operation.definition.raw
    return list(GenerationMode) if "parameters" in raw or "requestBody" in raw else [GenerationMode.POSITIVE]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("operation", "mode"),
    [(operation, mode) for operation in OPERATIONS for mode in _modes(operation)],
    ids=lambda value: value.label if hasattr(value, "label") else value.value,
)
def test_whatever_is_asked_gets_a_documented_answer(target: Target, operation: Any, mode: GenerationMode) -> None:
    """The answer has a documented status, type and form, it is no 5xx, and who is refused has changed nothing."""
    target.furnish()

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
    target.furnish()

    @settings(max_examples=EXAMPLES // 4, database=None, phases=[Phase.generate], derandomize=True)
    @given(data=st.data())
    def ask(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy())
        _aim(case, target, data)
        status = _send(case, target, {})
        assert status == 401 or not operation.definition.raw["security"]

    ask()


@pytest.mark.slow
def test_many_requests_were_made(target: Target) -> None:
    """The tests above have asked as much as is promised."""
    assert target.sent >= REQUESTS


def _aim(case: Case[Any], target: Target, data: st.DataObject) -> None:
    """Let most requests go to our own project, and half of their ids be of what is there."""
    known = target.known
    case.body = deepcopy(case.body)  # which may be the document's own example
    if "project_id" in case.path_parameters and data.draw(st.integers(0, 9)):
        case.path_parameters["project_id"] = target.site.project_id
    for ids in (case.path_parameters, *_objects(case.body)):
        for name, value in ids.items():
            kind = KIND_OF_FIELD.get(name, name)
            if kind in known and isinstance(value, str | list) and data.draw(st.booleans()):
                one = st.sampled_from(known[kind])
                ids[name] = data.draw(one if isinstance(value, str) else st.lists(one, max_size=3))
    if "X-Subject-Token" in case.headers and data.draw(st.booleans()):
        case.headers["X-Subject-Token"] = target.spare_token()


def _objects(body: Any) -> Iterator[dict[str, Any]]:
    """Yield all JSON objects in a body."""
    if isinstance(body, dict):
        yield body
    if isinstance(body, dict | list):
        for inner in list(body.values()) if isinstance(body, dict) else body:
            yield from _objects(inner)


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
