"""
An NBD client: one connection to one export.

Blocking, one request at a time, and for one thread at a time; who wants more in flight opens more connections. After
any error but `RequestError`, `Unsupported` and `OutOfRange` the connection is closed and stays so; it is also closed
after the `RequestError` of a server that shuts down.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Final, Self

from onecut.nbd import wire
from onecut.nbd.address import parse_uri
from onecut.nbd.channel import Channel
from onecut.nbd.chunks import Chunk, ReadReply, Reply, StatusReply
from onecut.nbd.errors import ConnectionLost, OutOfRange, ProtocolError, RequestError, Unsupported
from onecut.nbd.handshake import Export, negotiate
from onecut.units import GiB, MiB

BASE_ALLOCATION: Final = "base:allocation"
"""Meta context: bit 0 of the flags is a hole, bit 1 reads as zeros ("`base:allocation` metadata context")."""

READS_AS_ZEROS: Final = 1 << 1
"""Flag in `BASE_ALLOCATION`: every byte of the range is zero."""

ALLOCATION_DEPTH: Final = "qemu:allocation-depth"
"""
Meta context: the flags are how deep in the chain of layers the data lies (qemu, docs/interop/nbd.txt).

0 is nowhere, 1 the top layer, 2 the one below it.
"""

# Without payload, a request may be longer; this keeps each one's time within a timeout of seconds.
_ZERO_LIMIT_BYTES = 128 * MiB

# Lengths have 32 bits. Half of that stays a multiple of every block size.
_STATUS_LIMIT_BYTES = 2 * GiB

_NO_FLAGS = wire.CommandFlag(0)


@dataclass(frozen=True)
class Extent:
    """A part of the export that has one status."""

    offset: int
    length: int
    flags: int
    """What it means depends on the meta context."""


@dataclass(frozen=True)
class _Request:
    command: wire.Command
    offset: int = 0
    length: int = 0
    flags: wire.CommandFlag = _NO_FLAGS
    payload: bytes | memoryview = b""


class NbdClient:
    """
    A connection to one export. Use `connect`.

    Offsets and lengths are in bytes. Every method that talks to the server raises `ConnectionLost` or
    `ProtocolError`, after which the client is closed; `RequestError` if the server could not do it; `OutOfRange` if
    a range leaves the export or is not a multiple of `block_bytes`.
    """

    def __init__(self, channel: Channel, export: Export) -> None:
        self._channel: Channel | None = channel
        self._export = export
        self._cookies = count(1)

    @classmethod
    def connect(
        cls,
        uri: str,
        *,
        timeout_s: float | None = 30,
        contexts: Sequence[str] = (BASE_ALLOCATION, ALLOCATION_DEPTH),
    ) -> Self:
        """
        Open the export that *uri* names: ``nbd+unix:///NAME?socket=PATH`` or ``nbd://HOST:PORT/NAME``.

        Args:
            uri: As returned by the engine for an export.
            timeout_s: Seconds for connecting and, later, for each request; None waits for ever.
            contexts: Meta contexts to ask for; `block_status` offers those the server has.

        Raises:
            BadAddress: The URI is wrong or asks for TLS.
            ConnectionLost: Nobody answers there.
            ExportRefused: The server does not serve this export to us.
            ProtocolError: It does not speak NBD as we know it.
        """
        address = parse_uri(uri)
        channel = Channel.open(address, timeout_s)
        try:
            return cls(channel, negotiate(channel, address.export_name, contexts))
        except BaseException:
            channel.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def size_bytes(self) -> int:
        """Size of the export."""
        return self._export.size_bytes

    @property
    def read_only(self) -> bool:
        """Whether the server refuses writes."""
        return wire.TransmissionFlag.READ_ONLY in self._export.flags

    @property
    def multi_conn(self) -> bool:
        """Whether a flush on one connection covers writes on all ("`NBD_FLAG_CAN_MULTI_CONN`")."""
        return wire.TransmissionFlag.CAN_MULTI_CONN in self._export.flags

    @property
    def block_bytes(self) -> int:
        """Offsets and lengths must be multiples of this."""
        return self._export.block_bytes

    @property
    def contexts(self) -> frozenset[str]:
        """Meta contexts that `block_status` can be asked for."""
        return frozenset(self._export.contexts)

    def readinto(self, buffer: bytearray | memoryview, offset: int) -> None:
        """Fill *buffer* with the export's bytes from *offset* on. After an error its content means nothing."""
        with memoryview(buffer) as whole, whole.cast("B") as view:
            if view.readonly:
                raise TypeError("readinto needs a buffer that can be written")
            self._check_range(offset, len(view))
            for start, length in _pieces(len(view), self._export.payload_bytes):
                self._read(view[start : start + length], offset + start)

    def read(self, offset: int, length: int) -> bytes:
        """Return *length* bytes from *offset* on."""
        self._check_range(offset, length)
        data = bytearray(length)
        self.readinto(data, offset)
        return bytes(data)

    def write(self, data: bytes | bytearray | memoryview, offset: int, *, fua: bool = False) -> None:
        """
        Write *data* at *offset*; with *fua*, return only once it is on stable storage.

        Longer data than the server takes at once goes in several requests, so an error may leave a part written.
        """
        flags = self._fua_flag(fua=fua)
        with memoryview(data) as whole, whole.cast("B") as view:
            self._check_range(offset, len(view))
            for start, length in _pieces(len(view), self._export.payload_bytes):
                payload = view[start : start + length]
                self._act(_Request(wire.Command.WRITE, offset + start, length, flags, payload))

    def zero(self, offset: int, length: int, *, fua: bool = False) -> None:
        """Make *length* bytes from *offset* on read as zeros; the server may punch a hole."""
        self._need(wire.TransmissionFlag.SEND_WRITE_ZEROES, "zeroing")
        self._act_on_range(wire.Command.WRITE_ZEROES, offset, length, self._fua_flag(fua=fua))

    def trim(self, offset: int, length: int) -> None:
        """Tell the server that a range is no longer needed; what it reads as afterwards is undefined."""
        self._need(wire.TransmissionFlag.SEND_TRIM, "trimming")
        self._act_on_range(wire.Command.TRIM, offset, length)

    def cache(self, offset: int, length: int) -> None:
        """
        Have the server fetch a range to where it reads it from fastest; no data is sent.

        `qemu-storage-daemon` copies what it must read from below into the exported layer itself (QEMU, nbd/server.c
        `nbd_handle_request`: ``BDRV_REQ_COPY_ON_READ | BDRV_REQ_PREFETCH``).
        """
        self._need(wire.TransmissionFlag.SEND_CACHE, "caching")
        self._check_range(offset, length)
        for start, piece_bytes in _pieces(length, self._export.payload_bytes):
            self._act(_Request(wire.Command.CACHE, offset + start, piece_bytes))

    def flush(self) -> None:
        """Return once all writes that were acknowledged before are on stable storage."""
        self._need(wire.TransmissionFlag.SEND_FLUSH, "flushing")
        self._act(_Request(wire.Command.FLUSH))

    def block_status(self, offset: int, length: int, context: str) -> Iterator[Extent]:
        """
        Yield the status of a range in one meta context: in order, without gap, neighbours of different flags.

        Asks the server as the caller goes on; other requests may come in between.

        Raises:
            Unsupported: The server did not agree to *context*.
        """
        if context not in self._export.contexts:
            raise Unsupported(f"the server does not offer the meta context {context}")
        self._check_range(offset, length)
        return self._merged_status(offset, offset + length, self._export.contexts[context])

    def break_off(self) -> None:
        """End the connection at once; may be called while another thread waits for an answer, which it won't get."""
        channel = self._channel
        if channel is not None:
            channel.break_off()

    def close(self) -> None:
        """Say goodbye and hang up. Closing twice does nothing the second time. Does not flush."""
        if self._channel is None:
            return
        try:
            self._channel.begin()
            self._send(self._channel, _Request(wire.Command.DISCONNECT))
        except ConnectionLost:
            pass  # "There is no reply to an NBD_CMD_DISC": a server that has gone already is as good
        finally:
            self._drop()

    def _merged_status(self, offset: int, end: int, context_id: int) -> Iterator[Extent]:
        pending: Extent | None = None
        while offset < end:
            for extent_bytes, flags in self._status(offset, min(end - offset, _STATUS_LIMIT_BYTES), context_id):
                # "the final extent MAY result in a sum larger than the original requested length"
                length = min(extent_bytes, end - offset)
                if pending is not None and pending.flags == flags:
                    pending = Extent(pending.offset, pending.length + length, flags)
                else:
                    if pending is not None:
                        yield pending
                    pending = Extent(offset, length, flags)
                offset += length
                if offset == end:
                    break
        if pending is not None:
            yield pending

    def _status(self, offset: int, length: int, context_id: int) -> list[tuple[int, int]]:
        with self._exchange() as channel:
            cookie = self._send(channel, _Request(wire.Command.BLOCK_STATUS, offset, length))
            reply = StatusReply(channel, context_id)
            self._receive(channel, cookie, reply)
            return reply.extents

    def _read(self, view: memoryview, offset: int) -> None:
        with self._exchange() as channel:
            cookie = self._send(channel, _Request(wire.Command.READ, offset, len(view)))
            if self._export.structured:
                self._receive(channel, cookie, ReadReply(channel, view, offset))
            else:
                _check_simple(channel.receive(wire.SIMPLE_REPLY.size), cookie, wire.Command.READ)
                channel.receive_into(view)

    def _act_on_range(
        self, command: wire.Command, offset: int, length: int, flags: wire.CommandFlag = _NO_FLAGS
    ) -> None:
        self._check_range(offset, length)
        for start, piece_bytes in _pieces(length, _ZERO_LIMIT_BYTES):
            self._act(_Request(command, offset + start, piece_bytes, flags))

    def _act(self, request: _Request) -> None:
        """Carry out a request whose reply has no content."""
        with self._exchange() as channel:
            cookie = self._send(channel, request)
            self._receive(channel, cookie, Reply(channel, request.command))

    def _send(self, channel: Channel, request: _Request) -> int:
        """Send one request and return its cookie."""
        cookie = next(self._cookies)
        head = wire.REQUEST.pack(
            wire.REQUEST_MAGIC, request.flags, request.command, cookie, request.offset, request.length
        )
        channel.send([head, request.payload])
        return cookie

    def _receive(self, channel: Channel, cookie: int, reply: Reply) -> None:
        """
        Receive a whole reply, or raise its error.

        With chunks agreed on, what has no content may still come as a simple reply; one that should have content is
        then found incomplete.
        """
        done = False
        while not done:
            head = channel.receive(wire.SIMPLE_REPLY.size)
            if self._export.structured and wire.U32.unpack_from(head) == (wire.CHUNK_MAGIC,):
                chunk = _parse_chunk(head + channel.receive(wire.CHUNK.size - len(head)), cookie)
                reply.take(chunk)
                done = chunk.done
            else:
                _check_simple(head, cookie, reply.command)
                done = True
        reply.finish()

    @contextmanager
    def _exchange(self) -> Iterator[Channel]:
        """
        Lend the channel for one request and its reply.

        When that ends in the middle, for whatever reason, the stream is out of step and the connection is dropped.
        """
        channel = self._open_channel()
        channel.begin()
        try:
            yield channel
        except RequestError as error:
            if error.errno == wire.ESHUTDOWN:  # "it MUST initiate a soft disconnect"
                self.close()
            raise
        except BaseException:
            self._drop()
            raise

    def _open_channel(self) -> Channel:
        if self._channel is None:
            raise ConnectionLost("the connection was closed before")
        return self._channel

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size_bytes:
            raise OutOfRange(f"{length} bytes at {offset} are not within the export's {self.size_bytes} bytes")
        if (offset | length) % self.block_bytes:
            raise OutOfRange(f"{length} bytes at {offset} are not in whole blocks of {self.block_bytes} bytes")

    def _need(self, flag: wire.TransmissionFlag, what: str) -> None:
        if flag not in self._export.flags:
            raise Unsupported(f"the server does not offer {what}")

    def _fua_flag(self, *, fua: bool) -> wire.CommandFlag:
        if not fua:
            return _NO_FLAGS
        self._need(wire.TransmissionFlag.SEND_FUA, "writing through to stable storage")
        return wire.CommandFlag.FUA


def _pieces(length: int, limit: int) -> Iterator[tuple[int, int]]:
    """Split *length* bytes into pieces of at most *limit*: start and length of each."""
    return ((start, min(limit, length - start)) for start in range(0, length, limit))


def _parse_chunk(head: bytearray, cookie: int) -> Chunk:
    _, flags, chunk_type, answered, length = wire.CHUNK.unpack(head)
    if answered != cookie:
        raise ProtocolError("the server's reply does not belong to the request")
    return Chunk(bool(flags & wire.ChunkFlag.DONE), chunk_type, length)


def _check_simple(head: bytearray, cookie: int, command: wire.Command) -> None:
    magic, errno, answered = wire.SIMPLE_REPLY.unpack(head)
    if magic != wire.SIMPLE_REPLY_MAGIC or answered != cookie:
        raise ProtocolError("the server's reply does not belong to the request")
    if errno:
        raise RequestError(command.text, errno)
