"""One cut shows one instant: the witness writes while the service cuts, and judges every group."""

import json
import subprocess
import sys

import pytest
from orders import judge_disks, new_server, new_volumes, opened, take_group, uris
from running import Site
from stamping import (
    archive_under_fire,
    check_all_consistent,
    cut_under_fire,
    newest_stamp,
    stamping,
    wait_for_stamp,
)

from onecut.cli.witness import EXIT_INCONSISTENT, EXIT_NOTHING_TO_JUDGE
from onecut.witness.verify import Fault, Outcome


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_groups_of_2_disks_show_one_instant(quick_cutting_site: Site) -> None:
    """400 cuts across two disks on two servers, which get stamps all the while, are all consistent."""
    check_all_consistent(cut_under_fire(quick_cutting_site, disks=2, cuts=400, load_threads=0))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_groups_of_2_disks_under_load_show_one_instant(cutting_site: Site) -> None:
    """60 cuts across two disks that are written to everywhere else as well are all consistent."""
    check_all_consistent(cut_under_fire(cutting_site, disks=2, cuts=60))


@pytest.mark.slow
def test_groups_from_the_repository_show_one_instant(real_site: Site) -> None:
    """Groups that were archived while their disks were written to are consistent when they are read from there."""
    check_all_consistent(archive_under_fire(real_site, disks=2, cuts=6))


def test_disks_cut_one_after_another_are_found_inconsistent(real_site: Site) -> None:
    """
    The control: single cuts of the two disks, with stamps between them, do not pass as one instant.

    Without it a witness that is blind would pass every test of this file.
    """
    first, second = volume_ids = new_volumes(real_site, 2, new_server(real_site))
    disks = uris(real_site, volume_ids)
    with stamping(disks):
        before = take_group(real_site, [first])
        wait_for_stamp(disks[1], newest_stamp(disks[1]))
        after = take_group(real_site, [second])
    with opened(real_site, [before, after]) as found:
        verdict = judge_disks([uri for group in found for uri in group])
    assert verdict.outcome is Outcome.INCONSISTENT
    assert {violation.fault for violation in verdict.violations} == {Fault.MISSING_STAMP}


class TestCommand:
    def test_a_group_taken_during_a_run_is_found_consistent(self, real_site: Site) -> None:
        """`onecut witness run` writes to a server's disks; a group taken meanwhile is judged consistent: exit 0."""
        volume_ids = new_volumes(real_site, 2, new_server(real_site))
        disks = uris(real_site, volume_ids)
        with witness_run(real_site, "--server", "db1", "--seconds", "4") as run:
            wait_for_stamp(disks[-1], -1)
            take_group(real_site, volume_ids, "during")
            report, _ = run.communicate()
        assert run.returncode == 0
        assert json.loads(report)["stamps_written"] > 2
        assert onecut(real_site, "witness", "verify", "--group", "during") == (0, "consistent\n")

    def test_groups_taken_in_turn_are_found_inconsistent(self, real_site: Site) -> None:
        """`onecut witness verify` of disks cut one after another says which disk lacks what, and exits with 1."""
        first, second = volume_ids = new_volumes(real_site, 2, new_server(real_site))
        disks = uris(real_site, volume_ids)
        with stamping(disks):
            take_group(real_site, [first], "early")
            wait_for_stamp(disks[1], newest_stamp(disks[1]))
            take_group(real_site, [second], "late")
        exit_code, told = onecut(real_site, "witness", "verify", "--group", "early", "--group", "late")
        assert exit_code == EXIT_INCONSISTENT
        assert "Disk 0 lacks stamp" in told

    def test_a_group_without_stamps_is_not_judged(self, real_site: Site) -> None:
        """`onecut witness verify` of disks that no witness wrote to claims nothing, and exits with 3."""
        take_group(real_site, new_volumes(real_site, 2), "untouched")
        told = onecut(real_site, "witness", "verify", "--group", "untouched")
        assert told == (EXIT_NOTHING_TO_JUDGE, "nothing to judge\n")


def command(site: Site, *arguments: str) -> list[str]:
    """Write a command as an operator does."""
    return [sys.executable, "-m", "onecut", "--credentials", str(site.onecut.credentials_path), *arguments]


def onecut(site: Site, *arguments: str) -> tuple[int, str]:
    """Run a command, and return its exit code and its output."""
    ended = subprocess.run(command(site, *arguments), stdout=subprocess.PIPE, text=True, check=False)
    return ended.returncode, ended.stdout


def witness_run(site: Site, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the witness."""
    return subprocess.Popen(command(site, "witness", "run", "--yes", "--json", *arguments), stdout=subprocess.PIPE)
