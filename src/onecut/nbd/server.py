"""
A read-only NBD server on a Unix socket, for disks that lie elsewhere.

One thread takes a connection's requests, a pool shared by all connections answers them, so that a slow read does not
hold up the others. Clients that misbehave lose their connection and nothing else. Clauses are headings of the NBD
specification, as in `wire`.
"""

import errno
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Final, Protocol, Self

import structlog

from onecut.nbd import wire
from onecut.units import KiB

log = structlog.get_logger()

META_CONTEXT: Final = "base:allocation"
META_CONTEXT_ID: Final = 1
HOLE_AND_ZERO: Final = 3
"""Status flags of `base:allocation`: NBD_STATE_HOLE and NBD_STATE_ZERO."""

OPTION_LIMIT_BYTES: Final = 64 * KiB
"""Longest option we take; a client that sends more is dropped."""

EXTENTS_AT_ONCE: Final = 2048
"""Most extents in one answer; a client asks on from where the answer ends."""

EXTENT_LIMIT_BYTES: Final = (1 << 32) - 64 * KiB
"""Longest extent that 32 bits can tell, in whole blocks."""

PREFERRED_BLOCK_BYTES: Final = 64 * KiB

CONNECTIONS: Final = 512
"""
Connections at a time. A group of 64 that is restored takes five for each: one to read through, four to fill.

Further ones are closed at once: a client that waited for its greeting, as a daemon that opens a disk does, would keep
all others waiting.
"""

ACCEPT_PAUSE_S: Final = 0.1
"""Pause after a connection that could not be taken."""

REQUESTS_IN_FLIGHT: Final = 16
"""Requests of one connection that are answered at once; bounds the memory that a client can take."""

OPTIONS: Final = 64
"""Options that a client may send before it has to choose an export."""

FLAGS: Final = (
    wire.TransmissionFlag.HAS_FLAGS | wire.TransmissionFlag.READ_ONLY | wire.TransmissionFlag.CAN_MULTI_CONN
)
"""Nothing is ever written, so any number of connections see the same."""

_EXPORT_OLD: Final = Struct("!QH")  # size in bytes, transmission flags: the answer to NBD_OPT_EXPORT_NAME


class Export(Protocol):
    """A disk that is served."""

    @property
    def size_bytes(self) -> int:
        """The disk's length."""
        ...

    def readinto(self, buffer: memoryview, offset: int) -> None:
        """Fill *buffer* from *offset*; an `OSError` reaches the client with its number, anything else as EIO."""
        ...

    def allocation(self, offset: int, length: int) -> Iterable[tuple[int, bool]]:
        """Yield lengths from *offset* on, each with whether it holds data; what does not reads as zeros."""
        ...


class Server:
    """Serves exports by name until it is closed."""

    def __init__(
        self,
        socket_path: Path,
        find: Callable[[str], Export | None],
        *,
        workers: int = 8,
        connections: int = CONNECTIONS,
    ) -> None:
        self._find = find
        self._pool = ThreadPoolExecutor(workers, "nbd")
        self._connections = connections
        self._clients: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._path = socket_path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(socket_path))
        self._listener.listen(connections)
        self._thread = threading.Thread(target=self._accept, name="nbd-accept", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all connections and remove the socket."""
        with self._lock:
            self._closed = True
            clients = list(self._clients)
        for each in (self._listener, *clients):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._path.unlink(missing_ok=True)
        self._pool.shutdown(cancel_futures=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError as error:
                if self._closed:
                    return
                log.warning("nbd_accept_failed", reason=str(error))  # no file is free, say
                time.sleep(ACCEPT_PAUSE_S)
                continue
            with self._lock:
                if self._closed:
                    client.close()
                    return
                if len(self._clients) == self._connections:
                    client.close()
                    log.warning("nbd_client_refused", connections=self._connections)
                    continue
                self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), name="nbd-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                session = _Negotiation(client, self._find).run()
                if session is not None:
                    _Transmission(client, session, self._pool).run()
        except (OSError, EOFError, _Hangup) as error:
            log.info("nbd_client_left", reason=str(error))
        finally:
            with self._lock:
                self._clients.discard(client)


class _Hangup(Exception):
    """The client broke the protocol; the connection ends."""


@dataclass(frozen=True)
class _Session:
    """What was agreed on with a client."""

    export: Export
    structured: bool
    allocation: bool
    """Whether the client may ask for `base:allocation`."""


class _Negotiation:
    """Clause "Fixed newstyle negotiation"."""

    def __init__(self, client: socket.socket, find: Callable[[str], Export | None]) -> None:
        self._client, self._find = client, find
        self._structured = self._no_zeroes = False
        self._allocation_of: str | None = None
        """The export for which `base:allocation` was chosen."""
        self._answers: dict[int, Callable[[int, bytes], _Session | None]] = {
            wire.Option.LIST: self._list,
            wire.Option.STRUCTURED_REPLY: self._structured_reply,
            wire.Option.INFO: self._info,
            wire.Option.GO: self._info,
            wire.Option.LIST_META_CONTEXT: self._contexts,
            wire.Option.SET_META_CONTEXT: self._contexts,
            wire.Option.EXPORT_NAME: self._export_name,
        }

    def run(self) -> _Session | None:
        """Return what was agreed on; None when the client only wanted to look around."""
        offered = wire.HandshakeFlag.FIXED_NEWSTYLE | wire.HandshakeFlag.NO_ZEROES
        self._client.sendall(wire.GREETING.pack(wire.SERVER_MAGIC, wire.OPTION_MAGIC, offered))
        (flags,) = wire.CLIENT_FLAGS.unpack(_receive(self._client, wire.CLIENT_FLAGS.size))
        if flags & ~offered or not flags & wire.HandshakeFlag.FIXED_NEWSTYLE:
            raise _Hangup(f"the client sent flags {flags:#x}")
        self._no_zeroes = bool(flags & wire.HandshakeFlag.NO_ZEROES)
        for _ in range(OPTIONS):
            magic, option, length = wire.OPTION.unpack(_receive(self._client, wire.OPTION.size))
            if magic != wire.OPTION_MAGIC or length > OPTION_LIMIT_BYTES:
                raise _Hangup("the client sent no option")
            data = _receive(self._client, length)
            if option == wire.Option.ABORT:
                self._reply(option, wire.OptionReply.ACK)
                return None
            session = self._answers.get(option, self._unsupported)(option, data)
            if session is not None:
                return session
        raise _Hangup("the client goes on negotiating for ever")

    def _unsupported(self, option: int, _data: bytes) -> None:
        self._reply(option, wire.OptionError.UNSUPPORTED)

    def _export_name(self, _option: int, data: bytes) -> _Session:
        export = self._find(data.decode(errors="replace"))
        if export is None:
            raise _Hangup("the client asked for an export that is not there")  # the clause allows no reply
        padding = b"" if self._no_zeroes else bytes(124)
        self._client.sendall(_EXPORT_OLD.pack(export.size_bytes, FLAGS) + padding)
        return _Session(export, self._structured, allocation=False)

    def _list(self, option: int, data: bytes) -> None:
        if data:
            self._reply(option, wire.OptionError.INVALID)
            return
        if self._find("") is not None:  # named exports are known to those who may open them
            self._reply(option, wire.OptionReply.SERVER, wire.U32.pack(0))
        self._reply(option, wire.OptionReply.ACK)

    def _structured_reply(self, option: int, data: bytes) -> None:
        self._structured = not data
        self._reply(option, wire.OptionError.INVALID if data else wire.OptionReply.ACK)

    def _info(self, option: int, data: bytes) -> _Session | None:
        name, _ = _name(data)
        export = self._find(name) if name is not None else None
        if export is None:
            self._reply(option, wire.OptionError.INVALID if name is None else wire.OptionError.UNKNOWN_EXPORT)
            return None
        self._reply(option, wire.OptionReply.INFO, wire.INFO_EXPORT.pack(wire.Info.EXPORT, export.size_bytes, FLAGS))
        blocks = wire.INFO_BLOCK_SIZE.pack(wire.Info.BLOCK_SIZE, 1, PREFERRED_BLOCK_BYTES, wire.PAYLOAD_LIMIT_BYTES)
        self._reply(option, wire.OptionReply.INFO, blocks)
        self._reply(option, wire.OptionReply.ACK)
        if option == wire.Option.INFO:
            return None
        return _Session(export, self._structured, self._structured and self._allocation_of == name)

    def _contexts(self, option: int, data: bytes) -> None:
        listing = option == wire.Option.LIST_META_CONTEXT
        name, rest = _name(data)
        queries = _queries(rest) if name is not None else None
        if not listing:
            self._allocation_of = None
        if name is None or queries is None or not self._structured:
            self._reply(option, wire.OptionError.INVALID)
            return
        if self._find(name) is None:
            self._reply(option, wire.OptionError.UNKNOWN_EXPORT)
            return
        if META_CONTEXT in queries or (listing and (not queries or "base:" in queries)):
            context = wire.U32.pack(0 if listing else META_CONTEXT_ID) + META_CONTEXT.encode()
            self._reply(option, wire.OptionReply.META_CONTEXT, context)
            if not listing:
                self._allocation_of = name
        self._reply(option, wire.OptionReply.ACK)

    def _reply(self, option: int, reply: int, data: bytes = b"") -> None:
        self._client.sendall(wire.OPTION_REPLY.pack(wire.OPTION_REPLY_MAGIC, option, reply, len(data)) + data)


def _name(data: bytes) -> tuple[str | None, bytes]:
    """Take an export's name from the beginning of an option; None when there is none."""
    if len(data) < wire.U32.size:
        return None, b""
    (length,) = wire.U32.unpack_from(data)
    name, rest = data[wire.U32.size : wire.U32.size + length], data[wire.U32.size + length :]
    return (name.decode(errors="replace"), rest) if len(name) == length else (None, b"")


def _queries(data: bytes) -> list[str] | None:
    if len(data) < wire.U32.size:
        return None
    (count,) = wire.U32.unpack_from(data)
    rest, found = data[wire.U32.size :], []
    for _ in range(min(count, len(rest))):
        query, rest = _name(rest)
        if query is None:
            return None
        found.append(query)
    return found if len(found) == count else None


class _Transmission:
    """The phase in which disk data flows."""

    def __init__(self, client: socket.socket, session: _Session, pool: ThreadPoolExecutor) -> None:
        self._client, self._session, self._pool = client, session, pool
        self._sending = threading.Lock()
        self._slots = threading.BoundedSemaphore(REQUESTS_IN_FLIGHT)

    def run(self) -> None:
        """Take requests until the client leaves; return when all are answered."""
        try:
            while True:
                magic, _, command, cookie, offset, length = wire.REQUEST.unpack(
                    _receive(self._client, wire.REQUEST.size)
                )
                if magic != wire.REQUEST_MAGIC:
                    raise _Hangup("the client sent no request")
                if command == wire.Command.DISCONNECT:
                    return
                if command == wire.Command.WRITE:
                    raise _Hangup("the client writes to a disk that is read-only")
                self._slots.acquire()
                self._pool.submit(self._answer, command, cookie, offset, length)
        finally:
            for _ in range(REQUESTS_IN_FLIGHT):
                self._slots.acquire()

    def _answer(self, command: int, cookie: int, offset: int, length: int) -> None:
        try:
            self._send(self._checked(command, cookie, offset, length))
        except OSError:
            with suppress(OSError):
                self._client.shutdown(socket.SHUT_RDWR)
        finally:
            self._slots.release()

    def _checked(self, command: int, cookie: int, offset: int, length: int) -> list[bytes | memoryview]:
        """Return the answer; whatever goes wrong becomes an answer too, and never data."""
        try:
            self._check(command, offset, length)
            match command:
                case wire.Command.READ:
                    return self._read(cookie, offset, length)
                case wire.Command.BLOCK_STATUS:
                    return self._status(cookie, offset, length)
                case _:
                    return self._done(cookie)
        except OSError as error:
            if error.errno == errno.ESHUTDOWN:  # without an answer the client may ask again elsewhere
                raise
            return self._failed(cookie, error.errno or errno.EIO, str(error))
        except Exception as error:  # the client must get an answer
            log.exception("nbd_request_failed", command=command, offset=offset, length=length)
            return self._failed(cookie, errno.EIO, str(error))

    def _check(self, command: int, offset: int, length: int) -> None:
        if command not in {wire.Command.READ, wire.Command.BLOCK_STATUS, wire.Command.FLUSH}:
            raise OSError(errno.EPERM, "the disk is read-only")
        if offset + length > self._session.export.size_bytes:
            raise OSError(errno.EINVAL, "the range leaves the disk")
        if command == wire.Command.READ and length > wire.PAYLOAD_LIMIT_BYTES:
            raise OSError(errno.EINVAL, "the range is too long")

    def _read(self, cookie: int, offset: int, length: int) -> list[bytes | memoryview]:
        buffer = memoryview(bytearray(length))
        self._session.export.readinto(buffer, offset)
        if not self._session.structured:
            return [wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 0, cookie), buffer]
        return [_chunk(cookie, wire.ChunkType.OFFSET_DATA, 8 + length), wire.U64.pack(offset), buffer]

    def _status(self, cookie: int, offset: int, length: int) -> list[bytes | memoryview]:
        if not self._session.allocation or not length:
            raise OSError(errno.EINVAL, "the client did not ask for base:allocation before")
        extents = b"".join(_status_extents(self._session.export.allocation(offset, length)))
        head = _chunk(cookie, wire.ChunkType.BLOCK_STATUS, wire.U32.size + len(extents))
        return [head, wire.U32.pack(META_CONTEXT_ID), extents]

    def _done(self, cookie: int) -> list[bytes | memoryview]:
        if not self._session.structured:
            return [wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, 0, cookie)]
        return [_chunk(cookie, wire.ChunkType.NONE, 0)]

    def _failed(self, cookie: int, code: int, reason: str) -> list[bytes | memoryview]:
        if not self._session.structured:
            return [wire.SIMPLE_REPLY.pack(wire.SIMPLE_REPLY_MAGIC, code, cookie)]
        text = reason.encode()[: wire.STRING_LIMIT_BYTES]
        head = _chunk(cookie, wire.ChunkType.ERROR, wire.ERROR_HEAD.size + len(text))
        return [head, wire.ERROR_HEAD.pack(code, len(text)), text]

    def _send(self, parts: list[bytes | memoryview]) -> None:
        with self._sending:
            for part in parts:
                self._client.sendall(part)


def _status_extents(allocation: Iterable[tuple[int, bool]]) -> Iterator[bytes]:
    told = 0
    for length, data in allocation:
        rest = length
        while rest:
            if told == EXTENTS_AT_ONCE:
                return
            part = min(rest, EXTENT_LIMIT_BYTES)
            yield wire.EXTENT.pack(part, 0 if data else HOLE_AND_ZERO)
            rest -= part
            told += 1


def _chunk(cookie: int, chunk_type: int, length: int) -> bytes:
    return wire.CHUNK.pack(wire.CHUNK_MAGIC, wire.ChunkFlag.DONE, chunk_type, cookie, length)


def _receive(client: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = client.recv(length - len(data))
        if not part:
            raise EOFError("the client hung up")
        data += part
    return bytes(data)
