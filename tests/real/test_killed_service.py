"""
The service is killed at every step of every job, within the engine's acts and between them.

Each scenario prepares something, yields one order, and goes on when the service, killed while it carried the order
out, has been started again and the order's job has ended. A client writes to two disks all the while: the daemon
lives on, so it must not lose a request.
"""

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from diary import Diary
from inventory import Inventory
from machine import Machine, running_machine
from orders import (
    attach,
    delete_groups,
    delete_volumes,
    detach,
    group,
    judge,
    members,
    new_server,
    new_volumes,
    order_attach,
    order_detach,
    order_group,
    order_group_deletion,
    order_server_deletion,
    take_group,
    take_instant_group,
    uris,
    volume,
)
from running import Tenant

from onecut.nbd.client import NbdClient
from onecut.nbd.errors import NbdError
from onecut.units import GiB, KiB
from onecut.witness.verify import Outcome

pytestmark = pytest.mark.slow

ONE, TWO = b"\x11" * 4 * KiB, b"\x22" * 4 * KiB

Job = dict[str, Any]
Scenario = Callable[["Bench"], Generator[Callable[[], Any], Job, None]]


class Bench:
    """A machine whose service is killed, and a client that writes to two of its disks and must not notice."""

    def __init__(self, machine: Machine) -> None:
        self.machine, self.tenant = machine, machine.tenant
        self.server_id = new_server(self.tenant)
        self.busy_ids = new_volumes(self.tenant, 2, new_server(self.tenant, "busy"))

    def attached(self, content: bytes) -> str:
        """Make an attached volume that begins with *content*."""
        (volume_id,) = new_volumes(self.tenant, 1, self.server_id)
        write(self.tenant, volume_id, content)
        return volume_id

    def remove(self, *volume_ids: str) -> None:
        """Detach and delete volumes."""
        for volume_id in volume_ids:
            detach(self.tenant, volume_id)
        delete_volumes(self.tenant, volume_ids)

    def reads(self, volume_id: str) -> bytes:
        """Attach a volume, read its beginning, and detach it."""
        uri = attach(self.tenant, volume_id, self.server_id)
        with NbdClient.connect(uri) as disk:
            content = disk.read(0, 4 * KiB)
        detach(self.tenant, volume_id)
        return content


def write(tenant: Tenant, volume_id: str, content: bytes) -> None:
    """Write to an attached volume's beginning."""
    with NbdClient.connect(uris(tenant, [volume_id])[0]) as disk:
        disk.write(content, 0)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One machine for all tests of this file; at the end its daemon holds what the database says, and no more."""
    with running_machine() as machine:
        bench = Bench(machine)
        with Diary(uris(bench.tenant, bench.busy_ids)) as diary:
            yield bench
        diary.check()
        machine.stop()
        Inventory(machine.data).check_daemon()


def create_volume(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """A volume is made."""
    wanted = {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "name": "new"}
    job = yield lambda: bench.tenant.call("POST", "/v2/{p}/cloudvolumes", 200, json={"volume": wanted})
    volume_id = job["entities"]["volume_id"]
    assert volume(bench.tenant, volume_id)["status"] == "available"
    assert bench.reads(volume_id) == bytes(4 * KiB)
    delete_volumes(bench.tenant, [volume_id])


def create_volumes(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """Two volumes are made and attached."""
    wanted = {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "name": "new", "count": 2}
    body = {"volume": wanted, "server_id": bench.server_id}
    job = yield lambda: bench.tenant.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body)
    volume_ids = [sub["entities"]["volume_id"] for sub in job["entities"]["sub_jobs"]]
    for volume_id in volume_ids:
        assert volume(bench.tenant, volume_id)["status"] == "in-use"
        write(bench.tenant, volume_id, ONE)
    bench.remove(*volume_ids)


def attach_volume(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """A volume is attached; it can be written to."""
    (volume_id,) = new_volumes(bench.tenant, 1)
    yield lambda: order_attach(bench.tenant, volume_id, bench.server_id)
    assert volume(bench.tenant, volume_id)["status"] == "in-use"
    write(bench.tenant, volume_id, ONE)
    bench.remove(volume_id)


def detach_volume(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """A volume is detached; nobody can write to it any more."""
    volume_id = bench.attached(ONE)
    (uri,) = uris(bench.tenant, [volume_id])
    with NbdClient.connect(uri) as client:
        yield lambda: order_detach(bench.tenant, volume_id)
        assert volume(bench.tenant, volume_id)["status"] == "available"
        with pytest.raises(NbdError):
            client.write(TWO, 0)
    with pytest.raises(NbdError):
        NbdClient.connect(uri)
    assert bench.reads(volume_id) == ONE
    delete_volumes(bench.tenant, [volume_id])


def extend_volume(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """A volume grows."""
    volume_id = bench.attached(ONE)
    detach(bench.tenant, volume_id)
    body = {"os-extend": {"new_size": 12}}
    yield lambda: bench.tenant.call("POST", f"/v2.1/{{p}}/cloudvolumes/{volume_id}/action", 202, json=body)
    assert (volume(bench.tenant, volume_id)["status"], volume(bench.tenant, volume_id)["size"]) == ("available", 12)
    with NbdClient.connect(attach(bench.tenant, volume_id, bench.server_id)) as disk:
        assert disk.size_bytes == 12 * GiB
        assert disk.read(0, 4 * KiB) == ONE
    bench.remove(volume_id)


def delete_volume(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """A volume is deleted."""
    (volume_id,) = new_volumes(bench.tenant, 1)
    yield lambda: bench.tenant.call("DELETE", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200)
    bench.tenant.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 404)


def delete_server(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """A server is deleted with its two volumes."""
    server_id = new_server(bench.tenant, "short-lived")
    volume_ids = new_volumes(bench.tenant, 2, server_id)
    yield lambda: order_server_deletion(bench.tenant, server_id, with_volumes=True)
    for volume_id in volume_ids:
        bench.tenant.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 404)
    bench.tenant.call("GET", f"/v1/{{p}}/cloudservers/{server_id}", 404)


def create_snapshot(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """A snapshot is taken; it gives its volume back."""
    volume_id = bench.attached(ONE)
    body = {"snapshot": {"volume_id": volume_id, "name": "one"}}
    job = yield lambda: bench.tenant.call("POST", "/v5/{p}/snapshots", 202, json=body)
    snapshot_id = job["entities"]["snapshot_id"]
    write(bench.tenant, volume_id, TWO)
    detach(bench.tenant, volume_id)
    body = {"rollback": {"volume_id": volume_id}}
    bench.tenant.done(bench.tenant.call("POST", f"/v5/{{p}}/snapshots/{snapshot_id}/rollback", 202, json=body))
    assert bench.reads(volume_id) == ONE
    bench.tenant.done(bench.tenant.call("DELETE", f"/v5/{{p}}/snapshots/{snapshot_id}", 202))
    delete_volumes(bench.tenant, [volume_id])


def roll_back_snapshot(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """A volume is rolled back to a snapshot."""
    volume_id = bench.attached(ONE)
    group_id = take_group(bench.tenant, [volume_id])
    (snapshot,) = members(bench.tenant, group_id)
    write(bench.tenant, volume_id, TWO)
    detach(bench.tenant, volume_id)
    body = {"rollback": {"volume_id": volume_id}}
    yield lambda: bench.tenant.call("POST", f"/v5/{{p}}/snapshots/{snapshot['id']}/rollback", 202, json=body)
    assert volume(bench.tenant, volume_id)["status"] == "available"
    assert bench.reads(volume_id) == ONE
    delete_groups(bench.tenant, [group_id])
    delete_volumes(bench.tenant, [volume_id])


def delete_snapshot(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """A snapshot is deleted; its volume is as it was."""
    volume_id = bench.attached(ONE)
    body = {"snapshot": {"volume_id": volume_id, "name": "one"}}
    answer = bench.tenant.call("POST", "/v5/{p}/snapshots", 202, json=body)
    snapshot_id = bench.tenant.done(answer)["entities"]["snapshot_id"]
    write(bench.tenant, volume_id, TWO)
    detach(bench.tenant, volume_id)
    yield lambda: bench.tenant.call("DELETE", f"/v5/{{p}}/snapshots/{snapshot_id}", 202)
    bench.tenant.call("GET", f"/v5/{{p}}/snapshots/{snapshot_id}", 404)
    assert bench.reads(volume_id) == TWO
    delete_volumes(bench.tenant, [volume_id])


def create_group(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """A group of the two busy disks is taken; it shows one instant."""
    job = yield lambda: order_group(bench.tenant, bench.busy_ids)
    group_id = job["entities"]["snapshot_group_id"]
    assert group(bench.tenant, group_id)["status"] == "available"
    assert [member["status"] for member in members(bench.tenant, group_id)] == ["available"] * 2
    assert [verdict.outcome for verdict in judge(bench.tenant, [group_id])] == [Outcome.CONSISTENT]
    delete_groups(bench.tenant, [group_id])


def delete_group(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """The middle one of three groups of the busy disks is deleted; its layers are merged and the others unharmed."""
    older, middle, newer = (take_instant_group(bench.tenant, bench.busy_ids) for _ in range(3))
    yield lambda: order_group_deletion(bench.tenant, middle)
    bench.tenant.call("GET", f"/v5/{{p}}/snapshot-groups/{middle}", 404)
    verdicts = judge(bench.tenant, [older, newer])
    assert [verdict.outcome for verdict in verdicts] == [Outcome.CONSISTENT] * 2
    delete_groups(bench.tenant, [older, newer])


def roll_back_group(bench: Bench) -> Generator[Callable[[], Any], Job, None]:
    """Two disks are rolled back to a group; the undo group gives back what they held before."""
    volume_ids = [bench.attached(ONE), bench.attached(ONE)]
    group_id = take_group(bench.tenant, volume_ids)
    for volume_id in volume_ids:
        write(bench.tenant, volume_id, TWO)
        detach(bench.tenant, volume_id)
    path = f"/v5/{{p}}/snapshot-groups/{group_id}/rollback"
    job = yield lambda: bench.tenant.call("POST", path, 202, json={"rollback": {}})
    undo_id = job["entities"]["undo_snapshot_group_id"]
    assert [bench.reads(volume_id) for volume_id in volume_ids] == [ONE, ONE]
    path = f"/v5/{{p}}/snapshot-groups/{undo_id}/rollback"
    bench.tenant.done(bench.tenant.call("POST", path, 202, json={"rollback": {"undo": False}}))
    assert [bench.reads(volume_id) for volume_id in volume_ids] == [TWO, TWO]
    delete_groups(bench.tenant, [group_id, undo_id])
    delete_volumes(bench.tenant, volume_ids)


PLACES: list[tuple[Scenario, list[str]]] = [
    (create_volume, ["step createVolume create", "engine laid", "ledger add_volume"]),
    (create_volumes, ["step batchCreateVolume create", "after create_volume", "after export"]),
    (attach_volume, ["step attachVolume export", "after export"]),
    (detach_volume, ["step detachVolume unexport", "ledger remove_export", "after unexport"]),
    (extend_volume, ["step extendVolume extend", "engine resize_noted", "after extend_volume"]),
    (delete_volume, ["step deleteVolume unexport", "step deleteVolume delete", "after delete_volume"]),
    (
        delete_server,
        ["step deleteServer unexport", "after unexport", "step deleteServer delete", "ledger remove_layer"],
    ),
    (create_snapshot, ["step createSnapshot cut", "engine frozen"]),
    (roll_back_snapshot, ["step rollbackSnapshot roll_back", "engine laid", "engine switched", "after roll_back"]),
    (delete_snapshot, ["step deleteSnapshot release", "after release"]),
    (
        create_group,
        [
            "step createSnapshotGroup cut",
            "after settle",
            "engine planned",
            "engine prepared",
            "engine frozen",
            "ledger finish_cut",
            "after cut",
        ],
    ),
    (delete_group, ["step deleteSnapshotGroup release", "after release", "ledger absorb", "ledger remove_layer"]),
    (
        roll_back_group,
        [
            "step rollbackSnapshotGroup cut_undo",
            "engine frozen",
            "after cut",
            "step rollbackSnapshotGroup roll_back",
            "ledger switch_tops",
            "after roll_back",
        ],
    ),
]


@pytest.mark.parametrize(
    ("scenario", "place"),
    [
        pytest.param(scenario, place, id=f"{scenario.__name__}-{place.replace(' ', '-')}")
        for scenario, places in PLACES
        for place in places
    ],
)
def test_a_service_killed_there_finishes_its_job_after_the_restart(
    bench: Bench, scenario: Scenario, place: str
) -> None:
    """The job succeeds, its result is what was ordered, and nothing is left over."""
    acts = scenario(bench)
    order = next(acts)
    Inventory(bench.machine.data).wait_until_tidy()  # or what was left to tidy up before the order comes to the place
    job = bench.machine.kill_during(order, place)
    assert job["status"] == "SUCCESS", job
    with pytest.raises(StopIteration):
        acts.send(job)
    Inventory(bench.machine.data).wait_until_tidy()
