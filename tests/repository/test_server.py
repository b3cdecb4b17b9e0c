"""Archived disks over NBD, read by clients that are not ours: nbdinfo, nbdcopy, qemu-img."""

import json
import os
import resource
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from archived import CHUNK, START, Volume, noise, restored
from running import DEADLINE_S

from onecut.nbd import wire
from onecut.nbd.client import BASE_ALLOCATION, NbdClient
from onecut.nbd.errors import ConnectionLost, RequestError
from onecut.nbd.server import Server
from onecut.repository.archive import Request, archive
from onecut.repository.export import export_qcow2, export_raw
from onecut.repository.extents import Extent, Kind
from onecut.repository.image import Image
from onecut.repository.repository import Repository, chunk_path
from onecut.repository.serve import ImageServer
from onecut.units import TiB


@pytest.fixture
def volume(repository: Repository) -> Volume:
    """A disk with data, zeros and an odd end."""
    volume = Volume(repository, bytearray(700 * CHUNK + 512))
    volume.write(3 * CHUNK, noise(1, 200 * CHUNK))
    volume.write(650 * CHUNK, noise(2, 50 * CHUNK + 512))
    volume.snapshot()
    return volume


@pytest.fixture
def server() -> Iterator[ImageServer]:
    """A server without images."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="oc") as folder:  # socket paths are short
        server = ImageServer(Path(folder) / "s")
        try:
            yield server
        finally:
            server.close()


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE_S).stdout


def _connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(DEADLINE_S)
    client.connect(str(path))
    return client


def _greeted(client: socket.socket) -> bool:
    """Whether the server says hello; else it has hung up."""
    return client.recv(8) == b"NBDMAGIC"


class TestClients:
    def test_nbdcopy_reads_the_disk(self, server: ImageServer, volume: Volume, tmp_path: Path) -> None:
        """nbdcopy, with several connections and many requests in flight, gets every byte."""
        assert volume.latest is not None
        uri = server.add("disk", Image(volume.repository, volume.latest))

        run("nbdcopy", "--connections=4", uri, str(tmp_path / "copy"))

        assert (tmp_path / "copy").read_bytes() == bytes(volume.data)

    def test_nbdinfo_sees_what_is_offered(self, server: ImageServer, volume: Volume) -> None:
        """The export is read-only, may be opened many times, and tells data from holes."""
        assert volume.latest is not None
        uri = server.add("", Image(volume.repository, volume.latest))

        export = json.loads(run("nbdinfo", "--json", uri))["exports"][0]
        extents = json.loads(run("nbdinfo", "--map", "--json", uri))

        assert export["export-size"] == len(volume.data)
        assert export["is_read_only"]
        assert export["can_multi_conn"]
        assert [(each["offset"] // CHUNK, each["type"]) for each in extents] == [(0, 3), (3, 0), (203, 3), (650, 0)]
        assert len(json.loads(run("nbdinfo", "--list", "--json", uri))["exports"]) == 1

    def test_qemu_img_converts_it(self, server: ImageServer, volume: Volume, tmp_path: Path) -> None:
        """qemu-img makes the same disk of it, and skips the holes."""
        assert volume.latest is not None
        uri = server.add("disk", Image(volume.repository, volume.latest))

        run("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, str(tmp_path / "raw"))

        assert (tmp_path / "raw").read_bytes() == bytes(volume.data)
        assert (tmp_path / "raw").stat().st_blocks * 512 <= 260 * CHUNK

    def test_the_old_handshake_works(self, server: ImageServer, volume: Volume) -> None:
        """A client that knows NBD_OPT_EXPORT_NAME only gets size and data in simple replies."""
        assert volume.latest is not None
        server.add("disk", Image(volume.repository, volume.latest))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(server.socket_path))
            assert client.recv(wire.GREETING.size, socket.MSG_WAITALL)[:8] == b"NBDMAGIC"
            client.sendall(wire.CLIENT_FLAGS.pack(3) + wire.OPTION.pack(wire.OPTION_MAGIC, 1, 4) + b"disk")
            size = wire.U64.unpack(client.recv(10, socket.MSG_WAITALL)[:8])[0]
            client.sendall(wire.REQUEST.pack(wire.REQUEST_MAGIC, 0, wire.Command.READ, 7, 3 * CHUNK, 100))
            magic, error, cookie = wire.SIMPLE_REPLY.unpack(client.recv(wire.SIMPLE_REPLY.size, socket.MSG_WAITALL))
            data = client.recv(100, socket.MSG_WAITALL)

        assert (size, magic, error, cookie) == (len(volume.data), wire.SIMPLE_REPLY_MAGIC, 0, 7)
        assert data == bytes(volume.data[3 * CHUNK : 3 * CHUNK + 100])

    @pytest.mark.parametrize("noise", [b"", b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\0\0\0\3" + b"\xff" * 16])
    def test_a_client_that_talks_nonsense_harms_nobody(
        self, server: ImageServer, volume: Volume, noise: bytes, tmp_path: Path
    ) -> None:
        """Noise costs its sender the connection; others are served."""
        assert volume.latest is not None
        uri = server.add("disk", Image(volume.repository, volume.latest))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(server.socket_path))
            client.sendall(noise)
            run("nbdcopy", uri, str(tmp_path / "copy"))

        assert (tmp_path / "copy").read_bytes() == bytes(volume.data)

    def test_a_client_too_many_is_sent_away(self, tmp_path: Path) -> None:
        """It does not wait for a greeting; the others are served, and so is the next once one of them has left."""
        path = tmp_path / "s"
        with Server(path, lambda _: None, connections=2), _connected(path) as first:
            with _connected(path) as second:
                assert _greeted(first)
                assert _greeted(second)
                with _connected(path) as third:
                    assert not _greeted(third)

            deadline = time.monotonic() + 10
            while True:
                with _connected(path) as fourth:
                    if _greeted(fourth):
                        break
                assert time.monotonic() < deadline

    def test_a_server_without_free_files_goes_on_later(self, tmp_path: Path) -> None:
        """A client waits while the process may open no file, and is served then."""
        path = tmp_path / "s"
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlucky = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        with Server(path, lambda _: None), unlucky[0] as other, unlucky[1] as client:
            client.settimeout(0.3)
            resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
            try:
                other.connect(str(path))  # takes the file that the kernel has kept since before
                client.connect(str(path))
                with pytest.raises(TimeoutError):
                    client.recv(1)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            client.settimeout(DEADLINE_S)

            assert _greeted(client)

    def test_writes_are_refused(self, server: ImageServer, volume: Volume) -> None:
        """Nobody writes to an archived disk."""
        assert volume.latest is not None
        uri = server.add("disk", Image(volume.repository, volume.latest))

        done = subprocess.run(["nbdcopy", "/dev/zero", uri], check=False, capture_output=True, timeout=DEADLINE_S)

        assert done.returncode != 0
        assert restored(volume.repository, volume.latest) == bytes(volume.data)


class TestTrouble:
    def test_damage_is_an_error_and_never_data(
        self, server: ImageServer, volume: Volume, folder: Path, tmp_path: Path
    ) -> None:
        """A flipped bit fails the read of its chunk; the rest of the disk can be read."""
        assert volume.latest is not None
        path = folder / chunk_path(bytes.fromhex(volume.latest.run_id), 5)
        stored = bytearray(path.read_bytes())
        stored[-1] ^= 1
        path.write_bytes(stored)
        uri = server.add("disk", Image(volume.repository, volume.latest))

        whole = subprocess.run(
            ["nbdcopy", uri, str(tmp_path / "copy")], check=False, capture_output=True, text=True, timeout=DEADLINE_S
        )
        run("qemu-io", "-r", "-f", "raw", "-c", f"read {100 * CHUNK} {CHUNK}", uri)

        assert whole.returncode != 0
        assert "Input/output error" in whole.stderr

    def test_reads_wait_for_a_store_that_is_away(
        self, server: ImageServer, volume: Volume, folder: Path, tmp_path: Path
    ) -> None:
        """While the repository's folder is away a copy stalls; when it is back the copy ends, and is right."""
        assert volume.latest is not None
        image = Image(volume.repository, volume.latest)
        away = folder.with_name("away")
        uri = server.add("disk", image)
        folder.rename(away)
        with subprocess.Popen(["nbdcopy", uri, str(tmp_path / "copy")]) as copy:
            try:
                with pytest.raises(subprocess.TimeoutExpired):
                    copy.wait(1.0)
            finally:
                away.rename(folder)
            assert copy.wait(DEADLINE_S) == 0

        assert (tmp_path / "copy").read_bytes() == bytes(volume.data)

    def test_a_damaged_page_hides_no_data(self, server: ImageServer, volume: Volume, folder: Path) -> None:
        """What nobody can know to be zeros is called data, its reads fail, and the damage is told by name."""
        assert volume.latest is not None
        uri = server.add("disk", Image(volume.repository, volume.latest))
        for page in (folder / "trees" / volume.latest.run_id).rglob("*"):
            if page.is_file():
                page.write_bytes(page.read_bytes()[:-1])

        with NbdClient.connect(uri) as client:
            extents = list(client.block_status(0, client.size_bytes, BASE_ALLOCATION))
            with pytest.raises(RequestError, match="EIO"):
                client.read(600 * CHUNK, CHUNK)

        assert [(extent.offset, extent.length, extent.flags) for extent in extents] == [(0, client.size_bytes, 0)]
        assert "trees/" in server.damages()["disk"].path

    def test_an_image_may_be_opened_later(self, server: ImageServer, volume: Volume, folder: Path) -> None:
        """Its export opens while the store is away; the first read waits for it."""
        manifest, away = volume.latest, folder.with_name("away")
        assert manifest is not None
        folder.rename(away)
        path = manifest.path

        def open_image() -> Image:
            found = volume.repository.read_manifest(path)
            if found is None:
                raise volume.repository.explain_missing(path)
            return Image(volume.repository, found)

        uri = server.add_later("disk", manifest.size_bytes, open_image)
        with NbdClient.connect(uri) as client:
            back = threading.Timer(0.5, away.rename, [folder])
            back.start()

            assert client.read(3 * CHUNK, CHUNK) == bytes(volume.data[3 * CHUNK : 4 * CHUNK])
            back.join()

    def test_a_closing_server_answers_no_read_that_waits(
        self, server: ImageServer, volume: Volume, folder: Path
    ) -> None:
        """An error would reach the guest; without an answer the client asks the next server."""
        assert volume.latest is not None
        uri = server.add("disk", Image(volume.repository, volume.latest))
        folder.rename(folder.with_name("away"))
        with NbdClient.connect(uri) as client:
            closer = threading.Timer(0.5, server._closed.set)  # the first thing that closing does
            closer.start()
            with pytest.raises(ConnectionLost):
                client.read(3 * CHUNK, CHUNK)
            closer.join()

    def test_closing_ends_reads_that_wait(self, server: ImageServer, volume: Volume, folder: Path) -> None:
        """A server whose store is away can be closed all the same."""
        assert volume.latest is not None
        uri = server.add("disk", Image(volume.repository, volume.latest))
        folder.rename(folder.with_name("away"))
        with subprocess.Popen(["nbdcopy", uri, "null:"], stderr=subprocess.DEVNULL) as copy:
            with pytest.raises(subprocess.TimeoutExpired):
                copy.wait(0.5)
            closer = threading.Thread(target=server.close)
            closer.start()
            closer.join(DEADLINE_S)

            assert not closer.is_alive()
            assert copy.wait(DEADLINE_S) != 0


class TestSpeed:
    def test_the_first_byte_does_not_wait_for_the_size(self, repository: Repository) -> None:
        """A disk of 1 TiB answers as a small one does: within 100 ms from opening the repository on."""
        volume = Volume(repository, bytearray())

        class Far:
            size_bytes = TiB

            def readinto(self, buffer: memoryview, offset: int) -> None:
                buffer[:] = noise(offset, len(buffer))

            def close(self) -> None:
                pass

        extents, position = [], 0
        for number in range(1000):
            offset = number * TiB // 1000 // CHUNK * CHUNK
            if offset > position:
                extents.append(Extent(position, offset - position, Kind.ZERO))
            extents.append(Extent(offset, CHUNK, Kind.DATA))
            position = offset + CHUNK
        extents.append(Extent(position, TiB - position, Kind.ZERO))
        request = Request(volume.chain, "far", os.urandom(16).hex(), "far", TiB, START)
        manifest = archive(repository, request, Far, extents)

        begun = time.monotonic()
        image = Image(Repository.open(repository.store), manifest)
        image.readinto(memoryview(bytearray(1)), 500 * TiB // 1000 // CHUNK * CHUNK)

        assert time.monotonic() - begun < 0.1


class TestExport:
    @pytest.mark.parametrize("form", ["raw", "qcow2"])
    def test_an_exported_file_is_the_disk(self, volume: Volume, tmp_path: Path, form: str) -> None:
        """A raw file is the disk and sparse; a qcow2 file holds the same disk."""
        assert volume.latest is not None
        image = Image(volume.repository, volume.latest)
        target = tmp_path / "disk"

        if form == "raw":
            export_raw(image, target)
        else:
            export_qcow2(image, target)
            run("qemu-img", "convert", "-O", "raw", str(target), str(tmp_path / "raw"))
            target = tmp_path / "raw"

        assert target.read_bytes() == bytes(volume.data)
        assert target.stat().st_blocks * 512 <= 260 * CHUNK
        assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith(".")) == []
