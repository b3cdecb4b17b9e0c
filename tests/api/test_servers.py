"""Servers and attachments on the wire, as ECS documents them."""

import re
from typing import Any

import pytest
from running import Site

UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"
PLAIN = {"availability_zone": "az1", "volume_type": "SSD", "size": 10}
JOB_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def server(site: Site, **fields: Any) -> str:
    answer = site.call("POST", "/v1/{p}/cloudservers", 200, json={"server": {"name": "db1"} | fields})
    assert set(answer) == {"job_id", "serverIds"}
    return str(answer["serverIds"][0])


def volume(site: Site, server_id: str | None = None, **fields: Any) -> str:
    body = {"volume": PLAIN | fields} | ({"server_id": server_id} if server_id else {})
    answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body)
    site.done(answer)
    return str(answer["volume_ids"][0])


def show_volume(site: Site, volume_id: str) -> dict[str, Any]:
    found: dict[str, Any] = site.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200)["volume"]
    return found


def attach(site: Site, server_id: str, volume_id: str, **fields: Any) -> dict[str, Any]:
    body = {"volumeAttachment": {"volumeId": volume_id} | fields}
    return site.done(site.call("POST", f"/v1/{{p}}/cloudservers/{server_id}/attachvolume", 200, json=body))


def refused(site: Site, method: str, path: str, status: int, code: str, **options: Any) -> str:
    answer = site.call(method, path, status, **options)
    assert answer["error"]["code"] == code, answer
    return str(answer["error"]["message"])


def test_a_server_is_made_shown_listed_and_deleted(site: Site) -> None:
    """ECS's bodies throughout; fields that describe a machine are taken and not kept."""
    server_id = server(
        site, imageRef=UNKNOWN, flavorRef="s6", vpcid=UNKNOWN, nics=[{"subnet_id": UNKNOWN}],
        root_volume={"volumetype": "SSD"}, extendparam={"enterprise_project_id": "0"}, description="d",
    )  # fmt: skip
    found = site.call("GET", f"/v1/{{p}}/cloudservers/{server_id}", 200)["server"]
    expected: dict[str, Any] = {
        "id": server_id, "name": "db1", "description": "d", "status": "ACTIVE", "tenant_id": site.project_id,
        "OS-EXT-AZ:availability_zone": "az1", "OS-EXT-STS:task_state": None,
        "os-extended-volumes:volumes_attached": [],
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["created"])
    assert site.call("GET", "/v1/{p}/cloudservers/detail", 200) == {"count": 1, "servers": [found]}
    body = {"servers": [{"id": server_id}], "delete_publicip": True, "delete_volume": False}
    job = site.done(site.call("POST", "/v1/{p}/cloudservers/delete", 200, json=body))
    assert [sub["entities"] for sub in job["entities"]["sub_jobs"]] == [{"server_id": server_id}]
    refused(site, "GET", f"/v1/{{p}}/cloudservers/{server_id}", 404, "Ecs.0114")


def test_the_job_of_a_creation_names_the_servers(site: Site) -> None:
    """It has succeeded at once, on both job paths."""
    answer = site.call("POST", "/v1/{p}/cloudservers", 200, json={"server": {"name": "db", "count": 2}})
    for version in ("v1", "v2"):
        job = site.call("GET", f"/{version}/{{p}}/jobs/{answer['job_id']}", 200)
        assert job["status"] == "SUCCESS"
        assert [sub["entities"]["server_id"] for sub in job["entities"]["sub_jobs"]] == answer["serverIds"]


def test_servers_are_listed_by_name_and_page(site: Site) -> None:
    """`offset` is the number of the page, as in ECS; 0 and 1 are the first."""
    for name in ("db-a", "db-b", "web"):
        server(site, name=name)

    def names(**query: Any) -> tuple[int, list[str]]:
        answer = site.call("GET", "/v1/{p}/cloudservers/detail", 200, params=query)
        return answer["count"], [found["name"] for found in answer["servers"]]

    assert names(name="db") == (2, ["db-b", "db-a"])
    assert names(limit=2) == names(limit=2, offset=0) == names(limit=2, offset=1) == (3, ["web", "db-b"])
    assert names(limit=2, offset=2) == (3, ["db-a"])
    assert names(status="SHUTOFF") == (0, [])
    refused(site, "GET", "/v1/{p}/cloudservers/detail", 400, "EVS.1023", params={"limit": 0})


def test_an_attached_volume_shows_where_and_how_to_open_it(site: Site) -> None:
    """The volume has the server and the URI; the server has the volume in all its forms; then both forget it."""
    server_id, volume_id = server(site), volume(site)
    job = attach(site, server_id, volume_id, device="/dev/vdb")
    assert (job["job_type"], job["entities"]) == ("attachVolume", {"volume_id": volume_id, "server_id": server_id})
    found = show_volume(site, volume_id)
    [place] = found["attachments"]
    assert found["status"] == "in-use"
    assert set(place) == {
        "id", "attachment_id", "volume_id", "server_id", "device", "host_name", "attached_at", "uri",
    }  # fmt: skip
    expected: dict[str, Any] = {
        "id": volume_id,
        "volume_id": volume_id,
        "server_id": server_id,
        "device": "/dev/vdb",
        "host_name": "db1",
    }
    assert {key: place[key] for key in expected} == expected
    assert place["uri"] == f"nbd+unix:///{place['attachment_id']}?socket=/memory"

    base = f"/v1/{{p}}/cloudservers/{server_id}"
    shown = site.call("GET", base, 200)["server"]["os-extended-volumes:volumes_attached"]
    assert shown == [{"id": volume_id, "device": "/dev/vdb", "bootIndex": None, "delete_on_termination": "false"}]
    device = {
        "id": volume_id, "volumeId": volume_id, "serverId": server_id, "device": "/dev/vdb", "size": 10,
        "bootIndex": None, "pciAddress": "", "bus": "virtio",
    }  # fmt: skip
    assert site.call("GET", base + "/block_device", 200) == {
        "attachableQuantity": {"free_scsi": 127, "free_blk": 127, "free_disk": 127},
        "volumeAttachments": [device],
    }
    assert site.call("GET", f"{base}/block_device/{volume_id}", 200) == {"volumeAttachment": device}
    nova = {"id": volume_id, "volumeId": volume_id, "serverId": server_id, "device": "/dev/vdb"}
    assert site.call("GET", base + "/os-volume_attachments", 200) == {"volumeAttachments": [nova]}
    assert site.call("GET", base + "/appendvolumequota", 200) == {"count": 1, "free_scsi": 127, "free_blk": 127}

    site.done(site.call("DELETE", f"{base}/detachvolume/{volume_id}", 200, params={"delete_flag": "0"}))
    assert (show_volume(site, volume_id)["status"], show_volume(site, volume_id)["attachments"]) == ("available", [])
    refused(site, "GET", f"{base}/block_device/{volume_id}", 404, "EVS.5404")


def test_a_volume_is_made_for_a_server_and_goes_with_it_when_it_says_so(site: Site) -> None:
    """`server_id` attaches at once; `delete_on_termination` takes the volume along, without `delete_volume`."""
    server_id = server(site)
    volume_id = volume(site, server_id)
    assert show_volume(site, volume_id)["attachments"][0]["device"] == "/dev/vda"
    body = {"block_device": {"delete_on_termination": True}}
    assert site.call("PUT", f"/v1/{{p}}/cloudservers/{server_id}/block_device/{volume_id}", 204, json=body) is None
    site.done(site.call("POST", "/v1/{p}/cloudservers/delete", 200, json={"servers": [{"id": server_id}]}))
    refused(site, "GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 404, "EVS.5404")


def test_a_shared_volume_is_attached_and_detached_in_batches(site: Site) -> None:
    """Servers are named by objects or, as the SDK does for detaching, by bare ids."""
    volume_id, servers = volume(site, multiattach=True), [server(site) for _ in range(3)]
    info = {"serverinfo": [{"server_id": server_id} for server_id in servers]}
    job = site.done(site.call("POST", f"/v1/{{p}}/batchaction/attachvolumes/{volume_id}", 200, json=info))
    assert {sub["status"] for sub in job["entities"]["sub_jobs"]} == {"SUCCESS"}
    places = show_volume(site, volume_id)["attachments"]
    assert {place["server_id"] for place in places} == set(servers)
    assert len({place["uri"] for place in places}) == 3
    path = f"/v1/{{p}}/batchaction/detachvolumes/{volume_id}"
    site.done(site.call("POST", path, 200, json={"serverinfo": servers[:1]}))
    site.done(site.call("POST", path, 200, json={"serverinfo": [{"server_id": servers[1]}]}))
    assert [place["server_id"] for place in show_volume(site, volume_id)["attachments"]] == servers[2:]
    assert show_volume(site, volume_id)["status"] == "in-use"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"name": ""}, "EVS.5400"),
        ({"name": "x" * 65}, "EVS.5400"),
        ({"name": 7}, "EVS.5400"),
        ({"count": 501}, "Ecs.0005"),
        ({"availability_zone": "mars"}, "Ecs.0005"),
        ({"data_volumes": [{"volumetype": "SSD"}]}, "Ecs.0005"),
    ],
)
def test_a_server_that_can_not_be_is_refused(site: Site, fields: dict[str, Any], code: str) -> None:
    """A server is made without disks; what would make some is refused, not ignored."""
    refused(site, "POST", "/v1/{p}/cloudservers", 400, code, json={"server": {"name": "db1"} | fields})
    assert site.call("GET", "/v1/{p}/cloudservers/detail", 200)["count"] == 0


def test_what_can_not_be_attached_is_refused_and_stays(site: Site) -> None:
    """Wrong ids, a wrong or taken device, a dry run, a volume that is attached, and detaching what is not."""
    server_id, used = server(site), volume(site)
    volume_id = volume(site)
    attach(site, server_id, used)
    base = f"/v1/{{p}}/cloudservers/{server_id}"

    def body(volume_id: str = volume_id, **fields: Any) -> dict[str, Any]:
        return {"volumeAttachment": {"volumeId": volume_id} | fields}

    cases: list[tuple[str, dict[str, Any], int, str]] = [
        (base, body("x"), 400, "EVS.1002"),
        (base, body(UNKNOWN), 404, "EVS.5404"),
        (base, body(device="vdb"), 400, "EVS.5400"),
        (base, body(device="/dev/vda"), 400, "EVS.2134"),
        (base, body(used), 400, "EVS.5400"),
        (base, body() | {"dry_run": True}, 400, "Ecs.0005"),
        (base, {}, 400, "EVS.5400"),
        (f"/v1/{{p}}/cloudservers/{UNKNOWN}", body(), 404, "Ecs.0114"),
        ("/v1/{p}/cloudservers/x", body(), 400, "Ecs.0005"),
    ]
    for path, sent, status, code in cases:
        refused(site, "POST", path + "/attachvolume", status, code, json=sent)
    refused(site, "DELETE", f"{base}/detachvolume/{volume_id}", 404, "EVS.5404")
    refused(site, "DELETE", f"{base}/detachvolume/{used}", 400, "EVS.5400", params={"delete_flag": "2"})
    for kind in ("attachvolumes", "detachvolumes"):
        path = f"/v1/{{p}}/batchaction/{kind}/{volume_id}"
        refused(site, "POST", path, 400, "EVS.5400", json={"serverinfo": []})
        refused(site, "POST", path, 404, "Ecs.0114", json={"serverinfo": [{"server_id": UNKNOWN}]})
    assert [show_volume(site, found)["status"] for found in (used, volume_id)] == ["in-use", "available"]
    assert site.call("GET", base + "/appendvolumequota", 200)["count"] == 1


def test_a_tenant_never_sees_anothers_servers(site: Site) -> None:
    """Every path answers the other tenant as if there were no such server."""
    server_id, other = server(site), site.second_tenant()
    base = f"/v1/{{p}}/cloudservers/{server_id}"
    for path in ("", "/block_device", f"/block_device/{UNKNOWN}", "/os-volume_attachments", "/appendvolumequota"):
        assert other.call("GET", base + path, 404)["error"]["code"] == "Ecs.0114"
    body = {"servers": [{"id": server_id}]}
    assert other.call("POST", "/v1/{p}/cloudservers/delete", 404, json=body)["error"]["code"] == "Ecs.0114"
    assert other.call("GET", "/v1/{p}/cloudservers/detail", 200)["count"] == 0


def test_a_job_has_all_its_fields_and_an_unknown_one_is_common_0011(site: Site) -> None:
    """Times have milliseconds and a Z; errors are null while there is none."""
    answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": PLAIN})
    job = site.done(answer)
    assert set(job) == {
        "status", "job_id", "job_type", "begin_time", "end_time", "error_code", "fail_reason", "entities",
    }  # fmt: skip
    assert JOB_TIME.fullmatch(job["begin_time"])
    assert JOB_TIME.fullmatch(job["end_time"])
    assert (job["error_code"], job["fail_reason"]) == (None, None)
    [volume_id] = answer["volume_ids"]
    assert job["entities"] == {"volume_id": volume_id, "volume_type": "SSD", "size": 10, "name": ""}
    for version in ("v1", "v2"):
        refused(site, "GET", f"/{version}/{{p}}/jobs/{UNKNOWN}", 400, "Common.0011")
