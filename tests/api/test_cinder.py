"""Cinder's paths on the wire: forms, error bodies, microversions, metadata and actions, under v2 and v3 alike."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from orders import attach, new_server, new_volumes, volume
from running import Site, Tenant, running_site, wait_until
from sqlalchemy import update

from onecut.clock import SystemClock
from onecut.db.volumes import Volume
from onecut.service import quotas

VOLUME_FIELDS = {
    "id", "name", "description", "status", "size", "volume_type", "availability_zone", "attachments", "bootable",
    "multiattach", "metadata", "snapshot_id", "source_volid", "created_at", "updated_at", "links", "encrypted",
    "user_id", "consistencygroup_id", "replication_status", "migration_status", "os-vol-tenant-attr:tenant_id",
    "os-vol-host-attr:host", "os-vol-mig-status-attr:migstat", "os-vol-mig-status-attr:name_id",
}  # fmt: skip
"""What Cinder shows of a volume at microversion 3.0."""

UNKNOWN = str(uuid4())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for all tests here; none relies on what another left."""
    with running_site(tmp_path_factory.mktemp("data")) as site:
        yield site


@pytest.fixture(params=["v2", "v3"])
def root(request: pytest.FixtureRequest) -> str:
    """Where Cinder's paths begin, in each of its versions."""
    return f"/{request.param}/{{p}}"


@pytest.fixture
def disk(site: Site) -> str:
    """A new volume of 10 GiB."""
    (volume_id,) = new_volumes(site, 1)
    return volume_id


def create(site: Tenant, root: str = "/v3/{p}", status: int = 202, **wanted: Any) -> Any:
    """Ask for a volume."""
    return site.call("POST", f"{root}/volumes", status, json={"volume": wanted})


def shown(site: Tenant, kind: str, resource_id: str) -> dict[str, Any]:
    """Show a volume or a snapshot."""
    found: dict[str, Any] = site.call("GET", f"/v3/{{p}}/{kind}s/{resource_id}", 200)[kind]
    return found


def made(site: Tenant, kind: str, answer: dict[str, Any]) -> dict[str, Any]:
    """Wait until a volume or a snapshot of an answer is available, and return it."""
    resource_id = answer[kind]["id"]
    wait_until(lambda: shown(site, kind, resource_id)["status"] == "available", f"{kind} {resource_id}")
    return shown(site, kind, resource_id)


def act(site: Tenant, volume_id: str, status: int, **action: Any) -> Any:
    """Ask for an action on a volume; an underscore in a name stands for its first dash."""
    body = {name.replace("_", "-", 1): value for name, value in action.items()}
    return site.call("POST", f"/v3/{{p}}/volumes/{volume_id}/action", status, json=body)


def limit(site: Site, tenant: Tenant, **limits: int) -> None:
    """Set quotas of a project."""
    with site.database.writing() as session:
        for resource, most in limits.items():
            quotas.set_limit(session, tenant.project_id, resource, most)


def gone(site: Tenant, kind: str, resource_id: str) -> bool:
    """Say whether a volume or a snapshot can't be found any more."""
    return site.client.get(f"/v3/{site.project_id}/{kind}s/{resource_id}").status_code == 404


class TestVolumes:
    def test_one_is_made_shown_changed_and_deleted(self, site: Site, root: str) -> None:
        """Each answer has Cinder's status and fields; what is not given gets a default."""
        answer = create(site, root, size=10, name="n", description="d", metadata={"a": "b"}, imageRef=None)
        assert set(answer) == {"volume"}
        assert VOLUME_FIELDS - set(answer["volume"]) == set()
        found = made(site, "volume", answer)
        assert (found["name"], found["description"], found["metadata"]) == ("n", "d", {"a": "b"})
        assert (found["size"], found["volume_type"], found["availability_zone"]) == (10, "GPSSD", "az1")
        own = answer["volume"]["links"][0]["href"]
        assert site.client.get(own).json()["volume"]["id"] == found["id"]

        body = {"volume": {"name": "renamed"}}
        changed = site.call("PUT", f"{root}/volumes/{found['id']}", 200, json=body)["volume"]
        assert (changed["name"], changed["description"]) == ("renamed", "d")
        assert volume(site, found["id"])["name"] == "renamed"

        assert site.call("DELETE", f"{root}/volumes/{found['id']}", 202) is None
        wait_until(lambda: gone(site, "volume", found["id"]), "the end of the volume")

    def test_a_type_may_be_named_by_its_id(self, site: Site) -> None:
        """As Cinder's clients do that looked it up; the type of a volume is shown by name."""
        types = {each["name"]: each["id"] for each in site.call("GET", "/v3/{p}/types", 200)["volume_types"]}

        assert create(site, size=10, volume_type=types["ESSD"])["volume"]["volume_type"] == "ESSD"
        assert create(site, size=10, volume_type="SSD")["volume"]["volume_type"] == "SSD"
        shown_type = site.call("GET", f"/v3/{{p}}/types/{types['SSD']}", 200)["volume_type"]
        assert (shown_type["name"], shown_type["is_public"]) == ("SSD", True)
        assert site.call("GET", "/v2/{p}/types/default", 200)["volume_type"]["name"] == "GPSSD"

    def test_one_from_a_snapshot_has_what_is_not_given_from_it(self, site: Site, disk: str) -> None:
        """Size, type and zone are the source's."""
        answer = site.call("POST", "/v3/{p}/snapshots", 202, json={"snapshot": {"volume_id": disk}})
        snapshot = made(site, "snapshot", answer)

        found = made(site, "volume", create(site, snapshot_id=snapshot["id"]))

        assert (found["size"], found["volume_type"], found["snapshot_id"]) == (10, "SSD", snapshot["id"])

    def test_one_from_a_snapshot_is_as_fast_as_its_source(self, site: Site) -> None:
        """Cinder's call has no field for IOPS; a type that is named must be the snapshot's all the same."""
        fast = {"availability_zone": "az1", "volume_type": "GPSSD2", "size": 10, "iops": 3000, "throughput": 125}
        source = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": fast})
        site.done(source)
        body = {"snapshot": {"volume_id": source["volume_ids"][0]}}
        snapshot = made(site, "snapshot", site.call("POST", "/v3/{p}/snapshots", 202, json=body))

        for volume_type in (None, "GPSSD2"):
            answer = create(site, snapshot_id=snapshot["id"], volume_type=volume_type)
            found = made(site, "volume", answer)
            chosen = volume(site, found["id"])
            assert (chosen["iops"]["total_val"], chosen["throughput"]["total_val"]) == (3000, 125)
        fault = create(site, status=400, snapshot_id=snapshot["id"], volume_type="SSD")["badRequest"]
        assert fault["code"] == "EVS.2096"

    def test_lists_filter_and_link(self, site: Site, root: str) -> None:
        """A page that was cut links to the next; a filter by metadata may be in Python's quotes or JSON's."""
        mark = str(uuid4())
        ids = [made(site, "volume", create(site, size=size, metadata={"m": mark}))["id"] for size in (12, 10, 11)]

        def listed(path: str, **query: str) -> Any:
            return site.call("GET", f"{root}/{path}", 200, params=query)

        page = listed("volumes/detail", metadata=f"{{'m': '{mark}'}}", sort="size:asc", limit="2")
        assert [each["id"] for each in page["volumes"]] == [ids[1], ids[2]]
        (link,) = page["volumes_links"]
        assert link["rel"] == "next"
        rest = site.client.get(link["href"]).json()
        assert [each["id"] for each in rest["volumes"]] == [ids[0]]
        assert "volumes_links" not in rest
        names = listed("volumes", metadata=f'{{"m": "{mark}"}}', sort_key="size", sort_dir="desc", all_tenants="1")
        assert [each["id"] for each in names["volumes"]] == [ids[0], ids[2], ids[1]]
        assert set(names["volumes"][0]) == {"id", "name", "links"}

    def test_the_list_tells_bootable_ones_from_others(self, site: Site, root: str) -> None:
        """In any of the spellings of a truth."""
        mark = str(uuid4())
        plain, bootable = [made(site, "volume", create(site, size=10, name=mark))["id"] for _ in range(2)]
        act(site, bootable, 200, os_set_bootable={"bootable": True})

        for spelling, expected in (("True", [bootable]), ("true", [bootable]), ("false", [plain])):
            query = {"name": mark, "bootable": spelling}
            found = site.call("GET", f"{root}/volumes/detail", 200, params=query)["volumes"]
            assert [each["id"] for each in found] == expected
        fault = site.call("GET", f"{root}/volumes", 400, params={"bootable": "perhaps"})["badRequest"]
        assert "bootable" in fault["message"]

    def test_actions_extend_flag_and_delete(self, site: Site, disk: str) -> None:
        """Each has its effect, and the documented status without a body."""
        assert act(site, disk, 202, os_extend={"new_size": 12}) is None
        wait_until(lambda: shown(site, "volume", disk)["size"] == 12, "the larger size")
        assert act(site, disk, 200, os_set_bootable={"bootable": True}) is None
        assert (shown(site, "volume", disk)["bootable"], volume(site, disk)["bootable"]) == ("true", "true")
        assert act(site, disk, 202, os_update_readonly_flag={"readonly": False}) is None
        assert act(site, disk, 202, os_force_delete=None) is None
        wait_until(lambda: gone(site, "volume", disk), "the end of the volume")

    @pytest.mark.parametrize("by", ["name", "id"])
    def test_one_gets_another_type(self, site: Site, disk: str, root: str, by: str) -> None:
        """Named by name or id, attached or not, whatever is said of migration."""
        types = {each["name"]: each["id"] for each in site.call("GET", "/v3/{p}/types", 200)["volume_types"]}
        attach(site, disk, new_server(site))
        wanted = {"new_type": "ESSD" if by == "name" else types["ESSD"], "migration_policy": "on-demand"}

        site.call("POST", f"{root}/volumes/{disk}/action", 202, json={"os-retype": wanted})

        assert shown(site, "volume", disk)["volume_type"] == "ESSD"
        wait_until(lambda: shown(site, "volume", disk)["status"] == "in-use", "the end of the change")


class TestSnapshots:
    def test_one_is_taken_shown_changed_and_deleted(self, site: Site, disk: str, root: str) -> None:
        """It is a legacy snapshot of EVS: the cloudsnapshots calls know it too."""
        wanted = {"volume_id": disk, "name": "n", "description": "d", "metadata": {"a": "b"}, "force": False}
        found = made(site, "snapshot", site.call("POST", f"{root}/snapshots", 202, json={"snapshot": wanted}))
        assert (found["name"], found["metadata"], found["size"]) == ("n", {"a": "b"}, 10)
        assert found == site.call("GET", f"/v2/{{p}}/cloudsnapshots/{found['id']}", 200)["snapshot"]
        for path in ("snapshots", "snapshots/detail"):
            page = site.call("GET", f"{root}/{path}", 200, params={"volume_id": disk, "status": "available"})
            assert page == {"snapshots": [found]}

        body = {"snapshot": {"name": "renamed"}}
        assert site.call("PUT", f"{root}/snapshots/{found['id']}", 200, json=body)["snapshot"]["name"] == "renamed"

        assert site.call("DELETE", f"{root}/snapshots/{found['id']}", 202) is None
        wait_until(lambda: gone(site, "snapshot", found["id"]), "the end of the snapshot")

    def test_one_is_rolled_back_and_deleted_by_force(self, site: Site, disk: str, root: str) -> None:
        """The rollback is EVS's own path beside Cinder's; deleting by force is deleting."""
        answer = site.call("POST", f"{root}/snapshots", 202, json={"snapshot": {"volume_id": disk}})
        found = made(site, "snapshot", answer)
        body = {"rollback": {"volume_id": disk}}

        answer = site.call("POST", f"{root}/os-vendor-snapshots/{found['id']}/rollback", 202, json=body)

        assert answer == {"rollback": {"volume_id": disk}}
        wait_until(lambda: shown(site, "volume", disk)["status"] == "available", "the rollback")
        site.call("POST", f"{root}/snapshots/{found['id']}/action", 202, json={"os-force_delete": None})
        wait_until(lambda: gone(site, "snapshot", found["id"]), "the end of the snapshot")


class TestMetadata:
    @pytest.mark.parametrize("kind", ["volume", "snapshot"])
    def test_it_is_added_replaced_and_removed(self, site: Site, disk: str, kind: str, root: str) -> None:
        """All of it, and key by key; the answers have Cinder's forms."""
        resource_id = disk
        if kind == "snapshot":
            answer = site.call("POST", f"{root}/snapshots", 202, json={"snapshot": {"volume_id": disk}})
            resource_id = made(site, "snapshot", answer)["id"]
        path = f"{root}/{kind}s/{resource_id}/metadata"

        assert site.call("POST", path, 200, json={"metadata": {"a": "1", "b": "2"}}) == {
            "metadata": {"a": "1", "b": "2"}
        }
        assert site.call("POST", path, 200, json={"metadata": {"b": "3"}}) == {"metadata": {"a": "1", "b": "3"}}
        assert site.call("PUT", f"{path}/c", 200, json={"meta": {"c": "4"}}) == {"meta": {"c": "4"}}
        assert site.call("GET", f"{path}/c", 200) == {"meta": {"c": "4"}}
        assert site.call("DELETE", f"{path}/a", 200) is None
        assert site.call("GET", path, 200) == {"metadata": {"b": "3", "c": "4"}}
        assert shown(site, kind, resource_id)["metadata"] == {"b": "3", "c": "4"}
        assert site.call("PUT", path, 200, json={"metadata": {"x": ""}}) == {"metadata": {"x": ""}}

        for method, tail, body in (
            ("GET", "/a", None),
            ("DELETE", "/a", None),
        ):
            fault = site.call(method, path + tail, 404, json=body)["itemNotFound"]
            assert fault == {"code": "EVS.5404", "message": "metadata key a does not exist"}
        fault = site.call("PUT", f"{path}/a", 400, json={"meta": {"b": "1"}})["badRequest"]
        assert fault["message"] == "meta: must have the key of the path, 'a'; has 'b'"
        fault = site.call("POST", path, 400, json={"metadata": {"k": "v" * 256}})["badRequest"]
        assert ("255" in fault["message"], "256" in fault["message"]) == (True, True)
        assert site.call("GET", path, 200) == {"metadata": {"x": ""}}

    def test_what_says_how_a_volume_was_made_stays(self, site: Site) -> None:
        """EVS.2047 for a key with a meaning, whether it is changed, added or left out; nothing changes."""
        found = made(site, "volume", create(site, size=10, metadata={"hw:passthrough": "true"}))
        path = f"/v3/{{p}}/volumes/{found['id']}/metadata"

        for method, wanted, key in (
            ("POST", {"hw:passthrough": "false"}, "hw:passthrough"),
            ("POST", {"full_clone": "1"}, "full_clone"),
            ("PUT", {"a": "b"}, "hw:passthrough"),
        ):
            fault = site.call(method, path, 400, json={"metadata": wanted})["badRequest"]
            assert (fault["code"], key in fault["message"]) == ("EVS.2047", True)
        fault = site.call("DELETE", f"{path}/hw:passthrough", 400)["badRequest"]
        assert fault["code"] == "EVS.2047"

        assert site.call("GET", path, 200) == {"metadata": {"hw:passthrough": "true"}}


class TestMicroversions:
    @pytest.mark.parametrize(
        "asked", [None, "volume 3.0", "volume latest", "compute 2.90", "compute 2.1, volume 3.0"]
    )
    def test_the_one_there_is_answers(self, site: Site, asked: str | None) -> None:
        """The answer tells which; v2 has none."""
        headers = {} if asked is None else {"OpenStack-API-Version": asked}

        answer = site.client.get(f"/v3/{site.project_id}/volumes", headers=headers)

        assert (answer.status_code, answer.headers["OpenStack-API-Version"]) == (200, "volume 3.0")
        assert answer.headers["Vary"] == "OpenStack-API-Version"
        v2 = site.client.get(f"/v2/{site.project_id}/volumes", headers={"OpenStack-API-Version": "volume 3.99"})
        assert (v2.status_code, "OpenStack-API-Version" in v2.headers) == (200, False)

    def test_any_other_is_not_acceptable(self, site: Site) -> None:
        """406, with the version and the limits, and nothing is done."""
        answer = site.client.post(
            f"/v3/{site.project_id}/volumes",
            headers={"OpenStack-API-Version": "compute 2.1, volume 3.59"},
            json={"volume": {"size": 10, "name": "never"}},
        )

        assert answer.status_code == 406
        assert (
            "3.59 is not supported by the API: minimum and maximum are 3.0"
            in answer.json()["computeFault"]["message"]
        )
        assert site.call("GET", "/v3/{p}/volumes", 200, params={"name": "never"}) == {"volumes": []}

    @pytest.mark.parametrize("path", ["/v2", "/v3"])
    def test_a_version_is_found_with_a_slash_behind_it(self, site: Site, path: str) -> None:
        """The links name it so; anybody may read it there."""
        answers = [site.client.get(path + slash, headers={"X-Auth-Token": ""}) for slash in ("", "/")]

        assert [answer.status_code for answer in answers] == [200, 200]
        (version,) = answers[1].json()["versions"]
        assert version == answers[0].json()["versions"][0]
        assert version["links"][0]["href"].endswith(f"{path}/")


class TestAbout:
    def test_limits_tell_what_a_project_has(self, site: Site) -> None:
        """Volumes, their GiB, and snapshots, with the quotas; there are no backups."""
        stranger = site.second_tenant()
        limit(site, stranger, volumes=7, gigabytes=70, snapshots=-1)
        (volume_id,) = new_volumes(stranger, 1, size_gib=11)
        answer = stranger.call("POST", "/v3/{p}/snapshots", 202, json={"snapshot": {"volume_id": volume_id}})
        made(stranger, "snapshot", answer)

        absolute = stranger.call("GET", "/v3/{p}/limits", 200)["limits"]["absolute"]

        assert (absolute["totalVolumesUsed"], absolute["totalGigabytesUsed"], absolute["totalSnapshotsUsed"]) == (
            1,
            11,
            1,
        )
        most = [
            f"maxTotal{what}" for what in ("Volumes", "VolumeGigabytes", "Snapshots", "Backups", "BackupGigabytes")
        ]
        assert [absolute[name] for name in most] == [7, 70, -1, 0, 0]
        assert (absolute["totalBackupsUsed"], absolute["totalBackupGigabytesUsed"]) == (0, 0)

    def test_what_is_in_the_recycle_bin_is_not_in_use(self, site: Site) -> None:
        """Neither limits nor lists nor its own path know a volume that was deleted, also by force."""
        stranger = site.second_tenant()
        kept, *deleted = new_volumes(stranger, 3)
        stranger.call("PUT", "/v3/{p}/recycle-bin-volumes/policy", 204, json={"switch": True})
        with site.database.writing() as session:
            born = SystemClock().now() - timedelta(days=8)
            session.execute(update(Volume).where(Volume.id.in_(deleted)).values(created_at=born))

        stranger.call("DELETE", f"/v2/{{p}}/volumes/{deleted[0]}", 202)
        act(stranger, deleted[1], 202, os_force_delete=None)

        assert all(gone(stranger, "volume", volume_id) for volume_id in deleted)
        for path in ("volumes", "volumes/detail"):
            assert [found["id"] for found in stranger.call("GET", f"/v3/{{p}}/{path}", 200)["volumes"]] == [kept]
        assert stranger.call("GET", "/v3/{p}/limits", 200)["limits"]["absolute"]["totalVolumesUsed"] == 1
        binned = stranger.call("GET", "/v3/{p}/recycle-bin-volumes/detail", 200)["volumes"]
        assert {found["id"] for found in binned} == set(deleted)

    def test_extensions_have_aliases(self, site: Site) -> None:
        """What a client looks for before it uses one."""
        aliases = {each["alias"] for each in site.call("GET", "/v3/{p}/extensions", 200)["extensions"]}

        assert {"os-availability-zone", "os-volume-actions"} <= aliases


class TestRefusals:
    @pytest.mark.parametrize(
        ("wanted", "status", "code", "words"),
        [
            ({}, 400, "EVS.1010", ["size", "snapshot_id"]),
            ({"size": 9}, 400, "EVS.1010", ["size", "10", "9"]),
            ({"size": "10"}, 400, "EVS.1010", ["size", "'10'"]),
            ({"size": 10, "name": "n" * 256}, 400, "EVS.1003", ["name", "255", "256"]),
            ({"size": 10, "volume_type": "fast"}, 400, "EVS.2070", ["volume_type", "fast"]),
            ({"size": 10, "availability_zone": "az9"}, 400, "EVS.1036", ["availability_zone", "az9"]),
            ({"size": 10, "imageRef": "x"}, 400, "EVS.2046", ["imageRef"]),
            ({"size": 10, "source_volid": UNKNOWN}, 400, "EVS.5400", ["source_volid", "snapshot"]),
            ({"size": 10, "snapshot_id": UNKNOWN}, 404, "EVS.5404", [UNKNOWN]),
        ],
    )
    def test_a_wrong_volume_is_refused_in_cinders_form(
        self, site: Site, *, root: str, wanted: dict[str, Any], status: int, code: str, words: list[str]
    ) -> None:
        """The key says what kind of error it is, the code is EVS's, the message names field, value and limit."""
        before = site.call("GET", "/v3/{p}/limits", 200)

        answer = create(site, root, status, **wanted)

        fault = answer["badRequest" if status == 400 else "itemNotFound"]
        assert (len(answer), set(fault), fault["code"]) == (1, {"code", "message"}, code)
        assert [word for word in words if word not in fault["message"]] == []
        assert site.call("GET", "/v3/{p}/limits", 200) == before

    def test_what_is_beyond_a_quota_is_over_the_limit(self, site: Site, root: str) -> None:
        """413 as in Cinder, with the code of EVS's own calls; nothing is made, and nothing grows."""
        stranger = site.second_tenant()
        (volume_id,) = new_volumes(stranger, 1)
        limit(site, stranger, volumes=1, gigabytes=15, snapshots=0)
        before = stranger.call("GET", "/v3/{p}/limits", 200), shown(stranger, "volume", volume_id)
        action = f"{root}/volumes/{volume_id}/action"
        refusals: list[tuple[str, Any, str, str]] = [
            (f"{root}/volumes", {"volume": {"size": 10}}, "EVS.1034", "volumes: the project's quota is 1"),
            (action, {"os-extend": {"new_size": 16}}, "EVS.1042", "gigabytes: the project's quota is 15"),
            (
                f"{root}/snapshots",
                {"snapshot": {"volume_id": volume_id}},
                "EVS.5413",
                "snapshots: the project's quota is 0",
            ),
        ]

        for path, body, code, words in refusals:
            fault = stranger.call("POST", path, 413, json=body)["overLimit"]
            assert fault == {"code": code, "message": f"{words}, which this request would exceed"}

        assert (stranger.call("GET", "/v3/{p}/limits", 200), shown(stranger, "volume", volume_id)) == before

    @pytest.mark.parametrize(
        ("action", "word"),
        [
            ({"os_retype": {"new_type": "SSD"}}, "is SSD already"),
            ({"os_retype": {"new_type": "fast"}}, "new_type: must be one of"),
            ({"os_retype": {"new_type": "GPSSD2"}}, "iops: volume type GPSSD2 needs it"),
            ({"os_retype": {"new_type": "ESSD", "migration_policy": "now"}}, "migration_policy"),
            ({"os_retype": {}}, "new_type"),
            ({"os_attach": {"instance_uuid": UNKNOWN, "mountpoint": "/dev/vdb"}}, "attachvolume"),
            ({"os_detach": {}}, "detachvolume"),
            ({"os_reset_status": {"status": "error"}}, "can't be set"),
            ({"os_update_readonly_flag": {"readonly": True}}, "must be false"),
            ({"os_volume_upload_image": {"image_name": "x"}}, "no images"),
            ({"os_dance": None}, "no such action"),
            ({"os_extend": {"new_size": 10}}, "new_size"),
            ({"os_extend": {}}, "new_size"),
            ({"os_force_delete": None, "os_reserve": None}, "one key"),
            ({}, "one key"),
        ],
    )
    def test_an_action_that_makes_no_sense_says_why(
        self, site: Site, disk: str, action: dict[str, Any], word: str
    ) -> None:
        """400, and the volume is as it was."""
        before = shown(site, "volume", disk)

        fault = act(site, disk, 400, **action)["badRequest"]

        assert word in fault["message"]
        assert shown(site, "volume", disk) == before

    def test_an_attached_volume_is_kept(self, site: Site, disk: str) -> None:
        """It is not deleted, by force or not, a snapshot needs `force`; it is extended for its next attachment."""
        attach(site, disk, new_server(site))
        before = shown(site, "volume", disk)
        assert before["attachments"][0]["attachment_id"]

        fault = site.call("DELETE", f"/v3/{{p}}/volumes/{disk}", 400)["badRequest"]
        assert (fault["code"], "in-use" in fault["message"]) == ("EVS.1046", True)
        assert act(site, disk, 400, os_force_delete=None)["badRequest"]["code"] == "EVS.1046"
        wanted = {"volume_id": disk}
        fault = site.call("POST", "/v3/{p}/snapshots", 400, json={"snapshot": wanted})["badRequest"]
        assert "force" in fault["message"]

        assert shown(site, "volume", disk) == before
        answer = site.call("POST", "/v3/{p}/snapshots", 202, json={"snapshot": wanted | {"force": True}})
        made(site, "snapshot", answer)
        assert act(site, disk, 202, os_extend={"new_size": 20}) is None
        wait_until(lambda: shown(site, "volume", disk)["size"] == 20, "the extension")  # Cinder names no job
        assert shown(site, "volume", disk)["status"] == "in-use"

    @pytest.mark.parametrize(
        ("action", "word"), [({"os-reset_status": {"status": "error"}}, "can't be set"), ({"x": 1}, "no such action")]
    )
    def test_an_action_on_a_snapshot_that_makes_no_sense_says_why(
        self, site: Site, disk: str, action: dict[str, Any], word: str
    ) -> None:
        """400, and the snapshot is as it was."""
        answer = site.call("POST", "/v3/{p}/snapshots", 202, json={"snapshot": {"volume_id": disk}})
        before = made(site, "snapshot", answer)

        fault = site.call("POST", f"/v3/{{p}}/snapshots/{before['id']}/action", 400, json=action)["badRequest"]

        assert word in fault["message"]
        assert shown(site, "snapshot", before["id"]) == before

    def test_a_foreign_one_is_as_good_as_none(self, site: Site, disk: str) -> None:
        """Every call answers a stranger as if there were no such volume or snapshot."""
        answer = site.call("POST", "/v3/{p}/snapshots", 202, json={"snapshot": {"volume_id": disk}})
        snapshot = made(site, "snapshot", answer)
        before = shown(site, "volume", disk)
        stranger = site.second_tenant()

        for kind, resource_id in (("volume", disk), ("snapshot", snapshot["id"])):
            for method, tail, body in (
                ("GET", "", None),
                ("PUT", "", {kind: {"name": "x"}}),
                ("DELETE", "", None),
                ("POST", "/action", {"os-force_delete": None}),
                ("POST", "/action", {"os-reset_status": {}}),
                ("POST", "/action", {"os-retype": {"new_type": "ESSD"}}),
                ("GET", "/metadata", None),
                ("POST", "/metadata", {"metadata": {"a": "b"}}),
                ("PUT", "/metadata", {"metadata": {}}),
                ("GET", "/metadata/a", None),
                ("PUT", "/metadata/a", {"meta": {"a": "b"}}),
                ("DELETE", "/metadata/a", None),
            ):
                answer = stranger.call(method, f"/v3/{{p}}/{kind}s/{resource_id}{tail}", 404, json=body)
                message = f"{kind} {resource_id} does not exist"
                assert answer == {"itemNotFound": {"code": "EVS.5404", "message": message}}
        assert stranger.call("GET", "/v3/{p}/volumes", 200) == {"volumes": []}

        assert (shown(site, "volume", disk), shown(site, "snapshot", snapshot["id"])) == (before, snapshot)

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"limit": "0"}, "EVS.1023"),
            ({"marker": UNKNOWN}, "EVS.1024"),
            ({"sort_key": "colour"}, "EVS.1039"),
            ({"sort": "colour:asc"}, "EVS.5400"),
            ({"metadata": "{'a': 1}"}, "EVS.1025"),
            ({"metadata": "nonsense"}, "EVS.1025"),
            ({"status": "tired"}, "EVS.1031"),
        ],
    )
    def test_a_wrong_query_is_refused(self, site: Site, query: dict[str, str], code: str) -> None:
        """Each with its documented code, and a message that names the field."""
        fault = site.call("GET", "/v3/{p}/volumes/detail", 400, params=query)["badRequest"]

        assert (fault["code"], next(iter(query)) in fault["message"]) == (code, True)

    @pytest.mark.parametrize("path", ["volumes/a%00b", "snapshots/a%00b", "volumes/x/metadata/a%00b"])
    def test_what_no_database_takes_is_refused(self, site: Site, path: str) -> None:
        """The character U+0000 in an id or a key is a wrong field, on every database."""
        fault = site.call("GET", f"/v3/{{p}}/{path}", 400)["badRequest"]

        assert "U+0000" in fault["message"]

    def test_an_action_that_no_answer_can_name_is_refused(self, site: Site, disk: str) -> None:
        """A lone surrogate is no text."""
        path = f"/v3/{site.project_id}/volumes/{disk}/action"

        answer = site.client.post(path, content=b'{"\\ud800": 1}', headers={"Content-Type": "application/json"})

        assert (answer.status_code, list(answer.json())) == (400, ["badRequest"])

    def test_a_method_and_a_project_that_are_not_there(self, site: Site) -> None:
        """Routing and the project of the path are refused in Cinder's form as well."""
        assert site.call("PATCH", "/v3/{p}/volumes", 405)["badMethod"]["code"] == "EVS.5405"
        assert (
            site.call("GET", "/v3/{p}/types/fast", 404)["itemNotFound"]["message"]
            == "volume type fast does not exist"
        )
        fault = site.call("GET", f"/v3/{uuid4().hex}/volumes", 400)["badRequest"]
        assert fault["code"] == "Common.0018"
