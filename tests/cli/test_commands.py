"""The operator's commands against a running service."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from running import Site

from onecut.cli.main import main
from onecut.db.volumes import Volume
from onecut.service import scheduler


@pytest.fixture
def onecut(site: Site) -> "Commands":
    """The commands, with the credentials of the running service."""
    return Commands(site.onecut.credentials_path)


class Commands:
    """Runs commands in this process."""

    def __init__(self, credentials: Path) -> None:
        self._credentials = credentials

    def run(self, *arguments: str) -> Result:
        """Run a command, whatever it exits with."""
        return CliRunner().invoke(main, ["--credentials", str(self._credentials), *arguments])

    def text(self, *arguments: str) -> str:
        """Run a command that succeeds, and return what it prints."""
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command with ``--json``, and return what it prints."""
        return json.loads(self.text(*arguments, "--json"))

    def refusal(self, *arguments: str) -> str:
        """Run a command that fails, and return its complaint."""
        result = self.run(*arguments)
        assert result.exit_code == 1, result.output
        return result.stderr.removeprefix("Error: ").strip()


def make_server_with_disks(onecut: Commands) -> list[str]:
    """Make the server ``db1`` with the disks ``data`` and ``log``, and return the disks' ids."""
    onecut.text("server", "create", "db1")
    return [
        onecut.json("volume", "create", "--name", name, "--size", "10", "--server", "db1")["volume_ids"][0]
        for name in ("data", "log")
    ]


class TestPerformance:
    def test_a_volume_gets_other_performance_and_another_type(self, onecut: Commands) -> None:
        """Chosen when it is made, changed, and given up again with its type."""
        onecut.text("volume", "create", "--name", "fast", "--size", "10", "--type", "ESSD2", "--iops", "100")

        onecut.text("volume", "qos", "fast", "--iops", "200")
        assert onecut.json("volume", "show", "fast")["volume"]["iops"]["total_val"] == 200

        onecut.text("volume", "retype", "fast", "GPSSD2", "--iops", "3000", "--throughput", "125")
        assert onecut.json("volume", "show", "fast")["volume"]["throughput"]["total_val"] == 125

        assert "needs it" in onecut.refusal("volume", "retype", "fast", "ESSD2")


class TestStory:
    def test_a_group_is_taken_rolled_back_and_deleted(self, onecut: Commands) -> None:
        """The README's session works by names alone: disks, group, detach, rollback with undo, attach, delete."""
        make_server_with_disks(onecut)

        taken = onecut.json("group", "create", "--server", "db1", "--name", "before", "--tag", "env=prod")
        for disk in ("data", "log"):
            onecut.text("volume", "detach", disk)
        undo = onecut.json("group", "rollback", "before")["undo_snapshot_group_id"]
        for disk in ("data", "log"):
            onecut.text("volume", "attach", disk, "db1")

        groups = onecut.json("group", "list")["snapshot_groups"]
        assert {group["id"]: group["status"] for group in groups} == {
            taken["snapshot_group_id"]: "available",
            undo: "available",
        }
        onecut.text("group", "delete", "before", undo)
        assert onecut.json("group", "list")["snapshot_groups"] == []

    def test_a_group_becomes_new_volumes(self, onecut: Commands) -> None:
        """New volumes from a group are attached to the server that is named."""
        disks = make_server_with_disks(onecut)
        onecut.text("group", "create", "--volume", "data", "--volume", disks[1], "--name", "copied")
        onecut.text("server", "create", "db2")

        onecut.text("group", "volumes", "copied", "--server", "db2", "--name", "copy")

        found = onecut.json("volume", "list", "--server", "db2")["volumes"]
        assert sorted(volume["name"] for volume in found) == ["copy-0001", "copy-0002"]

    def test_single_snapshots(self, onecut: Commands) -> None:
        """A snapshot of one volume is taken, shown, rolled back to and deleted."""
        onecut.text("volume", "create", "--name", "data", "--size", "10")
        snapshot_id = onecut.json("snapshot", "create", "data", "--name", "noon")["snapshot_id"]

        assert onecut.json("snapshot", "show", "noon")["snapshot"]["id"] == snapshot_id
        onecut.text("snapshot", "rollback", "noon")
        onecut.text("snapshot", "delete", "noon")
        assert onecut.json("snapshot", "list", "--volume", "data")["snapshots"] == []

    def test_volumes_are_extended_and_deleted(self, onecut: Commands) -> None:
        """A detached volume grows, and is gone after its deletion."""
        onecut.text("volume", "create", "--name", "data", "--size", "10")

        onecut.text("volume", "extend", "data", "12")

        assert onecut.json("volume", "show", "data")["volume"]["size"] == 12
        onecut.text("volume", "delete", "data")
        assert onecut.json("volume", "list")["volumes"] == []

    def test_a_server_goes_with_its_volumes(self, onecut: Commands) -> None:
        """``server delete --volumes`` deletes the server's disks too."""
        make_server_with_disks(onecut)

        onecut.text("server", "delete", "db1", "--volumes")

        assert onecut.json("server", "list")["servers"] == []
        assert onecut.json("volume", "list")["volumes"] == []


class TestPolicies:
    def test_a_policy_is_made_for_a_server_shown_and_deleted(self, onecut: Commands) -> None:
        """The server's disks are the policy's; one is taken out and put in again by name."""
        disks = make_server_with_disks(onecut)

        made = onecut.json(
            "policy", "create", "nightly", "--hour", "1", "--hour", "13", "--weekday", "1", "--weekday", "5",
            "--keep", "30", "--server", "db1", "--tag", "env=prod",
        )["snapshot_policy"]  # fmt: skip
        assert (made["time_points"], made["repeat_weekdays"], made["tags"]) == (
            ["1", "13"],
            ["1", "5"],
            {"env": "prod"},
        )
        assert onecut.json("policy", "show", "nightly")["snapshot_policy"]["onecut"]["volume_ids"] == sorted(disks)
        onecut.text("policy", "disassociate", "nightly", "--volume", "data")
        assert onecut.json("policy", "show", "nightly")["snapshot_policy"]["onecut"]["volume_ids"] == disks[1:]
        onecut.text("policy", "associate", made["id"], "--volume", disks[0], "--volume", "log")
        assert onecut.json("policy", "show", "nightly")["snapshot_policy"]["onecut"]["volume_ids"] == sorted(disks)

        assert "weekdays 1, 5" in onecut.text("policy", "list")
        onecut.text("policy", "delete", "nightly")
        assert onecut.json("policy", "list")["snapshot_policies"] == []

    def test_what_became_of_the_volumes_is_a_table(self, onecut: Commands, site: Site) -> None:
        """Each volume at each time point has a line, with its snapshot or the reason."""
        data, log = make_server_with_disks(onecut)
        onecut.text("policy", "create", "daily", "--hour", "0", "--every", "1", "--keep", "-1", "--volume", "data")
        onecut.text("policy", "associate", "daily", "--volume", "log")
        with site.database.writing() as session:
            session.get_one(Volume, log).status = "error"
        scheduler.look(site.database, site.onecut.clock.now() + timedelta(days=1))

        printed = onecut.text("policy", "show", "daily").splitlines()

        (ordered,) = [line for line in printed if data in line and "ordered" in line]
        assert onecut.json("snapshot", "list", "--volume", "data")["snapshots"][0]["id"] in ordered
        (waiting,) = [line for line in printed if log in line and "waiting" in line]
        assert f"volume {log} is error" in waiting

    def test_neither_days_nor_interval(self, onecut: Commands) -> None:
        """The service says what is missing, and no policy is made."""
        complaint = onecut.refusal("policy", "create", "never", "--hour", "1", "--keep", "7")

        assert "one of repeat_weekdays and repeat_interval_days must be given" in complaint
        assert onecut.json("policy", "list")["snapshot_policies"] == []


class TestOutput:
    def test_tables_show_whole_ids(self, onecut: Commands) -> None:
        """Ids are not cut off, however narrow the terminal is."""
        disks = make_server_with_disks(onecut)

        printed = onecut.text("volume", "list")

        assert all(disk in printed for disk in disks)

    def test_a_job_is_shown_and_waited_for(self, onecut: Commands, site: Site) -> None:
        """``job show`` and ``job wait`` tell what became of a request."""
        job_id = site.call("POST", "/v1/{p}/cloudservers", 200, json={"server": {"name": "db1"}})["job_id"]

        assert onecut.json("job", "wait", job_id)["status"] == "SUCCESS"
        assert "SUCCESS" in onecut.text("job", "show", job_id)

    def test_help_needs_no_service(self, tmp_path: Path) -> None:
        """Every command explains itself where no service ever ran."""
        nowhere = Commands(tmp_path / "credentials.json")

        for command in main.list_commands(None):  # type: ignore[arg-type] # it does not look at the context
            assert nowhere.text(command, "--help").startswith("Usage:")


class TestRefusals:
    def test_a_name_nobody_has(self, onecut: Commands) -> None:
        """A name that does not exist is said to, with the noun."""
        assert onecut.refusal("volume", "show", "data") == "volume 'data': there is none"

    def test_a_name_that_several_have(self, onecut: Commands) -> None:
        """An ambiguous name asks for the id."""
        for _ in range(2):
            onecut.text("server", "create", "db1")

        assert onecut.refusal("server", "show", "db1") == "server 'db1': there are several; use the id"

    def test_the_services_own_words(self, onecut: Commands) -> None:
        """What the API refuses is printed as it said it, with its code."""
        onecut.text("volume", "create", "--name", "data", "--size", "10")

        complaint = onecut.refusal("volume", "extend", "data", "10")

        assert "10" in complaint
        assert complaint.endswith("(EVS.1015)")

    def test_no_credentials(self, tmp_path: Path) -> None:
        """Without credentials the message says what to do."""
        nowhere = Commands(tmp_path / "credentials.json")

        assert "Start the service" in nowhere.refusal("server", "list")

    def test_credentials_that_are_none(self, tmp_path: Path) -> None:
        """A file that the service did not write is refused as such."""
        file = tmp_path / "credentials.json"
        file.write_text("{}")

        assert "is not a credentials file" in Commands(file).refusal("server", "list")

    def test_a_service_that_does_not_run(self, tmp_path: Path) -> None:
        """A service that is not there is named by its address."""
        file = tmp_path / "credentials.json"
        known = {"endpoint": "http://127.0.0.1:9", "project_id": "0" * 32, "access_key": "A", "secret_key": "S"}
        file.write_text(json.dumps(known))

        assert "http://127.0.0.1:9 does not answer" in Commands(file).refusal("server", "list")
