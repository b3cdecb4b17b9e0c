"""OpenStack's own clients, unmodified, against a running service: what they say is what has happened."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cinderclient import api_versions, client, exceptions
from keystoneauth1 import session
from keystoneauth1.identity import v3
from orders import attach, new_server, volume
from running import Site, running_site, wait_until

from onecut.engine.memory import MemoryEngine

COMMANDS = Path(__file__).parents[1] / "support" / "openstack_commands.py"
OPENSTACK = Path(sys.executable).with_name("openstack")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for both clients."""
    with running_site(tmp_path_factory.mktemp("data")) as site:
        yield site


@dataclass
class Openstack:
    """The command line client: a process that runs its commands."""

    process: subprocess.Popen[str]

    def _run(self, command: str) -> tuple[int, str, str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(command.split()), file=self.process.stdin, flush=True)
        status, output, errors = json.loads(self.process.stdout.readline())
        return status, output, errors

    def told(self, command: str) -> Any:
        """Run a command that succeeds and tells something."""
        status, output, errors = self._run(f"{command} --format json")
        assert status == 0, errors
        return json.loads(output)

    def does(self, command: str) -> None:
        """Run a command that succeeds without a word."""
        assert self._run(command) == (0, "", "")

    def refused(self, command: str) -> str:
        """Run a command that fails, and return what it says."""
        status, output, errors = self._run(command)
        assert (status, output) == (1, "")
        return errors


@pytest.fixture(scope="module")
def environment(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the how-to page sets, and nobody's clouds.yaml."""
    told = site.credentials
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path_factory.mktemp("home")),
        "NO_PROXY": "*",
        "OS_AUTH_URL": f"{site.onecut.endpoint}/v3",
        "OS_USERNAME": told["user_name"],
        "OS_PASSWORD": told["password"],
        "OS_PROJECT_NAME": told["project_name"],
        "OS_USER_DOMAIN_NAME": told["domain_name"],
        "OS_PROJECT_DOMAIN_NAME": told["domain_name"],
        "OS_REGION_NAME": told["region"],
    }


@pytest.fixture(scope="module")
def openstack(environment: dict[str, str]) -> Iterator[Openstack]:
    """The command line client, signed in by password."""
    with subprocess.Popen(
        [sys.executable, COMMANDS],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Openstack(process)


def wait_for(site: Site, kind: str, resource_id: str, **wanted: Any) -> None:
    """Wait until a volume or a snapshot has these values."""
    path = f"/v2/{{p}}/cloud{kind}s/{resource_id}"
    wait_until(
        lambda: wanted.items() <= site.call("GET", path, 200)[kind].items(), f"{kind} {resource_id} with {wanted}"
    )


def wait_for_end(site: Site, kind: str, resource_id: str) -> None:
    """Wait until a volume or a snapshot can't be found any more."""
    path = f"/v2/{site.project_id}/cloud{kind}s/{resource_id}"
    wait_until(lambda: site.client.get(path).status_code == 404, f"the end of {kind} {resource_id}")


@pytest.mark.slow
class TestCommandLine:
    def test_a_volume_is_made_changed_extended_and_deleted(self, site: Site, openstack: Openstack) -> None:
        """Each command of a volume's life has its effect in the service."""
        made = openstack.told("volume create --size 10 --type SSD --property a=b --property c=d data")
        wait_for(site, "volume", made["id"], status="available", name="data", volume_type="SSD")
        assert (made["size"], made["properties"]) == (10, {"a": "b", "c": "d"})

        openstack.does("volume set --size 12 --name log --description text --property a=z --bootable data")
        wait_for(site, "volume", made["id"], status="available", size=12)
        changed = volume(site, made["id"])
        assert (changed["name"], changed["description"], changed["bootable"]) == ("log", "text", "true")
        assert changed["metadata"] == {"a": "z", "c": "d"}
        openstack.does("volume set --type ESSD --migration-policy on-demand log")
        wait_for(site, "volume", made["id"], status="available", volume_type="ESSD")
        openstack.does("volume unset --property c log")
        assert volume(site, made["id"])["metadata"] == {"a": "z"}

        (listed,) = openstack.told("volume list --long")
        assert (listed["ID"], listed["Name"], listed["Size"], listed["Properties"]) == (
            made["id"],
            "log",
            12,
            {"a": "z"},
        )
        assert openstack.told("volume show log")["status"] == "available"
        (listed,) = openstack.told("--os-volume-api-version 2 volume list")
        assert listed["ID"] == made["id"]

        openstack.does("volume delete log")
        wait_for_end(site, "volume", made["id"])

    def test_a_snapshot_is_taken_used_and_deleted(self, site: Site, openstack: Openstack) -> None:
        """A volume that is made from it has the content of its moment."""
        assert isinstance(site.engine, MemoryEngine)
        source = openstack.told("volume create --size 10 source")["id"]
        wait_for(site, "volume", source, status="available")
        site.engine.write(source, 0, b"before")

        taken = openstack.told("volume snapshot create --volume source --property a=b first")
        wait_for(site, "snapshot", taken["id"], status="available", metadata={"a": "b"})
        site.engine.write(source, 0, b"after!")
        (listed,) = openstack.told("volume snapshot list --long")
        assert (listed["ID"], listed["Name"], listed["Status"]) == (taken["id"], "first", "available")
        openstack.does("volume snapshot set --name renamed --property c=d first")
        assert openstack.told("volume snapshot show renamed")["properties"] == {"a": "b", "c": "d"}
        copy = openstack.told("volume create --snapshot renamed copy")["id"]
        wait_for(site, "volume", copy, status="available", size=10)
        assert site.engine.read(copy, 0, 6) == b"before"

        openstack.does("volume snapshot delete renamed")
        wait_for_end(site, "snapshot", taken["id"])
        openstack.does("volume delete source copy")
        wait_for_end(site, "volume", source)

    def test_it_is_started_as_anybody_starts_it(self, environment: dict[str, str]) -> None:
        """The installed program, in a process of its own, finds its way from the address of /v3 alone."""
        done = subprocess.run(
            [OPENSTACK, "catalog", "list"], env=environment, check=False, capture_output=True, text=True
        )

        assert (done.returncode, done.stderr) == (0, "")
        assert [kind for kind in ("identity", "block-storage", "volumev3") if kind not in done.stdout] == []

    def test_it_tells_what_there_is(self, openstack: Openstack) -> None:
        """Types, zones and limits."""
        assert "SSD" in {each["Name"] for each in openstack.told("volume type list")}
        assert openstack.told("volume type show SSD")["description"] == "Ultra-high I/O"
        assert openstack.told("availability zone list --volume") == [{"Zone Name": "az1", "Zone Status": "available"}]
        limits = {each["Name"]: each["Value"] for each in openstack.told("limits show --absolute")}
        assert limits["max_total_volumes"] == 10_000

    def test_a_refusal_is_told_in_our_words(self, openstack: Openstack) -> None:
        """The client prints the message, which names field, value and limit."""
        assert "size: must be 10 to 32768 GiB, not 1" in openstack.refused("volume create --size 1 small")
        assert "No Volume found for nobody" in openstack.refused("volume show nobody")
        assert openstack.told("volume list") == []


class TestLibrary:
    @pytest.fixture
    def cinder(self, site: Site) -> Any:
        """Cinder's client library, signed in by password."""
        told = site.credentials
        password = v3.Password(
            auth_url=f"{site.onecut.endpoint}/v3",
            username=told["user_name"],
            password=told["password"],
            user_domain_name=told["domain_name"],
            project_name=told["project_name"],
            project_domain_name=told["domain_name"],
        )
        return client.Client("3.0", session=session.Session(password))

    def test_it_agrees_on_a_microversion(self, cinder: Any) -> None:
        """Asked for more than there is, it takes what there is; insisting is refused."""
        assert api_versions.discover_version(cinder, api_versions.APIVersion("3.60")).get_string() == "3.0"
        insisting = client.Client("3.60", session=cinder.client.session)

        with pytest.raises(exceptions.NotAcceptable, match=r"minimum and maximum are 3\.0"):
            insisting.volumes.list()

    def test_volumes(self, site: Site, cinder: Any) -> None:
        """Create, list, find, extend, set, delete."""
        made = cinder.volumes.create(10, name="library", metadata={"a": "b"})
        wait_for(site, "volume", made.id, status="available")

        assert [each.id for each in cinder.volumes.list(search_opts={"metadata": {"a": "b"}})] == [made.id]
        assert cinder.volumes.find(name="library").id == made.id
        cinder.volumes.extend(made, 11)
        wait_for(site, "volume", made.id, status="available", size=11)
        cinder.volumes.set_metadata(made, {"c": "d"})
        cinder.volumes.delete_metadata(made, ["a"])
        cinder.volumes.set_bootable(made, True)  # noqa: FBT003 - the library's signature
        cinder.volumes.update(made, name="renamed")
        found = cinder.volumes.get(made.id)
        assert (found.name, found.size, found.metadata, found.bootable) == ("renamed", 11, {"c": "d"}, "true")

        cinder.volumes.delete(made)
        wait_for_end(site, "volume", made.id)

    def test_snapshots(self, site: Site, cinder: Any) -> None:
        """Create of an attached volume by force, list, update, delete."""
        made = cinder.volumes.create(10, name="source")
        wait_for(site, "volume", made.id, status="available")
        attach(site, made.id, new_server(site))
        with pytest.raises(exceptions.BadRequest, match=f"force: must be true for volume {made.id}"):
            cinder.volume_snapshots.create(made.id)

        taken = cinder.volume_snapshots.create(made.id, force=True, name="s", metadata={"a": "b"})
        wait_for(site, "snapshot", taken.id, status="available")

        (listed,) = cinder.volume_snapshots.list(search_opts={"volume_id": made.id})
        assert (listed.id, listed.metadata) == (taken.id, {"a": "b"})
        cinder.volume_snapshots.update(taken, name="renamed")
        assert cinder.volume_snapshots.get(taken.id).name == "renamed"
        cinder.volume_snapshots.delete(taken)
        wait_for_end(site, "snapshot", taken.id)

    def test_errors_are_its_own(self, cinder: Any) -> None:
        """Status and kind become its exceptions, with our message."""
        with pytest.raises(exceptions.BadRequest, match="size: must be 10 to 32768 GiB, not 1"):
            cinder.volumes.create(1)
        with pytest.raises(exceptions.NotFound, match="volume nobody does not exist"):
            cinder.volumes.get("nobody")

    def test_it_tells_what_there_is(self, cinder: Any) -> None:
        """Types, the default one, zones and limits."""
        assert cinder.volume_types.find(name="SSD").description == "Ultra-high I/O"
        assert cinder.volume_types.default().name == "GPSSD"
        assert [zone.zoneName for zone in cinder.availability_zones.list()] == ["az1"]
        assert cinder.limits.get().to_dict()["absolute"]["maxTotalVolumes"] == 10_000
