"""The recycle bin on the wire: where deleted volumes are, when they end, and how they come back."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from orders import (
    attach,
    delete_volumes,
    detach,
    new_server,
    new_volumes,
    order_server_deletion,
    take_group,
    volume,
)
from running import Site, running_site, wait_until

from onecut.api.examples import BODIES
from onecut.clock import JumpingClock, time_text
from onecut.db.volumes import Volume
from onecut.engine.memory import MemoryEngine

BIRTH = datetime(2026, 1, 15, 22, 10, 5, tzinfo=UTC)
UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"
BIN = "/v3/{p}/recycle-bin-volumes"
KEYS = {
    "id", "name", "description", "status", "attachments", "multiattach", "size", "metadata", "bootable", "tags",
    "availability_zone", "created_at", "updated_at", "service_type", "volume_type", "enterprise_project_id",
    "plan_delete_at", "pre_deleted_at", "dedicated_storage_id", "dedicated_storage_name", "volume_image_metadata",
    "wwn",
}  # fmt: skip


@pytest.fixture
def clock() -> JumpingClock:
    """The service's clock."""
    return JumpingClock(BIRTH)


@pytest.fixture
def site(tmp_path: Path, clock: JumpingClock) -> Iterator[Site]:
    """A running service on a clock that jumps."""
    with running_site(tmp_path, clock=clock) as site:
        yield site


def switch_on(site: Site, **times: int) -> None:
    site.call("PUT", f"{BIN}/policy", 204, json={"switch": True} | times)


def binned(site: Site, **query: Any) -> dict[str, Any]:
    answer: dict[str, Any] = site.call("GET", f"{BIN}/detail", 200, params=query)
    return answer


def bin_ids(site: Site, **query: Any) -> list[str]:
    return [found["id"] for found in binned(site, **query)["volumes"]]


def old_volumes(site: Site, clock: JumpingClock, count: int = 1) -> list[str]:
    """Make volumes that are old enough for the bin, which is on."""
    switch_on(site)
    volume_ids = new_volumes(site, count)
    age(site, clock, days=7)
    return volume_ids


def age(site: Site, clock: JumpingClock, **by: int) -> None:
    """Let time pass; the token would expire, so it is renewed as a client does."""
    clock.jump(timedelta(**by))
    sign_in_again(site)


def sign_in_again(site: Site) -> None:
    told = site.credentials
    user = {"name": told["user_name"], "password": told["password"], "domain": {"name": told["domain_name"]}}
    identity = {"methods": ["password"], "password": {"user": user}}
    scope = {"project": {"name": told["project_name"]}}
    answer = site.client.post("/v3/auth/tokens", json={"auth": {"identity": identity, "scope": scope}})
    site.client.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]


def refused(site: Site, method: str, path: str, status: int, code: str, **options: Any) -> str:
    (error,) = site.call(method, path, status, **options).values()
    assert error["code"] == code, error
    return str(error["message"])


class TestPolicy:
    def test_it_is_off_until_somebody_switches_it_on(self, site: Site, clock: JumpingClock) -> None:
        """The defaults are EVS's; a volume that is deleted then is gone."""
        assert site.call("GET", f"{BIN}/policy", 200) == {"switch": False, "threshold_time": 7, "keep_time": 7}
        volume_ids = new_volumes(site, 1)
        age(site, clock, days=8)
        delete_volumes(site, volume_ids)
        assert bin_ids(site) == []
        assert volume_ids[0] not in engine(site)._volumes

    def test_an_update_answers_nothing_and_changes_only_what_it_names(self, site: Site) -> None:
        """Status 204 without a body; absent fields stay."""
        answer = site.client.put(f"/v3/{site.project_id}/recycle-bin-volumes/policy", json={"switch": True})
        assert (answer.status_code, answer.content) == (204, b"")
        site.call("PUT", f"{BIN}/policy", 204, json={"keep_time": 365, "threshold_time": 1000})
        site.call("PUT", f"{BIN}/policy", 204, json={"threshold_time": 1})
        assert site.call("GET", f"{BIN}/policy", 200) == {"switch": True, "threshold_time": 1, "keep_time": 365}

    def test_days_out_of_their_limits_are_refused(self, site: Site) -> None:
        """400 EVS.5400 with field, limit and value; the policy stays as it was."""
        for body, words in (
            ({"threshold_time": 0}, "threshold_time: input should be greater than or equal to 1; got 0"),
            ({"threshold_time": 1001}, "threshold_time: input should be less than or equal to 1000; got 1001"),
            ({"keep_time": 0}, "keep_time: input should be greater than or equal to 1; got 0"),
            ({"keep_time": 366}, "keep_time: input should be less than or equal to 365; got 366"),
            ({"switch": "true"}, "switch: input should be a valid boolean; got 'true'"),
        ):
            assert words in refused(site, "PUT", f"{BIN}/policy", 400, "EVS.5400", json={"switch": True} | body)
        assert site.call("GET", f"{BIN}/policy", 200) == {"switch": False, "threshold_time": 7, "keep_time": 7}

    def test_each_project_has_its_own(self, site: Site) -> None:
        """A neighbour's switch is none of ours."""
        switch_on(site)
        other = site.second_tenant()
        assert other.call("GET", f"{BIN}/policy", 200)["switch"] is False


class TestDeletion:
    def test_a_deleted_volume_is_in_the_bin_and_nowhere_else(self, site: Site, clock: JumpingClock) -> None:
        """Its deletion's job has succeeded; lists, shows, counts and tags do not know it, the bin tells all of it."""
        gone, stays = old_volumes(site, clock, 2)
        answer = site.call("DELETE", f"/v2/{{p}}/cloudvolumes/{gone}", 200)
        assert site.done(answer)["job_type"] == "deleteVolume"

        assert refused(site, "GET", f"/v2/{{p}}/cloudvolumes/{gone}", 404, "EVS.5404")
        listed = site.call("GET", "/v2/{p}/cloudvolumes/detail", 200)
        assert (listed["count"], [found["id"] for found in listed["volumes"]]) == (1, [stays])
        shown = site.call("GET", f"{BIN}/{gone}", 200)["volume"]
        assert set(shown) == KEYS
        assert (shown["id"], shown["status"], shown["size"]) == (gone, "pending-destroy", 10)
        assert shown["pre_deleted_at"] == time_text(clock.now())
        assert shown["plan_delete_at"] == time_text(clock.now() + timedelta(days=7))
        assert binned(site) == {"count": 1, "volumes": [shown]}
        assert refused(site, "GET", f"{BIN}/{stays}", 404, "EVS.5404")

    def test_a_young_volume_is_destroyed(self, site: Site, clock: JumpingClock) -> None:
        """Only one that is as old as the policy says goes to the bin."""
        switch_on(site, threshold_time=2)
        young, old = new_volumes(site, 2)
        age(site, clock, days=2, seconds=-1)
        delete_volumes(site, [young])
        clock.jump(timedelta(seconds=1))
        delete_volumes(site, [old])
        assert bin_ids(site) == [old]

    def test_what_is_in_the_bin_is_as_unknown_as_what_never_was(self, site: Site, clock: JumpingClock) -> None:
        """Every call answers for it as for an id that nobody ever had; a rollback, as after a deletion."""
        server_id = new_server(site)
        [gone] = old_volumes(site, clock)
        snapshot_id = take_single(site, gone)
        delete_volumes(site, [gone])

        def answers(volume_id: str) -> list[str]:
            calls: list[tuple[str, str, Any]] = [
                ("POST", f"/v1/{{p}}/cloudservers/{server_id}/attachvolume",
                 {"volumeAttachment": {"volumeId": volume_id}}),
                ("POST", "/v5/{p}/snapshot-groups", {"snapshot_group": {"volume_ids": [volume_id]}}),
                ("POST", "/v5/{p}/snapshots", {"snapshot": {"volume_id": volume_id}}),
                ("POST", f"/v2.1/{{p}}/cloudvolumes/{volume_id}/action", {"os-extend": {"new_size": 20}}),
                ("PUT", f"/v2/{{p}}/cloudvolumes/{volume_id}", {"volume": {"name": "new"}}),
                ("POST", "/v2/{p}/os-volume-transfer", {"transfer": {"volume_id": volume_id}}),
                ("DELETE", f"/v2/{{p}}/cloudvolumes/{volume_id}", None),
            ]  # fmt: skip
            messages = [refused(site, method, path, 404, "EVS.5404", json=body) for method, path, body in calls]
            return [message.replace(volume_id, "") for message in messages]

        assert answers(gone) == answers(UNKNOWN)
        path = f"/v5/{{p}}/snapshots/{snapshot_id}/rollback"
        message = refused(site, "POST", path, 400, "EVS.5400", json={"rollback": {"volume_id": gone}})
        assert message == f"volume {gone}, the source of snapshot {snapshot_id}, was deleted"
        assert bin_ids(site) == [gone]

    def test_it_keeps_its_policies_and_may_leave_them(self, site: Site, clock: JumpingClock) -> None:
        """In the bin as outside of it; a volume that nobody has is 404."""
        kept, left = old_volumes(site, clock, 2)
        path = "/v5/{p}/snapshot-policies"
        policy = site.call("POST", path, 201, json=BODIES["CreatePolicy"])["snapshot_policy"]["id"]
        site.call("POST", f"{path}/{policy}/associate", 204, json=[kept, left])
        delete_volumes(site, [kept, left])

        site.call("POST", f"{path}/{policy}/disassociate", 204, json=[left])
        assert refused(site, "POST", f"{path}/{policy}/disassociate", 404, "EVS.5404", json=[kept, UNKNOWN])
        assert site.call("GET", f"{path}/{policy}", 200)["snapshot_policy"]["onecut"]["volume_ids"] == [kept]

    def test_a_creation_that_is_repeated_does_not_answer_with_it(self, site: Site) -> None:
        """EVS.2222, as for a volume that was deleted for good; nothing is made."""
        site.call("PUT", f"{BIN}/policy", 204, json={"switch": True, "threshold_time": 1})
        body = {"volume": {"availability_zone": "az1", "volume_type": "SSD", "size": 10}}
        named = {"json": body, "headers": {"X-Client-Token": UNKNOWN}}
        answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, **named)
        site.done(answer)
        with site.database.writing() as session:
            session.get_one(Volume, answer["volume_ids"][0]).created_at -= timedelta(days=1)
        delete_volumes(site, answer["volume_ids"])

        message = refused(site, "POST", "/v2.1/{p}/cloudvolumes", 400, "EVS.2222", **named)
        assert message == f"X-Client-Token: of the 1 volumes that {UNKNOWN} made, 0 are left"
        assert bin_ids(site) == answer["volume_ids"]

    def test_it_is_shown_as_bootable_as_it_was(self, site: Site, clock: JumpingClock) -> None:
        """The flag is the volume's, there as here."""
        [gone] = old_volumes(site, clock)
        path = f"/v3/{site.project_id}/volumes/{gone}/action"
        assert site.client.post(path, json={"os-set_bootable": {"bootable": True}}).status_code == 200
        delete_volumes(site, [gone])

        assert site.call("GET", f"{BIN}/{gone}", 200)["volume"]["bootable"] == "true"

    def test_its_snapshots_stay_of_use(self, site: Site, clock: JumpingClock) -> None:
        """A volume is made from a snapshot of a volume in the bin, and holds what that held."""
        [gone] = old_volumes(site, clock)
        write(site, gone, b"kept")
        group_id = take_group(site, [gone])
        delete_volumes(site, [gone])
        answer = site.call("POST", f"/v5/{{p}}/snapshot-groups/{group_id}/volumes", 202, json={"volumes": {}})
        site.done(answer)
        assert read(site, answer["volume_ids"][0], 4) == b"kept"

    def test_its_legacy_snapshots_end_with_it_and_not_before(self, site: Site, clock: JumpingClock) -> None:
        """In the bin they are listed, but not rolled back to; they go when the volume is destroyed."""
        [volume_id] = old_volumes(site, clock)
        body: Any = {"snapshot": {"volume_id": volume_id}}
        made = site.call("POST", "/v2/{p}/cloudsnapshots", 202, json=body)["snapshot"]["id"]
        path = f"/v2/{{p}}/cloudsnapshots/{made}"
        wait_until(lambda: site.call("GET", path, 200)["snapshot"]["status"] == "available", "the legacy snapshot")
        before = site.call("GET", path, 200)

        delete_volumes(site, [volume_id])
        body = {"rollback": {"volume_id": volume_id}}
        assert site.call("POST", f"{path}/rollback", 400, json=body)["error"]["code"] == "EVS.5400"
        assert site.call("GET", path, 200) == before
        assert bin_ids(site) == [volume_id]

        site.call("DELETE", f"{BIN}/{volume_id}", 204)
        wait_until(lambda: bin_ids(site) == [], "the end of the volume")
        url = path.replace("{p}", site.project_id)
        wait_until(lambda: site.client.get(url).status_code == 404, "the end of the legacy snapshot")

    def test_unsubscribed_ones_go_there_too(self, site: Site, clock: JumpingClock) -> None:
        """Each by its age; the job ends when the young one is destroyed."""
        old = old_volumes(site, clock)
        young = new_volumes(site, 1)

        [answer] = site.call("POST", "/v2/{p}/cloudvolumes/unsubscribe", 202, json={"volume_ids": old + young})
        site.done(answer)

        assert bin_ids(site) == old
        assert site.call("GET", "/v2/{p}/cloudvolumes/detail", 200)["volumes"] == []

    def test_volumes_go_to_the_bin_with_their_server(self, site: Site, clock: JumpingClock) -> None:
        """`delete_volume` puts the old ones there; the young one is destroyed, the shared one stays in use."""
        switch_on(site)
        first, second = new_server(site, "first"), new_server(site, "second")
        [old] = new_volumes(site, 1, first)
        age(site, clock, days=7)
        [young] = new_volumes(site, 1, first)
        [elsewhere] = new_volumes(site, 1, second)
        site.done(order_server_deletion(site, first, with_volumes=True))
        assert bin_ids(site) == [old]
        assert site.call("GET", f"{BIN}/{old}", 200)["volume"]["attachments"] == []
        listed = site.call("GET", "/v2/{p}/cloudvolumes/detail", 200)["volumes"]
        assert [found["id"] for found in listed] == [elsewhere]
        refused(site, "GET", f"{BIN}/{young}", 404, "EVS.5404")


class TestList:
    def test_filters_and_pages(self, site: Site, clock: JumpingClock) -> None:
        """Each filter alone; pages neither repeat nor lose; the count is that of all pages."""
        volume_ids = old_volumes(site, clock, 3)
        delete_volumes(site, volume_ids)
        every = bin_ids(site)
        assert sorted(every) == sorted(volume_ids)
        pages = [binned(site, limit=1, offset=offset) for offset in range(4)]
        assert [page["count"] for page in pages] == [3] * 4
        assert [found["id"] for page in pages for found in page["volumes"]] == every
        assert [found["name"] for found in binned(site, name="disk-0002")["volumes"]] == ["disk-0002"]
        assert len(bin_ids(site, status="pending-destroy")) == 3
        assert bin_ids(site, status="available") == []
        assert len(bin_ids(site, availability_zone="az1", service_type="EVS")) == 3
        assert bin_ids(site, service_type="DSS") == []

    def test_a_wrong_filter_is_refused(self, site: Site) -> None:
        """As in the list of volumes."""
        wrong: list[tuple[dict[str, Any], str, str]] = [
            ({"limit": 0}, "EVS.1023", "limit"),
            ({"status": "lost"}, "EVS.1031", "'lost' is no state"),
            ({"availability_zone": "az9"}, "EVS.1041", "'az9' is not one of az1"),
            ({"name": "x" * 65}, "EVS.5400", "at most 64 characters"),
        ]
        for query, code, words in wrong:
            assert words in refused(site, "GET", f"{BIN}/detail", 400, code, params=query)


class TestEnd:
    def test_it_is_destroyed_on_its_day_and_not_before(self, site: Site, clock: JumpingClock) -> None:
        """By the clock, in the background."""
        [gone] = old_volumes(site, clock)
        delete_volumes(site, [gone])
        age(site, clock, days=7, seconds=-1)
        assert site.call("GET", f"{BIN}/{gone}", 200)["volume"]["status"] == "pending-destroy"
        clock.jump(timedelta(seconds=1))
        wait_until(lambda: bin_ids(site) == [], "the end of the volume")
        assert gone not in engine(site)._volumes

    def test_it_is_destroyed_before_its_time_when_somebody_asks(self, site: Site, clock: JumpingClock) -> None:
        """Status 204 without a body; the data goes, and it can't be brought back."""
        [gone] = old_volumes(site, clock)
        delete_volumes(site, [gone])
        answer = site.client.delete(f"/v3/{site.project_id}/recycle-bin-volumes/{gone}")
        assert (answer.status_code, answer.content) == (204, b"")
        wait_until(lambda: bin_ids(site) == [], "the end of the volume")
        assert gone not in engine(site)._volumes
        refused(site, "POST", f"{BIN}/{gone}/revert", 404, "EVS.5404")

    def test_it_comes_back_as_it_was(self, site: Site, clock: JumpingClock) -> None:
        """`available`, with data, tags and snapshots; it can be attached, and its day passes without harm."""
        body = {"volume": {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "tags": {"team": "db"}}}
        answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body)
        site.done(answer)
        [gone] = answer["volume_ids"]
        write(site, gone, b"kept")
        snapshot_id = take_single(site, gone)
        switch_on(site)
        age(site, clock, days=7)
        delete_volumes(site, [gone])
        answer = site.client.post(f"/v3/{site.project_id}/recycle-bin-volumes/{gone}/revert")
        assert (answer.status_code, answer.content) == (204, b"")

        shown = volume(site, gone)
        assert (shown["status"], shown["tags"], bin_ids(site)) == ("available", {"team": "db"}, [])
        assert read(site, gone, 4) == b"kept"
        write(site, gone, b"lost")
        path = f"/v5/{{p}}/snapshots/{snapshot_id}/rollback"
        site.done(site.call("POST", path, 202, json={"rollback": {"volume_id": gone}}))
        assert read(site, gone, 4) == b"kept"
        age(site, clock, days=400)
        attach(site, gone, new_server(site))
        detach(site, gone)

    def test_a_foreign_volume_is_as_unknown_as_one_that_never_was(self, site: Site, clock: JumpingClock) -> None:
        """404 in the same words; ours stays in the bin."""
        [ours] = old_volumes(site, clock)
        delete_volumes(site, [ours])
        other = site.second_tenant()
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/revert")):
            answers = [
                other.call(method, f"{BIN}/{volume_id}{path}", 404)["error"]["message"].replace(volume_id, "")
                for volume_id in (ours, UNKNOWN)
            ]
            assert answers[0] == answers[1]
        assert other.call("GET", f"{BIN}/detail", 200) == {"count": 0, "volumes": []}
        assert bin_ids(site) == [ours]


def test_what_was_due_while_the_service_was_down_is_destroyed_at_its_start(tmp_path: Path) -> None:
    """The clock jumped over the day; the volume that was not due is there."""
    clock = JumpingClock(BIRTH)
    with running_site(tmp_path, clock=clock) as site:
        due, later = old_volumes(site, clock, 2)
        delete_volumes(site, [due])
        site.call("PUT", f"{BIN}/policy", 204, json={"keep_time": 300})
        delete_volumes(site, [later])
    clock.jump(timedelta(days=100))
    with running_site(tmp_path, clock=clock) as site:
        wait_until(lambda: bin_ids(site) == [later], "the end of what was due")


def take_single(site: Site, volume_id: str) -> str:
    answer = site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": volume_id}})
    site.done(answer)
    return str(answer["snapshot_id"])


def engine(site: Site) -> MemoryEngine:
    assert isinstance(site.engine, MemoryEngine)
    return site.engine


def write(site: Site, volume_id: str, content: bytes) -> None:
    engine(site).write(volume_id, 0, content)


def read(site: Site, volume_id: str, length: int) -> bytes:
    return engine(site).read(volume_id, 0, length)
