"""A disk that is extended while a client writes to it, and grows when it is detached."""

from orders import attach, detach, members, new_server, new_volumes, opened, take_group, uris, volume
from running import Site, Tenant

from onecut.nbd.client import NbdClient
from onecut.units import GiB, KiB

BLOCK = 64 * KiB
OLD, NEW = 10, 12
LAST = OLD * GiB - BLOCK
"""The last block of the old size."""


def order_extension(tenant: Tenant, volume_id: str, size_gib: int) -> dict[str, str]:
    """Ask for a larger volume."""
    path, body = f"/v2.1/{{p}}/cloudvolumes/{volume_id}/action", {"os-extend": {"new_size": size_gib}}
    answer: dict[str, str] = tenant.call("POST", path, 202, json=body)
    return answer


def test_a_client_writes_on_while_its_disk_is_extended_and_the_next_one_sees_it_larger(real_site: Site) -> None:
    """The connection lasts from before the extension until the detachment, and no write fails."""
    server_id = new_server(real_site)
    [volume_id] = new_volumes(real_site, 1, server_id)
    [uri] = uris(real_site, [volume_id])
    with NbdClient.connect(uri) as disk:
        disk.write(b"1" * BLOCK, 0)
        order = order_extension(real_site, volume_id, NEW)
        while volume(real_site, volume_id)["status"] == "extending":
            disk.write(b"2" * BLOCK, 0)
        real_site.done(order)
        disk.write(b"3" * BLOCK, LAST)
        disk.flush()
        with NbdClient.connect(uri) as another:
            assert another.size_bytes == OLD * GiB
        assert disk.read(LAST, BLOCK) == b"3" * BLOCK
        begins = disk.read(0, BLOCK)
    shown = volume(real_site, volume_id)
    assert (shown["status"], shown["size"], shown["onecut"]["attached_size"]) == ("in-use", NEW, OLD)

    detach(real_site, volume_id)
    with NbdClient.connect(attach(real_site, volume_id, server_id)) as disk:
        assert disk.size_bytes == NEW * GiB
        assert (disk.read(0, BLOCK), disk.read(LAST, BLOCK)) == (begins, b"3" * BLOCK)
        assert disk.read(OLD * GiB, BLOCK) == disk.read(NEW * GiB - BLOCK, BLOCK) == bytes(BLOCK)
        disk.write(b"4" * BLOCK, NEW * GiB - BLOCK)
        assert disk.read(NEW * GiB - BLOCK, BLOCK) == b"4" * BLOCK
    assert volume(real_site, volume_id)["onecut"]["attached_size"] is None


def test_snapshots_from_before_and_after_the_growth_give_back_what_was_there(real_site: Site) -> None:
    """
    The first is cut while the disk is still to grow, the second builds on it afterwards.

    Each is as large as its disk was, as a new volume and in a rollback, where zeros follow.
    """
    server_id = new_server(real_site)
    [volume_id] = new_volumes(real_site, 1, server_id)
    with NbdClient.connect(*uris(real_site, [volume_id])) as disk:
        disk.write(b"1" * BLOCK, 0)
        disk.write(b"1" * BLOCK, LAST)
        real_site.done(order_extension(real_site, volume_id, NEW))
        before = take_group(real_site, [volume_id])
        disk.write(b"2" * BLOCK, 0)
    detach(real_site, volume_id)
    with NbdClient.connect(attach(real_site, volume_id, server_id)) as disk:
        disk.write(b"3" * BLOCK, NEW * GiB - BLOCK)
    after = take_group(real_site, [volume_id])
    detach(real_site, volume_id)

    assert [members(real_site, each)[0]["size"] for each in (before, after)] == [OLD, NEW]
    [later] = members(real_site, after)
    shown = real_site.call("GET", f"/v5/{{p}}/snapshots/{later['id']}", 200)["snapshot"]
    assert shown["onecut"]["full_because"] is None
    with opened(real_site, [before, after]) as [[old], [new]]:
        assert blocks(old) == (OLD, b"1", b"1", b"")
        assert blocks(new) == (NEW, b"2", b"1", b"3")

    path = f"/v5/{{p}}/snapshot-groups/{before}/rollback"
    real_site.done(real_site.call("POST", path, 202, json={"rollback": {"undo": False}}))
    assert blocks(attach(real_site, volume_id, server_id)) == (NEW, b"1", b"1", b"\0")


def blocks(uri: str) -> tuple[int, bytes, bytes, bytes]:
    """Return a disk's GiB, and what fills its first block, the last one of the old size, and that of the new."""
    with NbdClient.connect(uri) as disk:
        size_gib = disk.size_bytes // GiB
        places = (0, LAST, NEW * GiB - BLOCK)
        first, middle, last = (disk.read(place, BLOCK) if place < disk.size_bytes else b"" for place in places)
        assert all(found == found[:1] * len(found) for found in (first, middle, last))
        return size_gib, first[:1], middle[:1], last[:1]
