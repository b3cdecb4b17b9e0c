"""
The service is killed at every step of archiving, deleting and collecting, and at every write to the repository.

Each scenario prepares something and yields one order. Once the service that died of it has been started again and
the order's job has ended, nothing is lost, and manifests reach every object that the repository holds.
"""

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from folders import short_folder
from inventory import Inventory
from machine import Machine, new_machine, running_machine
from orders import (
    delete_groups,
    group,
    members,
    new_server,
    new_volumes,
    order_group,
    order_group_deletion,
    take_group,
    uris,
)
from running import Tenant, wait_until

from onecut.nbd.client import NbdClient
from onecut.repository.address import open_store
from onecut.repository.image import Image
from onecut.repository.repository import CHUNK_BYTES, Repository
from onecut.repository.verify import verify

pytestmark = pytest.mark.slow

Scenario = Callable[["Bench"], Generator[Callable[[], Any], dict[str, Any], None]]


@dataclass
class Bench:
    """A machine whose service is killed, two disks that are archived, and what their snapshots must hold."""

    machine: Machine
    tenant: Tenant
    volume_ids: list[str]
    written: int = 0
    kept: dict[str, bytes] = field(default_factory=dict)
    """By the snapshots' ids."""

    def write(self) -> None:
        """Write something new to each of the disks."""
        self.written += 1
        for number, uri in enumerate(uris(self.tenant, self.volume_ids)):
            with NbdClient.connect(uri) as disk:
                disk.write(self.content(number), 0)
                disk.write(b"same" * (CHUNK_BYTES // 4), CHUNK_BYTES)
                disk.flush()

    def content(self, number: int) -> bytes:
        """Return what was written last to this one of the disks."""
        return f"{self.written:04} on {number}".encode().ljust(CHUNK_BYTES, b".")

    def keep(self, group_id: str) -> None:
        """Keep aside what was written last, as that which the members of a group must hold."""
        for member in members(self.tenant, group_id):
            self.kept[member["id"]] = self.content(self.volume_ids.index(member["volume_id"]))

    def take(self) -> str:
        """Write something new, take a group, and return its id."""
        self.write()
        group_id = take_group(self.tenant, self.volume_ids)
        self.keep(group_id)
        return group_id

    def drop(self, *group_ids: str) -> None:
        """Delete groups."""
        for group_id in group_ids:
            for member in members(self.tenant, group_id):
                del self.kept[member["id"]]
        delete_groups(self.tenant, group_ids)

    def check(self) -> None:
        """Check that the repository holds what it must, and nothing besides."""
        Inventory(self.machine.data).wait_until_tidy()
        Inventory(self.machine.data).check_repository()
        check_contents(self.machine.data / "repository", self.kept)


def check_contents(folder: Path, kept: Mapping[str, bytes]) -> None:
    """Check that a repository has these snapshots and no others, and that each is whole."""
    repository = Repository.open(open_store(str(folder)))
    manifests = {each.snapshot_id: each for chain in repository.chains() for each in repository.manifests(chain)}
    assert set(manifests) == set(kept)
    for snapshot_id, content in kept.items():
        found = bytearray(CHUNK_BYTES)
        Image(repository, manifests[snapshot_id]).readinto(memoryview(found), 0)
        assert found == content
    assert verify(repository).findings == []


@contextmanager
def new_bench() -> Iterator[Bench]:
    """A machine with two attached disks, of which a group was taken."""
    with running_machine() as machine:
        yield Bench(machine, machine.tenant, new_volumes(machine.tenant, 2, new_server(machine.tenant)))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One machine for all archives and deletions of this file."""
    with new_bench() as bench:
        bench.take()
        yield bench


def archive(bench: Bench) -> Generator[Callable[[], Any], dict[str, Any], None]:
    """A group is archived."""
    bench.write()
    job = yield lambda: order_group(bench.tenant, bench.volume_ids)
    check_archived(bench, job)


def archive_behind(bench: Bench) -> Generator[Callable[[], Any], dict[str, Any], None]:
    """A group that is available already is archived."""
    bench.write()
    job = yield lambda: order_group(bench.tenant, bench.volume_ids, instant_access=True)
    check_archived(bench, job)


def check_archived(bench: Bench, job: dict[str, Any]) -> None:
    """The group is in the repository, bound together, and goes without a trace."""
    group_id = job["entities"]["snapshot_group_id"]
    wait_until(lambda: group(bench.tenant, group_id)["onecut"]["digest"] is not None, "the group is bound")
    assert {member["category"] for member in members(bench.tenant, group_id)} == {"standard"}
    bench.keep(group_id)
    bench.check()
    bench.drop(group_id)


def delete_group(bench: Bench) -> Generator[Callable[[], Any], dict[str, Any], None]:
    """The middle one of three groups is deleted."""
    older, middle, newer = (bench.take() for _ in range(3))
    for member in members(bench.tenant, middle):
        del bench.kept[member["id"]]
    yield lambda: order_group_deletion(bench.tenant, middle)
    bench.tenant.call("GET", f"/v5/{{p}}/snapshot-groups/{middle}", 404)
    bench.check()
    bench.drop(older, newer)


def delete_member(bench: Bench) -> Generator[Callable[[], Any], dict[str, Any], None]:
    """One of two members of a group is deleted; the other is bound anew."""
    group_id = bench.take()
    digest = group(bench.tenant, group_id)["onecut"]["digest"]
    gone, _ = members(bench.tenant, group_id)
    del bench.kept[gone["id"]]
    yield lambda: bench.tenant.call("DELETE", f"/v5/{{p}}/snapshots/{gone['id']}", 202)
    assert group(bench.tenant, group_id)["onecut"]["digest"] not in {digest, None}
    bench.check()
    bench.drop(group_id)


PLACES: Final[list[tuple[Scenario, list[str]]]] = [
    (
        archive,
        [
            "step createSnapshotGroup archive",
            "store put leases",
            "store commit chunks",
            "store commit trees",
            "store put snapshots",
            "store delete leases",
            "step createSnapshotGroup bind",
            "store put groups",
            "step createSnapshotGroup release",
        ],
    ),
    (
        archive_behind,
        [
            "step archiveSnapshotGroup archive",
            "step archiveSnapshotGroup bind",
            "step archiveSnapshotGroup release",
        ],
    ),
    (
        delete_group,
        [
            "step deleteSnapshotGroup stop",
            "step deleteSnapshotGroup unbind",
            "store delete groups",
            "step deleteSnapshotGroup erase",
            "store put deletions",
            "store delete snapshots",
            "store delete chunks",
            "store delete trees",
            "store delete deletions",
        ],
    ),
    (delete_member, ["step deleteSnapshot unbind", "store put groups", "step deleteSnapshot erase"]),
]


@pytest.mark.parametrize(
    ("scenario", "place"),
    [
        pytest.param(scenario, place, id=f"{scenario.__name__}-{place.replace(' ', '-')}")
        for scenario, places in PLACES
        for place in places
    ],
)
def test_a_service_killed_there_loses_nothing_and_leaves_nothing(
    bench: Bench, scenario: Scenario, place: str
) -> None:
    """The job succeeds, what was archived is whole, and nothing else is in the repository."""
    acts = scenario(bench)
    order = next(acts)
    job = bench.machine.kill_during(order, place)
    assert job["status"] == "SUCCESS", job
    with pytest.raises(StopIteration):
        acts.send(job)
    bench.check()


@dataclass
class Wreck:
    """A repository whose service died for good, with what its snapshots must hold."""

    folder: Path
    kept: Mapping[str, bytes]


@pytest.fixture(scope="module")
def wrecks() -> Iterator[dict[str, Wreck]]:
    """One repository with a deletion that died, and one with an archive that died."""
    with short_folder() as folder, new_bench() as bench:
        repository = bench.machine.data / "repository"
        bench.take()
        gone, _ = members(bench.tenant, bench.take())
        del bench.kept[gone["id"]]
        path = f"/v5/{{p}}/snapshots/{gone['id']}"
        bench.machine.die_during(lambda: bench.tenant.call("DELETE", path, 202), "store delete chunks")
        shutil.copytree(repository, folder / "deletion")
        bench.machine.start()
        bench.check()

        bench.write()
        bench.machine.die_during(lambda: order_group(bench.tenant, bench.volume_ids), "store put snapshots")
        shutil.copytree(repository, folder / "archive")
        yield {each: Wreck(folder / each, dict(bench.kept)) for each in ("deletion", "archive")}


@pytest.mark.parametrize(
    ("wreck", "place"),
    [
        ("archive", "store put clock"),
        ("archive", "store delete clock"),
        ("archive", "store put snapshots"),
        ("archive", "store delete chunks"),
        ("archive", "store delete trees"),
        ("archive", "store delete leases"),
        ("deletion", "store delete snapshots"),
        ("deletion", "store delete chunks"),
        ("deletion", "store delete trees"),
        ("deletion", "store delete deletions"),
    ],
)
def test_a_collector_killed_there_is_followed_by_one_that_leaves_nothing(
    wrecks: Mapping[str, Wreck], wreck: str, place: str
) -> None:
    """A new service, without the old one's database, collects what the dead left, and nothing else."""
    with new_machine(collect_grace_s=0.001) as machine:
        repository = machine.data / "repository"
        shutil.copytree(wrecks[wreck].folder, repository)
        machine.start_until(place)
        machine.start()
        wait_until(lambda: not half_done(repository), "nothing is half done")
        machine.stop()
        Inventory(machine.data).check_repository()
        check_contents(repository, wrecks[wreck].kept)


def half_done(repository: Path) -> list[str]:
    """Name what somebody in a repository had begun, and nobody has ended yet."""
    store = open_store(str(repository))
    return [info.path for room in ("leases", "deletions", "clock") for info in store.list(room)]
