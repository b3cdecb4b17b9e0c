"""Roles: every call is an action, and a role that lacks it is refused before anything else is looked at."""

import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from operations import operations
from running import Site, Tenant, sign_in
from sqlalchemy import select

from onecut.api.actions import ACTIONS, action_of
from onecut.api.app import create_app
from onecut.db.identity import Domain
from onecut.db.schema import Base
from onecut.service import projects, roles, users
from onecut.service.roles import ADMINISTRATIVE, ROLES, Role, permits

CALLS = [call for call in operations(create_app()) if call.of_project]


@pytest.fixture
def tenants(site: Site) -> Iterator[dict[Role, Tenant]]:
    """A user of each role in the first project, signed in."""
    found: dict[Role, Tenant] = {}
    for role in ROLES:
        with site.database.writing() as session:
            domain = session.scalars(select(Domain)).one()
            user = users.create(session, site.app_state.passwords, domain, f"the-{role}", "correct horse")
            roles.grant(session, user, role, None)
        client = sign_in(site.onecut.endpoint, domain.name, user.name, "correct horse", site.credentials["region"])
        found[role] = Tenant(client, site.project_id)
    yield found
    for tenant in found.values():
        tenant.client.close()


def everything(site: Site) -> dict[str, list[Any]]:
    """Read all rows of all tables."""
    with site.database.reading() as session:
        return {table.name: sorted(map(str, session.execute(select(table)))) for table in Base.metadata.sorted_tables}


def test_every_project_call_is_an_action_and_the_reverse() -> None:
    """A route without a row in `onecut.api.actions.ACTIONS` can't be called by anybody; a row without one is old."""
    routes = [(call.method, re.sub(r"{\w+}", "{}", call.path.replace("/{project_id}", ""))) for call in CALLS]

    assert sorted(routes) == sorted(ACTIONS)


def test_a_call_that_is_no_action_is_nobodys() -> None:
    """What somebody forgot to name is refused to all, instead of open to all."""
    with pytest.raises(KeyError):
        action_of("GET", "/v2/{project_id}/forgotten")


@pytest.mark.parametrize("role", ["reader", "operator", "admin"])
def test_a_role_is_what_it_may_do(site: Site, tenants: dict[Role, Tenant], role: Role) -> None:
    """Of all calls, those whose action the role lacks are 403 EVS.1027, naming action and project; no others are."""
    wrong = []
    for call in CALLS:
        action = action_of(call.method, call.path)
        answer = tenants[role].client.request(**call.request(site.project_id, {}))
        refused = action is not None and not permits(role, action)
        message = f"the role {role} may not do {action} in project {site.project_id}"
        if (answer.status_code == 403) != refused or refused != (message in answer.text):
            wrong.append((str(call), answer.status_code, answer.text))

    assert wrong == []


def test_what_a_reader_asks_for_changes_nothing(site: Site, tenants: dict[Role, Tenant]) -> None:
    """Whatever it is: every row of the database is as before."""
    before = everything(site)

    for call in CALLS:
        tenants["reader"].client.request(**call.request(site.project_id, {}))

    assert everything(site) == before


def test_a_refusal_by_role_does_not_tell_what_is_there(site: Site, tenants: dict[Role, Tenant]) -> None:
    """A resource that exists and one that does not are refused to a reader in the same words."""
    server_id = site.call("POST", "/v1/{p}/cloudservers", 200, json={"server": {"name": "db1"}})["serverIds"][0]
    path = f"/v1/{site.project_id}/cloudservers/{{}}/attachvolume"

    answers = [tenants["reader"].client.post(path.format(found), json={}) for found in (server_id, "0" * 36)]

    assert [answer.json()["error"]["code"] for answer in answers] == ["EVS.1027"] * 2
    assert answers[0].text == answers[1].text


def test_each_role_may_do_what_the_one_before_it_may() -> None:
    """And more; what only an administrator may do are actions of the table."""
    actions = {action for action in ACTIONS.values() if action is not None}

    reader, operator, admin = ({action for action in actions if permits(role, action)} for role in ROLES)

    assert reader < operator < admin == actions
    assert admin - operator == ADMINISTRATIVE
    assert not {action for action in reader if action.endswith(("create", "delete", "update", "use", "attach"))}


def test_a_token_names_its_role(site: Site, tenants: dict[Role, Tenant]) -> None:
    """As Keystone's body does; that of a domain's token is the one for all of its projects."""
    for role, tenant in tenants.items():
        token = tenant.client.headers["X-Auth-Token"]
        told = tenant.call("GET", "/v3/auth/tokens", 200, headers={"X-Subject-Token": token})["token"]
        auth = {
            "identity": {"methods": ["token"], "token": {"id": token}},
            "scope": {"domain": {"name": site.credentials["domain_name"]}},
        }
        of_domain = tenant.call("POST", "/v3/auth/tokens", 201, json={"auth": auth})["token"]

        assert told["roles"] == of_domain["roles"] == [{"id": "0", "name": role}]


def test_somebody_elses_token_is_the_administrators_to_ask_about(tenants: dict[Role, Tenant]) -> None:
    """An operator is told that there is none, as of a token that never was; and can't revoke it."""
    subject = {"X-Subject-Token": tenants["reader"].client.headers["X-Auth-Token"]}
    never = {"X-Subject-Token": "never"}

    for method in ("GET", "DELETE"):
        answers = [tenants["operator"].client.request(method, "/v3/auth/tokens", headers=h) for h in (subject, never)]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].text == answers[1].text
    assert tenants["reader"].client.get("/v3/projects").status_code == 200
    assert tenants["admin"].client.delete("/v3/auth/tokens", headers=subject).status_code == 204
    assert tenants["reader"].client.get("/v3/projects").status_code == 401


def test_projects_without_a_role_are_not_listed(site: Site) -> None:
    """Who has a role in one project sees that one in every list, and can have no token for another."""
    with site.database.writing() as session:
        domain = session.scalars(select(Domain)).one()
        projects.create(session, domain, "region-2", "")
        one = projects.create(session, domain, "region-1_lab", "")
        user = users.create(session, site.app_state.passwords, domain, "ci", "correct horse")
        roles.grant(session, user, "reader", one)

    client = sign_in(site.onecut.endpoint, domain.name, "ci", "correct horse", "region-1_lab")
    with closing(client):
        for path in ("/v3/projects", "/v3/auth/projects"):
            assert [found["name"] for found in client.get(path).json()["projects"]] == ["region-1_lab"]
        assert [found["id"] for found in client.get("/v3/regions").json()["regions"]] == ["region-1"]
        auth = {"identity": {"methods": ["token"], "token": {"id": client.headers["X-Auth-Token"]}}}
        for name in ("region-2", "region-9"):
            scope = {"project": {"name": name}}
            assert client.post("/v3/auth/tokens", json={"auth": auth | {"scope": scope}}).status_code == 401
        foreign = client.get(f"/v2/{site.project_id}/cloudvolumes/detail")
        assert (foreign.status_code, foreign.json()["error"]["code"]) == (400, "Common.0018")
