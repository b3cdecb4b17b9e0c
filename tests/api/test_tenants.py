"""Two tenants and each other's ids: what is another's answers exactly as what never was, on every route."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import httpx
import pytest
from operations import Operation, operations
from orders import delete_volumes, new_server, new_volumes, take_group
from running import Site, Tenant, wait_until
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from onecut.api.app import create_app
from onecut.db.identity import AccessKey, Project, User
from onecut.db.schema import Base
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume

CALLS = operations(create_app())

Ids = Mapping[str, str]
"""Ids by the name of their table, or by the name they have in a call."""

VARYING_HEADERS: Final = {"date", "x-request-id", "content-length"}

KINDS: Final = {"target_project": "project", "transfer": "volume_transfer"}
"""Kinds by the names of ids that are not named after a table."""

OTHER_SORTS: Final = {"volume": "binned_volume", "snapshot": "legacy_snapshot"}
"""What lies in the same table but is found by other calls."""

OF_ANY_KIND: Final = {"resource"}
OF_NO_TENANT: Final = {"type"}
"""What all tenants share."""

ID = re.compile(r"[0-9a-f-]{24,36}")


def kind_of(name: str) -> str:
    """Return which table's id has this name: ``volumeId``, ``volume_ids`` and ``volume_id`` are a volume's."""
    kind = re.sub(r"_?ids?$", "", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
    return KINDS.get(kind, kind)


def like(known: str) -> str:
    """Make an id of the same form that nobody has."""
    if "-" in known:
        return str(uuid4())
    return uuid4().hex if ID.fullmatch(known) else uuid4().hex[: len(known)].upper()


@dataclass
class Furnished:
    """A tenant that has one of everything."""

    tenant: Tenant
    ids: Ids
    """One id of each kind."""
    names: frozenset[str]
    """All ids of what it has."""

    def own_or_none(self, name: str) -> str:
        """Return an id of its own for what a call needs, or one that nobody has."""
        return self.ids.get(kind_of(name)) or like(self.tenant.project_id)


def furnish(site: Site, tenant: Tenant) -> Furnished:
    """Make one of everything that a tenant can have. A new kind of resource is made here."""
    volume_ids = new_volumes(tenant, 2, new_server(tenant))
    group_id = take_group(tenant, volume_ids)
    tags = {"tags": [{"key": "env", "value": "prod"}]}
    tenant.call("POST", f"/v5/{{p}}/snapshot-groups/{group_id}/tags/create", 204, json=tags)
    (offered,) = new_volumes(tenant, 1)
    tenant.call("POST", "/v2/{p}/os-volume-transfer", 202, json={"transfer": {"name": "t", "volume_id": offered}})
    new_legacy_snapshot(tenant, volume_ids[0])
    new_policy(tenant, volume_ids)
    put_into_bin(site, tenant)
    with site.database.writing() as session:
        domain_id = session.get_one(Project, tenant.project_id).domain_id
        user_id = session.scalars(select(User.id).where(User.domain_id == domain_id)).one()
    if not tenant.call("GET", "/v3.0/OS-CREDENTIAL/credentials", 200)["credentials"]:
        body = {"credential": {"user_id": user_id}}
        tenant.call("POST", "/v3.0/OS-CREDENTIAL/credentials", 201, json=body)
    return _furnished(site, tenant, user_id)


def new_legacy_snapshot(tenant: Tenant, volume_id: str) -> None:
    """Take a legacy snapshot of an attached volume."""
    body = {"snapshot": {"volume_id": volume_id, "force": True}}
    snapshot_id = tenant.call("POST", "/v2/{p}/cloudsnapshots", 202, json=body)["snapshot"]["id"]
    path = f"/v2/{{p}}/cloudsnapshots/{snapshot_id}"
    wait_until(lambda: tenant.call("GET", path, 200)["snapshot"]["status"] == "available", snapshot_id)


def new_policy(tenant: Tenant, volume_ids: list[str]) -> None:
    """Make a snapshot policy that takes nothing before three days."""
    weekday = (datetime.now(UTC) + timedelta(days=3)).isoweekday()
    wanted = {"name": "auto", "repeat_weekdays": [str(weekday)], "time_points": ["12"], "retention_days": 1}
    body = {"snapshot_policy": wanted | {"tags": {"env": "prod"}}}
    policy_id = tenant.call("POST", "/v5/{p}/snapshot-policies", 201, json=body)["snapshot_policy"]["id"]
    tenant.call("POST", f"/v5/{{p}}/snapshot-policies/{policy_id}/associate", 204, json=volume_ids)


def put_into_bin(site: Site, tenant: Tenant) -> None:
    """Delete a volume that is old enough for the recycle bin."""
    tenant.call("PUT", "/v3/{p}/recycle-bin-volumes/policy", 204, json={"switch": True, "threshold_time": 1})
    (volume_id,) = new_volumes(tenant, 1)
    born = datetime.now(UTC) - timedelta(days=2)
    with site.database.writing() as session:
        session.execute(update(Volume).where(Volume.id == volume_id).values(created_at=born))
    delete_volumes(tenant, [volume_id])


def _furnished(site: Site, tenant: Tenant, user_id: str) -> Furnished:
    ids = {"project": tenant.project_id, "user": user_id}
    names = set(ids.values())
    with site.database.reading() as session:
        access = session.scalars(select(AccessKey.access).where(AccessKey.user_id == user_id)).one()
        for table in Base.metadata.sorted_tables:
            if "project_id" not in table.columns:
                continue
            key = next(iter(table.primary_key))
            found = session.scalars(select(key).where(table.c.project_id == tenant.project_id)).all()
            keys = [str(value) for value in found if ID.fullmatch(str(value))]
            names.update(keys)
            if keys:
                ids[table.name] = keys[0]
        ids |= _sorts(session, tenant.project_id)
    return Furnished(tenant, ids | {"access_key": access}, frozenset(names | {access}))


def _sorts(session: Session, project_id: str) -> dict[str, str]:
    """Return one id of each sort of volumes and snapshots."""
    binned = Volume.pre_deleted_at.is_not(None)
    volumes = select(Volume.id).where(Volume.project_id == project_id).limit(1)
    snapshots = select(Snapshot.id).where(Snapshot.project_id == project_id).limit(1)
    queries = {
        "volume": volumes.where(~binned),
        "binned_volume": volumes.where(binned),
        "snapshot": snapshots.where(~Snapshot.legacy),
        "legacy_snapshot": snapshots.where(Snapshot.legacy),
    }
    return {sort: session.scalars(query).one() for sort, query in queries.items()}


def rows_of(site: Site, names: frozenset[str]) -> dict[str, list[str]]:
    """Read every row that has, or names, one of those ids."""
    with site.database.reading() as session:
        return {
            table.name: sorted(str(row) for row in session.execute(select(table)) if names & set(map(str, row)))
            for table in Base.metadata.sorted_tables
        }


def lists(tenant: Tenant) -> dict[str, str]:
    """Ask all that a tenant can ask without knowing an id, and return the answers."""
    asked = [call for call in CALLS if call.method == "GET" and not call.path_ids and call.path not in OPEN_PATHS]
    return {str(call): tenant.client.request(**call.request(tenant.project_id, {})).text for call in asked}


OPEN_PATHS: Final = {"/", "/v1", "/v2", "/v3", "/healthz", "/readyz", "/metrics"}


def probes(call: Operation, victim: Furnished) -> Iterator[Ids]:
    """Give each id of a call one of the victim's: of its kind, or of every kind where that is unknown; then all."""
    slots = list(dict.fromkeys([*call.path_ids, *call.query_ids, *call.body_ids]))
    for slot in slots:
        kind = kind_of(slot)
        sorts = [sort for sort in (kind, OTHER_SORTS.get(kind, kind)) if sort in victim.ids]
        for found in {victim.ids[sort] for sort in sorts} or victim.ids.values():
            yield {slot: found}
    if len(slots) > 1:
        yield {slot: victim.own_or_none(slot) for slot in slots}


def told(answer: httpx.Response, ids: Ids) -> tuple[int, str, dict[str, str]]:
    """Return what an answer tells, without the ids that were asked for."""
    text, headers = answer.text, {k: v for k, v in answer.headers.items() if k not in VARYING_HEADERS}
    for found in sorted(set(ids.values()), key=len):
        text = text.replace(found, "ID")
    return answer.status_code, text, headers


@pytest.fixture
def intruder(site: Site) -> Furnished:
    """A tenant that has one of everything, and will know ids of the site's first tenant."""
    return furnish(site, site.second_tenant())


def test_what_is_anothers_answers_as_what_never_was(site: Site, intruder: Furnished) -> None:
    """
    Status, body and headers are the same for another's id and for one that nobody has, in every id of every call.

    Nothing of the other's is named, nothing of it changes, and none of the intruder's lists and counts does.
    """
    before_others = lists(intruder.tenant)
    victim = furnish(site, site)
    before = rows_of(site, victim.names)

    def ask(call: Operation, ids: Ids) -> tuple[int, str, dict[str, str]]:
        request = call.request(intruder.tenant.project_id, ids, intruder.own_or_none)
        return told(intruder.tenant.client.request(**request), ids)

    asked, wrong = 0, []
    for call in CALLS:
        for ids in probes(call, victim):
            unknown = ask(call, {name: like(found) for name, found in ids.items()})
            if call.method != "GET" and unknown[0] < 300:
                continue  # the call does not look it up: it has done what it was asked for
            foreign = ask(call, ids)
            asked += 1
            if foreign != unknown or any(name in foreign[1] for name in victim.names):
                wrong.append((str(call), ids, unknown, foreign))

    assert wrong == []
    assert asked > 100
    assert rows_of(site, victim.names) == before
    assert {call: text for call, text in lists(intruder.tenant).items() if text != before_others[call]} == {}


def test_every_kind_of_id_is_known(site: Site) -> None:
    """Each id in a path is of something that `furnish` makes; a new kind of resource belongs there."""
    ids = furnish(site, site).ids

    known = {*ids, *OF_ANY_KIND, *OF_NO_TENANT}
    assert {name for call in CALLS for name in call.path_ids if kind_of(name) not in known} == set()
