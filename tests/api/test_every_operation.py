"""
Every operation of the unmodified official SDK against a running service, each with its effect.

A story names in its mark ``operations`` those whose effect it shows, and fails when it has not called one of them.
Together the stories name all that the SDK has: ``docs/reference/operations.md`` is the table of them.
"""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import huaweicloudsdkevs.v2 as evs
import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from orders import new_server
from running import Site, running_site, wait_until
from sdk import Calls, evs_client, new_credentials, sdk_operations

from onecut.clock import JumpingClock, SystemClock
from onecut.db.volumes import Volume
from onecut.engine.memory import MemoryEngine
from onecut.engine.port import Limits
from onecut.service import quotas
from onecut.units import MiB

ALWAYS_REFUSED = {"change_volume_charge_mode"}
"""Operations that answer a documented error and nothing else."""

ZONE = "az1"

PERFORMANCE: dict[str, dict[str, int]] = {
    "SAS": {}, "GPSSD": {}, "SSD": {}, "ESSD": {},
    "GPSSD2": {"iops": 3000, "throughput": 125}, "ESSD2": {"iops": 100},
}  # fmt: skip
"""The types that are offered, and what has to be asked for with each."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for all stories; none relies on what another left."""
    with running_site(tmp_path_factory.mktemp("data")) as site:
        yield site


@pytest.fixture(autouse=True)
def calls(request: pytest.FixtureRequest) -> Iterator[Calls]:
    """What the story calls; at its end all that its mark names must be there."""
    calls = Calls()
    yield calls
    named = operations_of(request.function)
    assert named - calls.answered - (calls.refused & ALWAYS_REFUSED) == set()


@pytest.fixture
def client(site: Site, calls: Calls) -> Any:
    """An SDK client of the first project."""
    return calls.noted(evs_client(site.credentials))


def operations_of(story: Callable[..., None]) -> set[str]:
    """Return the operations whose effect a story shows."""
    return {name for mark in getattr(story, "pytestmark", ()) if mark.name == "operations" for name in mark.args}


def done(client: Any, job_id: str) -> Any:
    """Wait for the end of a job as the SDK's users do, and return the job, which must have succeeded."""
    ask = evs.ShowJobRequest(job_id=job_id)
    wait_until(lambda: client.show_job(ask).status in {"SUCCESS", "FAIL"}, f"the end of job {job_id}")
    job = client.show_job(ask)
    assert (job.status, job.job_id) == ("SUCCESS", job_id), job
    return job


def new_disks(client: Any, count: int = 1, **fields: Any) -> list[str]:
    """Make volumes, and return their ids."""
    wanted = {"availability_zone": ZONE, "volume_type": "SSD", "size": 10, "name": "disk", "count": count} | fields
    body = evs.CreateVolumeRequestBody(volume=evs.CreateVolumeOption(**wanted))
    made = client.create_volume(evs.CreateVolumeRequest(body=body))
    done(client, made.job_id)
    volume_ids: list[str] = made.volume_ids
    return volume_ids


def shown(client: Any, volume_id: str) -> Any:
    """Show a volume."""
    return client.show_volume(evs.ShowVolumeRequest(volume_id=volume_id)).volume


def is_unknown(show: Callable[[Any], Any], request: Any) -> bool:
    """Say whether what is asked for is not there; every other refusal is raised."""
    try:
        show(request)
    except ClientRequestException as refusal:
        if (refusal.status_code, refusal.error_code) == (404, "EVS.5404"):
            return True
        raise
    return False


def memory(site: Site) -> MemoryEngine:
    """Return the engine, which knows what volumes hold."""
    assert isinstance(site.engine, MemoryEngine)
    return site.engine


@pytest.mark.operations(
    "create_volume", "list_volumes", "show_volume", "update_volume", "resize_volume", "batch_resize_volumes",
    "delete_volume", "show_job",
)  # fmt: skip
def test_volumes(client: Any) -> None:
    """Two are made by one call, listed, shown, renamed, extended one by one and together, and deleted."""
    option = evs.CreateVolumeOption(
        availability_zone=ZONE, volume_type="SSD", size=10, name="data", count=2, metadata={"a": "b"}
    )
    made = client.create_volume(evs.CreateVolumeRequest(body=evs.CreateVolumeRequestBody(volume=option)))
    job = done(client, made.job_id)
    first, second = made.volume_ids
    assert job.job_type == "batchCreateVolume"
    assert [(sub.status, sub.entities.volume_id) for sub in job.entities.sub_jobs] == [
        ("SUCCESS", first), ("SUCCESS", second),
    ]  # fmt: skip

    listed = client.list_volumes(evs.ListVolumesRequest(ids=str(made.volume_ids)))
    assert listed.count == 2
    assert {each.id: each.name for each in listed.volumes} == {first: "data-0001", second: "data-0002"}
    volume = shown(client, first)
    assert (volume.name, volume.size, volume.status, volume.volume_type) == ("data-0001", 10, "available", "SSD")
    assert volume.metadata["a"] == "b"

    change = evs.UpdateVolumeRequestBody(volume=evs.UpdateVolumeOption(name="log", description="text"))
    assert client.update_volume(evs.UpdateVolumeRequest(volume_id=first, body=change)).name == "log"
    assert (shown(client, first).name, shown(client, first).description) == ("log", "text")

    extend = evs.ResizeVolumeRequestBody(os_extend=evs.OsExtend(new_size=11))
    done(client, client.resize_volume(evs.ResizeVolumeRequest(volume_id=first, body=extend)).job_id)
    assert [shown(client, each).size for each in (first, second)] == [11, 10]
    wanted = [evs.VolumesForBatchResizeVolume(first, 20), evs.VolumesForBatchResizeVolume(second, 30)]
    several = evs.BatchResizeVolumeRequestBody(volumes=wanted)
    done(client, client.batch_resize_volumes(evs.BatchResizeVolumesRequest(body=several)).job_id)
    assert [shown(client, each).size for each in (first, second)] == [20, 30]

    done(client, client.delete_volume(evs.DeleteVolumeRequest(volume_id=first)).job_id)
    assert is_unknown(client.show_volume, evs.ShowVolumeRequest(volume_id=first))
    assert shown(client, second).status == "available"


@pytest.mark.operations("modify_volume_qo_s", "retype_volume")
def test_performance(site: Site, client: Any) -> None:
    """What is asked for is shown, and is in force at the engine."""
    (volume_id,) = new_disks(client, volume_type="GPSSD2", iops=3000, throughput=125)
    assert memory(site).limits(volume_id) == Limits(3000, 125 * MiB)

    faster = evs.ModifyVolumeQoSRequestBody(evs.ModifyVolumeQoSOption(iops=4000, throughput=200))
    done(client, client.modify_volume_qo_s(evs.ModifyVolumeQoSRequest(volume_id, faster)).job_id)
    volume = shown(client, volume_id)
    assert (volume.iops.total_val, volume.throughput.total_val) == (4000, 200)
    assert memory(site).limits(volume_id) == Limits(4000, 200 * MiB)

    other = evs.RetypeVolumeRequestBody(os_retype=evs.RetypeVolume(new_type="ESSD2", iops=100))
    done(client, client.retype_volume(evs.RetypeVolumeRequest(volume_id=volume_id, body=other)).job_id)
    volume = shown(client, volume_id)
    assert (volume.volume_type, volume.iops.total_val) == ("ESSD2", 100)
    assert memory(site).limits(volume_id) == Limits(100)


@pytest.mark.operations("unsubscribe_postpaid_volume", "change_volume_charge_mode")
def test_billing(site: Site, client: Any) -> None:
    """There is none: an unsubscribed volume is deleted, and the mode of charging is refused and stays."""
    gone = new_disks(client, 2)
    body = evs.UnsubscribeVolumeRequestBody(volume_ids=gone)
    (answer,) = client.unsubscribe_postpaid_volume(evs.UnsubscribePostpaidVolumeRequest(body=body)).body
    assert answer["results"] == [{"volume_id": each, "result": "SUCCESS"} for each in gone]
    done(client, answer["job_id"])
    for volume_id in gone:
        assert is_unknown(client.show_volume, evs.ShowVolumeRequest(volume_id=volume_id))

    server_id = new_server(site)
    option = evs.CreateVolumeOption(availability_zone=ZONE, volume_type="SSD", size=10)
    create = evs.CreateVolumeRequestBody(volume=option, server_id=server_id)
    made = client.create_volume(evs.CreateVolumeRequest(body=create))
    done(client, made.job_id)
    before = shown(client, made.volume_ids[0])
    charge = evs.ChangeVolumeChargeModeRequestBody(made.volume_ids, server_id, evs.BssParam2(is_auto_pay=True))
    with pytest.raises(ClientRequestException) as refusal:
        client.change_volume_charge_mode(evs.ChangeVolumeChargeModeRequest(body=charge))
    assert (refusal.value.status_code, refusal.value.error_code) == (400, "EVS.2147")
    assert refusal.value.error_msg == "volume_ids: Onecut bills nothing; there is no charging mode but postPaid"
    assert shown(client, made.volume_ids[0]) == before


@pytest.mark.operations(
    "batch_create_volume_tags", "batch_delete_volume_tags", "show_volume_tags", "list_volume_tags",
    "list_volumes_by_tags",
)  # fmt: skip
def test_volume_tags(client: Any) -> None:
    """They are added, shown, listed for the project, found by, and removed."""
    tagged, plain = new_disks(client, 2)
    add = evs.BatchCreateVolumeTagsRequestBody(action="create", tags=[evs.Tag("env", "prod"), evs.Tag("team", "db")])
    client.batch_create_volume_tags(evs.BatchCreateVolumeTagsRequest(volume_id=tagged, body=add))
    told = client.show_volume_tags(evs.ShowVolumeTagsRequest(volume_id=tagged)).tags
    assert {tag.key: tag.value for tag in told} == {"env": "prod", "team": "db"}
    assert client.show_volume_tags(evs.ShowVolumeTagsRequest(volume_id=plain)).tags == []
    assert client.list_volume_tags(evs.ListVolumeTagsRequest()).tags == {"env": ["prod"], "team": ["db"]}

    wanted = evs.ListVolumesByTagsRequestBody(
        action="filter", limit=10, offset=0, tags=[evs.TagsForListVolumes("env", ["prod", "test"])]
    )
    found = client.list_volumes_by_tags(evs.ListVolumesByTagsRequest(body=wanted))
    assert (found.total_count, [each.resource_id for each in found.resources]) == (1, [tagged])
    assert found.resources[0].resource_detail.status == "available"

    remove = evs.BatchDeleteVolumeTagsRequestBody(action="delete", tags=[evs.DeleteTagsOption("team")])
    client.batch_delete_volume_tags(evs.BatchDeleteVolumeTagsRequest(volume_id=tagged, body=remove))
    assert shown(client, tagged).tags == {"env": "prod"}
    assert client.list_volume_tags(evs.ListVolumeTagsRequest()).tags == {"env": ["prod"]}


@pytest.mark.operations(
    "update_recycle_policy", "show_recycle_policy", "list_volumes_in_recycle", "show_volume_in_recycle",
    "revert_volume_in_recycle", "delete_volume_in_recycle",
)  # fmt: skip
def test_recycle_bin(site: Site, client: Any) -> None:
    """Switched on, it takes what is deleted; one volume comes back with its data, the other is destroyed."""
    back, ended = new_disks(client, 2)
    memory(site).write(back, 0, b"kept")
    with site.database.writing() as session:  # what is younger than a week is not kept
        for volume_id in (back, ended):
            session.get_one(Volume, volume_id).created_at = SystemClock().now() - timedelta(days=9)
    switch_bin(client, on=True)
    policy = client.show_recycle_policy(evs.ShowRecyclePolicyRequest())
    assert (policy.switch, policy.threshold_time, policy.keep_time) == (True, 8, 30)

    for volume_id in (back, ended):
        client.delete_volume(evs.DeleteVolumeRequest(volume_id=volume_id))
        assert is_unknown(client.show_volume, evs.ShowVolumeRequest(volume_id=volume_id))
    assert in_bin(client) == {back, ended}
    binned = client.show_volume_in_recycle(evs.ShowVolumeInRecycleRequest(volume_id=back)).volume
    assert (binned.id, binned.status, binned.size) == (back, "pending-destroy", 10)
    kept_for = datetime.fromisoformat(binned.plan_delete_at) - datetime.fromisoformat(binned.pre_deleted_at)
    assert kept_for == timedelta(days=30)

    client.revert_volume_in_recycle(evs.RevertVolumeInRecycleRequest(volume_id=back))
    assert (shown(client, back).status, in_bin(client)) == ("available", {ended})
    assert memory(site).read(back, 0, 4) == b"kept"
    client.delete_volume_in_recycle(evs.DeleteVolumeInRecycleRequest(volume_id=ended))
    wait_until(lambda: in_bin(client) == set(), "the end of the volume")
    assert is_unknown(client.show_volume_in_recycle, evs.ShowVolumeInRecycleRequest(volume_id=ended))

    switch_bin(client, on=False)
    assert client.show_recycle_policy(evs.ShowRecyclePolicyRequest()).switch is False
    done(client, client.delete_volume(evs.DeleteVolumeRequest(volume_id=back)).job_id)
    assert in_bin(client) == set()


def switch_bin(client: Any, *, on: bool) -> None:
    """Switch the recycle bin on or off."""
    policy = evs.ModifyRecycleBinPolicyRequestBody(switch=on, threshold_time=8, keep_time=30)
    client.update_recycle_policy(evs.UpdateRecyclePolicyRequest(body=policy))


def in_bin(client: Any) -> set[str]:
    """Return the ids of the volumes in the recycle bin."""
    listed = client.list_volumes_in_recycle(evs.ListVolumesInRecycleRequest(limit=1000))
    assert listed.count == len(listed.volumes)
    return {volume.id for volume in listed.volumes}


@pytest.mark.operations(
    "cinder_create_volume_transfer", "cinder_list_volume_transfers", "cinder_show_volume_transfer",
    "cinder_delete_volume_transfer", "cinder_accept_volume_transfer",
)  # fmt: skip
def test_transfers(site: Site, client: Any, calls: Calls) -> None:
    """One offer is taken back; another is accepted by a second project, which has the volume from then on."""
    tenant = site.second_tenant()
    other = calls.noted(evs_client(new_credentials(site, tenant)))
    (volume_id,) = new_disks(client)
    withdrawn = offer(client, volume_id)
    assert (len(withdrawn.auth_key), shown(client, volume_id).status) == (43, "awaiting-transfer")
    client.cinder_delete_volume_transfer(evs.CinderDeleteVolumeTransferRequest(transfer_id=withdrawn.id))
    assert (offered(client), shown(client, volume_id).status) == ([], "available")
    assert is_unknown(other.cinder_accept_volume_transfer, acceptance(withdrawn))

    made = offer(client, volume_id)
    assert offered(client) == [(made.id, "for you", volume_id)]
    request = evs.CinderShowVolumeTransferRequest(transfer_id=made.id)
    told = client.cinder_show_volume_transfer(request).transfer
    assert (told.volume_id, told.created_at) == (volume_id, made.created_at)
    assert other.cinder_accept_volume_transfer(acceptance(made)).transfer.volume_id == volume_id
    theirs = shown(other, volume_id)
    assert (theirs.status, theirs.os_vol_tenant_attrtenant_id) == ("available", tenant.project_id)
    assert is_unknown(client.show_volume, evs.ShowVolumeRequest(volume_id=volume_id))
    assert offered(client) == []


def offer(client: Any, volume_id: str) -> Any:
    """Offer a volume to whoever has the key."""
    option = evs.CreateVolumeTransferOption(name="for you", volume_id=volume_id)
    body = evs.CinderCreateVolumeTransferRequestBody(transfer=option)
    return client.cinder_create_volume_transfer(evs.CinderCreateVolumeTransferRequest(body=body)).transfer


def offered(client: Any) -> list[tuple[str, str, str]]:
    """List what the project offers: transfer, name, volume."""
    listed = client.cinder_list_volume_transfers(evs.CinderListVolumeTransfersRequest(limit=1000, offset=0))
    return [(each.id, each.name, each.volume_id) for each in listed.transfers]


def acceptance(made: Any) -> Any:
    """Build the request that accepts an offer."""
    option = evs.CinderAcceptVolumeTransferOption(auth_key=made.auth_key)
    body = evs.CinderAcceptVolumeTransferRequestBody(accept=option)
    return evs.CinderAcceptVolumeTransferRequest(transfer_id=made.id, body=body)


@pytest.mark.operations(
    "create_standard_snapshot", "list_snapshots_details", "count_snapshots", "show_standard_snapshot",
    "update_standard_snapshot", "rollback_standard_snapshot", "delete_standard_snapshot",
)  # fmt: skip
def test_standard_snapshots(site: Site, client: Any) -> None:
    """One is taken, found, counted, renamed, gives a volume and its source back what they held, and is deleted."""
    (volume_id,) = new_disks(client)
    memory(site).write(volume_id, 0, b"before")
    snapshot_id = take(client, volume_id, name="first", retention_days=3)
    snapshot = standard(client, snapshot_id)
    assert (snapshot.name, snapshot.volume_id, snapshot.status) == ("first", volume_id, "available")
    assert (snapshot.category, snapshot.size, snapshot.incremental) == ("standard", 10, True)
    until = datetime.fromisoformat(snapshot.retention_at) - datetime.fromisoformat(snapshot.created_at)
    assert until == timedelta(days=3)
    listed = client.list_snapshots_details(evs.ListSnapshotsDetailsRequest(volume_id=volume_id, name="first"))
    assert [each.to_dict() for each in listed.snapshots] == [snapshot.to_dict()]
    assert client.count_snapshots(evs.CountSnapshotsRequest(volume_id=volume_id)).count == 1
    assert client.count_snapshots(evs.CountSnapshotsRequest(volume_id=volume_id, name="second")).count == 0

    change = evs.UpdateSnapshotRequestBodyV5(snapshot=evs.CinderUpdateSnapshotOptionV5(name="second"))
    client.update_standard_snapshot(evs.UpdateStandardSnapshotRequest(snapshot_id=snapshot_id, body=change))
    assert standard(client, snapshot_id).name == "second"

    memory(site).write(volume_id, 0, b"after!")
    (copy,) = new_disks(client, snapshot_id=snapshot_id)
    assert memory(site).read(copy, 0, 6) == b"before"
    back = evs.RollbackSnapshotRequestBodyV5(rollback=evs.RollbackSnapshotRequestBodyNew(volume_id=volume_id))
    request = evs.RollbackStandardSnapshotRequest(snapshot_id=snapshot_id, body=back)
    done(client, client.rollback_standard_snapshot(request).job_id)
    assert (memory(site).read(volume_id, 0, 6), shown(client, volume_id).status) == (b"before", "available")

    gone = client.delete_standard_snapshot(evs.DeleteStandardSnapshotRequest(snapshot_id=snapshot_id))
    done(client, gone.job_id)
    assert is_unknown(client.show_standard_snapshot, evs.ShowStandardSnapshotRequest(snapshot_id=snapshot_id))
    assert client.count_snapshots(evs.CountSnapshotsRequest(volume_id=volume_id)).count == 0


def take(client: Any, volume_id: str, **fields: Any) -> str:
    """Take a standard snapshot, and return its id once it is available."""
    wanted = {"name": "snapshot"} | fields
    body = evs.CreateStandardSnapshotRequestBody(snapshot=evs.CreateStandardSnapshot(volume_id=volume_id, **wanted))
    taken = client.create_standard_snapshot(evs.CreateStandardSnapshotRequest(body=body))
    done(client, taken.job_id)
    snapshot_id: str = taken.snapshot_id
    return snapshot_id


def standard(client: Any, snapshot_id: str) -> Any:
    """Show a standard snapshot."""
    return client.show_standard_snapshot(evs.ShowStandardSnapshotRequest(snapshot_id=snapshot_id)).snapshot


@pytest.mark.operations("batch_create_snapshot_tags", "batch_delete_snapshot_tags", "list_snapshot_tags")
def test_snapshot_tags(client: Any) -> None:
    """They are added, listed for the project, found by, and removed."""
    (volume_id,) = new_disks(client)
    snapshot_id = take(client, volume_id, tags={"env": "prod"})
    take(client, volume_id)
    add = evs.BatchCreateResourceTagsRequestBody(tags=[evs.CreateResourceTag("team", "db")])
    client.batch_create_snapshot_tags(evs.BatchCreateSnapshotTagsRequest(snapshot_id=snapshot_id, body=add))
    assert standard(client, snapshot_id).tags == {"env": "prod", "team": "db"}
    assert tag_values(client.list_snapshot_tags(evs.ListSnapshotTagsRequest())) == {"env": ["prod"], "team": ["db"]}
    found = client.list_snapshots_details(evs.ListSnapshotsDetailsRequest(tags='{"team":"db"}')).snapshots
    assert [snapshot.id for snapshot in found] == [snapshot_id]

    remove = evs.BatchDeleteResourceTagsRequestBody(tags=[evs.DeleteResourceTag("team", "db")])
    client.batch_delete_snapshot_tags(evs.BatchDeleteSnapshotTagsRequest(snapshot_id=snapshot_id, body=remove))
    assert standard(client, snapshot_id).tags == {"env": "prod"}
    assert tag_values(client.list_snapshot_tags(evs.ListSnapshotTagsRequest())) == {"env": ["prod"]}


def tag_values(answer: Any) -> dict[str, list[str]]:
    """Return the values of each key."""
    return {tag.key: tag.value for tag in answer.tags}


@pytest.mark.operations(
    "create_snapshot", "list_snapshots", "show_snapshot", "update_snapshot", "rollback_snapshot", "delete_snapshot"
)
def test_legacy_snapshots(site: Site, client: Any) -> None:
    """One is taken, listed, shown, renamed, gives the volume back what it held, and is deleted; no call has a job."""
    (volume_id,) = new_disks(client)
    memory(site).write(volume_id, 0, b"before")
    option = evs.CreateSnapshotOption(volume_id=volume_id, name="first", metadata={"a": "b"})
    made = client.create_snapshot(evs.CreateSnapshotRequest(body=evs.CreateSnapshotRequestBody(snapshot=option)))
    request = evs.ShowSnapshotRequest(snapshot_id=made.snapshot.id)
    wait_until(lambda: client.show_snapshot(request).snapshot.status == "available", "the legacy snapshot")
    snapshot = client.show_snapshot(request).snapshot
    assert (snapshot.name, snapshot.volume_id, snapshot.size) == ("first", volume_id, 10)
    assert (snapshot.metadata, snapshot.os_extended_snapshot_attributesprogress) == ({"a": "b"}, "100%")
    listed = client.list_snapshots(evs.ListSnapshotsRequest(volume_id=volume_id))
    assert (listed.count, [each.id for each in listed.snapshots]) == (1, [snapshot.id])

    change = evs.UpdateSnapshotRequestBody(snapshot=evs.UpdateSnapshotOption(name="second"))
    client.update_snapshot(evs.UpdateSnapshotRequest(snapshot_id=snapshot.id, body=change))
    assert client.show_snapshot(request).snapshot.name == "second"

    memory(site).write(volume_id, 0, b"after!")
    body = evs.RollbackSnapshotRequestBody(rollback=evs.RollbackSnapshotOption(volume_id=volume_id))
    back = client.rollback_snapshot(evs.RollbackSnapshotRequest(snapshot_id=snapshot.id, body=body))
    assert back.rollback.volume_id == volume_id
    wait_until(lambda: shown(client, volume_id).status == "available", "the end of the rollback")
    assert memory(site).read(volume_id, 0, 6) == b"before"

    client.delete_snapshot(evs.DeleteSnapshotRequest(snapshot_id=snapshot.id))
    wait_until(lambda: is_unknown(client.show_snapshot, request), "the end of the legacy snapshot")
    assert client.list_snapshots(evs.ListSnapshotsRequest(volume_id=volume_id)).count == 0


@pytest.mark.operations(
    "create_snapshot_group", "list_snapshot_group", "count_snapshots_group", "show_snapshot_group",
    "update_snapshot_group", "delete_snapshot_group",
)  # fmt: skip
def test_snapshot_groups(site: Site, client: Any) -> None:
    """One cut of two volumes is found, counted, renamed, gives both back what they held, and is deleted whole."""
    volume_ids = new_disks(client, 2)
    for volume_id in volume_ids:
        memory(site).write(volume_id, 0, b"before")
    group_id = take_group(client, volume_ids, "nightly")
    group = shown_group(client, group_id)
    assert (group.name, group.status, group.tags) == ("nightly", "available", {"made": "nightly"})
    listed = client.list_snapshot_group(evs.ListSnapshotGroupRequest(name="nightly")).snapshot_groups
    assert [each.to_dict() for each in listed] == [group.to_dict()]
    assert client.count_snapshots_group(evs.CountSnapshotsGroupRequest(name="nightly")).count == 1

    change = evs.UpdateSnapshotGroupRequestBody(snapshot_group=evs.UpdateSnapshotGroupResponseBody(name="weekly"))
    client.update_snapshot_group(evs.UpdateSnapshotGroupRequest(snapshot_group_id=group_id, body=change))
    assert shown_group(client, group_id).name == "weekly"
    assert client.count_snapshots_group(evs.CountSnapshotsGroupRequest(name="nightly")).count == 0

    members = client.list_snapshots_details(evs.ListSnapshotsDetailsRequest(snapshot_group_id=group_id)).snapshots
    assert {member.volume_id for member in members} == set(volume_ids)
    for member in members:
        memory(site).write(member.volume_id, 0, b"after!")
        new_body = evs.RollbackSnapshotRequestBodyNew(volume_id=member.volume_id)
        request = evs.RollbackStandardSnapshotRequest(
            snapshot_id=member.id, body=evs.RollbackSnapshotRequestBodyV5(rollback=new_body)
        )
        done(client, client.rollback_standard_snapshot(request).job_id)
    assert [memory(site).read(volume_id, 0, 6) for volume_id in volume_ids] == [b"before", b"before"]

    done(client, client.delete_snapshot_group(evs.DeleteSnapshotGroupRequest(snapshot_group_id=group_id)).job_id)
    assert is_unknown(client.show_snapshot_group, evs.ShowSnapshotGroupRequest(snapshot_group_id=group_id))
    for volume_id in volume_ids:
        assert client.count_snapshots(evs.CountSnapshotsRequest(volume_id=volume_id)).count == 0


def take_group(client: Any, volume_ids: list[str], name: str) -> str:
    """Take one cut across volumes, and return the group's id once it is available."""
    option = evs.SnapshotGroup(volume_ids=volume_ids, name=name, tags={"made": name})
    body = evs.CreateSnapshotGroupRequestBody(snapshot_group=option)
    taken = client.create_snapshot_group(evs.CreateSnapshotGroupRequest(body=body))
    done(client, taken.job_id)
    group_id: str = taken.snapshot_group_id
    return group_id


def shown_group(client: Any, group_id: str) -> Any:
    """Show a snapshot group."""
    return client.show_snapshot_group(evs.ShowSnapshotGroupRequest(snapshot_group_id=group_id)).snapshot_group


@pytest.mark.operations(
    "batch_create_snapshot_group_tag", "batch_delete_snapshot_group_tag", "list_snapshot_group_tags"
)
def test_snapshot_group_tags(client: Any) -> None:
    """They are added, listed for the project, found by, and removed."""
    group_id = take_group(client, new_disks(client), "tagged")
    add = evs.BatchCreateResourceTagsRequestBody(tags=[evs.CreateResourceTag("team", "db")])
    client.batch_create_snapshot_group_tag(
        evs.BatchCreateSnapshotGroupTagRequest(snapshot_group_id=group_id, body=add)
    )
    assert shown_group(client, group_id).tags == {"made": "tagged", "team": "db"}
    listed = tag_values(client.list_snapshot_group_tags(evs.ListSnapshotGroupTagsRequest()))
    assert (listed["team"], "tagged" in listed["made"]) == (["db"], True)
    assert client.count_snapshots_group(evs.CountSnapshotsGroupRequest(tag_key="team")).count == 1

    remove = evs.BatchDeleteResourceTagsRequestBody(tags=[evs.DeleteResourceTag("team", "db")])
    client.batch_delete_snapshot_group_tag(
        evs.BatchDeleteSnapshotGroupTagRequest(snapshot_group_id=group_id, body=remove)
    )
    assert shown_group(client, group_id).tags == {"made": "tagged"}
    assert "team" not in tag_values(client.list_snapshot_group_tags(evs.ListSnapshotGroupTagsRequest()))


@pytest.mark.operations("list_snapshot_chains", "count_snapshot_chains")
def test_snapshot_chains(client: Any) -> None:
    """A volume's snapshots are in one chain; a full one begins another; a chain goes with its last snapshot."""
    (volume_id,) = new_disks(client)
    first, second = take(client, volume_id), take(client, volume_id)
    third = take(client, volume_id, incremental=False)
    chains = client.list_snapshot_chains(evs.ListSnapshotChainsRequest(volume_id=volume_id)).snapshot_chains
    chain_of = {each: standard(client, each).snapshot_chains[0].id for each in (first, second, third)}
    assert {chain.id: chain.snapshot_count for chain in chains} == {chain_of[first]: 2, chain_of[third]: 1}
    assert chain_of[first] == chain_of[second]
    assert {(chain.volume_id, chain.availability_zone) for chain in chains} == {(volume_id, ZONE)}
    assert count_chains(client, volume_id) == 2
    page = evs.ListSnapshotChainsRequest(volume_id=volume_id, category="standard", limit=1, marker=chains[0].id)
    assert client.list_snapshot_chains(page).snapshot_chains == chains[1:]

    gone = client.delete_standard_snapshot(evs.DeleteStandardSnapshotRequest(snapshot_id=third))
    done(client, gone.job_id)
    left = client.list_snapshot_chains(evs.ListSnapshotChainsRequest(volume_id=volume_id)).snapshot_chains
    assert [chain.id for chain in left] == [chain_of[first]]
    assert count_chains(client, volume_id) == 1


def count_chains(client: Any, volume_id: str) -> int:
    """Count a volume's snapshot chains."""
    count: int = client.count_snapshot_chains(evs.CountSnapshotChainsRequest(volume_id=volume_id)).count
    return count


@pytest.mark.operations(
    "create_auto_snapshot_policy", "list_auto_snapshot_policy", "count_auto_snapshot_policies",
    "show_auto_snapshot_policy", "update_auto_snapshot_policy", "delete_auto_snapshot_policy",
    "associate_auto_snapshot_policy", "disassociate_auto_snapshot_policy",
)  # fmt: skip
def test_snapshot_policies(tmp_path: Path, calls: Calls) -> None:
    """
    On the hour that an update set, the associated volume gets a snapshot, and keeps it as long as the update says.

    A volume that was disassociated gets none, nor does one whose policy was deleted.
    """
    clock = JumpingClock(datetime.now(UTC))
    with running_site(tmp_path, clock=clock) as site:
        client = calls.noted(evs_client(site.credentials))
        kept, left, orphan = new_disks(client, 3)
        policy_id, deleted_id = new_policy(client, "nightly"), new_policy(client, "deleted")
        assert policies(client) == {policy_id: "nightly", deleted_id: "deleted"}
        assert client.count_auto_snapshot_policies(evs.CountAutoSnapshotPoliciesRequest(name="nightly")).count == 1

        every_hour = [str(hour) for hour in range(24)]
        wanted = evs.UpdateSnapshotPolicy(repeat_interval_days=1, time_points=every_hour, retention_days=2)
        change = evs.UpdateSnapshotPolicyRequestBody(snapshot_policy=wanted)
        for each in (policy_id, deleted_id):
            client.update_auto_snapshot_policy(
                evs.UpdateAutoSnapshotPolicyRequest(snapshot_policy_id=each, body=change)
            )
        request = evs.ShowAutoSnapshotPolicyRequest(snapshot_policy_id=policy_id)
        policy = client.show_auto_snapshot_policy(request).snapshot_policy
        assert (policy.time_points, policy.retention_days, policy.repeat_weekdays) == (every_hour, 2, None)

        for each, volume_ids in ((policy_id, [kept, left]), (deleted_id, [orphan])):
            client.associate_auto_snapshot_policy(
                evs.AssociateAutoSnapshotPolicyRequest(snapshot_policy_id=each, body=volume_ids)
            )
        client.disassociate_auto_snapshot_policy(
            evs.DisassociateAutoSnapshotPolicyRequest(snapshot_policy_id=policy_id, body=[left])
        )
        client.delete_auto_snapshot_policy(evs.DeleteAutoSnapshotPolicyRequest(snapshot_policy_id=deleted_id))
        assert policies(client) == {policy_id: "nightly"}

        clock.jump(timedelta(hours=1))  # signed requests are too old from here on; a token is not
        wait_until(lambda: taken(site) != [], "the snapshot on the hour")
        wait_until(lambda: {each["status"] for each in taken(site)} == {"available"}, "the end of the cut")
        assert [(each["volume_id"], each["snapshot_type"]) for each in taken(site)] == [(kept, "auto")]
        (snapshot,) = taken(site)
        until = datetime.fromisoformat(snapshot["retention_at"]) - datetime.fromisoformat(snapshot["created_at"])
        assert until == timedelta(days=2)


def new_policy(client: Any, name: str) -> str:
    """Make a policy that is due once a week, and return its id."""
    wanted = evs.CreateSnapshotPolicy(name=name, repeat_weekdays=["1"], time_points=["1"], retention_days=30)
    body = evs.CreateSnapshotPolicyRequestBody(snapshot_policy=wanted)
    made = client.create_auto_snapshot_policy(evs.CreateAutoSnapshotPolicyRequest(body=body)).snapshot_policy
    assert (made.name, made.repeat_weekdays, made.time_points, made.retention_days) == (name, ["1"], ["1"], 30)
    policy_id: str = made.id
    return policy_id


def policies(client: Any) -> dict[str, str]:
    """List the policies' names by id."""
    listed = client.list_auto_snapshot_policy(evs.ListAutoSnapshotPolicyRequest()).snapshot_policies
    return {policy.id: policy.name for policy in listed}


def taken(site: Site) -> list[dict[str, Any]]:
    """List all snapshots, by a token."""
    found: list[dict[str, Any]] = site.call("GET", "/v5/{p}/snapshots/detail", 200)["snapshots"]
    return found


@pytest.mark.operations("cinder_list_quotas")
def test_quotas(site: Site, client: Any) -> None:
    """A limit that was set is told, and what new volumes take of it."""
    with site.database.writing() as session:
        quotas.set_limit(session, site.project_id, "snapshots", 777)
    request = evs.CinderListQuotasRequest(target_project_id=site.project_id, usage="True")
    before = client.cinder_list_quotas(request).quota_set
    assert (before.id, before.snapshots.limit) == (site.project_id, 777)

    new_disks(client, 2, size=11)
    after = client.cinder_list_quotas(request).quota_set
    assert after.volumes.in_use - before.volumes.in_use == 2
    assert after.gigabytes_ssd.in_use - before.gigabytes_ssd.in_use == 22


@pytest.mark.operations("cinder_list_volume_types", "cinder_list_availability_zones", "list_versions", "show_version")
def test_what_there_is(client: Any) -> None:
    """A volume of each type that is not sold out can be made in the zone; each version is told as in their list."""
    (zone,) = client.cinder_list_availability_zones(evs.CinderListAvailabilityZonesRequest()).availability_zone_info
    assert (zone.zone_name, zone.zone_state.available) == (ZONE, True)
    types = client.cinder_list_volume_types(evs.CinderListVolumeTypesRequest()).volume_types
    sold_out = {each.name for each in types if each.extra_specs.os_vendor_extendedsold_out_availability_zones}
    assert {each.name for each in types} - sold_out == PERFORMANCE.keys()
    for name, performance in PERFORMANCE.items():
        volume = shown(client, *new_disks(client, volume_type=name, **performance))
        assert (volume.volume_type, volume.availability_zone) == (name, zone.zone_name)
    for name in sold_out:
        with pytest.raises(ClientRequestException, match=f"{name} is sold out"):
            new_disks(client, volume_type=name)

    versions = client.list_versions(evs.ListVersionsRequest()).versions
    assert [version.id for version in versions] == ["v1.0", "v2.0", "v3.0"]
    for name, version in zip(("v1", "v2", "v3"), versions, strict=True):
        assert client.show_version(evs.ShowVersionRequest(version=name)).versions == [version]


def test_no_operation_is_left_out() -> None:
    """The stories name every operation that the SDK has, each of them once."""
    stories = vars(sys.modules[__name__]).values()
    named = [name for story in stories for name in sorted(operations_of(story))]

    assert sorted(named) == sorted(sdk_operations())
