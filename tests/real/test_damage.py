"""Damage in the repository is told by name wherever it is met; nothing builds on it, and its neighbours are whole."""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from folders import short_folder
from orders import attach, delete_volumes, detach, new_server, new_volumes, uris, volume
from running import Site, running_site, wait_until

from onecut.cli.throwaway import end_daemon
from onecut.nbd.client import NbdClient
from onecut.nbd.errors import NbdError
from onecut.repository.collector import plan_collection
from onecut.repository.delete import LEFTOVERS
from onecut.repository.manifest import SnapshotManifest
from onecut.repository.page import LEAF_ENTRIES, Leaf
from onecut.repository.repository import CHUNK_BYTES, Repository, chunk_path, page_path
from onecut.repository.verify import verify
from onecut.units import GiB, MiB
from onecut.wiring import qemu_engine

pytestmark = pytest.mark.slow

PLACES: Final = (0, 16 * MiB, 5 * GiB)
"""Where each snapshot has a chunk of its own: two of them beneath one page of the tree."""

SHARED: Final = 9 * GiB
"""Where all snapshots have the same chunk."""

REPEATED: Final = range(32 * MiB, 32 * MiB + LEAF_ENTRIES * CHUNK_BYTES, MiB)
"""Where the same chunk is again and again: too often for a tree of one page."""


@dataclass(frozen=True)
class Harm:
    """What is done to an object of a snapshot, and what can't be read of it then."""

    room: str
    act: str
    lost: frozenset[int]
    """The places that can't be read."""


@dataclass(frozen=True)
class Victim:
    """The damaged snapshot."""

    snapshot_id: str
    path: str
    """The object that was damaged."""
    harm: Harm


HARMS: Final = {
    "flipped-bit": Harm("chunks", "flip", frozenset({0})),
    "truncated-chunk": Harm("chunks", "truncate", frozenset({0})),
    "missing-chunk": Harm("chunks", "remove", frozenset({0})),
    "missing-page": Harm("trees", "remove", frozenset({0, 16 * MiB})),
    "damaged-manifest": Harm("snapshots", "flip", frozenset({*PLACES, SHARED})),
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The data folder of this file's service."""
    with short_folder() as folder:
        yield folder / "data"


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[Site]:
    """A service that reads all of its repository every second, and collects as often."""
    often: dict[str, Any] = {"verify_every_s": 1.0, "verify_share": 1.0, "collect_every_s": 1.0}
    try:
        with running_site(folder, make_engine=qemu_engine, **often) as site:
            yield site
    finally:
        end_daemon(folder / "run" / "qsd.pid")


@pytest.fixture
def server_id(site: Site) -> str:
    """A server to attach disks to."""
    return new_server(site)


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_damage_is_told_and_does_not_spread(site: Site, folder: Path, server_id: str, harm: Harm) -> None:
    """
    The middle one of three snapshots is damaged while it is the newest.

    It says so by itself, and `verify` names it with the object; the next one begins a chain of its own. What is
    restored from it is right but for what can't be read; its neighbours are whole.
    """
    (volume_id,) = new_volumes(site, 1, server_id)
    if harm.room == "trees":
        repeat(site, volume_id)
    sound = take(site, volume_id, 1)
    damaged = take(site, volume_id, 2)
    before = damages(site)
    path = do_harm(site, damaged, harm)

    wait_until(lambda: shown(site, damaged)["onecut"]["fault"] is not None, "the service has found it")
    assert path in shown(site, damaged)["onecut"]["fault"]
    assert shown(site, damaged)["status"] == "available"
    assert damages(site) == before + 1
    next_ = take(site, volume_id, 3)

    assert damaged in shown(site, next_)["onecut"]["full_because"]
    assert chain(site, next_) != chain(site, damaged) == chain(site, sound)
    assert [shown(site, each)["onecut"]["fault"] for each in (sound, next_)] == [None, None]
    assert findings(folder) == {(damaged, path)}
    assert restored(site, server_id, sound) == contents(1)
    assert restored(site, server_id, next_) == contents(3)
    victim = Victim(damaged, path, harm)
    check_new_volume(site, server_id, victim)
    detach(site, volume_id)
    check_rollback(site, server_id, volume_id, victim)
    assert shown(site, damaged)["status"] == "available"
    assert roll_back(site, volume_id, sound)["status"] == "SUCCESS"
    assert readable(attach(site, volume_id, server_id)) == contents(1)
    check_deletion(site, victim)


def take(site: Site, volume_id: str, seed: int) -> str:
    """Write to a volume, take a snapshot of it, and return its id once it is archived."""
    with NbdClient.connect(uris(site, [volume_id])[0]) as disk:
        for place, content in contents(seed).items():
            disk.write(content, place)
        disk.flush()
    body = {"snapshot": {"volume_id": volume_id, "name": f"number {seed}"}}
    answer = site.call("POST", "/v5/{p}/snapshots", 202, json=body)
    site.done(answer)
    snapshot_id: str = answer["snapshot_id"]
    return snapshot_id


def repeat(site: Site, volume_id: str) -> None:
    """Write so much that the disk's tree has more than one page."""
    with NbdClient.connect(uris(site, [volume_id])[0]) as disk:
        for offset in REPEATED:
            disk.write(b"r" * MiB, offset)


def contents(seed: int) -> dict[int, bytes]:
    """Make up what a snapshot holds: incompressible chunks of its own, and one that all have."""
    own = random.Random(seed)  # noqa: S311 - noise, no secret
    shared = random.Random(0)  # noqa: S311 - as above
    return {place: own.randbytes(CHUNK_BYTES) for place in PLACES} | {SHARED: shared.randbytes(CHUNK_BYTES)}


def do_harm(site: Site, snapshot_id: str, harm: Harm) -> str:
    """Damage an object that only this snapshot has, and return its name."""
    repository: Repository = site.app_state.repository
    path = object_of(repository, repository.find(snapshot_id), harm.room)
    file = Path(site.onecut.settings.data) / "repository" / path
    match harm.act:
        case "flip":
            data = bytearray(file.read_bytes())
            data[len(data) // 2] ^= 1
            file.write_bytes(data)
        case "truncate":
            file.write_bytes(file.read_bytes()[:-1000])
        case "remove":
            file.unlink()
    return path


def object_of(repository: Repository, manifest: SnapshotManifest, room: str) -> str:
    """Name a snapshot's manifest, the chunk at its first place, or the page with that one."""
    reader, ref = repository.reader(manifest.chain.project_id), manifest.blocks
    if room == "snapshots" or ref is None:
        return manifest.path
    while not isinstance(page := reader.page(ref), Leaf):
        ref = page.children[min(page.children)]
    return page_path(*ref.place) if room == "trees" else chunk_path(*page.at(0).place)


def shown(site: Site, snapshot_id: str) -> dict[str, Any]:
    """Show a snapshot."""
    found: dict[str, Any] = site.call("GET", f"/v5/{{p}}/snapshots/{snapshot_id}", 200)["snapshot"]
    return found


def chain(site: Site, snapshot_id: str) -> str:
    """Return the id of a snapshot's chain."""
    chain_id: str = shown(site, snapshot_id)["snapshot_chains"][0]["id"]
    return chain_id


def damages(site: Site) -> float:
    """Return how often damage was met, as the metrics tell."""
    lines = site.client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("onecut_damages_total "))


def findings(folder: Path) -> set[tuple[str, str]]:
    """Let the command verify the repository, and return the damaged snapshots with the objects at fault."""
    command = [sys.executable, "-m", "onecut", "repository", "verify", "--json", "--repository"]
    done = subprocess.run([*command, str(folder / "repository")], capture_output=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    return {(each["name"], each["path"]) for each in json.loads(done.stdout)["findings"]}


def order_volume(site: Site, server_id: str, snapshot_id: str) -> dict[str, Any]:
    """Ask for a volume from a snapshot; return its id and its job once that has ended."""
    wanted = {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "snapshot_id": snapshot_id}
    body = {"volume": wanted, "server_id": server_id}
    answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body)
    return {"volume_id": answer["volume_ids"][0], "job": site.job(answer["job_id"])}


def readable(uri: str) -> dict[int, bytes]:
    """Read all places of a disk; those that can't be read are left out."""
    found = {}
    for place in (*PLACES, SHARED):
        try:
            # The daemon hangs up on a read that fails in its middle (QEMU 7.2, nbd_co_send_sparse_read).
            with NbdClient.connect(uri) as disk:
                found[place] = disk.read(place, CHUNK_BYTES)
        except NbdError:
            continue
    return found


def restored(site: Site, server_id: str, snapshot_id: str) -> dict[int, bytes]:
    """Read a snapshot through a new volume."""
    made = order_volume(site, server_id, snapshot_id)
    assert made["job"]["status"] == "SUCCESS"
    found = readable(uris(site, [made["volume_id"]])[0])
    detach(site, made["volume_id"])
    delete_volumes(site, [made["volume_id"]])
    return found


def check_in_part(site: Site, volume_id: str, uri: str, victim: Victim) -> None:
    """Check a volume that is filled from the damaged snapshot: the fault is shown, and all else is right."""
    job = site.job(volume(site, volume_id)["onecut"]["hydration"]["job_id"])
    assert job["status"] == "FAIL"
    assert victim.path in job["fail_reason"]
    assert volume(site, volume_id)["onecut"]["hydration"]["fault"] == job["fail_reason"]
    assert readable(uri) == {place: data for place, data in contents(2).items() if place not in victim.harm.lost}


def check_new_volume(site: Site, server_id: str, victim: Victim) -> None:
    """A new volume is filled but for what is lost; without a manifest there is nothing to fill it with."""
    made = order_volume(site, server_id, victim.snapshot_id)
    volume_id = made["volume_id"]
    if victim.harm.room == "snapshots":
        check_failed(made["job"], victim)
        assert volume(site, volume_id)["status"] == "error"
    else:
        assert made["job"]["status"] == "SUCCESS"
        check_in_part(site, volume_id, uris(site, [volume_id])[0], victim)
        detach(site, volume_id)
    delete_volumes(site, [volume_id])


def check_rollback(site: Site, server_id: str, volume_id: str, victim: Victim) -> None:
    """The same for a volume that is rolled back."""
    job = roll_back(site, volume_id, victim.snapshot_id)
    if victim.harm.room == "snapshots":
        check_failed(job, victim)
        assert volume(site, volume_id)["status"] == "error_rollbacking"
    else:
        assert job["status"] == "SUCCESS"
        check_in_part(site, volume_id, attach(site, volume_id, server_id), victim)
        detach(site, volume_id)


def check_deletion(site: Site, victim: Victim) -> None:
    """The snapshot goes, the damage with it, and what nobody could tell the owner of goes with a collection."""
    job = site.job(site.call("DELETE", f"/v5/{{p}}/snapshots/{victim.snapshot_id}", 202)["job_id"])
    assert job["status"] == "SUCCESS"
    # Its data goes when the engine has let go of the volumes that were filled from it.
    repository: Repository = site.app_state.repository
    wait_until(lambda: verify(repository).findings == [], "the repository is sound again")
    wait_until(lambda: not list(repository.store.list(LEFTOVERS)), "what was left over is collected")
    assert plan_collection(repository, thorough=True).unreferenced == []


def check_failed(job: dict[str, Any], victim: Victim) -> None:
    """Check that a job failed because of the damage."""
    assert job["status"] == "FAIL"
    assert victim.path in job["fail_reason"]


def roll_back(site: Site, volume_id: str, snapshot_id: str) -> dict[str, Any]:
    """Roll a volume back, and return the job once it has ended."""
    body = {"rollback": {"volume_id": volume_id}}
    return site.job(site.call("POST", f"/v5/{{p}}/snapshots/{snapshot_id}/rollback", 202, json=body)["job_id"])
