"""The unmodified official SDK: recycle bin, transfers and quotas, each operation with its effect."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import huaweicloudsdkevs.v2 as evs
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcore.region.region import Region
from orders import new_volumes, volume
from running import Site, Tenant, running_site, wait_until

from onecut.clock import SystemClock
from onecut.db.volumes import Volume
from onecut.service import quotas


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that all tests share; each makes its own volumes."""
    with running_site(tmp_path_factory.mktemp("sdk")) as site:
        yield site


def client_of(site: Site, access_key: str, secret_key: str) -> evs.EvsClient:
    known = site.credentials
    credentials = BasicCredentials(access_key, secret_key).with_iam_endpoint(known["endpoint"])
    region = Region(known["region"], known["endpoint"])
    return evs.EvsClient.new_builder().with_credentials(credentials).with_region(region).build()


@pytest.fixture(scope="module")
def client(site: Site) -> Any:
    """An SDK client of the first project."""
    return client_of(site, site.credentials["access_key"], site.credentials["secret_key"])


def client_of_tenant(site: Site, tenant: Tenant) -> evs.EvsClient:
    token = {"X-Subject-Token": tenant.client.headers["X-Auth-Token"]}
    user_id = tenant.call("GET", "/v3/auth/tokens", 200, headers=token)["token"]["user"]["id"]
    body = {"credential": {"user_id": user_id, "description": ""}}
    made = tenant.call("POST", "/v3.0/OS-CREDENTIAL/credentials", 201, json=body)["credential"]
    return client_of(site, made["access"], made["secret"])


def delete_old_volume(site: Site, client: evs.EvsClient) -> str:
    """Make a volume that is old enough for the bin, and delete it."""
    [volume_id] = new_volumes(site, 1)
    with site.database.writing() as session:
        session.get_one(Volume, volume_id).created_at = SystemClock().now() - timedelta(days=8)
    policy = evs.ModifyRecycleBinPolicyRequestBody(switch=True, threshold_time=7, keep_time=30)
    client.update_recycle_policy(evs.UpdateRecyclePolicyRequest(body=policy))
    client.delete_volume(evs.DeleteVolumeRequest(volume_id=volume_id))
    return volume_id


class TestRecycleBin:
    def test_policy(self, client: evs.EvsClient) -> None:
        """`update_recycle_policy` changes what `show_recycle_policy` tells."""
        for switch, days in ((True, 9), (False, 7)):
            policy = evs.ModifyRecycleBinPolicyRequestBody(switch=switch, threshold_time=days, keep_time=days + 1)
            client.update_recycle_policy(evs.UpdateRecyclePolicyRequest(body=policy))
            shown = client.show_recycle_policy(evs.ShowRecyclePolicyRequest())
            assert (shown.switch, shown.threshold_time, shown.keep_time) == (switch, days, days + 1)

    def test_list_and_show(self, site: Site, client: evs.EvsClient) -> None:
        """`list_volumes_in_recycle` and `show_volume_in_recycle` tell when the volume went in and when it ends."""
        volume_id = delete_old_volume(site, client)
        listed = client.list_volumes_in_recycle(evs.ListVolumesInRecycleRequest(limit=1000))
        [found] = [each for each in listed.volumes if each.id == volume_id]
        shown = client.show_volume_in_recycle(evs.ShowVolumeInRecycleRequest(volume_id=volume_id)).volume
        assert shown == found
        assert (shown.status, shown.size) == ("pending-destroy", 10)
        assert shown.pre_deleted_at[:19] < shown.plan_delete_at[:19]
        assert listed.count == len(listed.volumes)

    def test_revert(self, site: Site, client: evs.EvsClient) -> None:
        """`revert_volume_in_recycle` makes it available again."""
        volume_id = delete_old_volume(site, client)
        client.revert_volume_in_recycle(evs.RevertVolumeInRecycleRequest(volume_id=volume_id))
        assert client.show_volume(evs.ShowVolumeRequest(volume_id=volume_id)).volume.status == "available"

    def test_delete(self, site: Site, client: evs.EvsClient) -> None:
        """`delete_volume_in_recycle` destroys it."""
        volume_id = delete_old_volume(site, client)
        client.delete_volume_in_recycle(evs.DeleteVolumeInRecycleRequest(volume_id=volume_id))

        def gone() -> bool:
            listed = client.list_volumes_in_recycle(evs.ListVolumesInRecycleRequest())
            return volume_id not in {each.id for each in listed.volumes}

        wait_until(gone, "the end of the volume")
        with pytest.raises(ClientRequestException) as caught:
            client.show_volume_in_recycle(evs.ShowVolumeInRecycleRequest(volume_id=volume_id))
        assert (caught.value.status_code, caught.value.error_code) == (404, "EVS.5404")


class TestTransfers:
    def offer(self, client: evs.EvsClient, volume_id: str) -> evs.CreateVolumeTransferDetail:
        option = evs.CreateVolumeTransferOption(name="for you", volume_id=volume_id)
        body = evs.CinderCreateVolumeTransferRequestBody(transfer=option)
        made: evs.CreateVolumeTransferDetail = client.cinder_create_volume_transfer(
            evs.CinderCreateVolumeTransferRequest(body=body)
        ).transfer
        return made

    def test_create_list_and_show(self, site: Site, client: evs.EvsClient) -> None:
        """`cinder_create_volume_transfer` alone tells the key; list and show tell of the transfer."""
        [volume_id] = new_volumes(site, 1)
        made = self.offer(client, volume_id)
        assert (made.name, made.volume_id, len(made.auth_key)) == ("for you", volume_id, 43)
        listed = client.cinder_list_volume_transfers(evs.CinderListVolumeTransfersRequest(limit=1000, offset=0))
        assert [found.volume_id for found in listed.transfers if found.id == made.id] == [volume_id]
        request = evs.CinderShowVolumeTransferRequest(transfer_id=made.id)
        shown = client.cinder_show_volume_transfer(request).transfer
        assert (shown.volume_id, shown.created_at) == (volume_id, made.created_at)

    def test_accept(self, site: Site, client: evs.EvsClient) -> None:
        """`cinder_accept_volume_transfer` by another project makes the volume its own."""
        [volume_id] = new_volumes(site, 1)
        made = self.offer(client, volume_id)
        tenant = site.second_tenant()
        other = client_of_tenant(site, tenant)
        option = evs.CinderAcceptVolumeTransferOption(auth_key=made.auth_key)
        body = evs.CinderAcceptVolumeTransferRequestBody(accept=option)
        request = evs.CinderAcceptVolumeTransferRequest(transfer_id=made.id, body=body)
        assert other.cinder_accept_volume_transfer(request).transfer.volume_id == volume_id
        shown = other.show_volume(evs.ShowVolumeRequest(volume_id=volume_id)).volume
        assert (shown.status, shown.os_vol_tenant_attrtenant_id) == ("available", tenant.project_id)

    def test_delete(self, site: Site, client: evs.EvsClient) -> None:
        """`cinder_delete_volume_transfer` makes the volume available again."""
        [volume_id] = new_volumes(site, 1)
        made = self.offer(client, volume_id)
        assert volume(site, volume_id)["status"] == "awaiting-transfer"
        client.cinder_delete_volume_transfer(evs.CinderDeleteVolumeTransferRequest(transfer_id=made.id))
        assert volume(site, volume_id)["status"] == "available"


def test_quotas(site: Site, client: evs.EvsClient) -> None:
    """`cinder_list_quotas` tells limits and what is in use."""
    with site.database.writing() as session:
        quotas.set_limit(session, site.project_id, "snapshots", 77)

    def ask() -> evs.QuotaList:
        request = evs.CinderListQuotasRequest(target_project_id=site.project_id, usage="True")
        return client.cinder_list_quotas(request).quota_set

    before = ask()
    new_volumes(site, 2, size_gib=11)
    after = ask()
    assert (after.id, after.snapshots.limit, after.backups.limit) == (site.project_id, 77, 0)
    assert after.volumes.in_use - before.volumes.in_use == 2
    assert after.gigabytes_ssd.in_use - before.gigabytes_ssd.in_use == 22
