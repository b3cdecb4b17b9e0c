"""What tests order of a running service, each in one line; a job that fails, fails the test."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from running import Tenant, wait_until

from onecut.nbd.client import NbdClient
from onecut.witness.verify import Verdict, verify


def new_server(tenant: Tenant, name: str = "db1") -> str:
    """Make a server, and return its id."""
    answer = tenant.call("POST", "/v1/{p}/cloudservers", 200, json={"server": {"name": name}})
    tenant.done(answer)
    server_id: str = answer["serverIds"][0]
    return server_id


def new_volumes(tenant: Tenant, count: int, server_id: str | None = None, *, size_gib: int = 10) -> list[str]:
    """Make volumes, attached when a server is given, and return their ids."""
    volume = {"availability_zone": "az1", "volume_type": "SSD", "size": size_gib, "name": "disk", "count": count}
    body: dict[str, Any] = {"volume": volume} | ({} if server_id is None else {"server_id": server_id})
    answer = tenant.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body)
    tenant.done(answer)
    volume_ids: list[str] = answer["volume_ids"]
    return volume_ids


def create_at_once(tenant: Tenant, token: str, callers: int) -> list[bytes]:
    """Let several callers ask for the same volume by one client token at the same time; return what they are told."""
    body = {"volume": {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "name": token}}
    barrier, answers = threading.Barrier(callers), []

    def ask() -> None:
        barrier.wait()
        path, headers = f"/v2.1/{tenant.project_id}/cloudvolumes", {"X-Client-Token": token}
        answers.append(tenant.client.post(path, json=body, headers=headers).content)

    threads = [threading.Thread(target=ask) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def volume(tenant: Tenant, volume_id: str) -> dict[str, Any]:
    """Show a volume."""
    found: dict[str, Any] = tenant.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200)["volume"]
    return found


def uris(tenant: Tenant, volume_ids: Sequence[str]) -> list[str]:
    """Return the NBD URIs of attached volumes."""
    return [volume(tenant, volume_id)["attachments"][0]["uri"] for volume_id in volume_ids]


def order_attach(tenant: Tenant, volume_id: str, server_id: str) -> Any:
    """Ask for a volume to be attached."""
    body = {"volumeAttachment": {"volumeId": volume_id}}
    return tenant.call("POST", f"/v1/{{p}}/cloudservers/{server_id}/attachvolume", 200, json=body)


def attach(tenant: Tenant, volume_id: str, server_id: str) -> str:
    """Attach a volume, and return its NBD URI."""
    tenant.done(order_attach(tenant, volume_id, server_id))
    return uris(tenant, [volume_id])[0]


def order_detach(tenant: Tenant, volume_id: str) -> Any:
    """Ask for a volume to be detached from its server."""
    server_id = volume(tenant, volume_id)["attachments"][0]["server_id"]
    return tenant.call("DELETE", f"/v1/{{p}}/cloudservers/{server_id}/detachvolume/{volume_id}", 200)


def detach(tenant: Tenant, volume_id: str) -> None:
    """Detach a volume from its server."""
    tenant.done(order_detach(tenant, volume_id))


def order_group(
    tenant: Tenant, volume_ids: Sequence[str], name: str = "group", *, instant_access: bool = False
) -> Any:
    """Ask for one cut across volumes."""
    body = {"snapshot_group": {"volume_ids": list(volume_ids), "name": name, "instant_access": instant_access}}
    return tenant.call("POST", "/v5/{p}/snapshot-groups", 202, json=body)


def take_group(
    tenant: Tenant, volume_ids: Sequence[str], name: str = "group", *, instant_access: bool = False
) -> str:
    """Take one cut across volumes, and return the group's id once it is available."""
    answer = order_group(tenant, volume_ids, name, instant_access=instant_access)
    tenant.done(answer)
    group_id: str = answer["snapshot_group_id"]
    return group_id


def take_instant_group(tenant: Tenant, volume_ids: Sequence[str]) -> str:
    """Take one cut whose points stay beside the disks, and return the group's id once it is archived as well."""
    group_id = take_group(tenant, volume_ids, instant_access=True)
    wait_until(
        lambda: all(member["category"] == "standard" for member in members(tenant, group_id)),
        f"the archive of group {group_id}",
    )
    return group_id


def group(tenant: Tenant, group_id: str) -> dict[str, Any]:
    """Show a group."""
    found: dict[str, Any] = tenant.call("GET", f"/v5/{{p}}/snapshot-groups/{group_id}", 200)["snapshot_group"]
    return found


def members(tenant: Tenant, group_id: str) -> list[dict[str, Any]]:
    """List a group's members."""
    answer = tenant.call("GET", "/v5/{p}/snapshots/detail", 200, params={"snapshot_group_id": group_id})
    found: list[dict[str, Any]] = answer["snapshots"]
    return found


def order_group_deletion(tenant: Tenant, group_id: str) -> Any:
    """Ask for a group's end."""
    return tenant.call("DELETE", f"/v5/{{p}}/snapshot-groups/{group_id}", 202)


def delete_groups(tenant: Tenant, group_ids: Sequence[str]) -> None:
    """Delete groups, all at the same time."""
    for answer in [order_group_deletion(tenant, group_id) for group_id in group_ids]:
        tenant.done(answer)


def order_server_deletion(tenant: Tenant, server_id: str, *, with_volumes: bool) -> Any:
    """Ask for a server's end."""
    body = {"servers": [{"id": server_id}], "delete_volume": with_volumes}
    return tenant.call("POST", "/v1/{p}/cloudservers/delete", 200, json=body)


def delete_volumes(tenant: Tenant, volume_ids: Sequence[str]) -> None:
    """Delete detached volumes."""
    for volume_id in volume_ids:
        tenant.done(tenant.call("DELETE", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200))


@contextmanager
def opened(tenant: Tenant, group_ids: Sequence[str]) -> Iterator[list[list[str]]]:
    """Open the members of groups as new volumes, which are deleted at the end, and yield each group's URIs."""
    server_id = new_server(tenant, "reader")
    try:
        body = {"volumes": {"server_id": server_id}}
        answers = [
            tenant.call("POST", f"/v5/{{p}}/snapshot-groups/{group_id}/volumes", 202, json=body)
            for group_id in group_ids
        ]
        for answer in answers:
            tenant.done(answer)
        yield [uris(tenant, answer["volume_ids"]) for answer in answers]
    finally:
        tenant.done(order_server_deletion(tenant, server_id, with_volumes=True))


def judge(tenant: Tenant, group_ids: Sequence[str]) -> list[Verdict]:
    """Let the witness judge each of the groups, read through new volumes."""
    with opened(tenant, group_ids) as found:
        return [judge_disks(disks) for disks in found]


def judge_disks(found: Sequence[str]) -> Verdict:
    """Let the witness judge the disks behind these URIs together."""
    with ExitStack() as stack:
        return verify([stack.enter_context(NbdClient.connect(uri)) for uri in found])
