"""``/v5/{project_id}/snapshots`` on the wire: forms, codes, filters, tags, and rolling back."""

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from orders import attach, members, new_server, new_volumes, take_group, volume
from running import Site, Tenant, running_site, wait_until

from onecut.engine.memory import MemoryEngine

SNAPSHOT_FIELDS = {
    "id", "name", "description", "created_at", "updated_at", "volume_id", "size", "status", "project_id",
    "enterprise_project_id", "encrypted", "cmk_id", "category", "availability_zone", "tags", "instant_access",
    "retention_at", "instant_access_retention_at", "incremental", "snapshot_type", "progress", "encrypt_algorithm",
    "snapshot_chains", "snapshot_group_id",
}  # fmt: skip

UNKNOWN = str(uuid4())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for all tests here; none relies on what another left."""
    with running_site(tmp_path_factory.mktemp("data")) as site:
        yield site


@pytest.fixture
def disk(site: Site) -> str:
    """A new volume."""
    (volume_id,) = new_volumes(site, 1)
    return volume_id


def order(site: Site, status: int = 202, **wanted: Any) -> Any:
    """Ask for a snapshot."""
    return site.call("POST", "/v5/{p}/snapshots", status, json={"snapshot": wanted})


def take(site: Site, volume_id: str, **wanted: Any) -> str:
    """Take a snapshot, and return its id once it is available."""
    answer = order(site, volume_id=volume_id, **wanted)
    site.done(answer)
    snapshot_id: str = answer["snapshot_id"]
    return snapshot_id


def show(site: Tenant, snapshot_id: str) -> dict[str, Any]:
    """Show a snapshot."""
    found: dict[str, Any] = site.call("GET", f"/v5/{{p}}/snapshots/{snapshot_id}", 200)["snapshot"]
    return found


def update(site: Site, snapshot_id: str, status: int = 200, **change: Any) -> Any:
    """Change a snapshot."""
    return site.call("PUT", f"/v5/{{p}}/snapshots/{snapshot_id}", status, json={"snapshot": change})


def found(site: Tenant, **query: Any) -> list[str]:
    """List snapshots, and return their ids."""
    answer = site.call("GET", "/v5/{p}/snapshots/detail", 200, params=query)
    return [snapshot["id"] for snapshot in answer["snapshots"]]


def count(site: Tenant, **query: Any) -> int:
    """Count snapshots."""
    answer = site.call("GET", "/v5/{p}/snapshots/count", 200, params=query)
    assert set(answer) == {"count"}
    return int(answer["count"])


class TestForms:
    def test_a_snapshot_is_taken_shown_changed_and_deleted(self, site: Site, disk: str) -> None:
        """Each answer has the documented status and exactly the documented fields, of the documented types."""
        wanted: dict[str, Any] = {
            "name": "n" * 64,
            "description": "盘" * 85,
            "tags": {"env": ""},
            "instant_access": True,
        }
        answer = order(site, volume_id=disk, incremental=False, **wanted)
        assert set(answer) == {"job_id", "snapshot_id"}
        assert site.done(answer)["job_type"] == "createSnapshot"

        assert show(site, answer["snapshot_id"])["status"] == "available"
        wait_until(lambda: show(site, answer["snapshot_id"])["category"] == "standard", "the archive behind it")
        snapshot = show(site, answer["snapshot_id"])
        assert set(snapshot) == SNAPSHOT_FIELDS | {"onecut"}
        assert {field: snapshot[field] for field in wanted} == wanted
        assert (snapshot["volume_id"], snapshot["size"], snapshot["availability_zone"]) == (disk, 10, "az1")
        assert (snapshot["status"], snapshot["progress"], snapshot["category"]) == ("available", "100%", "standard")
        assert (snapshot["incremental"], snapshot["encrypted"], snapshot["cmk_id"]) == (False, False, None)
        assert (len(snapshot["snapshot_chains"]), snapshot["snapshot_group_id"]) == (1, None)
        assert (snapshot["snapshot_type"], snapshot["retention_at"]) == ("user", None)
        (listed,) = site.call("GET", "/v5/{p}/snapshots/detail", 200, params={"id": snapshot["id"]})["snapshots"]
        assert listed | {"onecut": snapshot["onecut"]} == snapshot

        changed = update(site, snapshot["id"], name="renamed", description="", instant_access=False)["snapshot"]
        assert set(changed) == SNAPSHOT_FIELDS
        assert (changed["name"], changed["description"], changed["instant_access"]) == ("renamed", "", False)
        assert update(site, snapshot["id"], instant_access=True)["snapshot"]["instant_access"] is True

        answer = site.call("DELETE", f"/v5/{{p}}/snapshots/{snapshot['id']}", 202)
        assert set(answer) == {"job_id"}
        site.done(answer)
        gone = site.call("GET", f"/v5/{{p}}/snapshots/{snapshot['id']}", 404)
        assert gone == {"error": {"code": "EVS.5404", "message": f"snapshot {snapshot['id']} does not exist"}}

    def test_the_volume_is_rolled_back(self, site: Site, disk: str) -> None:
        """The volume reads as at the cut; a name in the request is taken and changes nothing."""
        assert isinstance(site.engine, MemoryEngine)
        site.engine.write(disk, 0, b"before")
        snapshot_id = take(site, disk)
        site.engine.write(disk, 0, b"after!")

        wanted = {"rollback": {"volume_id": disk, "name": "another"}}
        answer = site.call("POST", f"/v5/{{p}}/snapshots/{snapshot_id}/rollback", 202, json=wanted)
        assert set(answer) == {"job_id"}
        site.done(answer)

        assert site.engine.read(disk, 0, 6) == b"before"
        assert (volume(site, disk)["status"], volume(site, disk)["name"]) == ("available", "disk")

    def test_a_member_tells_its_group(self, site: Site) -> None:
        """A member names its group, is found by it, and can be deleted alone."""
        group_id = take_group(site, new_volumes(site, 2), name="nightly")

        first, second = sorted(members(site, group_id), key=lambda snapshot: str(snapshot["name"]))

        assert (first["name"], second["name"]) == ("nightly-0001", "nightly-0002")
        assert first["snapshot_group_id"] == group_id
        site.done(site.call("DELETE", f"/v5/{{p}}/snapshots/{first['id']}", 202))
        assert found(site, snapshot_group_id=group_id) == [second["id"]]


class TestRefusals:
    @pytest.mark.parametrize(
        ("wanted", "status", "code", "words"),
        [
            ({"volume_id": None}, 400, "EVS.1002", ["volume_id"]),
            ({"volume_id": "nonsense"}, 400, "EVS.1002", ["volume_id", "nonsense"]),
            ({}, 404, "EVS.5404", [UNKNOWN]),
            ({"name": "x" * 65}, 400, "EVS.5400", ["name", "64"]),
            ({"description": "x" * 86}, 400, "EVS.5400", ["description", "85"]),
            ({"name": ["x"]}, 400, "EVS.5400", ["name"]),
            ({"tags": {"a b": ""}}, 400, "EVS.1062", ["tags", "a b"]),
            ({"instant_access": "false"}, 400, "EVS.5400", ["instant_access", "false"]),
            ({"incremental": 0}, 400, "EVS.5400", ["incremental", "0"]),
            ({"retention_days": 0}, 400, "EVS.5400", ["retention_days", "1", "0"]),
            ({"retention_days": 65537}, 400, "EVS.5400", ["retention_days", "65536", "65537"]),
            ({"enterprise_project_id": "x"}, 400, "EVS.2059", ["enterprise_project_id", "x"]),
        ],
    )
    def test_a_wrong_field_of_a_creation_is_named(
        self, site: Site, wanted: dict[str, Any], status: int, code: str, words: list[str]
    ) -> None:
        """Status and code are the documented ones, the message names field, value and limit, nothing is made."""
        before = count(site)

        error = order(site, status, **({"volume_id": UNKNOWN} | wanted))["error"]

        assert (set(error), error["code"]) == ({"code", "message"}, code)
        assert [word for word in words if word not in error["message"]] == []
        assert count(site) == before

    def test_a_wrong_change_is_refused(self, site: Site, disk: str) -> None:
        """Too long a name or description, and instant access that was not asked for at creation."""
        snapshot_id = take(site, disk, name="old")
        before = show(site, snapshot_id)

        for change, word in (({"name": "x" * 65}, "64"), ({"description": "x" * 86}, "85"), ({"name": 1}, "name")):
            assert word in update(site, snapshot_id, 400, **change)["error"]["message"]
        error = update(site, snapshot_id, 400, name="new", instant_access=True)["error"]
        assert "instant_access" in error["message"]

        assert show(site, snapshot_id) == before

    def test_a_wrong_rollback_is_refused(self, site: Site, disk: str) -> None:
        """Another volume, none, and an attached one, which the message names."""
        snapshot_id = take(site, disk)
        path = f"/v5/{{p}}/snapshots/{snapshot_id}/rollback"
        for body, code in (
            ({}, "EVS.5400"),
            ({"rollback": {}}, "EVS.1002"),
            ({"rollback": {"volume_id": UNKNOWN}}, "EVS.5400"),
        ):
            assert site.call("POST", path, 400, json=body)["error"]["code"] == code
        attach(site, disk, new_server(site))

        error = site.call("POST", path, 400, json={"rollback": {"volume_id": disk}})["error"]

        assert (error["code"], disk in error["message"], "in-use" in error["message"]) == ("EVS.5400", True, True)
        assert show(site, snapshot_id)["status"] == "available"


class TestLists:
    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"limit": "0"}, "EVS.1023"),
            ({"limit": "1001"}, "EVS.1023"),
            ({"limit": "ten"}, "EVS.1023"),
            ({"offset": "-1"}, "EVS.5400"),
            ({"marker": UNKNOWN}, "EVS.1024"),
            ({"sort_key": "name"}, "EVS.1039"),
            ({"sort_dir": "up"}, "EVS.1040"),
            ({"tags": "x"}, "EVS.1062"),
            ({"name": "x" * 256}, "EVS.5400"),
            ({"status": "melting"}, "EVS.1031"),
            ({"availability_zone": "mars"}, "EVS.1041"),
        ],
    )
    def test_a_wrong_query_is_refused(self, site: Site, query: dict[str, str], code: str) -> None:
        """Each with its documented code, and a message that names the field and the value."""
        error = site.call("GET", "/v5/{p}/snapshots/detail", 400, params=query)["error"]

        (field, value), *_ = query.items()
        assert (error["code"], field in error["message"]) == (code, True)
        assert value[:20] in error["message"]

    def test_a_count_refuses_as_the_list_does(self, site: Site) -> None:
        """A state that none ever has, and a zone that there is not."""
        for query, code in (({"status": "melting"}, "EVS.1031"), ({"availability_zone": "mars"}, "EVS.1041")):
            error = site.call("GET", "/v5/{p}/snapshots/count", 400, params=query)["error"]
            assert error["code"] == code

    def test_61_ids_are_refused(self, site: Site) -> None:
        """EVS.2228; sixty are taken, unknown ones ignored."""
        assert found(site, ids=",".join([UNKNOWN] * 60)) == []
        error = site.call("GET", "/v5/{p}/snapshots/detail", 400, params={"ids": ",".join([UNKNOWN] * 61)})["error"]

        assert (error["code"], "60" in error["message"], "61" in error["message"]) == ("EVS.2228", True, True)

    def test_filters_find_and_count(self, site: Site, disk: str) -> None:
        """Every documented filter finds exactly what it names; an empty value is none, an unknown key nothing."""
        name, project = f"name-{uuid4()}", str(uuid4())
        snapshot_id = take(site, disk, name=name, enterprise_project_id=project, tags={"env": name[:20]})
        for query in (
            {"id": snapshot_id},
            {"volume_id": disk},
            {"name": name, "availability_zone": "az1", "status": "available", "snapshot_type": "user"},
            {"enterprise_project_id": project, "tag_key": "env"},
            {"tags": json.dumps([{"key": "env", "value": name[:20]}])},
            {"volume_id": disk, "name": "", "status": "", "snapshot_chain_id": "", "unknown": "x"},
        ):
            assert (found(site, **query), count(site, **query)) == ([snapshot_id], 1)
        for query in ({"name": name, "status": "error"}, {"volume_id": disk, "snapshot_chain_id": UNKNOWN}):
            assert (found(site, **query), count(site, **query)) == ([], 0)
        assert found(site, ids=f"{UNKNOWN},{snapshot_id}", id=UNKNOWN) == [snapshot_id]

    def test_pages_follow_each_other(self, site: Site, disk: str) -> None:
        """By digit strings of limit and offset, and by marker; the newest first, until nothing comes."""
        made = [take(site, disk) for _ in range(3)]

        assert [found(site, volume_id=disk, limit="2", offset=offset) for offset in ("0", "2", "4")] == [
            [made[2], made[1]],
            [made[0]],
            [],
        ]
        assert found(site, volume_id=disk, limit="2", marker=made[2]) == [made[1], made[0]]
        assert found(site, volume_id=disk, marker=made[0]) == []
        assert found(site, volume_id=disk, sort_dir="asc") == made


@pytest.mark.parametrize(
    ("method", "tail", "body"),
    [
        ("GET", "", None),
        ("PUT", "", {"snapshot": {"name": "n"}}),
        ("DELETE", "", None),
        ("POST", "/rollback", {"rollback": {"volume_id": UNKNOWN}}),
        ("GET", "/changed-blocks", None),
        ("POST", "/tags/create", {"tags": []}),
        ("POST", "/tags/delete", {"tags": []}),
    ],
)
def test_a_malformed_id_is_told_from_an_unknown_one(site: Site, method: str, tail: str, body: Any) -> None:
    """400 EVS.2045 names the field; a UUID that no snapshot has is 404 EVS.5404."""
    malformed = site.call(method, f"/v5/{{p}}/snapshots/nonsense{tail}", 400, json=body)["error"]
    unknown = site.call(method, f"/v5/{{p}}/snapshots/{UNKNOWN}{tail}", 404, json=body)["error"]

    assert (malformed["code"], unknown["code"]) == ("EVS.2045", "EVS.5404")
    assert malformed["message"].startswith("snapshot_id: ")


class TestTags:
    def test_tags_are_added_listed_and_removed(self, site: Site, disk: str) -> None:
        """Both calls answer 204 without a body; the list of all is an array with each key's values."""
        snapshot_id, key = take(site, disk), f"k{uuid4().hex[:8]}"
        path = f"/v5/{{p}}/snapshots/{snapshot_id}/tags"

        assert site.call("POST", f"{path}/create", 204, json={"tags": [{"key": key, "value": "v"}]}) is None
        assert {"key": key, "value": ["v"]} in site.call("GET", "/v5/{p}/snapshots/tags", 200)["tags"]
        assert show(site, snapshot_id)["tags"] == {key: "v"}
        assert site.call("POST", f"{path}/delete", 204, json={"tags": [{"key": key}]}) is None
        assert show(site, snapshot_id)["tags"] == {}

        wrong = {"tags": [{"key": "a b", "value": ""}]}
        assert site.call("POST", f"{path}/create", 400, json=wrong)["error"]["code"] == "EVS.1062"


class TestTenants:
    def test_a_foreign_snapshot_answers_as_an_unknown_one(self, site: Site, disk: str) -> None:
        """Every operation on another tenant's snapshot has the very answer of an unknown id, and changes nothing."""
        snapshot_id = take(site, disk, tags={"env": "prod"})
        before = show(site, snapshot_id)
        other = site.second_tenant()
        tag = {"tags": [{"key": "env", "value": "x"}]}
        for method, suffix, body in (
            ("GET", "", None),
            ("PUT", "", {"snapshot": {"name": "theirs"}}),
            ("DELETE", "", None),
            ("POST", "/tags/create", tag),
            ("POST", "/tags/delete", tag),
            ("POST", "/rollback", {"rollback": {"volume_id": disk}}),
        ):
            foreign = other.call(method, f"/v5/{{p}}/snapshots/{snapshot_id}{suffix}", 404, json=body)
            unknown = other.call(method, f"/v5/{{p}}/snapshots/{UNKNOWN}{suffix}", 404, json=body)
            assert json.dumps(foreign).replace(snapshot_id, UNKNOWN) == json.dumps(unknown)
        wanted = {"snapshot": {"volume_id": disk}}
        assert other.call("POST", "/v5/{p}/snapshots", 404, json=wanted)["error"]["code"] == "EVS.5404"

        assert found(other, ids=snapshot_id) == found(other) == []
        assert (count(other), other.call("GET", "/v5/{p}/snapshots/tags", 200)) == (0, {"tags": []})
        marked = other.call("GET", "/v5/{p}/snapshots/detail", 400, params={"marker": snapshot_id})
        assert marked["error"]["code"] == "EVS.1024"
        assert show(site, snapshot_id) == before
