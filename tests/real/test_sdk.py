"""The unmodified official SDK against a running service with real disks."""

from typing import Any

import huaweicloudsdkevs.v2 as evs
import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from running import Site, wait_until
from sdk import evs_client

from onecut.nbd.client import NbdClient
from onecut.units import KiB

BEFORE, AFTER = b"\x11" * 4 * KiB, b"\xee" * 4 * KiB


@pytest.fixture
def client(real_site: Site) -> Any:
    """An SDK client of the service with real disks."""
    return evs_client(real_site.credentials)


def wait_for_job(client: evs.EvsClient, job_id: str) -> None:
    """Poll the job as the SDK's users do."""
    wait_until(
        lambda: client.show_job(evs.ShowJobRequest(job_id=job_id)).status in {"SUCCESS", "FAIL"}, f"job {job_id}"
    )
    job = client.show_job(evs.ShowJobRequest(job_id=job_id))
    assert job.status == "SUCCESS", job.fail_reason


def make_disks(client: evs.EvsClient, count: int) -> list[str]:
    """Create disks, and return their ids."""
    volume = evs.CreateVolumeOption(availability_zone="az1", volume_type="SSD", size=10, name="disk", count=count)
    made = client.create_volume(evs.CreateVolumeRequest(body=evs.CreateVolumeRequestBody(volume=volume)))
    wait_for_job(client, made.job_id)
    volume_ids: list[str] = made.volume_ids
    return volume_ids


def members(client: evs.EvsClient, group_id: str) -> list[evs.SnapshotDetailV5]:
    """List a group's members."""
    found: list[evs.SnapshotDetailV5] = client.list_snapshots_details(
        evs.ListSnapshotsDetailsRequest(snapshot_group_id=group_id)
    ).snapshots
    return found


class TestSnapshotGroups:
    def test_disks_are_cut_listed_rolled_back_and_deleted(self, real_site: Site, client: evs.EvsClient) -> None:
        """
        A client of the vendor's takes a group of disks, rolls its members back and deletes it.

        It is given an address, a region and an access key, and the disks hold again what they held at the cut.
        """
        server_id = make_server(real_site)
        volume_ids = make_disks(client, 2)
        write_to_all(real_site, server_id, volume_ids, BEFORE)
        option = evs.SnapshotGroup(
            server_id=server_id, volume_ids=volume_ids, name="nightly", tags={"env": "prod"}, instant_access=True
        )
        body = evs.CreateSnapshotGroupRequestBody(snapshot_group=option)
        taken = client.create_snapshot_group(evs.CreateSnapshotGroupRequest(body=body))
        wait_for_job(client, taken.job_id)
        group = client.show_snapshot_group(
            evs.ShowSnapshotGroupRequest(snapshot_group_id=taken.snapshot_group_id)
        ).snapshot_group
        assert (group.status, group.name, group.tags) == ("available", "nightly", {"env": "prod"})
        found = members(client, group.id)
        assert sorted(member.volume_id for member in found) == sorted(volume_ids)

        overwrite_and_detach(real_site, server_id, volume_ids)
        for member in found:
            rollback = evs.RollbackSnapshotRequestBodyV5(
                rollback=evs.RollbackSnapshotRequestBodyNew(volume_id=member.volume_id)
            )
            back = client.rollback_standard_snapshot(
                evs.RollbackStandardSnapshotRequest(snapshot_id=member.id, body=rollback)
            )
            wait_for_job(client, back.job_id)
        assert read_from_all(real_site, server_id, volume_ids) == [BEFORE, BEFORE]

        gone = client.delete_snapshot_group(evs.DeleteSnapshotGroupRequest(snapshot_group_id=group.id))
        wait_for_job(client, gone.job_id)
        with pytest.raises(ClientRequestException) as refused:
            client.show_snapshot_group(evs.ShowSnapshotGroupRequest(snapshot_group_id=group.id))
        assert (refused.value.status_code, refused.value.error_code) == (404, "EVS.5404")


def make_server(site: Site) -> str:
    """Make a server to attach to."""
    answer = site.call("POST", "/v1/{p}/cloudservers", 200, json={"server": {"name": "db1"}})
    site.done(answer)
    server_id: str = answer["serverIds"][0]
    return server_id


def attach(site: Site, server_id: str, volume_id: str) -> str:
    """Attach a disk, and return its NBD URI."""
    body = {"volumeAttachment": {"volumeId": volume_id}}
    site.done(site.call("POST", f"/v1/{{p}}/cloudservers/{server_id}/attachvolume", 200, json=body))
    uri: str = site.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200)["volume"]["attachments"][0]["uri"]
    return uri


def write_to_all(site: Site, server_id: str, volume_ids: list[str], block: bytes) -> None:
    """Attach disks and write the same block to each."""
    for volume_id in volume_ids:
        with NbdClient.connect(attach(site, server_id, volume_id)) as disk:
            disk.write(block, 0)


def overwrite_and_detach(site: Site, server_id: str, volume_ids: list[str]) -> None:
    """Overwrite attached disks and detach them."""
    for volume_id in volume_ids:
        found = site.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200)["volume"]
        with NbdClient.connect(found["attachments"][0]["uri"]) as disk:
            disk.write(AFTER, 0)
        site.done(site.call("DELETE", f"/v1/{{p}}/cloudservers/{server_id}/detachvolume/{volume_id}", 200))


def read_from_all(site: Site, server_id: str, volume_ids: list[str]) -> list[bytes]:
    """Attach disks and read the first block of each."""
    blocks = []
    for volume_id in volume_ids:
        with NbdClient.connect(attach(site, server_id, volume_id)) as disk:
            blocks.append(disk.read(0, 4 * KiB))
    return blocks
