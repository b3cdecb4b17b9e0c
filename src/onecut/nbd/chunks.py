"""
Put the chunks of a structured reply together ("Structured reply types").

Data goes from the socket straight into the caller's buffer. A reply counts only when its content chunks cover the
request without overlap: a gap would leave what the buffer held before, and pass it off as the disk's.
"""

from bisect import bisect_left
from dataclasses import dataclass

from onecut.nbd import wire
from onecut.nbd.channel import Channel
from onecut.nbd.errors import ProtocolError, RequestError
from onecut.units import MiB

_ZEROS = memoryview(bytes(MiB))


@dataclass(frozen=True)
class Chunk:
    """The head of one chunk; its payload is still in the channel."""

    done: bool
    type: int
    length: int


class Coverage:
    """Which parts of a range have come, in any order."""

    def __init__(self, start: int, end: int) -> None:
        self._start, self._end = start, end
        self._gaps = [(start, end)]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return not self._gaps

    def add(self, start: int, end: int) -> None:
        """
        Note that ``start:end`` came.

        Raises:
            ProtocolError: It is empty, leaves the range, or came before.
        """
        index = bisect_left(self._gaps, start + 1, key=lambda gap: gap[1])
        gap_start, gap_end = self._gaps[index] if index < len(self._gaps) else (self._end, self._start)
        if not gap_start <= start < end <= gap_end:
            raise ProtocolError(f"the server sent bytes {start} to {end} unasked for or twice")
        self._gaps[index : index + 1] = [
            (low, high) for low, high in ((gap_start, start), (end, gap_end)) if low < high
        ]


class Reply:
    """A reply of one or more chunks; this one has no content, those that have derive from it."""

    def __init__(self, channel: Channel, command: wire.Command) -> None:
        self.command = command
        self._channel = channel
        self._error: RequestError | None = None

    def take(self, chunk: Chunk) -> None:
        """Receive one chunk's payload to where it belongs. Of several errors the first is kept."""
        if chunk.type & wire.CHUNK_ERROR:
            error = _receive_error(self._channel, chunk, self.command)
            self._error = self._error or error
        elif chunk.type != wire.ChunkType.NONE:
            self._take_content(chunk)
        elif chunk.length or not chunk.done:
            raise ProtocolError("the server sent an empty chunk that is not empty, or not the last")

    def finish(self) -> None:
        """Judge the whole reply after its last chunk."""
        if self._error is not None:
            raise self._error

    def _take_content(self, chunk: Chunk) -> None:
        raise _out_of_place(chunk)


class ReadReply(Reply):
    """Assembles the reply to one read into *view*, which lies at *offset* of the export."""

    def __init__(self, channel: Channel, view: memoryview, offset: int) -> None:
        super().__init__(channel, wire.Command.READ)
        self._view = view
        self._offset = offset
        self._coverage = Coverage(offset, offset + len(view))

    def finish(self) -> None:
        """Raise the reply's error, if it has one; make sure that all data came."""
        super().finish()
        if not self._coverage.complete:
            raise ProtocolError("the server reported success, but did not send all of the data")

    def _take_content(self, chunk: Chunk) -> None:
        match chunk.type:
            case wire.ChunkType.OFFSET_DATA:
                self._take_data(chunk.length)
            case wire.ChunkType.OFFSET_HOLE:
                self._take_hole(chunk.length)
            case _:
                raise _out_of_place(chunk)

    def _take_data(self, length: int) -> None:
        if length <= wire.U64.size:
            raise ProtocolError("the server sent a data chunk without data")
        (start,) = wire.U64.unpack(self._channel.receive(wire.U64.size))
        self._channel.receive_into(self._claim(start, length - wire.U64.size))

    def _take_hole(self, length: int) -> None:
        if length != wire.HOLE.size:
            raise ProtocolError(f"the server sent a hole chunk of {length} bytes")
        start, hole_bytes = wire.HOLE.unpack(self._channel.receive(wire.HOLE.size))
        hole = self._claim(start, hole_bytes)
        for at in range(0, hole_bytes, len(_ZEROS)):
            piece = hole[at : at + len(_ZEROS)]
            piece[:] = _ZEROS[: len(piece)]

    def _claim(self, start: int, length: int) -> memoryview:
        self._coverage.add(start, start + length)
        return self._view[start - self._offset : start - self._offset + length]


class StatusReply(Reply):
    """Collects the extents of one meta context from the reply to a block status request."""

    def __init__(self, channel: Channel, context_id: int) -> None:
        super().__init__(channel, wire.Command.BLOCK_STATUS)
        self._context_id = context_id
        self.extents: list[tuple[int, int]] = []
        """Lengths and flags, from the request's offset on. Those of other contexts are dropped."""

    def finish(self) -> None:
        """Raise the reply's error, if it has one; make sure that there is at least one extent."""
        super().finish()
        if not self.extents:
            raise ProtocolError("the server reported success, but no block status")

    def _take_content(self, chunk: Chunk) -> None:
        if chunk.type != wire.ChunkType.BLOCK_STATUS:
            raise _out_of_place(chunk)
        self._take_extents(chunk.length)

    def _take_extents(self, length: int) -> None:
        whole, rest = divmod(length - wire.U32.size, wire.EXTENT.size)
        if whole < 1 or rest or length > wire.BLOCK_STATUS_LIMIT_BYTES:
            raise ProtocolError(f"the server sent a block status of {length} bytes")
        payload = self._channel.receive(length)
        (context_id,) = wire.U32.unpack_from(payload)
        if context_id != self._context_id:
            return
        if self.extents:
            raise ProtocolError("the server sent the block status of one context twice")
        self.extents = list(wire.EXTENT.iter_unpack(memoryview(payload)[wire.U32.size :]))
        if not all(extent_bytes for extent_bytes, _ in self.extents):
            raise ProtocolError("the server sent a block status of no length")


def _out_of_place(chunk: Chunk) -> ProtocolError:
    return ProtocolError(f"the server sent a chunk of type {chunk.type}, which is out of place")


def _receive_error(channel: Channel, chunk: Chunk, command: wire.Command) -> RequestError:
    """Receive an error chunk. Types not known yet are errors too; what follows their message is dropped."""
    if not wire.ERROR_HEAD.size <= chunk.length <= wire.ERROR_CHUNK_LIMIT_BYTES:
        raise ProtocolError(f"the server sent an error chunk of {chunk.length} bytes")
    payload = channel.receive(chunk.length)
    errno, message_bytes = wire.ERROR_HEAD.unpack_from(payload)
    message_end = wire.ERROR_HEAD.size + message_bytes
    if not errno or message_end > len(payload):
        raise ProtocolError("the server sent an error chunk that contradicts itself")
    message = payload[wire.ERROR_HEAD.size : message_end].decode(errors="replace")
    if chunk.type != wire.ChunkType.ERROR_OFFSET:
        return RequestError(command.text, errno, message)
    if len(payload) != message_end + wire.U64.size:
        raise ProtocolError("the server sent an error without the offset it announced")
    (offset,) = wire.U64.unpack_from(payload, message_end)
    return RequestError(command.text, errno, message, offset=offset)
