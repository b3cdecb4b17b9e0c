"""``/v5/{project_id}/snapshot-policies`` on the wire, and under the unmodified official SDK."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import huaweicloudsdkevs.v2 as evs
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.region.region import Region
from orders import group, members, new_server, new_volumes
from running import Site, Tenant, running_site, wait_until

from onecut.clock import JumpingClock
from onecut.engine.memory import MemoryEngine

POLICY_FIELDS = {
    "id", "name", "repeat_weekdays", "repeat_interval_days", "time_points", "retention_days", "tags",
    "enterprise_project_id", "created_at", "updated_at",
}  # fmt: skip

UNKNOWN = "00000000-0000-4000-8000-000000000000"

PATH = "/v5/{p}/snapshot-policies"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for all tests here; none relies on what another left."""
    with running_site(tmp_path_factory.mktemp("data")) as site:
        yield site


def body(**wanted: Any) -> dict[str, Any]:
    """Give the body of a creation; None leaves a field out."""
    given = {"name": "nightly", "repeat_interval_days": 1, "time_points": ["1"], "retention_days": 7} | wanted
    return {"snapshot_policy": {name: value for name, value in given.items() if value is not None}}


def make(site: Tenant, **wanted: Any) -> str:
    """Make a policy, and return its id."""
    made: str = site.call("POST", PATH, 201, json=body(**wanted))["snapshot_policy"]["id"]
    return made


def show(site: Tenant, policy_id: str) -> dict[str, Any]:
    """Show a policy."""
    found: dict[str, Any] = site.call("GET", f"{PATH}/{policy_id}", 200)["snapshot_policy"]
    return found


def found(site: Tenant, **query: Any) -> list[str]:
    """List policies, and return their ids."""
    return [policy["id"] for policy in site.call("GET", PATH, 200, params=query)["snapshot_policies"]]


class TestForms:
    def test_a_policy_is_made_shown_changed_and_deleted(self, site: Site) -> None:
        """Each answer has the documented status and exactly the documented fields."""
        wanted = body(
            repeat_interval_days=None, repeat_weekdays=["1", "5"], time_points=["13", "1"], tags={"env": "prod"}
        )
        made = site.call("POST", PATH, 201, json=wanted)["snapshot_policy"]
        assert set(made) == POLICY_FIELDS
        assert made | wanted["snapshot_policy"] == made
        assert (made["repeat_interval_days"], made["enterprise_project_id"]) == (None, "0")
        assert datetime.strptime(made["created_at"], "%Y-%m-%dT%H:%M:%S.%f")  # noqa: DTZ007 - EVS's form has no zone

        shown = show(site, made["id"])
        assert set(shown) == POLICY_FIELDS | {"onecut"}
        assert {field: shown[field] for field in POLICY_FIELDS} == made
        assert set(shown["onecut"]) == {"volume_ids", "next_at", "runs"}
        listed = site.call("GET", PATH, 200, params={"id": made["id"]})["snapshot_policies"]
        assert listed == [made]

        change = {"snapshot_policy": {"name": "renamed", "repeat_interval_days": 2, "retention_days": -1}}
        changed = site.call("PUT", f"{PATH}/{made['id']}", 200, json=change)["snapshot_policy"]
        assert set(changed) == POLICY_FIELDS
        assert (changed["name"], changed["repeat_weekdays"], changed["repeat_interval_days"]) == ("renamed", None, 2)
        assert (changed["retention_days"], changed["time_points"]) == (-1, ["13", "1"])

        assert site.call("DELETE", f"{PATH}/{made['id']}", 204) is None
        gone = site.call("GET", f"{PATH}/{made['id']}", 404)
        assert gone == {"error": {"code": "EVS.5404", "message": f"snapshot policy {made['id']} does not exist"}}

    def test_volumes_come_and_go(self, site: Site) -> None:
        """The body is the array itself; the answers are empty, and the volumes stand under our own key."""
        policy_id, volume_ids = make(site), new_volumes(site, 2)

        assert site.call("POST", f"{PATH}/{policy_id}/associate", 204, json=volume_ids) is None
        assert show(site, policy_id)["onecut"]["volume_ids"] == sorted(volume_ids)
        assert site.call("POST", f"{PATH}/{policy_id}/disassociate", 204, json=volume_ids[:1]) is None
        assert show(site, policy_id)["onecut"]["volume_ids"] == volume_ids[1:]

    def test_filters_and_pages(self, site: Site) -> None:
        """Every filter of the list and of the count, the tag filter in its three forms, sorting and pages."""
        other = site.second_tenant()
        project = str(uuid4())
        first = make(other, name="a", tags={"env": "prod"}, enterprise_project_id=project)
        second = make(other, name="b", tags={"env": "test"})
        for query, expected in (
            ({}, [second, first]),
            ({"id": first}, [first]),
            ({"name": "b"}, [second]),
            ({"name": ""}, [second, first]),
            ({"enterprise_project_id": project}, [first]),
            ({"tag_key": "env"}, [second, first]),
            ({"tags": '[{"env":"prod"}]'}, [first]),
            ({"tags": '{"env":"prod"}'}, [first]),
            ({"tags": '[{"key":"env","value":"test"}]'}, [second]),
        ):
            assert found(other, **query) == expected
            assert other.call("GET", f"{PATH}/count", 200, params=query) == {"count": len(expected)}
        assert found(other, sort_key="name", sort_dir="asc") == [first, second]
        assert found(other, limit=1) == [second]
        assert found(other, limit=1, offset=1) == [first]

    def test_tags(self, site: Site) -> None:
        """Added, listed over all policies, and removed; the words `tags` and `count` are no ids."""
        other = site.second_tenant()
        policy_id = make(other, tags={"env": "prod"})

        other.call("POST", f"{PATH}/{policy_id}/tags/create", 204, json={"tags": [{"key": "team", "value": "db"}]})
        assert other.call("GET", f"{PATH}/tags", 200) == {
            "tags": [{"key": "env", "value": ["prod"]}, {"key": "team", "value": ["db"]}]
        }
        other.call("POST", f"{PATH}/{policy_id}/tags/delete", 204, json={"tags": [{"key": "env"}]})
        assert show(other, policy_id)["tags"] == {"team": "db"}


class TestRefusals:
    @pytest.mark.parametrize(
        ("field", "value", "words"),
        [
            ("name", None, "name: field required"),
            ("name", "\u00e4" * 128, "name: must be at most 255 bytes of UTF-8, is 256"),
            ("time_points", None, "time_points: field required"),
            ("time_points", [], "at least 1 item"),
            ("time_points", ["24"], "time_points.0: string should match pattern"),
            ("time_points", ["01"], "time_points.0: string should match pattern"),
            ("time_points", [1], "time_points.0: input should be a valid string; got 1"),
            ("time_points", ["1", "2", "1"], "time_points: names 1 twice"),
            ("time_points", [str(hour % 24) for hour in range(25)], "at most 24 items"),
            ("repeat_weekdays", ["1"], "only one of repeat_weekdays and repeat_interval_days may be given"),
            ("repeat_interval_days", None, "one of repeat_weekdays and repeat_interval_days must be given"),
            ("repeat_interval_days", 0, "repeat_interval_days: input should be greater than or equal to 1; got 0"),
            ("repeat_interval_days", 31, "repeat_interval_days: input should be less than or equal to 30; got 31"),
            ("repeat_interval_days", "1", "repeat_interval_days: input should be a valid integer; got '1'"),
            ("retention_days", None, "retention_days: field required"),
            ("retention_days", 0, "retention_days: must be 1 to 65536 days, or -1 for snapshots that stay; got 0"),
            ("retention_days", -2, "retention_days: must be 1 to 65536 days, or -1 for snapshots that stay; got -2"),
            ("retention_days", 65537, "retention_days: must be 1 to 65536 days, or -1 for snapshots that stay"),
            ("enterprise_project_id", "x", "enterprise_project_id"),
            ("tags", {"a b": ""}, "a tag key has 1 to 36 characters"),
            ("tags", {f"key{number}": "" for number in range(21)}, "at most 20 tags, not 21"),
        ],
    )
    def test_fields(self, site: Site, field: str, value: Any, words: str) -> None:
        """A wrong field is 400 with its name, the limit and the value, and no policy is made."""
        before = site.call("GET", f"{PATH}/count", 200)
        error = site.call("POST", PATH, 400, json=body(**{field: value}))["error"]

        assert words in error["message"]
        expected = {"enterprise_project_id": "EVS.2059", "tags": "EVS.1061" if "20" in words else "EVS.1062"}
        assert error["code"] == expected.get(field, "EVS.5400")
        assert site.call("GET", f"{PATH}/count", 200) == before

    @pytest.mark.parametrize(
        ("weekdays", "words"),
        [
            ([], "at least 1 item"),
            (["0"], "repeat_weekdays.0"),
            (["8"], "repeat_weekdays.0"),
            (["1", "1"], "names 1 twice"),
            (["1", "2", "3", "4", "5", "6", "7", "1"], "at most 7 items"),
        ],
    )
    def test_weekdays(self, site: Site, weekdays: list[str], words: str) -> None:
        """In a change as in a creation; the policy stays as it was."""
        policy_id = make(site)
        before = show(site, policy_id)
        wanted = {"repeat_weekdays": weekdays}
        changed = site.call("PUT", f"{PATH}/{policy_id}", 400, json={"snapshot_policy": wanted})["error"]
        made = site.call("POST", PATH, 400, json=body(repeat_interval_days=None, **wanted))["error"]

        assert words in changed["message"]
        assert changed == made
        assert show(site, policy_id) == before

    @pytest.mark.parametrize("act", ["associate", "disassociate"])
    @pytest.mark.parametrize(
        ("wanted", "status", "code", "words"),
        [
            ([], 400, "EVS.5400", "at least 1 item"),
            ([UNKNOWN] * 1001, 400, "EVS.5400", "at most 1000 items"),
            (["x"], 400, "EVS.1002", "must be a UUID in lower case, with dashes; got 'x'"),
            ([7], 400, "EVS.5400", "valid string"),
            ({"volume_ids": [UNKNOWN]}, 400, "EVS.5400", "valid list"),
            ([UNKNOWN], 404, "EVS.5404", f"volume {UNKNOWN} does not exist"),
        ],
    )
    def test_volumes(self, site: Site, act: str, wanted: Any, status: int, code: str, words: str) -> None:  # noqa: PLR0917 - pytest's
        """A body that is no list of the project's volumes changes nothing."""
        policy_id, volume_ids = make(site), new_volumes(site, 1)
        site.call("POST", f"{PATH}/{policy_id}/associate", 204, json=volume_ids)
        error = site.call("POST", f"{PATH}/{policy_id}/{act}", status, json=wanted)["error"]

        assert (error["code"], words in error["message"]) == (code, True), error
        assert show(site, policy_id)["onecut"]["volume_ids"] == volume_ids

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"limit": "0"}, "EVS.1023"),
            ({"limit": "1001"}, "EVS.1023"),
            ({"offset": "-1"}, "EVS.5400"),
            ({"sort_key": "retention_days"}, "EVS.1039"),
            ({"sort_dir": "up"}, "EVS.1040"),
            ({"tags": "prod"}, "EVS.1062"),
            ({"enterprise_project_id": "!!"}, "EVS.2059"),
        ],
    )
    def test_queries(self, site: Site, query: dict[str, str], code: str) -> None:
        """A wrong query has the code of its field."""
        assert site.call("GET", PATH, 400, params=query)["error"]["code"] == code

    def test_a_foreign_policy_answers_as_an_unknown_one(self, site: Site) -> None:
        """Every operation on another tenant's policy has the very answer of an unknown id, and changes nothing."""
        policy_id = make(site, tags={"env": "prod"})
        before = show(site, policy_id)
        other = site.second_tenant()
        theirs = new_volumes(other, 1)
        tag = {"tags": [{"key": "env", "value": "x"}]}
        for method, suffix, sent in (
            ("GET", "", None),
            ("PUT", "", {"snapshot_policy": {"name": "theirs"}}),
            ("DELETE", "", None),
            ("POST", "/associate", theirs),
            ("POST", "/disassociate", theirs),
            ("POST", "/tags/create", tag),
            ("POST", "/tags/delete", tag),
        ):
            foreign = other.call(method, f"{PATH}/{policy_id}{suffix}", 404, json=sent)
            unknown = other.call(method, f"{PATH}/{UNKNOWN}{suffix}", 404, json=sent)
            assert json.dumps(foreign).replace(policy_id, UNKNOWN) == json.dumps(unknown)

        assert found(other) == []
        assert other.call("GET", f"{PATH}/count", 200) == {"count": 0}
        assert other.call("GET", f"{PATH}/tags", 200) == {"tags": []}
        own = make(other)
        ours = new_volumes(site, 1)
        refused = other.call("POST", f"{PATH}/{own}/associate", 404, json=ours)["error"]["message"]
        assert refused == f"volume {ours[0]} does not exist"
        assert show(site, policy_id) == before


@pytest.fixture
def client(site: Site) -> Any:
    """An SDK client that knows the service's address, its region and an access key, and nothing else."""
    known = site.credentials
    credentials = BasicCredentials(known["access_key"], known["secret_key"]).with_iam_endpoint(known["endpoint"])
    region = Region(known["region"], known["endpoint"])
    return evs.EvsClient.new_builder().with_credentials(credentials).with_region(region).build()


def test_the_sdk_has_all_eight_operations(site: Site, client: evs.EvsClient) -> None:
    """Made, listed, counted, shown, changed, associated, disassociated and deleted by the vendor's client."""
    wanted = evs.CreateSnapshotPolicy(
        name="sdk", repeat_weekdays=["1", "3"], time_points=["1"], retention_days=30, tags={"made": "by-sdk"}
    )
    create = evs.CreateSnapshotPolicyRequestBody(snapshot_policy=wanted)
    made = client.create_auto_snapshot_policy(evs.CreateAutoSnapshotPolicyRequest(body=create)).snapshot_policy
    assert (made.name, made.repeat_weekdays, made.tags) == ("sdk", ["1", "3"], {"made": "by-sdk"})

    query: dict[str, Any] = {"tags": '[{"made":"by-sdk"}]', "tag_key": "made", "name": "sdk", "id": made.id}
    listed = client.list_auto_snapshot_policy(
        evs.ListAutoSnapshotPolicyRequest(**query, limit=10, offset=0, sort_key="created_at", sort_dir="asc")
    ).snapshot_policies
    assert [policy.to_dict() for policy in listed] == [made.to_dict()]
    assert client.count_auto_snapshot_policies(evs.CountAutoSnapshotPoliciesRequest(**query)).count == 1

    volume_ids = new_volumes(site, 2)
    client.associate_auto_snapshot_policy(
        evs.AssociateAutoSnapshotPolicyRequest(snapshot_policy_id=made.id, body=volume_ids)
    )
    client.disassociate_auto_snapshot_policy(
        evs.DisassociateAutoSnapshotPolicyRequest(snapshot_policy_id=made.id, body=volume_ids[:1])
    )
    assert show(site, made.id)["onecut"]["volume_ids"] == volume_ids[1:]

    change = evs.UpdateSnapshotPolicyRequestBody(
        snapshot_policy=evs.UpdateSnapshotPolicy(repeat_interval_days=2, time_points=["0", "23"], retention_days=-1)
    )
    client.update_auto_snapshot_policy(evs.UpdateAutoSnapshotPolicyRequest(snapshot_policy_id=made.id, body=change))
    request = evs.ShowAutoSnapshotPolicyRequest(snapshot_policy_id=made.id)
    shown = client.show_auto_snapshot_policy(request).snapshot_policy
    assert (shown.name, shown.repeat_weekdays, shown.repeat_interval_days) == ("sdk", None, 2)
    assert (shown.time_points, shown.retention_days) == (["0", "23"], -1)

    client.delete_auto_snapshot_policy(evs.DeleteAutoSnapshotPolicyRequest(snapshot_policy_id=made.id))
    with pytest.raises(ClientRequestException) as refused:
        client.show_auto_snapshot_policy(request)
    assert (refused.value.status_code, refused.value.error_code) == (404, "EVS.5404")


def test_a_running_service_takes_and_ends_snapshots_by_itself(tmp_path: Path) -> None:
    """
    On its hour a server's disks are cut into one group, which is gone after its retention.

    The service is down for days between the two, and begins with what it has missed.
    """
    clock = JumpingClock(datetime.now(UTC))  # what tells a token's age is the same clock
    engine = MemoryEngine(clock=clock)  # as a daemon does, it goes on when the service is down
    with running_site(tmp_path, clock=clock, make_engine=lambda *_: engine) as site:
        server_id = new_server(site)
        volume_ids = new_volumes(site, 2, server_id)
        policy_id = make(site, time_points=[str(hour) for hour in range(24)], retention_days=1)
        site.call("POST", f"{PATH}/{policy_id}/associate", 204, json=volume_ids)
        clock.jump(timedelta(hours=1))

        wait_until(lambda: bool(show(site, policy_id)["onecut"]["runs"]), "the first run")
        wait_until(lambda: {share["status"] for share in latest(site, policy_id)} == {"ordered"}, "its snapshots")
        first = group_of(site, latest(site, policy_id)[0]["snapshot_id"])
        wait_until(lambda: group(site, first)["status"] == "available", "the end of the cut")
        assert group(site, first)["server_id"] == server_id
        assert {member["snapshot_type"] for member in members(site, first)} == {"auto"}
        assert {member["id"] for member in members(site, first)} == {
            share["snapshot_id"] for share in latest(site, policy_id)
        }

    clock.jump(timedelta(days=3))
    with running_site(tmp_path, clock=clock, make_engine=lambda *_: engine) as site:
        wait_until(lambda: len(show(site, policy_id)["onecut"]["runs"]) == 2, "the run that was missed")
        wait_until(lambda: groups(site) != [] and first not in groups(site), "the end of the first group")
        (second,) = groups(site)
        wait_until(lambda: group(site, second)["status"] == "available", "the end of the second cut")
        wait_until(lambda: len(engine._points) == 2, "the end of the first group's points")
        assert 'onecut_policy_volumes{status="ordered"} 2.0' in site.client.get("/metrics").text


def latest(site: Site, policy_id: str) -> list[dict[str, Any]]:
    """Return each volume's share of a policy's latest run."""
    shares: list[dict[str, Any]] = show(site, policy_id)["onecut"]["runs"][0]["volumes"]
    return shares


def group_of(site: Site, snapshot_id: str) -> str:
    """Return the group that a snapshot is a member of."""
    found: str = site.call("GET", f"/v5/{{p}}/snapshots/{snapshot_id}", 200)["snapshot"]["snapshot_group_id"]
    return found


def groups(site: Site) -> list[str]:
    """Return the ids of all groups."""
    answer = site.call("GET", "/v5/{p}/snapshot-groups/detail", 200)
    return [each["id"] for each in answer["snapshot_groups"]]
