"""Legacy snapshots of real disks: content, and what is left when their volume goes."""

from orders import attach, delete_volumes, detach, new_server, new_volumes, volume
from running import Site, wait_until

from onecut.nbd.client import NbdClient
from onecut.units import KiB

FIRST, SECOND, THIRD = b"\x11" * 4 * KiB, b"\x22" * 4 * KiB, b"\x33" * 4 * KiB


def write(uri: str, block: bytes) -> None:
    with NbdClient.connect(uri) as disk:
        disk.write(block, 0)
        disk.flush()


def read(uri: str) -> bytes:
    with NbdClient.connect(uri) as disk:
        return disk.read(0, 4 * KiB)


def take(site: Site, volume_id: str) -> str:
    """Take a legacy snapshot of an attached volume, and return its id once it is available."""
    body = {"snapshot": {"volume_id": volume_id, "force": True}}
    snapshot_id: str = site.call("POST", "/v2/{p}/cloudsnapshots", 202, json=body)["snapshot"]["id"]
    path = f"/v2/{{p}}/cloudsnapshots/{snapshot_id}"
    wait_until(lambda: site.call("GET", path, 200)["snapshot"]["status"] == "available", "the legacy snapshot")
    return snapshot_id


def test_content_comes_back_and_outlives_the_source(real_site: Site) -> None:
    """
    A rollback gives a disk what it was, a new volume keeps what the snapshot was.

    The source goes with both of its snapshots in one call; nothing is left of them but what the new volume needs.
    """
    server_id = new_server(real_site)
    (source,) = new_volumes(real_site, 1, server_id)
    uri = volume(real_site, source)["attachments"][0]["uri"]
    write(uri, FIRST)
    first = take(real_site, source)
    write(uri, SECOND)
    second = take(real_site, source)
    write(uri, THIRD)
    wanted = {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "snapshot_id": second}
    answer = real_site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": wanted, "server_id": server_id})
    real_site.done(answer)
    (copy,) = answer["volume_ids"]

    detach(real_site, source)
    body = {"rollback": {"volume_id": source}}
    real_site.call("POST", f"/v2/{{p}}/cloudsnapshots/{first}/rollback", 202, json=body)
    wait_until(lambda: volume(real_site, source)["status"] == "available", "the rollback")
    assert read(attach(real_site, source, server_id)) == FIRST
    detach(real_site, source)
    delete_volumes(real_site, [source])

    snapshots = "/v2/{p}/cloudsnapshots/detail"
    wait_until(lambda: real_site.call("GET", snapshots, 200)["count"] == 0, "the end of the legacy snapshots")
    assert read(volume(real_site, copy)["attachments"][0]["uri"]) == SECOND
