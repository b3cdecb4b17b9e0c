"""
Agree with the server on one export ("Fixed newstyle negotiation").

The order matters: structured replies first, because meta contexts need them; meta contexts next, for the same export
name; `NBD_OPT_GO` last, because it ends the negotiation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct

from onecut.nbd import wire
from onecut.nbd.channel import Channel
from onecut.nbd.errors import ExportRefused, ProtocolError

_REFUSALS: Mapping[int, str] = {
    wire.OptionError.UNSUPPORTED: "the server is too old to know NBD_OPT_GO",
    wire.OptionError.POLICY: "the server's policy forbids it",
    wire.OptionError.INVALID: "the server takes the name or the request for invalid",
    wire.OptionError.PLATFORM: "the server's platform does not support it",
    wire.OptionError.TLS_REQUIRED: "the server demands TLS, which is not offered",
    wire.OptionError.UNKNOWN_EXPORT: "there is no such export",
    wire.OptionError.SHUTDOWN: "the server is shutting down",
    wire.OptionError.TOO_BIG: "the server takes the request for too large",
}


@dataclass(frozen=True)
class Export:
    """What the server told of the export, and what was agreed on."""

    name: str
    size_bytes: int
    flags: wire.TransmissionFlag
    block_bytes: int
    """Offsets and lengths must be multiples of this."""
    payload_bytes: int
    """Longest read or write in one request."""
    structured: bool
    """Whether reads are answered in chunks."""
    contexts: Mapping[str, int]
    """The ids of the meta contexts that the server agreed to."""


@dataclass(frozen=True)
class _Reply:
    type: int
    data: bytearray


def negotiate(channel: Channel, name: str, contexts: Sequence[str]) -> Export:
    """
    Go from a fresh connection into the transmission phase, or raise.

    Raises:
        ExportRefused: The server does not serve the export to us.
        ProtocolError: It is no NBD server, or one too old for fixed newstyle.
        ConnectionLost: It hung up or fell silent.
    """
    channel.begin()
    _greet(channel)
    structured = _agree_on_structured_replies(channel)
    ids = _agree_on_contexts(channel, name, contexts) if structured else {}
    return _go(channel, name, structured=structured, contexts=ids)


def _greet(channel: Channel) -> None:
    server_magic, option_magic, flags = wire.GREETING.unpack(channel.receive(wire.GREETING.size))
    if server_magic != wire.SERVER_MAGIC:
        raise ProtocolError("this is not an NBD server")
    if option_magic != wire.OPTION_MAGIC or not flags & wire.HandshakeFlag.FIXED_NEWSTYLE:
        raise ProtocolError("the NBD server is too old: it does not speak fixed newstyle")
    known = wire.HandshakeFlag.FIXED_NEWSTYLE | wire.HandshakeFlag.NO_ZEROES
    channel.send([wire.CLIENT_FLAGS.pack(flags & known)])


def _agree_on_structured_replies(channel: Channel) -> bool:
    _send_option(channel, wire.Option.STRUCTURED_REPLY)
    return _receive_reply(channel, wire.Option.STRUCTURED_REPLY).type == wire.OptionReply.ACK


def _agree_on_contexts(channel: Channel, name: str, contexts: Sequence[str]) -> dict[str, int]:
    """Return the ids of those *contexts* the server has. One that offers none refuses or says nothing."""
    if not contexts:
        return {}
    queries = b"".join(map(_string, contexts))
    _send_option(channel, wire.Option.SET_META_CONTEXT, _string(name) + wire.U32.pack(len(contexts)) + queries)
    ids: dict[str, int] = {}
    for reply in _replies(channel, wire.Option.SET_META_CONTEXT):
        if reply.type & wire.OPTION_ERROR:
            return {}  # "the client MUST disregard any context replies that may have been sent"
        if reply.type != wire.OptionReply.META_CONTEXT or len(reply.data) < wire.U32.size:
            raise ProtocolError(f"the server answered meta contexts with a reply of type {reply.type}")
        context = reply.data[wire.U32.size :].decode(errors="replace")
        if context not in contexts or context in ids:
            raise ProtocolError(f"the server offered a meta context that was not asked for: {context!r}")
        (ids[context],) = wire.U32.unpack_from(reply.data)
    return ids


def _go(channel: Channel, name: str, *, structured: bool, contexts: Mapping[str, int]) -> Export:
    wanted = wire.U16.pack(1) + wire.U16.pack(wire.Info.BLOCK_SIZE)
    _send_option(channel, wire.Option.GO, _string(name) + wanted)
    size_bytes, flags = None, 0
    block_bytes, payload_bytes = 1, wire.PAYLOAD_LIMIT_BYTES
    for reply in _replies(channel, wire.Option.GO):
        if reply.type & wire.OPTION_ERROR:
            raise _refusal(name, reply)
        match _info_type(reply):
            case wire.Info.EXPORT:
                _, size_bytes, flags = _unpack_info(wire.INFO_EXPORT, reply)
            case wire.Info.BLOCK_SIZE:
                _, block_bytes, _, payload_bytes = _unpack_info(wire.INFO_BLOCK_SIZE, reply)
    if size_bytes is None:
        raise ProtocolError("the server did not tell the size of the export")
    return Export(
        name=name,
        size_bytes=size_bytes,
        flags=wire.TransmissionFlag(flags),
        block_bytes=_checked_block(block_bytes),
        payload_bytes=_checked_payload(payload_bytes, block_bytes),
        structured=structured,
        contexts=contexts,
    )


def _checked_block(block_bytes: int) -> int:
    if not 1 <= block_bytes <= wire.MINIMUM_BLOCK_LIMIT_BYTES or block_bytes & (block_bytes - 1):
        raise ProtocolError(f"the server asks for blocks of {block_bytes} bytes")
    return block_bytes


def _checked_payload(payload_bytes: int, block_bytes: int) -> int:
    """Return the longest payload we will send: whole blocks, and never more than every server takes."""
    whole = min(payload_bytes, wire.PAYLOAD_LIMIT_BYTES) // block_bytes * block_bytes
    if not whole:
        raise ProtocolError(f"the server takes at most {payload_bytes} bytes in blocks of {block_bytes}")
    return whole


def _info_type(reply: _Reply) -> int:
    if reply.type != wire.OptionReply.INFO or len(reply.data) < wire.INFO_TYPE.size:
        raise ProtocolError(f"the server answered the choice of the export with a reply of type {reply.type}")
    (info_type,) = wire.INFO_TYPE.unpack_from(reply.data)
    return int(info_type)


def _unpack_info(shape: Struct, reply: _Reply) -> tuple[int, ...]:
    if len(reply.data) != shape.size:
        raise ProtocolError(f"the server described the export in {len(reply.data)} bytes, not {shape.size}")
    numbers: tuple[int, ...] = shape.unpack(reply.data)
    return numbers


def _refusal(name: str, reply: _Reply) -> ExportRefused:
    detail = reply.data[: wire.STRING_LIMIT_BYTES].decode(errors="replace")
    reason = _REFUSALS.get(reply.type, f"option error {reply.type - wire.OPTION_ERROR}")
    return ExportRefused(f"export {name!r} was refused: {reason}" + (f" ({detail})" if detail else ""))


def _send_option(channel: Channel, option: wire.Option, data: bytes = b"") -> None:
    channel.send([wire.OPTION.pack(wire.OPTION_MAGIC, option, len(data)) + data])


def _replies(channel: Channel, option: wire.Option) -> Iterator[_Reply]:
    """Yield the replies to *option* up to the acknowledgement, which is left out, or to an error, the last."""
    while (reply := _receive_reply(channel, option)).type != wire.OptionReply.ACK:
        yield reply
        if reply.type & wire.OPTION_ERROR:
            return


def _receive_reply(channel: Channel, option: wire.Option) -> _Reply:
    magic, answered, reply_type, length = wire.OPTION_REPLY.unpack(channel.receive(wire.OPTION_REPLY.size))
    if magic != wire.OPTION_REPLY_MAGIC or answered != option:
        raise ProtocolError(f"the server did not answer option {option.name}")
    if length > wire.OPTION_REPLY_LIMIT_BYTES:
        raise ProtocolError(f"the server wants to send {length} bytes in reply to option {option.name}")
    return _Reply(reply_type, channel.receive(length))


def _string(text: str) -> bytes:
    data = text.encode()
    return wire.U32.pack(len(data)) + data
