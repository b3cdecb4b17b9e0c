"""Chains of snapshots of a real disk: what comes back is what was on the disk at the cut, whichever way it comes."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from changing_disk import ChangingDisk, Pages, pages_of_disk, pages_of_file
from inventory import Inventory
from orders import delete_volumes, detach, uris
from running import Site, running_site
from s3_server import CREDENTIALS, new_bucket, running_s3

from onecut.repository.address import open_store
from onecut.repository.repository import Repository
from onecut.repository.verify import verify
from onecut.wiring import qemu_engine

pytestmark = pytest.mark.slow

SNAPSHOTS: Final = 30
GROWN_AT: Final = (9, 19)
"""Snapshots before which the disk grows by a GiB."""

ROLLED_BACK_TO: Final = (2, 22, 28)
EXPORTED: Final = (1, 14, 20, 29, SNAPSHOTS)


@dataclass
class Kept:
    """What a snapshot must give back."""

    number: int
    size_gib: int
    pages: Pages


@pytest.fixture(params=["folder", "s3"])
def repository(request: pytest.FixtureRequest, data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a repository that is not there yet: a folder, or a bucket of a real S3 endpoint."""
    if request.param == "folder":
        yield str(data / "repository")
        return
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    with running_s3() as endpoint:
        yield new_bucket(endpoint)


def test_a_chain_of_incremental_snapshots_gives_every_state_back(repository: str, data: Path, tmp_path: Path) -> None:
    """
    Each of thirty, under writes, discards, zeros and growth, as a new volume, by rollback and as an exported file.

    It is the same after every third of them was deleted, and nothing of the deleted is left.
    """
    with running_site(data, make_engine=qemu_engine, repository=repository) as site:
        disk = ChangingDisk(site, seed=3)
        kept = take_chain(site, disk)
        stored = Repository.open(open_store(repository))
        assert sum(stored.find(each).incremental for each in kept) == SNAPSHOTS - 1
        new_volumes_are_right(site, disk.server_id, kept)

        for snapshot_id in list(kept)[::3]:
            site.done(site.call("DELETE", f"/v5/{{p}}/snapshots/{snapshot_id}", 202))
            del kept[snapshot_id]
        disk.close()
        for snapshot_id, each in kept.items():
            if each.number in ROLLED_BACK_TO:
                roll_back(site, disk, snapshot_id, each)
        # What a disk that was rolled back holds is archived like any other content.
        kept[take(site, disk)] = Kept(SNAPSHOTS, disk.size_gib, dict(disk.pages))

        new_volumes_are_right(site, disk.server_id, kept)
        assert verify(stored).findings == []
        Inventory(data, repository).wait_until_tidy()
        Inventory(data, repository).check_repository()
    exports_are_right(repository, kept, tmp_path)


def take_chain(site: Site, disk: ChangingDisk) -> dict[str, Kept]:
    """Change the disk and take a snapshot of it, again and again."""
    kept = {}
    for number in range(SNAPSHOTS):
        disk.change()
        if number in GROWN_AT:
            disk.grow()
        kept[take(site, disk)] = Kept(number, disk.size_gib, dict(disk.pages))
    return kept


def take(site: Site, disk: ChangingDisk) -> str:
    """Take a snapshot, and return its id once it is archived."""
    body = {"snapshot": {"volume_id": disk.volume_id, "name": "one of many"}}
    answer = site.call("POST", "/v5/{p}/snapshots", 202, json=body)
    site.done(answer)
    snapshot_id: str = answer["snapshot_id"]
    return snapshot_id


def new_volumes_are_right(site: Site, server_id: str, kept: Mapping[str, Kept]) -> None:
    """Make a volume from each snapshot, and compare it from its first byte to its last with what was kept aside."""
    answers = {}
    for snapshot_id, each in kept.items():
        wanted = {"availability_zone": "az1", "volume_type": "SSD", "size": each.size_gib, "snapshot_id": snapshot_id}
        body: dict[str, Any] = {"volume": wanted, "server_id": server_id}
        answers[snapshot_id] = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body)
    for snapshot_id, answer in answers.items():
        site.done(answer)
        (uri,) = uris(site, answer["volume_ids"])
        assert pages_of_disk(uri, kept[snapshot_id].size_gib) == kept[snapshot_id].pages
        detach(site, answer["volume_ids"][0])
        delete_volumes(site, answer["volume_ids"])


def roll_back(site: Site, disk: ChangingDisk, snapshot_id: str, kept: Kept) -> None:
    """Roll the disk back, compare it, and go on writing to it."""
    body = {"rollback": {"volume_id": disk.volume_id}}
    site.done(site.call("POST", f"/v5/{{p}}/snapshots/{snapshot_id}/rollback", 202, json=body))
    disk.pages = dict(kept.pages)
    disk.open()
    assert pages_of_disk(uris(site, [disk.volume_id])[0], disk.size_gib) == disk.pages
    disk.change()
    disk.close()


def exports_are_right(repository: str, kept: Mapping[str, Kept], folder: Path) -> None:
    """Export snapshots with the command, and compare the files with what was kept aside."""
    command = [sys.executable, "-m", "onecut", "repository", "export", "--repository", repository]
    for snapshot_id, each in kept.items():
        if each.number in EXPORTED:
            subprocess.run([*command, snapshot_id, str(folder / "disk.raw")], check=True, timeout=120)
            assert pages_of_file(folder / "disk.raw", each.size_gib) == each.pages
