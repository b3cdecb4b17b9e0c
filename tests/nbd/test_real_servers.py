"""The client against the servers people use: qemu-nbd and nbdkit."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from errno import EIO, ENOSPC, EPERM
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbd_servers import Server, nbdkit, qemu_nbd

from onecut.nbd.client import ALLOCATION_DEPTH, BASE_ALLOCATION, Extent, NbdClient
from onecut.nbd.errors import ConnectionLost, ExportRefused, OutOfRange, RequestError, Unsupported
from onecut.units import GiB, KiB, MiB

HOLE_AND_ZERO = 3


def create_qcow2(path: Path, size: str, base: Path | None = None) -> Path:
    backing = [] if base is None else ["-b", str(base), "-F", "qcow2"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(path), size], check=True)
    return path


@pytest.fixture(scope="module")
def memory() -> Iterator[Server]:
    """One MiB of memory and a bit, so that the end is no round number."""
    with nbdkit("memory", str(MiB + 512)) as server:
        yield server


@pytest.fixture(params=["qcow2", "simple", "chunked"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NbdClient]:
    """An empty disk of 1 MiB: with chunks from qemu, with simple replies, and with chunks from nbdkit."""
    server = {
        "qcow2": lambda: qemu_nbd("--format=qcow2", str(create_qcow2(tmp_path / "disk", "1M"))),
        "simple": lambda: nbdkit("--no-sr", "memory", "1M"),
        "chunked": lambda: nbdkit("memory", "1M"),
    }[request.param]()
    with server as running, NbdClient.connect(running.uri()) as client:
        yield client


_ranges = st.tuples(st.integers(0, MiB - 1), st.integers(1, 200 * KiB)).map(
    lambda drawn: (drawn[0], min(drawn[1], MiB - drawn[0]))
)
_acts = st.lists(st.tuples(st.sampled_from(["write", "zero", "read"]), _ranges, st.integers(0, 255)), max_size=20)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=_acts)
def test_reads_return_what_was_written(disk: NbdClient, acts: list[tuple[str, tuple[int, int], int]]) -> None:
    """Random reads, writes and zeroes of any alignment agree with an array of bytes."""
    model = bytearray(MiB)
    disk.zero(0, MiB)
    for act, (offset, length), filling in acts:
        if act == "read":
            assert disk.read(offset, length) == model[offset : offset + length]
            continue
        data = bytes([filling]) * length if act == "write" else bytes(length)
        model[offset : offset + length] = data
        if act == "write":
            disk.write(data, offset)
        else:
            disk.zero(offset, length)
    disk.flush()
    assert disk.read(0, MiB) == model


def test_holes_in_a_reply_overwrite_what_the_buffer_held(tmp_path: Path) -> None:
    """Qemu answers unallocated parts with hole chunks: those bytes become zeros, not yesterday's."""
    image = create_qcow2(tmp_path / "disk", "8M")
    with qemu_nbd("--format=qcow2", str(image)) as server, NbdClient.connect(server.uri()) as client:
        client.write(b"x" * 64 * KiB, 2 * MiB)
        buffer = bytearray(b"old" * (6 * MiB // 3))

        client.readinto(buffer, MiB)

    assert buffer == bytes(MiB) + b"x" * 64 * KiB + bytes(5 * MiB - 64 * KiB)


def test_requests_longer_than_the_server_takes_are_split() -> None:
    """With a server that takes at most 1 MiB, and one that takes 32 MiB, longer reads and writes arrive whole."""
    data = os.urandom(64 * KiB) * (40 * MiB // (64 * KiB))
    limited = ("--filter=blocksize-policy", "memory", "40M", "blocksize-maximum=1M", "blocksize-error-policy=error")
    with nbdkit(*limited) as small, nbdkit("memory", "40M") as large:
        for server in (small, large):
            with NbdClient.connect(server.uri()) as client:
                client.write(data, 0)
                assert client.read(0, len(data)) == data


def test_the_offset_of_every_byte_is_kept() -> None:
    """Nbdkit's pattern has each 8 bytes hold their own offset: far out, unaligned, and at the end."""
    with nbdkit("pattern", "5T") as server, NbdClient.connect(server.uri()) as client:
        for offset in (0, 4 * GiB - 64, 5 * 1024 * GiB - 64 * KiB):
            data = client.read(offset + 8, 32 * KiB)
            assert data == b"".join((offset + 8 + at).to_bytes(8) for at in range(0, len(data), 8))
        assert client.read(1 << 20 | 3, 5) == (1 << 20).to_bytes(8)[3:]


def test_a_read_error_leaves_the_connection_usable(tmp_path: Path) -> None:
    """An I/O error is raised with its number; once the cause is gone, the same client reads on."""
    trigger = tmp_path / "fail"
    with (
        nbdkit(
            "--filter=error", "pattern", "1M", "error-pread=EIO", "error-pread-rate=100%", f"error-file={trigger}"
        ) as server,
        NbdClient.connect(server.uri()) as client,
    ):
        trigger.touch()
        with pytest.raises(RequestError, match=r"read failed.*EIO") as caught:
            client.read(0, 4096)
        trigger.unlink()

        assert caught.value.errno == EIO
        assert client.read(8, 8) == (8).to_bytes(8)


def test_qemu_hangs_up_over_an_unreadable_sector_and_can_be_asked_again(tmp_path: Path) -> None:
    """Qemu 7.2 drops the client that reads it; that is a lost connection, no data, and a new one reads the rest."""
    path = create_qcow2(tmp_path / "disk", "1M")
    with qemu_nbd("--format=qcow2", str(path)) as server, NbdClient.connect(server.uri()) as client:
        client.write(b"x" * MiB, 0)
        client.flush()
    unreadable = (
        f"driver=qcow2,file.driver=blkdebug,file.image.driver=file,file.image.filename={path},"
        "file.inject-error.0.event=none,file.inject-error.0.iotype=read,file.inject-error.0.errno=5,"
        "file.inject-error.0.sector=1024"
    )
    with qemu_nbd("--image-opts", unreadable) as server:
        with NbdClient.connect(server.uri()) as client, pytest.raises(ConnectionLost):
            client.read(0, MiB)
        with NbdClient.connect(server.uri()) as client:
            assert client.read(0, 4096) == b"x" * 4096


@pytest.mark.parametrize("structured", [True, False])
def test_a_read_only_export_says_so_and_refuses_writes(structured: bool) -> None:  # noqa: FBT001
    """The client shows it beforehand; a write all the same is an error of that request."""
    options = [] if structured else ["--no-sr"]
    with nbdkit(*options, "--readonly", "pattern", "1M") as server, NbdClient.connect(server.uri()) as client:
        assert client.read_only
        with pytest.raises(RequestError) as caught:
            client.write(b"x", 0)
        assert caught.value.errno == EPERM
        assert client.read(0, 8) == bytes(8)


def test_a_writable_export_is_not_read_only(memory: Server) -> None:
    """The flag is off, and the size is exact."""
    with NbdClient.connect(memory.uri()) as client:
        assert not client.read_only
        assert client.size_bytes == MiB + 512


@pytest.mark.parametrize(("offset", "length"), [(MiB + 511, 2), (MiB + 513, 0), (-1, 1), (1 << 63, 1)])
def test_what_lies_beyond_the_end_is_not_even_asked_for(memory: Server, offset: int, length: int) -> None:
    """No request leaves the export, and the connection goes on."""
    with NbdClient.connect(memory.uri()) as client:
        with pytest.raises(OutOfRange):
            client.write(bytes(length), offset)
        with pytest.raises(OutOfRange):
            client.read(offset, length)
        with pytest.raises(OutOfRange):
            client.zero(offset, length)
        assert client.read(MiB, 512) == bytes(512)


def test_unaligned_requests_are_not_sent_where_blocks_are_asked_for() -> None:
    """A server's smallest block is respected."""
    blocks = ("--filter=blocksize-policy", "memory", "1M", "blocksize-minimum=4k")
    with nbdkit(*blocks) as server, NbdClient.connect(server.uri()) as client:
        assert client.block_bytes == 4096
        with pytest.raises(OutOfRange, match="whole blocks of 4096"):
            client.write(b"x" * 512, 4096)
        client.write(b"x" * 4096, 4096)


def test_a_full_disk_is_an_error_of_the_request() -> None:
    """ENOSPC comes with its number, and reading goes on."""
    with nbdkit("full", "1M") as server, NbdClient.connect(server.uri()) as client:
        with pytest.raises(RequestError) as caught:
            client.write(b"x" * 4096, 0)
        assert caught.value.errno == ENOSPC
        assert client.read(0, 16) == bytes(16)


def test_an_export_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    """The error names the export."""
    image = create_qcow2(tmp_path / "disk", "1M")
    with qemu_nbd("--export-name=there", "--format=qcow2", str(image)) as server:
        with pytest.raises(ExportRefused, match=r"'elsewhere'.*no such export"):
            NbdClient.connect(server.uri("elsewhere"))
        with NbdClient.connect(server.uri("there")) as client:
            assert client.size_bytes == MiB


def test_nobody_at_the_socket_is_a_lost_connection(tmp_path: Path) -> None:
    """A socket that does not exist is an error at once."""
    with pytest.raises(ConnectionLost, match="can't connect"):
        NbdClient.connect(f"nbd+unix:///?socket={tmp_path}/absent")


def test_a_server_that_dies_is_a_lost_connection() -> None:
    """After the server was killed every call fails, and closing still works."""
    with nbdkit("memory", "1M") as server:
        client = NbdClient.connect(server.uri())
        server.kill()

        with pytest.raises(ConnectionLost):
            client.write(b"x" * 4096, 0)
        with pytest.raises(ConnectionLost, match="closed before"):
            client.read(0, 1)
        client.close()


def test_a_server_too_slow_is_given_up() -> None:
    """A request that takes longer than allowed ends with an error, in time."""
    with nbdkit("--filter=delay", "memory", "1M", "delay-read=20") as server:
        client = NbdClient.connect(server.uri(), timeout_s=0.3)
        with pytest.raises(ConnectionLost, match=r"within 0\.3 s"):
            client.read(0, 4096)


def test_a_server_is_not_asked_for_what_it_does_not_offer() -> None:
    """Without flush, FUA, trim and zeroing on offer these are errors beforehand, and the rest goes on."""
    plain = ("eval", "get_size=echo 1M", "pread=head -c $3 /dev/zero", "pwrite=cat >/dev/null")
    with nbdkit("--filter=nozero", *plain) as server, NbdClient.connect(server.uri()) as client:
        for ask in (
            client.flush,
            lambda: client.trim(0, 4096),
            lambda: client.zero(0, 4096),
            lambda: client.write(b"x", 0, fua=True),
        ):
            with pytest.raises(Unsupported, match="does not offer"):
                ask()
        client.write(b"x", 0)
        assert client.read(0, 1) == bytes(1)


def test_writing_through_zeroing_and_trimming_reach_the_disk(memory: Server) -> None:
    """FUA writes are stored; zeroed ranges read as zeros; a trim is accepted."""
    with NbdClient.connect(memory.uri()) as client:
        client.write(b"x" * 8192, 0, fua=True)
        client.zero(1000, 2000, fua=True)
        client.trim(4096, 4096)
        assert client.read(0, 4096) == b"x" * 1000 + bytes(2000) + b"x" * 1096


def test_depth_tells_the_layers_apart(tmp_path: Path) -> None:
    """In a chain of three, the depth of each part is the layer it was last written in, and 0 where nobody wrote."""
    bottom = create_qcow2(tmp_path / "0", "4M")
    middle = create_qcow2(tmp_path / "1", "4M", base=bottom)
    top = create_qcow2(tmp_path / "2", "4M", base=middle)
    for path, offset in ((bottom, 0), (middle, MiB), (top, 2 * MiB)):
        with qemu_nbd("--format=qcow2", str(path)) as server, NbdClient.connect(server.uri()) as client:
            client.write(b"x" * MiB, offset)

    options = ("--read-only", "--allocation-depth", "--format=qcow2", str(top))
    with qemu_nbd(*options) as server, NbdClient.connect(server.uri()) as client:
        assert client.contexts == {BASE_ALLOCATION, ALLOCATION_DEPTH}
        assert list(client.block_status(0, 4 * MiB, ALLOCATION_DEPTH)) == [
            Extent(0, MiB, 3),
            Extent(MiB, MiB, 2),
            Extent(2 * MiB, MiB, 1),
            Extent(3 * MiB, MiB, 0),
        ]
        assert list(client.block_status(MiB + 512, MiB, ALLOCATION_DEPTH)) == [
            Extent(MiB + 512, MiB - 512, 2),
            Extent(2 * MiB, 512, 1),
        ]
        assert list(client.block_status(0, 4 * MiB, BASE_ALLOCATION)) == [
            Extent(0, 3 * MiB, 0),
            Extent(3 * MiB, MiB, HOLE_AND_ZERO),
        ]


def test_the_status_of_a_disk_larger_than_one_request_is_whole() -> None:
    """Lengths have 32 bits on the wire; a range of 9 GiB is covered all the same, while reads come in between."""
    with nbdkit("memory", "9G") as server, NbdClient.connect(server.uri()) as client:
        client.write(b"x" * 32 * KiB, 5 * GiB)
        status = client.block_status(0, 9 * GiB, BASE_ALLOCATION)

        first = next(status)
        assert client.read(first.length, 1) == b"x"

        assert [first, *status] == [
            Extent(0, 5 * GiB, HOLE_AND_ZERO),
            Extent(5 * GiB, 32 * KiB, 0),
            Extent(5 * GiB + 32 * KiB, 4 * GiB - 32 * KiB, HOLE_AND_ZERO),
        ]


def test_a_server_that_knows_no_extents_calls_all_of_it_data() -> None:
    """Where nothing is known, the whole range is one extent without flags."""
    with nbdkit("--filter=noextents", "memory", "9G") as server, NbdClient.connect(server.uri()) as client:
        assert list(client.block_status(0, 9 * GiB, BASE_ALLOCATION)) == [Extent(0, 9 * GiB, 0)]


@pytest.mark.parametrize("options", [[], ["--no-sr"]])
def test_a_context_the_server_has_not_is_unsupported(options: list[str]) -> None:
    """Without depth, or without any chunks at all, block status is refused before anything is sent."""
    with nbdkit(*options, "memory", "1M") as server, NbdClient.connect(server.uri()) as client:
        with pytest.raises(Unsupported, match="allocation-depth"):
            client.block_status(0, MiB, ALLOCATION_DEPTH)
        assert client.read(0, 1) == bytes(1)


def test_a_buffer_that_can_not_be_written_is_refused_before_asking(memory: Server) -> None:
    """A mistake of the caller does not cost the connection."""
    with NbdClient.connect(memory.uri()) as client:
        with pytest.raises(TypeError, match="can be written"):
            client.readinto(memoryview(b"constant"), 0)
        assert client.read(0, 1) is not None


def test_many_clients_use_one_server_at_once(memory: Server) -> None:
    """Connections are independent: each reads what the other wrote, and leaves without disturbing it."""
    with NbdClient.connect(memory.uri()) as first:
        with NbdClient.connect(memory.uri()) as second:
            first.write(b"from the first", 0)
            assert second.read(0, 14) == b"from the first"
        assert first.read(0, 4) == b"from"


def test_caching_is_asked_for_and_changes_nothing(tmp_path: Path) -> None:
    """The server fetches what is asked for, in requests of its own size, and the content stays."""
    log = tmp_path / "log"
    with nbdkit("--filter=log", "--filter=cache", "memory", "64M", f"logfile={log}", "cache-on-read=true") as server:
        with NbdClient.connect(server.uri()) as client:
            client.write(b"x" * MiB, 0)
            client.cache(0, 64 * MiB)
            assert client.read(0, MiB) == b"x" * MiB
        assert log.read_text().count(" Cache id=") >= 2

    with (
        nbdkit("--filter=nocache", "memory", "1M", "cachemode=none") as server,
        NbdClient.connect(server.uri()) as client,
        pytest.raises(Unsupported, match="caching"),
    ):
        client.cache(0, MiB)


def test_a_wait_is_ended_from_another_thread() -> None:
    """Whoever waits without a time limit gets an error as soon as somebody breaks the connection off."""
    with nbdkit("--filter=delay", "memory", "1M", "rdelay=60") as server:
        client = NbdClient.connect(server.uri(), timeout_s=None)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(client.read, 0, KiB)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)

            client.break_off()

            with pytest.raises(ConnectionLost):
                waiting.result(10)
        client.break_off()
        server.kill()
