"""``/v5/{project_id}/snapshot-groups`` on the wire: forms, codes, filters, tags, and our own operations."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import orders
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from orders import attach, new_server, new_volumes
from running import Site, Tenant, running_site

from onecut.db.snapshots import Snapshot

GROUP_FIELDS = {
    "id", "project_id", "name", "description", "status", "server_id", "enterprise_project_id", "tags",
    "created_at", "updated_at",
}  # fmt: skip

UNKNOWN = str(uuid4())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for all tests here; none relies on what another left."""
    with running_site(tmp_path_factory.mktemp("data")) as site:
        yield site


def order(site: Site, status: int = 202, **wanted: Any) -> Any:
    """Ask for a group."""
    return site.call("POST", "/v5/{p}/snapshot-groups", status, json={"snapshot_group": wanted})


def make(site: Site, count: int = 1, **wanted: Any) -> str:
    """Make a group of new disks, and return its id once it is available."""
    answer = order(site, volume_ids=new_volumes(site, count), **wanted)
    site.done(answer)
    group_id: str = answer["snapshot_group_id"]
    return group_id


def show(site: Tenant, group_id: str) -> dict[str, Any]:
    """Show a group."""
    found: dict[str, Any] = site.call("GET", f"/v5/{{p}}/snapshot-groups/{group_id}", 200)["snapshot_group"]
    return found


def found(site: Tenant, **query: Any) -> list[str]:
    """List groups, and return their ids."""
    answer = site.call("GET", "/v5/{p}/snapshot-groups/detail", 200, params=query)
    return [group["id"] for group in answer["snapshot_groups"]]


def members(site: Tenant, group_id: str) -> list[dict[str, Any]]:
    """List a group's members, in the order of their names."""
    return sorted(orders.members(site, group_id), key=lambda snapshot: str(snapshot["name"]))


def counts(site: Tenant) -> tuple[int, int]:
    """Count groups and snapshots."""
    return (
        site.call("GET", "/v5/{p}/snapshot-groups/count", 200)["count"],
        site.call("GET", "/v5/{p}/snapshots/count", 200)["count"],
    )


class TestForms:
    def test_a_group_is_cut_shown_changed_and_deleted(self, site: Site) -> None:
        """Each answer has the documented status and exactly the documented fields."""
        volume_ids = new_volumes(site, 2)
        answer = order(site, volume_ids=volume_ids, name="nightly", description="text", tags={"env": "prod"})
        assert set(answer) == {"job_id", "snapshot_group_id"}
        job, group_id = site.done(answer), answer["snapshot_group_id"]
        assert job["job_type"] == "createSnapshotGroup"
        assert [sub["entities"]["volume_id"] for sub in job["entities"]["sub_jobs"]] == volume_ids

        group = show(site, group_id)
        assert set(group) == GROUP_FIELDS | {"onecut"}
        assert (group["id"], group["project_id"], group["status"]) == (group_id, site.project_id, "available")
        assert (group["name"], group["description"], group["tags"]) == ("nightly", "text", {"env": "prod"})
        assert (group["server_id"], group["enterprise_project_id"]) == (None, "0")
        assert datetime.strptime(group["created_at"], "%Y-%m-%dT%H:%M:%S.%f")  # noqa: DTZ007 - EVS's form has no zone

        (listed,) = site.call("GET", "/v5/{p}/snapshot-groups/detail", 200, params={"id": group_id})[
            "snapshot_groups"
        ]
        assert listed == {field: group[field] for field in GROUP_FIELDS}

        change = {"snapshot_group": {"name": "renamed", "description": ""}}
        changed = site.call("PUT", f"/v5/{{p}}/snapshot-groups/{group_id}", 200, json=change)["snapshot_group"]
        assert (set(changed), changed["name"], changed["description"]) == (GROUP_FIELDS, "renamed", "")

        answer = site.call("DELETE", f"/v5/{{p}}/snapshot-groups/{group_id}", 202)
        assert set(answer) == {"job_id"}
        site.done(answer)
        gone = site.call("GET", f"/v5/{{p}}/snapshot-groups/{group_id}", 404)
        assert gone == {"error": {"code": "EVS.5404", "message": f"snapshot group {group_id} does not exist"}}
        assert members(site, group_id) == []

    def test_the_cut_is_told_under_one_key_of_our_own(self, site: Site) -> None:
        """`onecut` tells when the cut was, how long it took, and each member's pause."""
        group_id = make(site, 2)

        cut = show(site, group_id)["onecut"]["cut"]

        assert set(cut) == {"taken_at", "prepare_ms", "pause_ms", "members"}
        assert [(member["snapshot_id"], member["volume_id"]) for member in cut["members"]] == [
            (snapshot["id"], snapshot["volume_id"]) for snapshot in members(site, group_id)
        ]

    def test_a_server_gives_its_volumes(self, site: Site) -> None:
        """A group of a server has its id, and the volumes that are attached to it; its members may be in use."""
        first, second = new_volumes(site, 2)
        server_id = attached_server(site, first, second)

        answer = order(site, server_id=server_id)
        site.done(answer)

        group_id = answer["snapshot_group_id"]
        assert show(site, group_id)["server_id"] == server_id
        assert [member["volume_id"] for member in members(site, group_id)] == [first, second]
        assert found(site, server_id=server_id) == [group_id]

    def test_nulls_are_as_absent(self, site: Site) -> None:
        """A client that sends every field, with null where it has nothing, gets the defaults."""
        fields = (
            "server_id",
            "instant_access",
            "name",
            "description",
            "tags",
            "incremental",
            "enterprise_project_id",
        )
        group_id = make(site, 1, **dict.fromkeys(fields))
        assert show(site, group_id)["name"] == ""
        (member,) = members(site, group_id)
        assert (member["incremental"], member["instant_access"]) == (True, False)

        change = {"snapshot_group": {"name": None, "unknown": 1}}
        site.call("PUT", f"/v5/{{p}}/snapshot-groups/{group_id}", 200, json=change)

    def test_the_path_without_a_suffix_lists_nothing(self, site: Site) -> None:
        """`GET .../snapshot-groups` is not an operation."""
        site.call("GET", "/v5/{p}/snapshot-groups", 405)

    def test_our_operations_are_marked(self, site: Site) -> None:
        """The OpenAPI document marks what EVS does not have, and nothing else of these paths."""
        paths = site.call("GET", "/openapi.json", 200)["paths"]
        marked = {
            path.removeprefix("/v5/{project_id}/snapshot-groups/{snapshot_group_id}")
            for path, operations in paths.items()
            if "/snapshot-groups" in path
            for operation in operations.values()
            if operation.get("x-onecut-extension")
        }

        assert marked == {"/rollback", "/volumes"}


class TestRefusedCreations:
    @pytest.mark.parametrize(
        ("wanted", "status", "code", "words"),
        [
            ({}, 400, "EVS.5400", ["server_id", "volume_ids"]),
            ({"volume_ids": []}, 400, "EVS.5400", ["server_id", "volume_ids"]),
            ({"volume_ids": ["nonsense"]}, 400, "EVS.1002", ["volume_ids", "nonsense"]),
            ({"volume_ids": [UNKNOWN.upper()]}, 400, "EVS.1002", ["volume_ids"]),
            ({"volume_ids": UNKNOWN}, 400, "EVS.1002", ["volume_ids"]),
            ({"volume_ids": [7]}, 400, "EVS.1002", ["volume_ids", "7"]),
            ({"volume_ids": [UNKNOWN]}, 404, "EVS.5404", [UNKNOWN]),
            ({"volume_ids": [UNKNOWN, UNKNOWN]}, 400, "EVS.5400", ["volume_ids", UNKNOWN, "twice"]),
            ({"volume_ids": [str(uuid4()) for _ in range(65)]}, 400, "EVS.5400", ["volume_ids", "64", "65"]),
            ({"server_id": UNKNOWN}, 400, "EVS.2229", ["server_id", UNKNOWN]),
            ({"server_id": "nonsense"}, 400, "EVS.5400", ["server_id", "nonsense"]),
            ({"name": "x" * 256}, 400, "EVS.5400", ["name", "255", "256"]),
            ({"name": "盘" * 86}, 400, "EVS.5400", ["name", "255", "258"]),
            ({"name": 7}, 400, "EVS.5400", ["name", "7"]),
            ({"name": "a\0b"}, 400, "EVS.5400", ["name"]),
            ({"description": "é" * 128}, 400, "EVS.5400", ["description", "255", "256"]),
            ({"instant_access": "true"}, 400, "EVS.5400", ["instant_access", "true"]),
            ({"incremental": 1}, 400, "EVS.5400", ["incremental", "1"]),
            ({"enterprise_project_id": "nonsense"}, 400, "EVS.2059", ["enterprise_project_id", "nonsense"]),
            ({"tags": {"": "v"}}, 400, "EVS.1062", ["tags", "36"]),
            ({"tags": {"k" * 37: "v"}}, 400, "EVS.1062", ["tags", "36"]),
            ({"tags": {"a.b": "v"}}, 400, "EVS.1062", ["tags", "a.b"]),
            ({"tags": {"k": "v" * 44}}, 400, "EVS.1062", ["tags", "43"]),
            ({"tags": {"k": 7}}, 400, "EVS.1062", ["tags", "7"]),
            ({"tags": ["k"]}, 400, "EVS.1062", ["tags"]),
            ({"tags": {f"k{number}": "" for number in range(21)}}, 400, "EVS.1061", ["tags", "20", "21"]),
        ],
    )
    def test_a_wrong_field_is_named(
        self, site: Site, wanted: dict[str, Any], status: int, code: str, words: list[str]
    ) -> None:
        """Status and code are the documented ones, the message names field, value and limit, nothing is made."""
        before = counts(site)
        selection = {} if {"volume_ids", "server_id"} & set(wanted) or not wanted else {"volume_ids": [UNKNOWN]}

        error = order(site, status, **(selection | wanted))["error"]

        assert (set(error), error["code"]) == ({"code", "message"}, code)
        assert [word for word in words if word not in error["message"]] == []
        assert counts(site) == before

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"{}", b'{"snapshot_group": []}'])
    def test_a_wrong_body_is_refused(self, site: Site, body: bytes) -> None:
        """What is no JSON, or JSON of another type, is 400 EVS.5400."""
        headers = {"Content-Type": "application/json"}
        answer = site.call("POST", "/v5/{p}/snapshot-groups", 400, content=body, headers=headers)

        assert answer["error"]["code"] == "EVS.5400"

    def test_a_snapshot_in_creation_is_400_on_groups_and_409_on_snapshots(self, site: Site) -> None:
        """The code clients wait for is EVS.2409 in both; its status differs, as they expect."""
        group_id = make(site)
        (member,) = members(site, group_id)
        set_status(site, member["id"], "creating")
        wanted = {"snapshot": {"volume_id": member["volume_id"]}}

        group_error = order(site, 400, volume_ids=[member["volume_id"]])["error"]
        snapshot_error = site.call("POST", "/v5/{p}/snapshots", 409, json=wanted)["error"]

        assert group_error["code"] == snapshot_error["code"] == "EVS.2409"
        assert member["volume_id"] in group_error["message"]

    def test_a_volume_that_is_not_attached_to_the_server_is_refused(self, site: Site) -> None:
        """One volume elsewhere refuses all, and the message names it."""
        here, elsewhere = new_volumes(site, 2)
        server_id = attached_server(site, here)
        before = counts(site)

        error = order(site, 400, server_id=server_id, volume_ids=[here, elsewhere])["error"]

        assert error["code"] == "EVS.5400"
        assert elsewhere in error["message"]
        assert counts(site) == before


class TestTexts:
    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300))
    def test_the_limit_is_255_bytes(self, site: Site, text: str) -> None:
        """Any text of up to 255 bytes of UTF-8 comes back as it was sent; a longer one is refused."""
        group_id = self.group_id(site)
        fits = len(text.encode()) <= 255
        answer = site.call(
            "PUT",
            f"/v5/{{p}}/snapshot-groups/{group_id}",
            200 if fits else 400,
            json={"snapshot_group": {"name": text}},
        )

        if fits:
            assert answer["snapshot_group"]["name"] == show(site, group_id)["name"] == text
            assert not text or group_id in found(site, name=text)
        else:
            assert "255" in answer["error"]["message"]

    def group_id(self, site: Site) -> str:
        """Return the one group whose name changes again and again."""
        marked = found(site, tag_key="renamed")
        return marked[0] if marked else make(site, tags={"renamed": ""})

    def test_255_bytes_of_any_script_make_a_group(self, site: Site) -> None:
        """85 characters of three bytes are the longest such name; one byte more is refused."""
        group_id = make(site, name="盘" * 85, description="é" * 127 + "x")

        assert show(site, group_id)["name"] == "盘" * 85
        assert members(site, group_id)[0]["name"] == "盘" * 59 + "-0001"
        change = {"snapshot_group": {"description": "盘" * 85 + "x"}}
        site.call("PUT", f"/v5/{{p}}/snapshot-groups/{group_id}", 400, json=change)


class TestLists:
    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"limit": "0"}, "EVS.1023"),
            ({"limit": "1001"}, "EVS.1023"),
            ({"limit": "many"}, "EVS.1023"),
            ({"offset": "-1"}, "EVS.5400"),
            ({"offset": "x"}, "EVS.5400"),
            ({"sort_key": "name"}, "EVS.1039"),
            ({"sort_dir": "up"}, "EVS.1040"),
            ({"tags": "{"}, "EVS.1062"),
            ({"tags": '[{"key": "a b", "value": ""}]'}, "EVS.1062"),
            ({"tags": '[{"env":"x"},{"env":"prod"}]'}, "EVS.1062"),
            ({"tags": '{"env":"x","env":"prod"}'}, "EVS.1062"),
            ({"tags": '[{"key":"env"}]'}, "EVS.1062"),
            ({"tags": '[{"value":"prod"}]'}, "EVS.1062"),
            ({"tags": '[{"key":"a","value":"b","c":"d"}]'}, "EVS.1062"),
            ({"tags": '[["env","prod"]]'}, "EVS.1062"),
            ({"name": "x" * 256}, "EVS.5400"),
            ({"status": "melting"}, "EVS.1031"),
        ],
    )
    def test_a_wrong_query_is_refused(self, site: Site, query: dict[str, str], code: str) -> None:
        """Each with its documented code, and a message that names the field and the value."""
        error = site.call("GET", "/v5/{p}/snapshot-groups/detail", 400, params=query)["error"]

        (field, value), *_ = query.items()
        assert error["code"] == code
        assert field in error["message"]
        assert value[:20] in error["message"]

    def test_filters_find_and_count(self, site: Site) -> None:
        """Name, state, tags in every form in use, all together; an empty value is none, an unknown key nothing."""
        name, project = f"name-{uuid4()}", str(uuid4())
        group_id = make(site, name=name, tags={"env": name[:20]}, enterprise_project_id=project)
        pair = {"key": "env", "value": name[:20]}
        for query in (
            {"name": name},
            {"id": group_id},
            {"enterprise_project_id": project},
            {"tags": json.dumps([pair])},
            {"tags": json.dumps([{"env": name[:20]}])},
            {"tags": json.dumps({"env": name[:20]})},
            {"name": name, "status": "available", "tag_key": "env", "enterprise_project_id": "all_granted_eps"},
            {"name": name, "status": "", "id": "", "limit": "", "sort_key": "", "tags": "", "unknown": "x"},
        ):
            assert found(site, **query) == [group_id]
            assert site.call("GET", "/v5/{p}/snapshot-groups/count", 200, params=query) == {"count": 1}
        for query in ({"name": name[:-1]}, {"name": name, "status": "error"}, {"id": "x"}):
            assert found(site, **query) == []

    def test_a_filter_of_more_tags_than_a_resource_may_have_finds_nothing(self, site: Site) -> None:
        """A filter of any length is answered, not passed on to the database."""
        assert found(site, tags=json.dumps({f"k{number}": "" for number in range(1500)})) == []

    def test_pages_follow_each_other_to_an_empty_one(self, site: Site) -> None:
        """As a client pages: by limit and offset until nothing comes; the newest first."""
        project = str(uuid4())
        made = [make(site, enterprise_project_id=project) for _ in range(3)]

        pages = [found(site, enterprise_project_id=project, limit=2, offset=offset) for offset in (0, 2, 4)]

        assert pages == [[made[2], made[1]], [made[0]], []]
        assert found(site, enterprise_project_id=project, sort_dir="asc") == made
        assert found(site, enterprise_project_id=project, sort_key="id", sort_dir="asc") == sorted(made)


class TestTags:
    def test_tags_are_added_listed_and_removed(self, site: Site) -> None:
        """Both calls answer 204 without a body; the list of all is an array; values are not compared on removal."""
        group_id = make(site)
        path = f"/v5/{{p}}/snapshot-groups/{group_id}/tags"
        key = f"k{uuid4().hex[:8]}"
        for value in ("old", "new"):
            assert site.call("POST", f"{path}/create", 204, json={"tags": [{"key": key, "value": value}]}) is None
        listed = site.call("GET", "/v5/{p}/snapshot-groups/tags", 200)["tags"]
        assert {"key": key, "value": ["new"]} in listed
        assert show(site, group_id)["tags"] == {key: "new"}

        gone = {"tags": [{"key": key, "value": "another"}, {"key": "absent"}]}
        assert site.call("POST", f"{path}/delete", 204, json=gone) is None
        assert show(site, group_id)["tags"] == {}

    def test_more_tags_than_a_resource_may_have_are_not_removed(self, site: Site) -> None:
        """A list of any length is refused before the database sees it."""
        group_id = make(site)
        body = {"tags": [{"key": f"k{number}"} for number in range(21)]}

        error = site.call("POST", f"/v5/{{p}}/snapshot-groups/{group_id}/tags/delete", 400, json=body)["error"]

        assert (error["code"], "20" in error["message"], "21" in error["message"]) == ("EVS.1062", True, True)

    @pytest.mark.parametrize(
        ("tags", "code"),
        [
            (None, "EVS.1062"),
            ({"k": "v"}, "EVS.1062"),
            ([{"key": "a b", "value": ""}], "EVS.1062"),
            ([{"key": "k", "value": "a b"}], "EVS.1062"),
            ([{"key": "k", "value": "1"}, {"key": "k", "value": "2"}], "EVS.1062"),
            ([{"key": f"k{number}", "value": ""} for number in range(21)], "EVS.1061"),
        ],
    )
    def test_wrong_tags_are_refused(self, site: Site, tags: Any, code: str) -> None:
        """Not one of the tags of a refused request is there."""
        group_id = make(site)
        body = {} if tags is None else {"tags": tags}

        error = site.call("POST", f"/v5/{{p}}/snapshot-groups/{group_id}/tags/create", 400, json=body)["error"]

        assert error["code"] == code
        assert "tag" in error["message"]
        assert show(site, group_id)["tags"] == {}


class TestOurOperations:
    def test_a_group_is_given_back_and_the_rollback_undone(self, site: Site) -> None:
        """All volumes read as at the cut; the undo group brings back what they held before."""
        volume_ids = new_volumes(site, 2)
        write(site, volume_ids, b"before")
        answer = order(site, volume_ids=volume_ids, name="nightly")
        site.done(answer)
        write(site, volume_ids, b"after!")

        path = "/v5/{p}/snapshot-groups/" + answer["snapshot_group_id"]
        answer = site.call("POST", f"{path}/rollback", 202, json={"rollback": {}})
        assert set(answer) == {"job_id", "undo_snapshot_group_id"}
        site.done(answer)
        assert contents(site, volume_ids) == {b"before"}

        undo = show(site, answer["undo_snapshot_group_id"])
        assert (undo["name"], undo["status"]) == ("undo of nightly", "available")
        path = f"/v5/{{p}}/snapshot-groups/{undo['id']}"
        answer = site.call("POST", f"{path}/rollback", 202, json={"rollback": {"undo": False}})
        assert answer["undo_snapshot_group_id"] is None
        site.done(answer)
        assert contents(site, volume_ids) == {b"after!"}

    def test_an_attached_disk_refuses_the_rollback_of_all(self, site: Site) -> None:
        """The message names the disk; nothing changed."""
        volume_ids = new_volumes(site, 2)
        answer = order(site, volume_ids=volume_ids)
        site.done(answer)
        attached_server(site, volume_ids[1])
        before = counts(site)

        path = f"/v5/{{p}}/snapshot-groups/{answer['snapshot_group_id']}/rollback"
        error = site.call("POST", path, 400, json={"rollback": {}})["error"]

        assert volume_ids[1] in error["message"]
        assert "in-use" in error["message"]
        assert counts(site) == before

    def test_a_group_becomes_new_volumes_at_a_server(self, site: Site) -> None:
        """Each member becomes a volume that holds what it holds, attached in the order of the members."""
        volume_ids = new_volumes(site, 2)
        write(site, volume_ids, b"before")
        answer = order(site, volume_ids=volume_ids, name="nightly")
        site.done(answer)
        server_id = attached_server(site)

        path = f"/v5/{{p}}/snapshot-groups/{answer['snapshot_group_id']}/volumes"
        wanted = {"name": "restored", "server_id": server_id}
        made = site.call("POST", path, 202, json={"volumes": wanted})
        site.done(made)

        assert set(made) == {"job_id", "volume_ids", "volumes"}
        assert [pair["volume_id"] for pair in made["volumes"]] == made["volume_ids"]
        assert [pair["snapshot_id"] for pair in made["volumes"]] == [
            member["id"] for member in members(site, answer["snapshot_group_id"])
        ]
        assert contents(site, made["volume_ids"]) == {b"before"}
        devices = {
            volume["name"]: volume["attachments"][0]["device"]
            for volume in (
                site.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200)["volume"]
                for volume_id in made["volume_ids"]
            )
        }
        assert devices == {"restored-0001": "/dev/vda", "restored-0002": "/dev/vdb"}


class TestTenants:
    def test_a_foreign_group_answers_as_an_unknown_one(self, site: Site) -> None:
        """Every operation on another tenant's group has the very answer of an unknown id, and changes nothing."""
        group_id = make(site, name="ours", tags={"env": "prod"})
        before = show(site, group_id)
        other = site.second_tenant()
        tag = {"tags": [{"key": "env", "value": "x"}]}
        for method, suffix, body in (
            ("GET", "", None),
            ("PUT", "", {"snapshot_group": {"name": "theirs"}}),
            ("DELETE", "", None),
            ("POST", "/tags/create", tag),
            ("POST", "/tags/delete", tag),
            ("POST", "/rollback", {"rollback": {}}),
            ("POST", "/volumes", {"volumes": {}}),
        ):
            foreign = other.call(method, f"/v5/{{p}}/snapshot-groups/{group_id}{suffix}", 404, json=body)
            unknown = other.call(method, f"/v5/{{p}}/snapshot-groups/{UNKNOWN}{suffix}", 404, json=body)
            assert json.dumps(foreign).replace(group_id, UNKNOWN) == json.dumps(unknown)

        assert found(other) == []
        assert other.call("GET", "/v5/{p}/snapshot-groups/count", 200) == {"count": 0}
        assert other.call("GET", "/v5/{p}/snapshot-groups/tags", 200) == {"tags": []}
        assert show(site, group_id) == before

    def test_a_foreign_project_is_refused(self, site: Site) -> None:
        """A caller can't use another project's path, nor volumes or servers of another project in their own."""
        volume_ids = new_volumes(site, 1)
        server_id = attached_server(site, *volume_ids)
        other = site.second_tenant()
        path = f"/v5/{site.project_id}/snapshot-groups"
        for method, target in (("GET", f"{path}/detail"), ("GET", f"{path}/count"), ("POST", path)):
            assert other.call(method, target, 400, json={})["error"]["code"] == "Common.0018"
        for wanted, status, code in (
            ({"volume_ids": volume_ids}, 404, "EVS.5404"),
            ({"server_id": server_id}, 400, "EVS.2229"),
        ):
            error = other.call("POST", "/v5/{p}/snapshot-groups", status, json={"snapshot_group": wanted})["error"]
            assert error["code"] == code


def attached_server(site: Site, *volume_ids: str) -> str:
    """Make a server with these volumes attached, one after the other."""
    server_id = new_server(site)
    for volume_id in volume_ids:
        attach(site, volume_id, server_id)
    return server_id


def set_status(site: Site, snapshot_id: str, status: str) -> None:
    """Put a snapshot into a state."""
    with site.database.writing() as session:
        session.get_one(Snapshot, snapshot_id).status = status


def write(site: Site, volume_ids: list[str], content: bytes) -> None:
    """Write the same to several volumes."""
    for volume_id in volume_ids:
        site.engine.write(volume_id, 0, content)  # type: ignore[attr-defined]


def contents(site: Site, volume_ids: list[str]) -> set[bytes]:
    """Return what volumes hold."""
    return {site.engine.read(volume_id, 0, 6) for volume_id in volume_ids}  # type: ignore[attr-defined]
