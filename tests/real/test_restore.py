"""Volumes that are made, and rolled back, from snapshots which only the repository has."""

from typing import Any

from orders import attach, delete_volumes, detach, new_server, new_volumes, volume
from running import Site, Tenant, wait_until
from sqlalchemy import select

from onecut.db.images import ServedImage
from onecut.db.snapshots import Snapshot
from onecut.nbd.client import NbdClient
from onecut.units import GiB, MiB

SIZE = 10 * GiB
PLACES = (0, 64 * MiB, 5 * GiB, SIZE - MiB)
"""Where the tests write, 1 MiB each."""


def content(letter: bytes) -> list[bytes]:
    """Make data for each of the places, each different."""
    return [(letter + bytes([number])) * (MiB // 2) for number in range(len(PLACES))]


def write(uri: str, pieces: list[bytes]) -> None:
    with NbdClient.connect(uri) as disk:
        for place, piece in zip(PLACES, pieces, strict=True):
            disk.write(piece, place)
        disk.flush()


def read(uri: str) -> list[bytes]:
    with NbdClient.connect(uri) as disk:
        assert disk.size_bytes == SIZE
        assert disk.read(MiB, MiB) == bytes(MiB)
        return [disk.read(place, MiB) for place in PLACES]


def snapshot(tenant: Tenant, volume_id: str, **options: Any) -> str:
    """Take a snapshot, and return its id once it is archived."""
    answer = tenant.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": volume_id, **options}})
    tenant.done(answer)
    snapshot_id: str = answer["snapshot_id"]
    return snapshot_id


def restore(tenant: Tenant, snapshot_id: str, server_id: str) -> str:
    """Make an attached volume from a snapshot, and return its id."""
    wanted = {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "snapshot_id": snapshot_id}
    body = {"volume": wanted, "server_id": server_id}
    answer = tenant.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body)
    tenant.done(answer)
    volume_id: str = answer["volume_ids"][0]
    return volume_id


def uri_of(tenant: Tenant, volume_id: str) -> str:
    uri: str = volume(tenant, volume_id)["attachments"][0]["uri"]
    return uri


def hydration(tenant: Tenant, volume_id: str) -> Any:
    return volume(tenant, volume_id)["onecut"]["hydration"]


def wait_hydrated(tenant: Tenant, volume_id: str) -> None:
    wait_until(lambda: hydration(tenant, volume_id) is None, f"volume {volume_id} is filled")


def wait_point_gone(site: Site, snapshot_id: str) -> None:
    def gone() -> bool:
        with site.database.reading() as session:
            return session.get_one(Snapshot, snapshot_id).point == "gone"

    wait_until(gone, f"the engine has given up {snapshot_id}")


def served(site: Site) -> list[ServedImage]:
    with site.database.reading() as session:
        return list(session.scalars(select(ServedImage)))


def wait_unserved(site: Site) -> None:
    wait_until(lambda: not served(site), "no image is served any more")


def archived(site: Site, server_id: str, letter: bytes) -> tuple[str, str]:
    """Make an attached volume with a snapshot of *letter* that only the repository has, and return both ids."""
    (volume_id,) = new_volumes(site, 1, server_id)
    write(uri_of(site, volume_id), content(letter))
    snapshot_id = snapshot(site, volume_id)
    write(uri_of(site, volume_id), content(b"z"))
    snapshot(site, volume_id)
    wait_point_gone(site, snapshot_id)
    return volume_id, snapshot_id


def test_a_new_volume_holds_what_only_the_repository_has(real_site: Site) -> None:
    """It can be read at once, bit for bit; when it is filled, nothing is served or leased any more."""
    server_id = new_server(real_site)
    _, snapshot_id = archived(real_site, server_id, b"a")

    restored = restore(real_site, snapshot_id, server_id)

    assert read(uri_of(real_site, restored)) == content(b"a")
    wait_hydrated(real_site, restored)
    wait_unserved(real_site)
    assert read(uri_of(real_site, restored)) == content(b"a")
    assert not list(real_site.app_state.repository.store.list("leases"))


def test_a_rollback_gives_back_what_only_the_repository_has(real_site: Site) -> None:
    """The volume holds it at once, and takes writes that stay."""
    server_id = new_server(real_site)
    volume_id, snapshot_id = archived(real_site, server_id, b"a")
    detach(real_site, volume_id)

    answer = real_site.call(
        "POST", f"/v5/{{p}}/snapshots/{snapshot_id}/rollback", 202, json={"rollback": {"volume_id": volume_id}}
    )
    real_site.done(answer)
    uri = attach(real_site, volume_id, server_id)

    assert read(uri) == content(b"a")
    write(uri, content(b"n"))
    wait_hydrated(real_site, volume_id)
    assert read(uri) == content(b"n")


def test_a_volume_outlives_its_disk_and_its_points(real_site: Site) -> None:
    """A snapshot of a volume that was deleted gives its content back."""
    server_id = new_server(real_site)
    volume_id, snapshot_id = archived(real_site, server_id, b"a")
    detach(real_site, volume_id)
    delete_volumes(real_site, [volume_id])

    assert read(uri_of(real_site, restore(real_site, snapshot_id, server_id))) == content(b"a")
