"""
Servers that err, lie, or keep silent, and those that are merely unusual.

Each is a small real server on a socket, run by a thread, that sends exactly what a case needs.
"""

import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import pytest
from folders import short_folder

from onecut.nbd.client import BASE_ALLOCATION, Extent, NbdClient
from onecut.nbd.errors import ConnectionLost, ExportRefused, ProtocolError, RequestError
from onecut.units import MiB

SIZE_BYTES = 64 * MiB
GREETING = b"NBDMAGICIHAVEOPT\x00\x03"
GO, STRUCTURED, META = 7, 8, 10
ACK, INFO, CONTEXT = 1, 3, 4
READ, WRITE, DISCONNECT, BLOCK_STATUS = 0, 1, 2, 7
NONE, DATA, HOLE, STATUS, ERROR, ERROR_OFFSET = 0, 1, 2, 5, 0x8001, 0x8002
DONE = 1


@dataclass(frozen=True)
class Request:
    command: int
    cookie: int
    offset: int
    length: int


def option_reply(option: int, kind: int, data: bytes = b"", length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return struct.pack("!QIII", 0x3E889045565A9, option, kind, size) + data


def export_info(size_bytes: int = SIZE_BYTES, flags: int = 0x1FF) -> bytes:
    return option_reply(GO, INFO, struct.pack("!HQH", 0, size_bytes, flags))


def block_info(minimum: int, preferred: int, largest: int) -> bytes:
    return option_reply(GO, INFO, struct.pack("!HIII", 3, minimum, preferred, largest))


GOOD_OPTIONS = {
    STRUCTURED: option_reply(STRUCTURED, ACK),
    META: option_reply(META, CONTEXT, struct.pack("!I", 9) + BASE_ALLOCATION.encode()) + option_reply(META, ACK),
    GO: export_info() + option_reply(GO, ACK),
}


def chunk(request: Request, kind: int, payload: bytes = b"", *, flags: int = 0, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack("!IHHQI", 0x668E33EF, flags, kind, request.cookie, size) + payload


def data(request: Request, offset: int, content: bytes, flags: int = 0) -> bytes:
    return chunk(request, DATA, struct.pack("!Q", offset) + content, flags=flags)


def hole(request: Request, offset: int, length: int, flags: int = 0) -> bytes:
    return chunk(request, HOLE, struct.pack("!QI", offset, length), flags=flags)


def error(request: Request, errno: int, text: bytes = b"", flags: int = DONE) -> bytes:
    return chunk(request, ERROR, struct.pack("!IH", errno, len(text)) + text, flags=flags)


def status(request: Request, *extents: tuple[int, int], context: int = 9, flags: int = DONE) -> bytes:
    payload = struct.pack("!I", context) + b"".join(struct.pack("!II", *extent) for extent in extents)
    return chunk(request, STATUS, payload, flags=flags)


def simple(request: Request, errno: int = 0) -> bytes:
    return struct.pack("!IIQ", 0x67446698, errno, request.cookie)


def receive(line: socket.socket, length: int) -> bytes:
    return line.recv(length, socket.MSG_WAITALL)


def receive_option(line: socket.socket) -> int:
    _, option, length = struct.unpack("!QII", receive(line, 16))
    if length:
        receive(line, length)
    return int(option)


@contextmanager
def serving(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Have *talk* speak with one client, and yield the URI to connect to."""
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "nbd"))
        with _answering(listener, talk):
            yield f"nbd+unix:///x?socket={folder / 'nbd'}"


@contextmanager
def _answering(listener: socket.socket, talk: Callable[[socket.socket], None]) -> Iterator[None]:
    def answer() -> None:
        line, _ = listener.accept()
        # The client hangs up in the middle, as it should on most of these servers.
        with line, suppress(BrokenPipeError, ConnectionResetError, struct.error):
            talk(line)

    listener.listen()
    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def negotiating(options: dict[int, bytes]) -> Callable[[socket.socket], None]:
    """Answer options with these bytes, and hang up after `NBD_OPT_GO`."""

    def talk(line: socket.socket) -> None:
        line.sendall(GREETING)
        receive(line, 4)
        while (option := receive_option(line)) != GO:
            line.sendall(options[option])
        line.sendall(options[GO])

    return talk


def answering(
    reply: Callable[[Request], bytes], options: dict[int, bytes] = GOOD_OPTIONS
) -> Callable[[socket.socket], None]:
    """Negotiate well, then answer each request with what *reply* makes of it."""

    def talk(line: socket.socket) -> None:
        negotiating(options)(line)
        while head := receive(line, 28):
            _, _, command, cookie, offset, length = struct.unpack("!IHHQQI", head)
            if command == DISCONNECT:
                return
            if command == WRITE:
                receive(line, length)
            line.sendall(reply(Request(command, cookie, offset, length)))

    return talk


# --- What breaks the protocol ---------------------------------------------------------------------------------------

BAD_HANDSHAKES = {
    "another protocol": lambda line: line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "oldstyle": lambda line: line.sendall(b"NBDMAGIC" + struct.pack("!QQ", 0x420281861253, SIZE_BYTES) + bytes(128)),
    "not fixed newstyle": lambda line: line.sendall(b"NBDMAGICIHAVEOPT\x00\x00"),
    "reply of 4 GiB": negotiating({STRUCTURED: option_reply(STRUCTURED, ACK, length=0xFFFFFFFF)}),
    "reply to another option": negotiating({STRUCTURED: option_reply(GO, ACK)}),
    "reply without magic": negotiating({STRUCTURED: bytes(20)}),
    "short context": negotiating(GOOD_OPTIONS | {META: option_reply(META, CONTEXT, b"abc")}),
    "foreign context": negotiating(GOOD_OPTIONS | {META: option_reply(META, CONTEXT, bytes(4) + b"x:y")}),
    "no size": negotiating(GOOD_OPTIONS | {GO: option_reply(GO, ACK)}),
    "short size": negotiating(GOOD_OPTIONS | {GO: option_reply(GO, INFO, bytes(6))}),
    "empty info": negotiating(GOOD_OPTIONS | {GO: option_reply(GO, INFO)}),
    "unexpected reply": negotiating(GOOD_OPTIONS | {GO: option_reply(GO, CONTEXT, bytes(8))}),
    "blocks of 3": negotiating(GOOD_OPTIONS | {GO: export_info() + block_info(3, 4096, MiB) + option_reply(GO, ACK)}),
    "blocks of 0": negotiating(GOOD_OPTIONS | {GO: export_info() + block_info(0, 4096, MiB) + option_reply(GO, ACK)}),
    "huge blocks": negotiating(
        GOOD_OPTIONS | {GO: export_info() + block_info(1 << 17, 1 << 17, 1 << 20) + option_reply(GO, ACK)}
    ),
    "no payload": negotiating(
        GOOD_OPTIONS | {GO: export_info() + block_info(512, 4096, 511) + option_reply(GO, ACK)}
    ),
}


@pytest.mark.parametrize("talk", BAD_HANDSHAKES.values(), ids=BAD_HANDSHAKES.keys())
def test_a_handshake_that_breaks_the_protocol_is_given_up(talk: Callable[[socket.socket], None]) -> None:
    """Whatever a server says instead of a handshake, connecting ends with an error, soon and in little memory."""
    with serving(talk) as uri, in_little_memory(), pytest.raises(ProtocolError):
        NbdClient.connect(uri, timeout_s=5)


X = b"x" * 512
BAD_READS: dict[str, Callable[[Request], bytes]] = {
    "garbage": lambda _: b"garbage" * 10,
    "another cookie": lambda asked: data(replace(asked, cookie=asked.cookie + 1), asked.offset, X * 8, DONE),
    "a simple reply": lambda asked: simple(asked) + X * 8,
    "4 GiB of data": lambda asked: chunk(asked, DATA, bytes(64), length=0xFFFFFFFF),
    "data before the request": lambda asked: data(asked, asked.offset - 512, X * 8, DONE),
    "data beyond the request": lambda asked: data(asked, asked.offset, X * 9, DONE),
    "data far away": lambda asked: data(asked, 2**64 - 512, X, DONE),
    "data without data": lambda asked: chunk(asked, DATA, struct.pack("!Q", asked.offset), flags=DONE),
    "data without offset": lambda asked: chunk(asked, DATA, b"abc", flags=DONE),
    "data twice": lambda asked: data(asked, asked.offset, X) + data(asked, asked.offset, X, DONE),
    "overlap": lambda asked: data(asked, asked.offset, X * 8) + hole(asked, asked.offset + 100, 8, DONE),
    "a gap": lambda asked: data(asked, asked.offset, X) + hole(asked, asked.offset + 1024, 3072, DONE),
    "nothing at all": lambda asked: chunk(asked, NONE, flags=DONE),
    "a hole of 4 GiB": lambda asked: hole(asked, asked.offset, 0xFFFFFFFF, DONE),
    "a hole of nothing": lambda asked: hole(asked, asked.offset, 0, DONE),
    "a hole too short": lambda asked: chunk(asked, HOLE, bytes(8), flags=DONE),
    "none that is not the last": lambda asked: chunk(asked, NONE) * 2,
    "none with content": lambda asked: chunk(asked, NONE, b"abc", flags=DONE),
    "block status": lambda asked: status(asked, (512, 0)),
    "an unknown chunk": lambda asked: chunk(asked, 77, b"abc", flags=DONE),
    "an error of 4 GiB": lambda asked: chunk(asked, ERROR, bytes(64), flags=DONE, length=0xFFFFFFFF),
    "an error of nothing": lambda asked: chunk(asked, ERROR, b"abc", flags=DONE),
    "an error that is none": lambda asked: error(asked, 0),
    "an error cut short": lambda asked: chunk(asked, ERROR, struct.pack("!IH", 5, 100) + b"abc", flags=DONE),
    "an error without offset": lambda asked: chunk(asked, ERROR_OFFSET, struct.pack("!IH", 5, 0), flags=DONE),
}


@pytest.mark.parametrize("reply", BAD_READS.values(), ids=BAD_READS.keys())
def test_a_read_reply_that_breaks_the_protocol_drops_the_connection(reply: Callable[[Request], bytes]) -> None:
    """The read fails, soon and in little memory, and the client does not go on with a stream out of step."""
    with serving(answering(reply)) as uri, NbdClient.connect(uri, timeout_s=5) as client:
        with in_little_memory(), pytest.raises(ProtocolError):
            client.read(MiB, 4096)
        with pytest.raises(ConnectionLost, match="closed before"):
            client.read(0, 512)


BAD_STATUSES: dict[str, Callable[[Request], bytes]] = {
    "none": lambda asked: chunk(asked, NONE, flags=DONE),
    "of another context": lambda asked: status(asked, (4096, 0), context=8),
    "without extents": status,
    "of no length": lambda asked: status(asked, (0, 0)),
    "twice": lambda asked: status(asked, (512, 0), flags=0) + status(asked, (512, 0)),
    "cut short": lambda asked: chunk(asked, STATUS, bytes(11), flags=DONE),
    "of 4 GiB": lambda asked: chunk(asked, STATUS, bytes(64), flags=DONE, length=0xFFFFFFFC),
    "in a simple reply": simple,
}


@pytest.mark.parametrize("reply", BAD_STATUSES.values(), ids=BAD_STATUSES.keys())
def test_a_block_status_that_breaks_the_protocol_drops_the_connection(reply: Callable[[Request], bytes]) -> None:
    """No endless loop on extents that do not advance, no allocation on a server's word."""
    with serving(answering(reply)) as uri, NbdClient.connect(uri, timeout_s=5) as client:
        with in_little_memory(), pytest.raises(ProtocolError):
            list(client.block_status(0, MiB, BASE_ALLOCATION))
        with pytest.raises(ConnectionLost, match="closed before"):
            client.read(0, 512)


BAD_ENDINGS: dict[str, Callable[[Request], bytes]] = {
    "another cookie": lambda asked: simple(replace(asked, cookie=asked.cookie + 1)),
    "data": lambda asked: data(asked, asked.offset, X, DONE),
    "garbage": lambda _: b"garbage" * 10,
}


@pytest.mark.parametrize("reply", BAD_ENDINGS.values(), ids=BAD_ENDINGS.keys())
def test_a_write_reply_that_breaks_the_protocol_drops_the_connection(reply: Callable[[Request], bytes]) -> None:
    """A write is never taken for done on a reply that does not belong to it."""
    with serving(answering(reply)) as uri, NbdClient.connect(uri, timeout_s=5) as client:
        with pytest.raises(ProtocolError):
            client.write(X, 0)
        with pytest.raises(ConnectionLost, match="closed before"):
            client.write(X, 0)


# --- What takes too long --------------------------------------------------------------------------------------------


def drip(line: socket.socket) -> None:
    """Send a greeting too slowly to ever end in time."""
    for byte in GREETING * 100:
        line.sendall(bytes([byte]))
        time.sleep(0.05)


def silence(line: socket.socket) -> None:
    line.recv(1)


def chatter(line: socket.socket) -> None:
    """Describe an export for ever."""
    negotiating(GOOD_OPTIONS | {GO: b""})(line)
    while True:
        line.sendall(option_reply(GO, INFO, struct.pack("!H", 999) + bytes(100)))


@pytest.mark.parametrize("talk", [silence, drip, chatter])
def test_a_server_without_end_is_given_up_in_time(talk: Callable[[socket.socket], None]) -> None:
    """Silence, a byte now and then, and endless talk all end with the time allowed."""
    started = time.monotonic()
    with serving(talk) as uri, in_little_memory(), pytest.raises(ConnectionLost, match=r"within 0\.3 s"):
        NbdClient.connect(uri, timeout_s=0.3)
    assert time.monotonic() - started < 5


def test_a_server_that_does_not_read_is_given_up_in_time() -> None:
    """A write that can't be sent ends with the time allowed."""
    given_up = threading.Event()

    def talk(line: socket.socket) -> None:
        negotiating(GOOD_OPTIONS)(line)
        given_up.wait(20)

    with serving(talk) as uri:
        client = NbdClient.connect(uri, timeout_s=0.3)
        try:
            with pytest.raises(ConnectionLost, match=r"within 0\.3 s"):
                client.write(bytes(16 * MiB), 0)
        finally:
            given_up.set()


def test_a_server_that_hangs_up_in_the_middle_of_data_is_a_lost_connection() -> None:
    """Half of an answer is no answer."""

    def talk(line: socket.socket) -> None:
        negotiating(GOOD_OPTIONS)(line)
        _, _, _, cookie, offset, length = struct.unpack("!IHHQQI", receive(line, 28))
        line.sendall(data(Request(READ, cookie, offset, length), offset, X * 8)[:1000])

    with serving(talk) as uri, NbdClient.connect(uri) as client:
        buffer = bytearray(4096)
        with pytest.raises(ConnectionLost, match="closed the connection"):
            client.readinto(buffer, 0)


# --- What is allowed, though rare -----------------------------------------------------------------------------------


def test_chunks_in_any_order_make_up_a_read() -> None:
    """Data and holes from the end to the beginning, and a last chunk of nothing."""

    def reply(asked: Request) -> bytes:
        at = asked.offset
        return (
            data(asked, at + 3000, b"c" * 1096)
            + hole(asked, at + 1000, 2000)
            + data(asked, at, b"a" * 1000)
            + chunk(asked, NONE, flags=DONE)
        )

    with serving(answering(reply)) as uri, NbdClient.connect(uri) as client:
        buffer = bytearray(b"old!" * 1024)
        client.readinto(buffer, MiB)
        assert buffer == b"a" * 1000 + bytes(2000) + b"c" * 1096


def test_an_error_among_the_chunks_fails_the_read_and_no_more() -> None:
    """The whole reply is taken in, the first error is raised with its place and words, and the next read works."""
    failing = [True]

    def reply(asked: Request) -> bytes:
        if not failing:
            return data(asked, asked.offset, X * 8, DONE)
        failing.clear()
        where = struct.pack("!IH", 5, 10) + b"bad sector" + struct.pack("!Q", asked.offset + 512)
        return (
            data(asked, asked.offset, X * 2)
            + chunk(asked, ERROR_OFFSET, where)
            + chunk(asked, 0x8077, struct.pack("!IH", 22, 0) + b"fields of the future")
            + data(asked, asked.offset + 1024, X * 6, DONE)
        )

    with serving(answering(reply)) as uri, NbdClient.connect(uri) as client:
        with pytest.raises(RequestError, match=rf"read failed at byte {MiB + 512}: bad sector \(EIO\)") as caught:
            client.read(MiB, 4096)
        assert (caught.value.errno, caught.value.offset) == (5, MiB + 512)
        assert client.read(MiB, 4096) == X * 8


@pytest.mark.parametrize(
    "reply", [simple, lambda asked: chunk(asked, NONE, flags=DONE)], ids=["simple", "structured"]
)
def test_writes_may_be_answered_either_way(reply: Callable[[Request], bytes]) -> None:
    """With chunks agreed on, a write's reply may still be a simple one."""
    with serving(answering(reply)) as uri, NbdClient.connect(uri) as client:
        client.write(X, 0)
        client.flush()


@pytest.mark.parametrize(
    "reply",
    [
        lambda asked: simple(asked, 28),
        lambda asked: error(asked, 28, b"disk full"),
        lambda asked: error(asked, 28, flags=0) + chunk(asked, NONE, flags=DONE),
    ],
    ids=["simple", "structured", "error before the end"],
)
def test_a_write_error_comes_either_way_and_leaves_the_connection(reply: Callable[[Request], bytes]) -> None:
    """Each form of error has its number, and is in step with what follows."""
    with serving(answering(reply)) as uri, NbdClient.connect(uri) as client:
        for _ in range(2):
            with pytest.raises(RequestError, match=r"write failed.*ENOSPC"):
                client.write(X, 0)


def test_a_block_status_may_fail_in_a_simple_reply() -> None:
    """What has no content may be a simple reply, errors included; the connection goes on."""
    with serving(answering(lambda asked: simple(asked, 22))) as uri, NbdClient.connect(uri) as client:
        for _ in range(2):
            with pytest.raises(RequestError, match=r"block status failed.*EINVAL"):
                list(client.block_status(0, MiB, BASE_ALLOCATION))


def test_a_server_that_shuts_down_is_left() -> None:
    """After ESHUTDOWN the client must disconnect ("Terminating the transmission phase")."""
    left = threading.Event()

    def talk(line: socket.socket) -> None:
        answering(lambda asked: simple(asked, 108))(line)
        left.set()

    with serving(talk) as uri:
        client = NbdClient.connect(uri)
        with pytest.raises(RequestError, match="ESHUTDOWN"):
            client.write(X, 0)
        assert left.wait(5)
        with pytest.raises(ConnectionLost):
            client.write(X, 0)


def test_extents_shorter_and_longer_than_asked_cover_the_range_once() -> None:
    """One extent at a time, the last one far beyond the end: the result is whole, merged and clipped."""

    def reply(asked: Request) -> bytes:
        flags = 3 if asked.offset < MiB else 0
        other_context = status(asked, (512, 7), context=8, flags=0)
        return other_context + status(asked, (MiB // 4 if flags else 1 << 30, flags))

    with serving(answering(reply)) as uri, NbdClient.connect(uri) as client:
        assert list(client.block_status(0, 2 * MiB, BASE_ALLOCATION)) == [Extent(0, MiB, 3), Extent(MiB, MiB, 0)]


def test_a_refused_export_tells_the_servers_words() -> None:
    """The reason and the text of the server reach the operator."""
    refusal = option_reply(GO, 2**31 + 2, b"come back later")
    talk = negotiating(GOOD_OPTIONS | {GO: refusal})
    with serving(talk) as uri, pytest.raises(ExportRefused, match="come back later"):
        NbdClient.connect(uri)


def test_a_server_that_demands_tls_is_refused_clearly() -> None:
    """The error says TLS."""
    talk = negotiating(GOOD_OPTIONS | {GO: option_reply(GO, 2**31 + 5)})
    with serving(talk) as uri, pytest.raises(ExportRefused, match="TLS"):
        NbdClient.connect(uri)


def test_tcp_carries_the_same_protocol() -> None:
    """An export behind a TCP port on this machine is read like any other."""
    reply = answering(lambda asked: data(asked, asked.offset, X * 8, DONE))
    with socket.create_server(("127.0.0.1", 0)) as listener, _answering(listener, reply):
        host, port = listener.getsockname()
        with NbdClient.connect(f"nbd://{host}:{port}/x") as client:
            assert client.read(0, 4096) == X * 8


@contextmanager
def in_little_memory() -> Iterator[None]:
    """Make sure that no more than a MiB is allocated at any time."""
    tracemalloc.start()
    try:
        yield
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < MiB
