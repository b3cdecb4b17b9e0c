"""A client that knows HTTP and a password, and nothing else, against a running service with real disks."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from running import DEADLINE_S, POLL_S, Site

from onecut.nbd.client import NbdClient
from onecut.units import KiB

BEFORE, AFTER = b"\x11" * 4 * KiB, b"\xee" * 4 * KiB


@pytest.fixture
def client(real_site: Site) -> Iterator["TokenClient"]:
    """A client with an endpoint, a domain, a user, a password and a region."""
    known = real_site.credentials
    with httpx.Client(base_url=known["endpoint"], trust_env=False, timeout=DEADLINE_S) as http:
        token_client = TokenClient(http)
        token_client.sign_in(known["domain_name"], known["user_name"], known["password"], known["region"])
        yield token_client


class TokenClient:
    """Plain HTTP with a token."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._project_id = ""

    def sign_in(self, domain: str, user: str, password: str, region: str) -> None:
        """Get a token, unscoped; find the region's project by its name; exchange the token for one of the project."""
        person = {"name": user, "password": password, "domain": {"name": domain}}
        self._authenticate({"methods": ["password"], "password": {"user": person}}, {"domain": {"name": domain}})
        projects = self.call("GET", "/v3/auth/projects")["projects"]
        (self._project_id,) = [project["id"] for project in projects if project["name"] == region]
        token = {"methods": ["token"], "token": {"id": self._http.headers["X-Auth-Token"]}}
        self._authenticate(token, {"project": {"id": self._project_id}})

    def call(self, method: str, path: str, body: dict[str, Any] | None = None, **query: str) -> Any:
        """Make a call, which must succeed, and return its answer's JSON."""
        answer = self._http.request(method, path.replace("{p}", self._project_id), json=body, params=query)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def status(self, path: str) -> int:
        """Return the status that a GET is answered with."""
        return self._http.get(path.replace("{p}", self._project_id)).status_code

    def done(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Poll the job of an answer until it has ended, check that it succeeded, and return the job."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            job: dict[str, Any] = self.call("GET", f"/v1/{{p}}/jobs/{answer['job_id']}")
            if job["status"] in {"SUCCESS", "FAIL"}:
                assert job["status"] == "SUCCESS", job
                return job
            assert time.monotonic() < deadline, job
            time.sleep(POLL_S)

    def make_disks(self, server_id: str) -> list[str]:
        """Create two disks at a server."""
        volume = {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "name": "disk", "count": 2}
        made = self.call("POST", "/v2/{p}/cloudvolumes", {"volume": volume})
        self.done(made)
        volume_ids: list[str] = made["volume_ids"]
        for volume_id in volume_ids:
            self.attach(server_id, volume_id)
        return volume_ids

    def make_server(self) -> str:
        """Create a server."""
        made = self.call("POST", "/v1/{p}/cloudservers", {"server": {"name": "db1"}})
        self.done(made)
        server_id: str = made["serverIds"][0]
        return server_id

    def attach(self, server_id: str, volume_id: str) -> None:
        """Attach a disk."""
        body = {"volumeAttachment": {"volumeId": volume_id}}
        self.done(self.call("POST", f"/v1/{{p}}/cloudservers/{server_id}/attachvolume", body))

    def detach(self, server_id: str, volume_id: str) -> None:
        """Detach a disk."""
        self.done(self.call("DELETE", f"/v1/{{p}}/cloudservers/{server_id}/detachvolume/{volume_id}"))

    def take_group(self, server_id: str, name: str) -> str:
        """Take a group of all disks of a server."""
        taken = self.call(
            "POST", "/v5/{p}/snapshot-groups", {"snapshot_group": {"server_id": server_id, "name": name}}
        )
        job = self.done(taken)
        assert len(job["entities"]["sub_jobs"]) == 2
        group_id: str = taken["snapshot_group_id"]
        return group_id

    def members(self, group_id: str) -> list[dict[str, Any]]:
        """List a group's members."""
        found: list[dict[str, Any]] = self.call("GET", "/v5/{p}/snapshots/detail", snapshot_group_id=group_id)[
            "snapshots"
        ]
        return found

    def delete_group(self, group_id: str) -> None:
        """Delete a group, and see that it is gone."""
        self.done(self.call("DELETE", f"/v5/{{p}}/snapshot-groups/{group_id}"))
        assert self.status(f"/v5/{{p}}/snapshot-groups/{group_id}") == 404

    def write(self, volume_ids: list[str], block: bytes) -> None:
        """Write the same block to the beginning of attached disks."""
        for volume_id in volume_ids:
            with NbdClient.connect(self._uri(volume_id)) as disk:
                disk.write(block, 0)

    def read(self, volume_ids: list[str]) -> list[bytes]:
        """Read the first block of attached disks."""
        blocks = []
        for volume_id in volume_ids:
            with NbdClient.connect(self._uri(volume_id)) as disk:
                blocks.append(disk.read(0, 4 * KiB))
        return blocks

    def _uri(self, volume_id: str) -> str:
        uri: str = self.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}")["volume"]["attachments"][0]["uri"]
        return uri

    def _authenticate(self, identity: dict[str, Any], scope: dict[str, Any]) -> None:
        answer = self._http.post("/v3/auth/tokens", json={"auth": {"identity": identity, "scope": scope}})
        assert answer.status_code == 201, answer.text
        self._http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]


def test_disks_are_cut_listed_rolled_back_and_deleted(client: TokenClient) -> None:
    """With a token and plain HTTP, a group's members are rolled back one by one, and the group is deleted."""
    server_id = client.make_server()
    volume_ids = client.make_disks(server_id)
    client.write(volume_ids, BEFORE)
    group_id = client.take_group(server_id, "nightly")
    group = client.call("GET", f"/v5/{{p}}/snapshot-groups/{group_id}")["snapshot_group"]
    assert (group["status"], group["name"]) == ("available", "nightly")
    members = client.members(group_id)
    assert sorted(member["volume_id"] for member in members) == sorted(volume_ids)

    client.write(volume_ids, AFTER)
    for member in members:
        client.detach(server_id, member["volume_id"])
        body = {"rollback": {"volume_id": member["volume_id"]}}
        client.done(client.call("POST", f"/v5/{{p}}/snapshots/{member['id']}/rollback", body))
        client.attach(server_id, member["volume_id"])
    assert client.read(volume_ids) == [BEFORE, BEFORE]

    client.delete_group(group_id)
    assert client.members(group_id) == []


def test_a_group_is_rolled_back_whole_and_the_rollback_undone(client: TokenClient) -> None:
    """All members are given back by one call; the undo group that it made gives the state before it back."""
    server_id = client.make_server()
    volume_ids = client.make_disks(server_id)
    client.write(volume_ids, BEFORE)
    group_id = client.take_group(server_id, "before")
    client.write(volume_ids, AFTER)

    for volume_id in volume_ids:
        client.detach(server_id, volume_id)
    rolled_back = client.call("POST", f"/v5/{{p}}/snapshot-groups/{group_id}/rollback", {"rollback": {}})
    client.done(rolled_back)
    undo_id = rolled_back["undo_snapshot_group_id"]
    for volume_id in volume_ids:
        client.attach(server_id, volume_id)
    assert client.read(volume_ids) == [BEFORE, BEFORE]

    for volume_id in volume_ids:
        client.detach(server_id, volume_id)
    body = {"rollback": {"undo": False}}
    undone = client.call("POST", f"/v5/{{p}}/snapshot-groups/{undo_id}/rollback", body)
    client.done(undone)
    assert undone["undo_snapshot_group_id"] is None
    for volume_id in volume_ids:
        client.attach(server_id, volume_id)
    assert client.read(volume_ids) == [AFTER, AFTER]
    client.delete_group(undo_id)
    client.delete_group(group_id)


def test_new_volumes_hold_what_the_group_holds(client: TokenClient) -> None:
    """Volumes made from all members hold what the disks held at the cut; they and the disks go separate ways."""
    server_id, other_id = client.make_server(), client.make_server()
    volume_ids = client.make_disks(server_id)
    client.write(volume_ids, BEFORE)
    group_id = client.take_group(server_id, "before")
    client.write(volume_ids, AFTER)

    made = client.call("POST", f"/v5/{{p}}/snapshot-groups/{group_id}/volumes", {"volumes": {"server_id": other_id}})
    client.done(made)
    assert client.read(made["volume_ids"]) == [BEFORE, BEFORE]
    client.delete_group(group_id)
    client.write(made["volume_ids"], b"\x33" * 4 * KiB)
    assert client.read(volume_ids) == [AFTER, AFTER]
