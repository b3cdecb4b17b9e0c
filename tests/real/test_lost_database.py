"""A repository is all that is left of a service: its commands give every snapshot back."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from changing_disk import ChangingDisk, Pages, pages_of_file
from orders import take_group
from running import running_site

from onecut.cli.throwaway import end_daemon
from onecut.wiring import qemu_engine

pytestmark = pytest.mark.slow

GROUPS = 3


def test_a_repository_without_its_database_lists_verifies_and_exports(data: Path, tmp_path: Path) -> None:
    """Groups of two disks, one of which grows: each snapshot is listed, proven with its group, and exported."""
    kept: dict[tuple[str, str], tuple[int, Pages]] = {}
    with running_site(data, make_engine=qemu_engine) as site:
        disks = [ChangingDisk(site, seed) for seed in (1, 2)]
        for _ in range(GROUPS):
            for disk in disks:
                disk.change()
            disks[0].grow()
            group_id = take_group(site, [disk.volume_id for disk in disks])
            kept |= {(group_id, disk.volume_id): (disk.size_gib, dict(disk.pages)) for disk in disks}
        for disk in disks:
            disk.close()
    end_daemon(data / "run" / "qsd.pid")
    repository = (data / "repository").rename(data.with_name("found"))
    shutil.rmtree(data)

    listed = run(repository, "ls")["snapshots"]
    proven = run(repository, "verify")
    of_groups = [run(repository, "verify", "--group", group_id) for group_id in {group_id for group_id, _ in kept}]

    assert {(each["group_id"], each["chain"]["volume_id"]) for each in listed} == set(kept)
    assert (proven["snapshots"], proven["groups"], proven["findings"]) == (2 * GROUPS, GROUPS, [])
    assert [(each["snapshots"], each["findings"]) for each in of_groups] == [(2, [])] * GROUPS
    for each in listed:
        size_gib, pages = kept[each["group_id"], each["chain"]["volume_id"]]
        run(repository, "export", each["snapshot_id"], str(tmp_path / "disk.raw"))
        assert pages_of_file(tmp_path / "disk.raw", size_gib) == pages
    run(repository, "export", "--format", "qcow2", listed[-1]["snapshot_id"], str(tmp_path / "disk.qcow2"))
    subprocess.run(["qemu-img", "compare", tmp_path / "disk.raw", tmp_path / "disk.qcow2"], check=True)


def run(repository: Path, command: str, *arguments: str) -> Any:
    """Run one of the repository's commands, which must succeed, and return what it tells."""
    words = [sys.executable, "-m", "onecut", "repository", command, "--repository", str(repository), "--json"]
    done = subprocess.run([*words, *arguments], check=True, capture_output=True, timeout=60)
    return json.loads(done.stdout)
