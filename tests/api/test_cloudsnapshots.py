"""``/v2/{project_id}/cloudsnapshots``: legacy snapshots on the wire, their limits, and what becomes of them."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from orders import attach, new_server, new_volumes, take_group, volume
from running import Site, Tenant, running_site, wait_until

from onecut.engine.memory import MemoryEngine

DETAIL_FIELDS = {
    "id", "status", "name", "description", "created_at", "updated_at", "metadata", "volume_id", "size",
    "os-extended-snapshot-attributes:project_id", "os-extended-snapshot-attributes:progress",
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


def order(site: Tenant, status: int = 202, **wanted: Any) -> Any:
    """Ask for a legacy snapshot."""
    return site.call("POST", "/v2/{p}/cloudsnapshots", status, json={"snapshot": wanted})


def show(site: Tenant, snapshot_id: str) -> dict[str, Any]:
    """Show a legacy snapshot."""
    found: dict[str, Any] = site.call("GET", f"/v2/{{p}}/cloudsnapshots/{snapshot_id}", 200)["snapshot"]
    return found


def take(site: Tenant, volume_id: str, **wanted: Any) -> str:
    """Take a legacy snapshot, and return its id once it is available."""
    snapshot_id: str = order(site, volume_id=volume_id, **wanted)["snapshot"]["id"]
    wait_until(lambda: show(site, snapshot_id)["status"] == "available", "the legacy snapshot")
    return snapshot_id


def listed(site: Tenant, **query: Any) -> dict[str, Any]:
    """List legacy snapshots."""
    page: dict[str, Any] = site.call("GET", "/v2/{p}/cloudsnapshots/detail", 200, params=query)
    return page


def found(site: Tenant, **query: Any) -> list[str]:
    """List legacy snapshots, and return their ids."""
    return [snapshot["id"] for snapshot in listed(site, **query)["snapshots"]]


def gone(site: Tenant, snapshot_id: str) -> bool:
    """Say whether a legacy snapshot can't be found any more."""
    path = f"/v2/{site.project_id}/cloudsnapshots/{snapshot_id}"
    return site.client.get(path).status_code == 404


class TestForms:
    def test_one_is_taken_shown_changed_and_deleted(self, site: Site, disk: str) -> None:
        """Each answer has the documented status and fields, and no job; its name may have 255 bytes."""
        wanted: dict[str, Any] = {"name": "盘" * 85, "description": "d" * 255, "metadata": {"a": "b"}}
        answer = order(site, volume_id=disk, **wanted)
        assert set(answer) == {"snapshot"}
        snapshot_id = answer["snapshot"]["id"]
        assert set(answer["snapshot"]) == DETAIL_FIELDS
        wait_until(lambda: show(site, snapshot_id)["status"] == "available", "the legacy snapshot")

        snapshot = show(site, snapshot_id)
        assert {field: snapshot[field] for field in wanted} == wanted
        assert (snapshot["volume_id"], snapshot["size"]) == (disk, 10)
        assert snapshot["os-extended-snapshot-attributes:project_id"] == site.project_id
        assert snapshot["os-extended-snapshot-attributes:progress"] == "100%"

        body = {"snapshot": {"name": "renamed", "description": ""}}
        changed = site.call("PUT", f"/v2/{{p}}/cloudsnapshots/{snapshot_id}", 200, json=body)["snapshot"]
        assert (changed["name"], changed["description"], changed["metadata"]) == ("renamed", "", {"a": "b"})

        assert site.call("DELETE", f"/v2/{{p}}/cloudsnapshots/{snapshot_id}", 202) is None
        wait_until(lambda: gone(site, snapshot_id), "the end of the legacy snapshot")

    def test_lists_filter_count_and_link(self, site: Site, disk: str) -> None:
        """`count` heeds no paging; a page that was cut links to the next, which begins where it ended."""
        made = [take(site, disk, name=f"name-{number}") for number in range(3)]

        page = listed(site, volume_id=disk, limit="2")
        assert (page["count"], [each["id"] for each in page["snapshots"]]) == (3, [made[2], made[1]])
        assert set(page["snapshots"][0]) == DETAIL_FIELDS | {
            "dedicated_storage_id", "dedicated_storage_name", "service_type",
        }  # fmt: skip
        (link,) = page["snapshots_links"]
        assert link["rel"] == "next"
        rest = site.client.get(link["href"]).json()
        assert ([each["id"] for each in rest["snapshots"]], rest["snapshots_links"]) == ([made[0]], None)
        assert found(site, id=[made[0], made[2], UNKNOWN]) == [made[2], made[0]]
        assert found(site, volume_id=disk, name="name-1", status="available", availability_zone="az1") == [made[1]]
        assert found(site, volume_id=disk, enterprise_project_id="all_granted_eps", service_type="EVS") == made[::-1]
        for query in ({"service_type": "DSS"}, {"dedicated_storage_name": "x"}, {"status": "error"}):
            assert listed(site, volume_id=disk, **query)["count"] == 0

    def test_the_two_kinds_keep_apart(self, site: Site, disk: str) -> None:
        """v5 shows both kinds, a legacy one as `flash` in no chain; v2 knows legacy ones only."""
        answer = site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": disk}})
        site.done(answer)
        legacy_id = take(site, disk)

        assert found(site, volume_id=disk) == [legacy_id]
        error = site.call("GET", f"/v2/{{p}}/cloudsnapshots/{answer['snapshot_id']}", 404)["error"]
        assert error == {"code": "EVS.5404", "message": f"snapshot {answer['snapshot_id']} does not exist"}
        both = site.call("GET", "/v5/{p}/snapshots/detail", 200, params={"volume_id": disk})["snapshots"]
        assert [each["id"] for each in both] == [legacy_id, answer["snapshot_id"]]
        shown = site.call("GET", f"/v5/{{p}}/snapshots/{legacy_id}", 200)["snapshot"]
        assert (shown["category"], shown["snapshot_chains"], shown["incremental"]) == ("flash", [], False)
        assert (shown["onecut"]["legacy"], shown["onecut"]["in_engine"], shown["onecut"]["archived_at"]) == (
            True,
            True,
            None,
        )


class TestEffects:
    def test_a_rollback_gives_the_content_back(self, site: Site, disk: str) -> None:
        """The answer names the volume and no job; its states tell when the content is there. v5 can do it too."""
        assert isinstance(site.engine, MemoryEngine)
        site.engine.write(disk, 0, b"before")
        snapshot_id = take(site, disk)
        site.engine.write(disk, 0, b"after!")

        body = {"rollback": {"volume_id": disk}}
        answer = site.call("POST", f"/v2/{{p}}/cloudsnapshots/{snapshot_id}/rollback", 202, json=body)

        assert answer == {"rollback": {"volume_id": disk}}
        wait_until(lambda: volume(site, disk)["status"] == "available", "the rollback")
        assert site.engine.read(disk, 0, 6) == b"before"
        site.engine.write(disk, 0, b"again!")
        site.done(site.call("POST", f"/v5/{{p}}/snapshots/{snapshot_id}/rollback", 202, json=body))
        assert site.engine.read(disk, 0, 6) == b"before"

    def test_a_volume_is_made_from_one_and_outlives_it(self, site: Site, disk: str) -> None:
        """The new volume has the content of the cut, also after snapshot and source are gone."""
        assert isinstance(site.engine, MemoryEngine)
        site.engine.write(disk, 0, b"before")
        snapshot_id = take(site, disk)
        site.engine.write(disk, 0, b"after!")
        wanted = {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "snapshot_id": snapshot_id}
        answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": wanted})
        site.done(answer)

        site.done(site.call("DELETE", f"/v2/{{p}}/cloudvolumes/{disk}", 200))
        wait_until(lambda: gone(site, snapshot_id), "the end of the legacy snapshot")

        assert site.engine.read(answer["volume_ids"][0], 0, 6) == b"before"

    def test_a_volume_takes_its_legacy_snapshots_with_it(self, site: Site, disk: str) -> None:
        """They go, the standard one stays; the engine keeps no point of theirs."""
        legacy_ids = [take(site, disk), take(site, disk)]
        answer = site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": disk}})
        site.done(answer)

        site.done(site.call("DELETE", f"/v2/{{p}}/cloudvolumes/{disk}", 200))

        wait_until(lambda: all(gone(site, each) for each in legacy_ids), "the end of the legacy snapshots")
        both = site.call("GET", "/v5/{p}/snapshots/detail", 200, params={"volume_id": disk})["snapshots"]
        assert [each["id"] for each in both] == [answer["snapshot_id"]]

    def test_a_server_that_takes_its_volumes_takes_their_legacy_snapshots(self, site: Site) -> None:
        """Deleting a server with `delete_volume` is deleting its volumes."""
        server_id = new_server(site)
        (disk,) = new_volumes(site, 1, server_id)
        snapshot_id = take(site, disk, force=True)

        body = {"servers": [{"id": server_id}], "delete_volume": True}
        site.done(site.call("POST", "/v1/{p}/cloudservers/delete", 200, json=body))

        wait_until(lambda: gone(site, snapshot_id), "the end of the legacy snapshot")

    def test_one_may_be_taken_while_a_standard_one_is_created(self, site: Site, disk: str) -> None:
        """The kinds have limits of their own, and neither waits for the other; groups go on as before."""
        ordered = site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": disk}})

        take(site, disk)

        site.done(ordered)
        take_group(site, [disk])


class TestRefusals:
    @pytest.mark.parametrize(
        ("wanted", "status", "code", "words"),
        [
            ({"volume_id": None}, 400, "EVS.1002", ["volume_id"]),
            ({"volume_id": "nonsense"}, 400, "EVS.1002", ["volume_id", "nonsense"]),
            ({}, 404, "EVS.5404", [UNKNOWN]),
            ({"name": "盘" * 86}, 400, "EVS.5400", ["name", "255", "258"]),
            ({"description": "x" * 256}, 400, "EVS.5400", ["description", "255", "256"]),
            ({"metadata": {"a": None}}, 400, "EVS.5400", ["metadata", "a"]),
            ({"force": "yes"}, 400, "EVS.5400", ["force", "yes"]),
        ],
    )
    def test_a_wrong_field_of_a_creation_is_named(
        self, site: Site, wanted: dict[str, Any], status: int, code: str, words: list[str]
    ) -> None:
        """Status and code are the documented ones, the message names field, value and limit, nothing is made."""
        before = listed(site)["count"]

        error = order(site, status, **({"volume_id": UNKNOWN} | wanted))["error"]

        assert error["code"] == code
        assert [word for word in words if word not in error["message"]] == []
        assert listed(site)["count"] == before

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"status": "melting"}, "EVS.1031"),
            ({"availability_zone": "mars"}, "EVS.1041"),
            ({"enterprise_project_id": "x"}, "EVS.2059"),
        ],
    )
    def test_a_wrong_filter_is_refused(self, site: Site, query: dict[str, str], code: str) -> None:
        """400 with the documented code, naming the parameter."""
        error = site.call("GET", "/v2/{p}/cloudsnapshots/detail", 400, params=query)["error"]
        assert (error["code"], next(iter(query)) in error["message"]) == (code, True)

    def test_the_eighth_of_a_volume_is_refused(self, site: Site, disk: str) -> None:
        """Seven for each volume; standard snapshots have a limit of their own."""
        for _ in range(7):
            take(site, disk)

        error = order(site, 400, volume_id=disk)["error"]

        assert error["message"] == f"volume {disk} has 7 legacy snapshots; the limit is 7"
        assert listed(site, volume_id=disk)["count"] == 7
        site.done(site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": disk}}))

    def test_an_attached_volume_needs_force(self, site: Site, disk: str) -> None:
        """Without it the message says so; with it the snapshot is taken while the volume is attached."""
        attach(site, disk, new_server(site))

        error = order(site, 400, volume_id=disk)["error"]

        assert error["message"] == f"force: must be true for volume {disk}, which is in-use"
        assert found(site, volume_id=disk) == []
        take(site, disk, force=True)

    def test_129_volumes_of_one_are_refused(self, site: Site, disk: str) -> None:
        """128 volumes may be there at the same time that were made from one legacy snapshot."""
        snapshot_id = take(site, disk)
        wanted = {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "snapshot_id": snapshot_id}
        body = {"volume": wanted | {"count": 100}}
        site.done(site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body))

        body = {"volume": wanted | {"count": 29}}
        error = site.call("POST", "/v2.1/{p}/cloudvolumes", 400, json=body)["error"]

        assert error["message"] == (
            f"snapshot_id: 100 volumes were made from legacy snapshot {snapshot_id}; the limit is 128"
        )
        site.done(site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": wanted | {"count": 28}}))

    def test_a_foreign_one_is_as_good_as_none(self, site: Site, disk: str) -> None:
        """Every call answers a stranger as if there were no such snapshot, and leaves it as it is."""
        snapshot_id = take(site, disk)
        before = show(site, snapshot_id)
        stranger = site.second_tenant()

        for method, tail, body in (
            ("GET", "", None),
            ("PUT", "", {"snapshot": {"name": "x"}}),
            ("DELETE", "", None),
            ("POST", "/rollback", {"rollback": {"volume_id": disk}}),
        ):
            error = stranger.call(method, f"/v2/{{p}}/cloudsnapshots/{snapshot_id}{tail}", 404, json=body)["error"]
            assert error == {"code": "EVS.5404", "message": f"snapshot {snapshot_id} does not exist"}

        assert listed(stranger)["count"] == 0
        assert show(site, snapshot_id) == before

    def test_a_wrong_rollback_is_refused(self, site: Site, disk: str) -> None:
        """Another volume than the source, and an attached one."""
        snapshot_id = take(site, disk)
        path = f"/v2/{{p}}/cloudsnapshots/{snapshot_id}/rollback"
        error = site.call("POST", path, 400, json={"rollback": {"volume_id": UNKNOWN}})["error"]
        assert disk in error["message"]
        attach(site, disk, new_server(site))

        error = site.call("POST", path, 400, json={"rollback": {"volume_id": disk}})["error"]

        assert "in-use" in error["message"]
        assert show(site, snapshot_id)["status"] == "available"
