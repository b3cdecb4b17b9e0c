"""Bad luck and bad settings: what can work goes on, and what an operator must mend is said in one sentence."""

import errno
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import short_folder
from inventory import Inventory
from machine import Machine, running_machine
from orders import (
    attach,
    delete_groups,
    group,
    members,
    new_server,
    new_volumes,
    order_group,
    take_group,
    uris,
    volume,
)
from running import Site, running_site

from onecut.cli.throwaway import end_daemon
from onecut.db.ledger import DatabaseLedger
from onecut.db.session import Database
from onecut.engine.files import SPARE_BYTES, LayerFiles
from onecut.nbd.client import NbdClient
from onecut.nbd.errors import RequestError
from onecut.units import KiB, MiB
from onecut.wiring import qemu_engine

BLOCK = b"\x11" * 4 * KiB
DISK_BYTES = 160 * MiB


class TestFullDisk:
    @pytest.fixture
    def layers(self, data: Path) -> Iterator[Path]:
        """A folder for layers with 160 MiB of its own."""
        if os.geteuid() != 0:
            pytest.skip("only root may mount a small file system")
        folder = data / "layers"
        folder.mkdir(mode=0o700, parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "onecut-test", str(folder)]
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
        if made.returncode:
            pytest.skip(f"the kernel can't mount a tmpfs here: {made.stderr.strip()}")
        try:
            yield folder
        finally:
            end_daemon(data / "run" / "qsd.pid")
            subprocess.run(["umount", str(folder)], check=True)

    @pytest.fixture
    def site(self, layers: Path, data: Path) -> Iterator[Site]:
        """A running service whose layers have little space; at the end nothing is without an owner."""
        assert layers.is_mount()
        with running_site(data, make_engine=qemu_engine) as site:
            yield site
            Inventory(data).wait_until_tidy()
        Inventory(data).check_daemon()

    def test_a_cut_without_space_fails_with_a_sentence(self, site: Site, layers: Path) -> None:
        """No member is cut, the job says what is missing, the disks take writes, and with space cuts work again."""
        volume_ids = new_volumes(site, 2, new_server(site))
        filler = fill(layers, leave_bytes=SPARE_BYTES)
        answer = order_group(site, volume_ids)
        job = site.job(answer["job_id"])
        assert job["status"] == "FAIL"
        assert "left; this needs" in job["fail_reason"]
        assert "Traceback" not in job["fail_reason"]
        assert group(site, answer["snapshot_group_id"])["status"] == "error"
        assert {member["status"] for member in members(site, answer["snapshot_group_id"])} == {"error"}
        for uri in uris(site, volume_ids):
            with NbdClient.connect(uri) as disk:
                disk.write(BLOCK, 0, fua=True)
        filler.unlink()
        delete_groups(site, [answer["snapshot_group_id"], take_group(site, volume_ids)])

    def test_a_write_without_space_fails_alone(self, site: Site, layers: Path) -> None:
        """A client is told that there is no space; what was written stays, and with space it goes on."""
        (uri,) = uris(site, new_volumes(site, 1, new_server(site)))
        with NbdClient.connect(uri) as disk:
            disk.write(BLOCK, 0, fua=True)
            filler = fill(layers, leave_bytes=0)
            with pytest.raises(RequestError) as refused:
                disk.write(bytes([0x22]) * 8 * MiB, 16 * MiB)
            assert refused.value.errno == errno.ENOSPC
            assert disk.read(0, 4 * KiB) == BLOCK
            filler.unlink()
            disk.write(BLOCK, 16 * MiB, fua=True)
            assert disk.read(16 * MiB, 4 * KiB) == BLOCK


def fill(folder: Path, *, leave_bytes: int) -> Path:
    """Fill a folder's file system up to so many bytes."""
    path, status = folder / "filler", os.statvfs(folder)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - leave_bytes)
    return path


class TestMissingLayer:
    def test_its_volume_is_in_error_and_the_others_work(self, data: Path) -> None:
        """A start without a layer's file names the volume; it comes back with its file."""
        with running_site(data, make_engine=qemu_engine) as site:
            server_id = new_server(site)
            lost, kept = new_volumes(site, 2, server_id)
            with NbdClient.connect(uris(site, [lost])[0]) as disk:
                disk.write(BLOCK, 0, fua=True)
        end_daemon(data / "run" / "qsd.pid")
        path = top_layer(data, lost)
        away = path.rename(data / "away")

        with running_site(data, make_engine=qemu_engine) as site:
            assert volume(site, lost)["status"] == "error"
            assert volume(site, kept)["status"] == "in-use"
            with NbdClient.connect(uris(site, [kept])[0]) as disk:
                disk.write(BLOCK, 0)
            delete_groups(site, [take_group(site, [kept])])
            body = {"snapshot_group": {"volume_ids": [lost, kept]}}
            refused = site.call("POST", "/v5/{p}/snapshot-groups", 400, json=body)
            assert lost in refused["error"]["message"]
            (fresh,) = new_volumes(site, 1)
            attach(site, fresh, server_id)
        end_daemon(data / "run" / "qsd.pid")
        away.rename(path)

        with running_site(data, make_engine=qemu_engine) as site:
            assert volume(site, lost)["status"] == "in-use"
            with NbdClient.connect(uris(site, [lost])[0]) as disk:
                assert disk.read(0, 4 * KiB) == BLOCK
            Inventory(data).wait_until_tidy()
        Inventory(data).check_daemon()


def top_layer(data: Path, volume_id: str) -> Path:
    """Say which file takes a volume's writes."""
    database = Database(f"sqlite:///{data}/onecut.db")
    try:
        kept = DatabaseLedger(database).volume(volume_id)
    finally:
        database.close()
    assert kept is not None
    return LayerFiles(data / "layers").path(kept.top.id)


class TestStart:
    """`onecut serve` that can't serve ends with one sentence."""

    @pytest.fixture
    def folder(self) -> Iterator[Path]:
        """A folder with a short path."""
        with short_folder() as folder:
            yield folder

    @pytest.fixture
    def machine(self) -> Iterator[Machine]:
        """A running service."""
        with running_machine() as machine:
            yield machine

    def test_without_the_daemons_program(self, folder: Path) -> None:
        """The sentence names the program and the package it comes with."""
        told = refused_start(folder / "data", ONECUT_QEMU_STORAGE_DAEMON="/nowhere/qemu-storage-daemon")
        assert "/nowhere/qemu-storage-daemon can't be run" in told
        assert "qemu-system-common" in told

    def test_with_a_daemon_that_is_too_old(self, folder: Path) -> None:
        """The sentence names the version wanted and the version found."""
        program = folder / "old-daemon"
        program.write_text("#!/bin/sh\necho qemu-storage-daemon version 6.2.0\n")
        program.chmod(0o755)
        told = refused_start(folder / "data", ONECUT_QEMU_STORAGE_DAEMON=str(program))
        assert "must be version 7.2 or newer; it says: qemu-storage-daemon version 6.2.0" in told

    def test_with_a_daemon_that_ends_at_once(self, folder: Path) -> None:
        """Nobody waits for it any more, and the sentence says where the daemon's own words are."""
        program = folder / "broken-daemon"
        answer = "[ $1 = --version ] && echo qemu-storage-daemon version 7.2.0 && exit"
        program.write_text(f"#!/bin/sh\n{answer}\necho my words >&2\n")
        program.chmod(0o755)
        told = refused_start(folder / "data", ONECUT_QEMU_STORAGE_DAEMON=str(program))
        assert "did not start; see " in told
        assert "my words" in (folder / "data" / "qsd.log").read_text()

    def test_on_the_data_of_another_service(self, machine: Machine) -> None:
        """The second service is refused, and the first goes on."""
        assert f"another service uses the data folder {machine.data}" in refused_start(machine.data)
        assert volume(machine.tenant, new_volumes(machine.tenant, 1)[0])["status"] == "available"

    def test_on_a_port_in_use(self, folder: Path) -> None:
        """The sentence names the address."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            listen = f"127.0.0.1:{other.getsockname()[1]}"
            assert f"can't listen on {listen}" in refused_start(folder / "data", listen=listen)

    def test_with_a_database_that_is_none(self, folder: Path) -> None:
        """The sentence says that the database can't be opened, and the file is left as it is."""
        database = folder / "data" / "onecut.db"
        database.parent.mkdir()
        database.write_bytes(b"no database" * 1000)
        assert "the database can't be opened" in refused_start(folder / "data")
        assert database.read_bytes() == b"no database" * 1000

    def test_with_a_database_of_a_newer_version(self, machine: Machine) -> None:
        """The sentence says that the database can't be opened: going on would damage it."""
        machine.stop()
        with sqlite3.connect(machine.data / "onecut.db") as database:
            database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.close()
        assert "the database can't be opened" in refused_start(machine.data)

    def test_with_data_that_is_no_folder(self, folder: Path) -> None:
        """The sentence names the path."""
        (folder / "data").write_text("a file")
        assert str(folder / "data") in refused_start(folder / "data")

    def test_with_sockets_paths_that_are_too_long(self, folder: Path) -> None:
        """The sentence names the limit."""
        assert "may have at most 107 bytes" in refused_start(folder / ("long" * 25))

    def test_after_a_crash_of_the_machine(self, machine: Machine) -> None:
        """A pid file that now names another's process, and sockets that nobody listens on, are no obstacle."""
        server_id = new_server(machine.tenant)
        (volume_id,) = new_volumes(machine.tenant, 1, server_id)
        (uri,) = uris(machine.tenant, [volume_id])
        with NbdClient.connect(uri) as disk:
            disk.write(BLOCK, 0, fua=True)
        machine.stop()
        run = machine.data / "run"
        end_daemon(run / "qsd.pid")
        with subprocess.Popen(["sleep", "60"]) as stranger:
            for name in ("qmp.sock", "nbd.sock"):
                with socket.socket(socket.AF_UNIX) as nobody:
                    (run / name).unlink(missing_ok=True)
                    nobody.bind(str(run / name))
            (run / "qsd.pid").write_text(f"{stranger.pid}\n")
            machine.start()
            assert stranger.poll() is None
            stranger.kill()
        with NbdClient.connect(uri) as disk:
            assert disk.read(0, 4 * KiB) == BLOCK


def refused_start(data: Path, *, listen: str = "127.0.0.1:0", **environment: str) -> str:
    """Run a service that must end by itself with a failure, and return its one sentence."""
    command = [sys.executable, "-m", "onecut", "serve", "--listen", listen, "--data", str(data)]
    ended = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=50
    )
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    said = ended.stderr.strip().splitlines()
    assert said[-1].startswith("Error: ")
    return said[-1]
