"""Volumes on the wire: paths, bodies, answers and refusals as EVS documents them."""

import re
from collections.abc import Iterator
from typing import Any

import huaweicloudsdkevs.v2 as evs
import pytest
from orders import attach, detach, new_server
from running import Site, running_site
from sdk import evs_client

from onecut.db.volumes import Volume

UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"
PLAIN = {"availability_zone": "az1", "volume_type": "SSD", "size": 10}
EVS_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")

VOLUME_KEYS = {
    "onecut", "id", "links", "name", "description", "status", "attachments", "availability_zone", "size",
    "volume_type", "created_at", "updated_at", "snapshot_id", "source_volid", "consistencygroup_id",
    "replication_status", "os-volume-replication:extended_status", "os-vol-mig-status-attr:migstat",
    "os-vol-mig-status-attr:name_id", "os-vol-host-attr:host", "user_id", "os-vol-tenant-attr:tenant_id",
    "volume_image_metadata", "bootable", "metadata", "encrypted", "multiattach", "shareable", "service_type",
    "tags", "enterprise_project_id",
}  # fmt: skip
UPDATE_KEYS = {
    "attachments", "availability_zone", "bootable", "created_at", "id", "links", "metadata", "multiattach", "name",
    "os-vol-host-attr:host", "os-vol-tenant-attr:tenant_id", "shareable", "size", "snapshot_id", "source_volid",
    "status", "volume_image_metadata", "volume_type", "description", "os-volume-replication:extended_status",
}  # fmt: skip


def create(site: Site, **fields: Any) -> list[str]:
    answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": PLAIN | fields})
    site.done(answer)
    volume_ids: list[str] = answer["volume_ids"]
    return volume_ids


def show(site: Site, volume_id: str) -> dict[str, Any]:
    volume: dict[str, Any] = site.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200)["volume"]
    return volume


def listed(site: Site, **query: Any) -> dict[str, Any]:
    answer: dict[str, Any] = site.call("GET", "/v2/{p}/cloudvolumes/detail", 200, params=query)
    return answer


def refused(site: Site, method: str, path: str, status: int, code: str, **options: Any) -> str:
    """Make a call that must be refused in EVS's form; return the message."""
    answer = site.call(method, path, status, **options)
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"code", "message"}
    assert answer["error"]["code"] == code, answer
    return str(answer["error"]["message"])


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that many tests share, each of which must leave it as it was."""
    with running_site(tmp_path_factory.mktemp("refusing")) as site:
        yield site
        assert listed(site)["count"] == 0


@pytest.mark.parametrize(("path", "status"), [("/v2.1", 202), ("/v2", 200), ("/v3", 200)])
def test_each_creation_path_answers_job_and_volumes(site: Site, path: str, status: int) -> None:
    """The status differs by path as documented; the volumes can be shown before the job has ended."""
    answer = site.call("POST", path + "/{p}/cloudvolumes", status, json={"volume": PLAIN | {"count": 2}})
    assert set(answer) == {"job_id", "volume_ids"}
    assert [show(site, volume_id)["size"] for volume_id in answer["volume_ids"]] == [10, 10]
    job = site.done(answer)
    assert job["job_type"] == "batchCreateVolume"
    assert [sub["entities"]["volume_id"] for sub in job["entities"]["sub_jobs"]] == answer["volume_ids"]


def test_a_volume_has_every_documented_field_with_its_type(site: Site) -> None:
    """Keys, JSON types and times are those of EVS."""
    [volume_id] = create(
        site, name="data", description="d", size=12.9, metadata={"k": "v"}, tags={"team": "db"}, multiattach=True
    )
    volume = show(site, volume_id)
    assert set(volume) == VOLUME_KEYS
    fixed = {
        "id": volume_id, "name": "data", "description": "d", "status": "available", "size": 12, "bootable": "false",
        "volume_type": "SSD", "availability_zone": "az1", "attachments": [], "metadata": {"k": "v"},
        "tags": {"team": "db"}, "multiattach": True, "shareable": "true", "encrypted": False, "service_type": "EVS",
        "enterprise_project_id": "0", "snapshot_id": None, "os-vol-tenant-attr:tenant_id": site.project_id,
    }  # fmt: skip
    assert {key: volume[key] for key in fixed} == fixed
    assert EVS_TIME.fullmatch(volume["created_at"])
    assert EVS_TIME.fullmatch(volume["updated_at"])
    assert [link["rel"] for link in volume["links"]] == ["self", "bookmark"]
    answer = site.client.get(volume["links"][0]["href"])
    assert answer.json()["volume"] == volume


def test_performance_is_shown_where_the_type_has_it(site: Site) -> None:
    """`iops` and `throughput` are objects; other types have no such key."""
    [volume_id] = create(site, volume_type="GPSSD2", iops=3000, throughput=125)
    volume = show(site, volume_id)
    assert set(volume) == VOLUME_KEYS | {"iops", "throughput"}
    assert volume["iops"] == {"frozened": False, "id": volume_id, "total_val": 3000}
    assert volume["throughput"]["total_val"] == 125


def test_fields_that_say_nothing_are_taken(site: Site) -> None:
    """Nulls and unknown keys are as absent, and postPaid is what there is."""
    nothing = dict.fromkeys(
        ("name", "description", "snapshot_id", "backup_id", "imageRef", "metadata", "tags", "iops", "throughput")
    )
    body = {
        "volume": PLAIN | nothing | {"unheard": 1},
        "server_id": None,
        "bssParam": {"chargingMode": "postPaid", "isAutoPay": "true"},
        "OS-SCH-HNT:scheduler_hints": {"dedicated_storage_id": None},
    }
    site.done(site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body))


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"size": "10"}, "EVS.1010", "volume.size: "),
        ({"size": None}, "EVS.1010", "volume.size: "),
        ({"size": 9}, "EVS.1010", "size: must be 10 to 32768 GiB, not 9"),
        ({"size": True}, "EVS.1010", "volume.size: "),
        ({"availability_zone": "mars"}, "EVS.1036", "'mars' is not one of az1"),
        ({"availability_zone": None}, "EVS.1036", "volume.availability_zone: "),
        ({"volume_type": "tape"}, "EVS.2070", "'tape'"),
        ({"volume_type": 7}, "EVS.2070", "volume.volume_type: "),
        ({"count": 101}, "EVS.1021", "count: must be 1 to 100, not 101"),
        ({"count": "2"}, "EVS.1021", "volume.count: "),
        ({"name": "x" * 256}, "EVS.1003", "volume.name: must be at most 255 bytes of UTF-8, is 256"),
        ({"name": "卷" * 86}, "EVS.1003", "is 258"),
        ({"name": "a\0b"}, "EVS.5400", "volume.name: "),
        ({"description": "x" * 256}, "EVS.1004", "volume.description: must be at most 255 bytes"),
        ({"snapshot_id": "s"}, "EVS.2045", "volume.snapshot_id: must be a UUID"),
        ({"snapshot_id": UNKNOWN, "backup_id": "b"}, "EVS.1016", "backup_id: "),
        ({"backup_id": "b"}, "EVS.1006", "backup_id: "),
        ({"imageRef": "i"}, "EVS.2046", "imageRef: "),
        ({"multiattach": "true"}, "EVS.1054", "volume.multiattach: "),
        ({"metadata": {"k": None}}, "EVS.5400", "volume.metadata.k: "),
        ({"metadata": {"k": "x" * 256}}, "EVS.5400", "volume.metadata.k: must be at most 255 bytes"),
        ({"metadata": {"full_clone": "yes"}}, "EVS.1063", "metadata.full_clone: "),
        ({"tags": {"k k": "v"}}, "EVS.1062", "volume.tags"),
        ({"tags": {f"k{number}": "v" for number in range(21)}}, "EVS.1061", "at most 20 tags, not 21"),
        ({"enterprise_project_id": "x"}, "EVS.2059", "volume.enterprise_project_id: "),
        ({"iops": 0}, "EVS.5400", "volume.iops: "),
        ({"iops": 2**31}, "EVS.5400", "volume.iops: "),
    ],
)
def test_a_wrong_field_is_refused_and_nothing_is_made(
    refusing: Site, change: dict[str, Any], code: str, words: str
) -> None:
    """400 with the documented code, and a message that names the field, the value and the limit."""
    message = refused(refusing, "POST", "/v2.1/{p}/cloudvolumes", 400, code, json={"volume": PLAIN | change})
    assert words in message
    assert listed(refusing)["count"] == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "EVS.1008"),
        ({"volume": None}, "EVS.1008"),
        ([], "EVS.1009"),
        ({"volume": "v"}, "EVS.1009"),
        ({"volume": PLAIN, "bssParam": {"chargingMode": "prePaid"}}, "EVS.2147"),
        ({"volume": PLAIN, "OS-SCH-HNT:scheduler_hints": {"dedicated_storage_id": "pool"}}, "EVS.5400"),
        ({"volume": PLAIN, "OS-SCH-HNT:scheduler_hints": "pool"}, "EVS.5400"),
        ({"volume": PLAIN, "server_id": "db1"}, "EVS.2131"),
        ({"volume": PLAIN, "server_id": UNKNOWN}, "EVS.2131"),
    ],
)
def test_a_wrong_body_is_refused_and_nothing_is_made(refusing: Site, body: Any, code: str) -> None:
    """What is beside the volume is checked too; there is no billing."""
    refused(refusing, "POST", "/v2.1/{p}/cloudvolumes", 400, code, json=body)
    assert listed(refusing)["count"] == 0


def test_an_update_answers_the_flat_volume(site: Site) -> None:
    """No wrapper, and only the documented keys; texts are limited in bytes; nothing at all is EVS.1007."""
    [volume_id] = create(site, name="old", description="kept")
    path = f"/v2/{{p}}/cloudvolumes/{volume_id}"
    answer = site.call("PUT", path, 200, json={"volume": {"name": "new"}})
    assert set(answer) == UPDATE_KEYS
    assert (answer["name"], answer["description"]) == ("new", "kept")
    assert show(site, volume_id)["name"] == "new"
    refused(site, "PUT", path, 400, "EVS.1007", json={"volume": {}})
    bodies: list[Any] = [{}, {"volume": "new"}, []]
    for body in bodies:
        assert "must have volume, an object" in refused(site, "PUT", path, 400, "EVS.1001", json=body)
    refused(site, "PUT", path, 400, "EVS.1003", json={"volume": {"name": "x" * 256}})
    refused(site, "PUT", path, 400, "EVS.1004", json={"volume": {"description": "x" * 256}})


def test_a_deleted_volume_is_gone_when_its_job_has_ended(site: Site) -> None:
    """The answer is a job id; afterwards show is 404 and the list does not count it."""
    [volume_id] = create(site)
    job = site.done(site.call("DELETE", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200))
    assert (job["job_type"], job["entities"]["volume_id"]) == ("deleteVolume", volume_id)
    refused(site, "GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 404, "EVS.5404")
    assert listed(site)["count"] == 0


@pytest.mark.parametrize(("version", "status"), [("v2.1", 202), ("v2", 200)])
def test_a_volume_is_extended_when_its_job_has_ended(site: Site, version: str, status: int) -> None:
    """Both paths; not larger is EVS.1015; an action that is none is EVS.1011."""
    [volume_id] = create(site)
    path = f"/{version}/{{p}}/cloudvolumes/{volume_id}/action"
    job = site.done(site.call("POST", path, status, json={"os-extend": {"new_size": 11}}))
    assert (job["job_type"], job["entities"]["size"]) == ("extendVolume", 11)
    assert show(site, volume_id)["size"] == 11
    message = refused(site, "POST", path, 400, "EVS.1015", json={"os-extend": {"new_size": 11}})
    assert message == "new_size: must be more than the present 11 GiB, not 11"
    for body in ({}, {"os-shrink": {"new_size": 11}}, {"os-extend": 11}):
        assert "must have os-extend, an object" in refused(site, "POST", path, 400, "EVS.1011", json=body)


@pytest.mark.parametrize(
    ("status", "method", "code"),
    [("in-use", "DELETE", "EVS.1046"), ("creating", "DELETE", "EVS.1046"), ("retyping", "POST", "EVS.1064")],
)
def test_a_state_that_does_not_allow_the_act_is_named(site: Site, status: str, method: str, code: str) -> None:
    """400 with the documented code, and the volume stays as it is."""
    [volume_id] = create(site)
    with site.database.writing() as session:
        session.get_one(Volume, volume_id).status = status
    path = f"/v2/{{p}}/cloudvolumes/{volume_id}" + ("/action" if method == "POST" else "")
    body = {"json": {"os-extend": {"new_size": 11}}} if method == "POST" else {}
    message = refused(site, method, path, 400, code, **body)
    assert f"volume {volume_id} is {status}; this needs" in message
    assert (show(site, volume_id)["status"], show(site, volume_id)["size"]) == (status, 10)


def test_an_attached_volume_is_extended_and_its_disk_when_it_is_detached(site: Site) -> None:
    """It shows the new size at once, and what its server sees until then; a second extension changes the former."""
    [volume_id] = create(site)
    server_id = new_server(site)
    uri = attach(site, volume_id, server_id)
    path = f"/v2.1/{{p}}/cloudvolumes/{volume_id}/action"
    for size in (11, 13):
        job = site.done(site.call("POST", path, 202, json={"os-extend": {"new_size": size}}))
        assert (job["job_type"], job["entities"]["size"]) == ("extendVolume", size)
        assert sizes(site, volume_id) == ("in-use", size, 10)
    message = refused(site, "POST", path, 400, "EVS.1015", json={"os-extend": {"new_size": 13}})
    assert message == "new_size: must be more than the present 13 GiB, not 13"
    assert show(site, volume_id)["attachments"][0]["uri"] == uri

    detach(site, volume_id)
    assert sizes(site, volume_id) == ("available", 13, None)
    attach(site, volume_id, server_id)
    assert sizes(site, volume_id) == ("in-use", 13, None)


def sizes(site: Site, volume_id: str) -> tuple[str, int, int | None]:
    """Return a volume's state, its size, and that which its server sees if it is another."""
    found = show(site, volume_id)
    return found["status"], found["size"], found["onecut"]["attached_size"]


def test_an_extension_of_an_attached_volume_counts_once(site: Site) -> None:
    """Its GiB are used as soon as it is extended, and not again when it is detached."""
    [volume_id] = create(site)
    attach(site, volume_id, new_server(site))
    path = f"/v2.1/{{p}}/cloudvolumes/{volume_id}/action"
    site.done(site.call("POST", path, 202, json={"os-extend": {"new_size": 12}}))
    quota = f"/v2/{{p}}/os-quota-sets/{site.project_id}"
    used = [site.call("GET", quota, 200, params={"usage": "True"})["quota_set"]["gigabytes"]]
    detach(site, volume_id)
    used.append(site.call("GET", quota, 200, params={"usage": "True"})["quota_set"]["gigabytes"])
    assert [(each["in_use"], each["reserved"]) for each in used] == [(12, 0), (12, 0)]


def test_a_shared_volume_in_use_is_refused_an_extension_by_a_code_of_its_own(site: Site) -> None:
    """EVS.1065, alone and among several; detached it is extended like any other."""
    [volume_id] = create(site, multiattach=True)
    alone = f"/v2.1/{{p}}/cloudvolumes/{volume_id}/action", {"os-extend": {"new_size": 11}}
    several = "/v5/{p}/volumes/batch-extend", {"volumes": [{"id": volume_id, "new_size": 11}]}
    set_status(site, volume_id, "in-use")
    for path, body in (alone, several):
        assert f"volume {volume_id} is in-use" in refused(site, "POST", path, 400, "EVS.1065", json=body)

    set_status(site, volume_id, "retyping")
    refused(site, "POST", alone[0], 400, "EVS.1064", json=alone[1])
    set_status(site, volume_id, "available")
    site.done(site.call("POST", alone[0], 202, json=alone[1]))


def set_status(site: Site, volume_id: str, status: str) -> None:
    with site.database.writing() as session:
        session.get_one(Volume, volume_id).status = status


def test_a_volume_from_a_snapshot_has_the_device_mode_of_its_source(site: Site) -> None:
    """A SCSI disk's are SCSI disks, though the source is gone; they say so to servers, and have names to tell."""
    [scsi] = create(site, metadata={"hw:passthrough": "true"})
    snapshot = site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": scsi}})
    site.done(snapshot)
    group = site.call("POST", "/v5/{p}/snapshot-groups", 202, json={"snapshot_group": {"volume_ids": [scsi]}})
    site.done(group)
    site.done(site.call("DELETE", f"/v2/{{p}}/cloudvolumes/{scsi}", 200))

    made = create(site, snapshot_id=snapshot["snapshot_id"], metadata={"k": "v"})
    path = f"/v5/{{p}}/snapshot-groups/{group['snapshot_group_id']}/volumes"
    several = site.call("POST", path, 202, json={"volumes": {}})
    site.done(several)

    assert show(site, made[0])["metadata"] == {"k": "v", "hw:passthrough": "true"}
    for volume_id in made + several["volume_ids"]:
        found = show(site, volume_id)
        assert found["metadata"]["hw:passthrough"] == "true"
        assert (found["wwn"], found["serial_number"]) == ("3" + volume_id.replace("-", "")[1:], volume_id)
    assert bus(site, made[0]) == "scsi"
    [plain] = create(site)
    assert (bus(site, plain), set(show(site, plain)) & {"wwn", "serial_number"}) == ("virtio", set())


def bus(site: Site, volume_id: str) -> str:
    """Attach a volume to a server of its own, and return how the server sees it."""
    server_id = new_server(site)
    attach(site, volume_id, server_id)
    shown = site.call("GET", f"/v1/{{p}}/cloudservers/{server_id}/block_device/{volume_id}", 200)
    return str(shown["volumeAttachment"]["bus"])


@pytest.mark.parametrize(("volume_id", "status", "code"), [("nonsense", 400, "EVS.1002"), (UNKNOWN, 404, "EVS.5404")])
def test_ids_that_name_no_volume_are_refused_by_every_call(
    site: Site, volume_id: str, status: int, code: str
) -> None:
    """A malformed id is EVS.1002, an unknown one EVS.5404."""
    path = f"/v2/{{p}}/cloudvolumes/{volume_id}"
    refused(site, "GET", path, status, code)
    refused(site, "PUT", path, status, code, json={"volume": {"name": "n"}})
    refused(site, "DELETE", path, status, code)
    refused(site, "POST", path + "/action", status, code, json={"os-extend": {"new_size": 11}})


def test_a_tenant_never_sees_anothers_volumes(site: Site) -> None:
    """Show, list and job answer the other tenant as if nothing existed."""
    answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": PLAIN})
    site.done(answer)
    [volume_id], other = answer["volume_ids"], site.second_tenant()
    assert other.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 404)["error"]["code"] == "EVS.5404"
    assert other.call("GET", f"/v1/{{p}}/jobs/{answer['job_id']}", 400)["error"]["code"] == "Common.0011"
    assert other.call("GET", "/v2/{p}/cloudvolumes/detail", 200)["count"] == 0
    foreign = other.client.get(f"/v2/{site.project_id}/cloudvolumes/{volume_id}")
    assert foreign.status_code == 400


class TestList:
    def test_pages_are_linked_and_the_count_is_of_all(self, site: Site) -> None:
        """Following the links gives every volume once, with the query kept."""
        made = set(create(site, count=5)) | set(create(site, count=1, name="other"))
        page = listed(site, limit=2, availability_zone="az1", sort_key="id", sort_dir="asc")
        seen = [volume["id"] for volume in page["volumes"]]
        while page["volumes_links"]:
            [link] = page["volumes_links"]
            assert link["rel"] == "next"
            page = site.client.get(link["href"]).json()
            assert page["count"] == 6
            seen += [volume["id"] for volume in page["volumes"]]
        assert seen == sorted(made)

    def test_ids_are_read_in_their_quoted_spelling(self, site: Site) -> None:
        """`['a','b']` as documented, with unknown ones ignored; it goes before `id`; empty values are absent."""
        first, second, third = create(site, count=3)
        for text in (f"['{first}','{second}','{UNKNOWN}']", f'["{first}", "{second}"]', f"{first},{second}"):
            found = listed(site, ids=text, id=third)
            assert ({volume["id"] for volume in found["volumes"]}, found["count"]) == ({first, second}, 2)
        assert [volume["id"] for volume in listed(site, id=third)["volumes"]] == [third]
        assert listed(site, ids="", id="", name="", status="", limit="", marker="")["count"] == 3

    def test_filters_by_text_and_truth_are_understood(self, site: Site) -> None:
        """Booleans in any of the usual spellings, metadata as JSON, the enterprise project of everybody."""
        create(site, name="a", multiattach=True, metadata={"k": "v"})
        create(site, name="b")
        assert [volume["name"] for volume in listed(site, multiattach="true")["volumes"]] == ["a"]
        assert [volume["name"] for volume in listed(site, multiattach="False")["volumes"]] == ["b"]
        assert [volume["name"] for volume in listed(site, metadata='{"k":"v"}')["volumes"]] == ["a"]
        assert listed(site, enterprise_project_id="all_granted_eps")["count"] == 2
        assert listed(site, dedicated_storage_name="pool")["count"] == 0

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"limit": "0"}, "EVS.1023"),
            ({"limit": "1001"}, "EVS.1023"),
            ({"limit": "x"}, "EVS.1023"),
            ({"offset": "-1"}, "EVS.5400"),
            ({"offset": str(2**31)}, "EVS.5400"),
            ({"marker": "x"}, "EVS.1024"),
            ({"marker": UNKNOWN}, "EVS.1024"),
            ({"sort_key": "wwn"}, "EVS.1039"),
            ({"sort_dir": "up"}, "EVS.1040"),
            ({"status": "melting"}, "EVS.1031"),
            ({"availability_zone": "mars"}, "EVS.1041"),
            ({"multiattach": "perhaps"}, "EVS.1054"),
            ({"metadata": "k=v"}, "EVS.1025"),
            ({"id": "x"}, "EVS.1032"),
            ({"server_id": "x"}, "EVS.5400"),
            ({"ids": "['x']"}, "EVS.1032"),
            ({"ids": ",".join([UNKNOWN] * 61)}, "EVS.1032"),
            ({"enterprise_project_id": "x"}, "EVS.2059"),
        ],
    )
    def test_a_wrong_query_is_refused(self, refusing: Site, query: dict[str, str], code: str) -> None:
        """400 with the documented code, naming the parameter."""
        message = refused(refusing, "GET", "/v2/{p}/cloudvolumes/detail", 400, code, params=query)
        assert next(iter(query)) in message


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_types_and_zones_have_their_documented_shape(site: Site, version: str) -> None:
    """Each type names the zones where it is offered and where it is sold out; volumes can be listed by its id."""
    types = site.call("GET", f"/{version}/{{p}}/types", 200)["volume_types"]
    by_name = {found["name"]: found for found in types}
    assert set(by_name) == {"SATA", "SAS", "GPSSD", "SSD", "ESSD", "GPSSD2", "ESSD2"}
    assert set(by_name["SSD"]) == {"id", "name", "description", "is_public", "qos_specs_id", "extra_specs"}
    assert by_name["SSD"]["extra_specs"]["RESKEY:availability_zones"] == "az1"
    assert by_name["SATA"]["extra_specs"]["os-vendor-extended:sold_out_availability_zones"] == "az1"
    create(site)
    assert listed(site, volume_type_id=by_name["SSD"]["id"])["count"] == 1
    assert listed(site, volume_type_id=by_name["SAS"]["id"])["count"] == 0
    zones = site.call("GET", f"/{version}/{{p}}/os-availability-zone", 200)
    assert zones == {"availabilityZoneInfo": [{"zoneName": "az1", "zoneState": {"available": True}}]}


def test_versions_are_told_to_anybody(site: Site) -> None:
    """300 for the list, as OpenStack does; each version alone is 200."""
    keys = {"id", "status", "updated", "version", "min_version", "links", "media-types"}
    answer = site.client.get("/", headers={"X-Auth-Token": ""})
    assert answer.status_code == 300
    assert [version["id"] for version in answer.json()["versions"]] == ["v1.0", "v2.0", "v3.0"]
    for name in ("v1", "v2", "v3"):
        [version] = site.client.get(f"/{name}").json()["versions"]
        assert set(version) == keys
        [link] = version["links"]
        assert link["href"] == f"{site.onecut.endpoint}/{name}/"
        assert site.client.get(link["href"]).json()["versions"] == [version]


def test_the_vendors_client_reads_volumes_and_versions(site: Site) -> None:
    """Performance in the spelling of the SDK, a fraction of a count cut off, the list and the versions."""
    client = evs_client(site.credentials)
    [volume_id] = create(site, volume_type="GPSSD2", iops=3000, throughput=125, count=1.9)

    [found] = client.list_volumes(evs.ListVolumesRequest(ids=f"['{volume_id}']", service_type="EVS")).volumes
    assert (found.id, found.iops.frozened, found.iops.total_val) == (volume_id, False, 3000)
    assert client.list_volumes(evs.ListVolumesRequest(dedicated_storage_id="pool")).count == 0
    assert [version.id for version in client.list_versions(evs.ListVersionsRequest()).versions] == [
        "v1.0",
        "v2.0",
        "v3.0",
    ]
    [version] = client.show_version(evs.ShowVersionRequest(version="v3")).versions
    assert (version.status, version.media_types[0].base) == ("CURRENT", "application/json")
