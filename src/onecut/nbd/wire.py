"""
Numbers and shapes on the wire.

The clauses named here are headings of the NBD specification,
https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md. Everything is in network byte order.
"""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

from onecut.units import KiB, MiB

# "Newstyle negotiation"
SERVER_MAGIC: Final = 0x4E42444D41474943  # "NBDMAGIC"
OPTION_MAGIC: Final = 0x49484156454F5054  # "IHAVEOPT"
GREETING: Final = Struct("!QQH")  # server magic, option magic, handshake flags
CLIENT_FLAGS: Final = Struct("!I")
OPTION: Final = Struct("!QII")  # option magic, option, length of data

# "Fixed newstyle negotiation"
OPTION_REPLY_MAGIC: Final = 0x3E889045565A9
OPTION_REPLY: Final = Struct("!QIII")  # magic, option, reply type, length of data


class HandshakeFlag(IntFlag):
    """Clause "Handshake flags" and, with the same bits, "Client flags"."""

    FIXED_NEWSTYLE = 1 << 0
    NO_ZEROES = 1 << 1


class Option(IntEnum):
    """Clause "Option types"."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class OptionReply(IntEnum):
    """Clause "Option reply types"."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4


OPTION_ERROR: Final = 1 << 31
"""The bit that all error replies to options have."""


class OptionError(IntEnum):
    """Clause "Option reply types", those with bit 31."""

    UNSUPPORTED = OPTION_ERROR + 1
    POLICY = OPTION_ERROR + 2
    INVALID = OPTION_ERROR + 3
    PLATFORM = OPTION_ERROR + 4
    TLS_REQUIRED = OPTION_ERROR + 5
    UNKNOWN_EXPORT = OPTION_ERROR + 6
    SHUTDOWN = OPTION_ERROR + 7
    TOO_BIG = OPTION_ERROR + 9


class Info(IntEnum):
    """Clause "Option reply types", `NBD_REP_INFO`."""

    EXPORT = 0
    BLOCK_SIZE = 3


INFO_TYPE: Final = Struct("!H")
INFO_EXPORT: Final = Struct("!HQH")  # type, size in bytes, transmission flags
INFO_BLOCK_SIZE: Final = Struct("!HIII")  # type, minimum, preferred, largest payload
U16: Final = Struct("!H")
U32: Final = Struct("!I")
U64: Final = Struct("!Q")


class TransmissionFlag(IntFlag):
    """Clause "Transmission flags"."""

    HAS_FLAGS = 1 << 0
    READ_ONLY = 1 << 1
    SEND_FLUSH = 1 << 2
    SEND_FUA = 1 << 3
    SEND_TRIM = 1 << 5
    SEND_WRITE_ZEROES = 1 << 6
    CAN_MULTI_CONN = 1 << 8


# "Request message"
REQUEST_MAGIC: Final = 0x25609513
REQUEST: Final = Struct("!IHHQQI")  # magic, flags, command, cookie, offset, length


class Command(IntEnum):
    """Clause "Request types"."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7

    @property
    def text(self) -> str:
        """The command as a sentence names it."""
        return self.name.lower().replace("_", " ")


class CommandFlag(IntFlag):
    """Clause "Command flags"."""

    FUA = 1 << 0


# "Simple reply message"
SIMPLE_REPLY_MAGIC: Final = 0x67446698
SIMPLE_REPLY: Final = Struct("!IIQ")  # magic, error, cookie

# "Structured reply chunk message"
CHUNK_MAGIC: Final = 0x668E33EF
CHUNK: Final = Struct("!IHHQI")  # magic, flags, type, cookie, length of payload


class ChunkFlag(IntFlag):
    """Clause "Structured reply flags"."""

    DONE = 1 << 0


class ChunkType(IntEnum):
    """Clause "Structured reply types"."""

    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = (1 << 15) + 1
    ERROR_OFFSET = (1 << 15) + 2


CHUNK_ERROR: Final = 1 << 15
"""The bit that all error chunks have."""

HOLE: Final = Struct("!QI")  # offset, length
ERROR_HEAD: Final = Struct("!IH")  # error, length of message
EXTENT: Final = Struct("!II")  # length, status flags

# "Error values"
ESHUTDOWN: Final = 108

STRING_LIMIT_BYTES: Final = 4 * KiB
"""Longest string the specification allows ("Conventions")."""

OPTION_REPLY_LIMIT_BYTES: Final = 16 * KiB
"""Longest option reply we take: a string and what goes with it are far below."""

ERROR_CHUNK_LIMIT_BYTES: Final = 2 * STRING_LIMIT_BYTES
"""Longest error chunk we take: one string, an offset, and room for fields not known yet."""

BLOCK_STATUS_LIMIT_BYTES: Final = 4 + 8 * (1 << 20)
"""Longest status chunk a server should send ("Structured reply types", `NBD_REPLY_TYPE_BLOCK_STATUS`)."""

PAYLOAD_LIMIT_BYTES: Final = 32 * MiB
"""Longest read or write every server should take ("Size constraints"); also the longest we send."""

MINIMUM_BLOCK_LIMIT_BYTES: Final = 64 * KiB
"""Largest minimum block a server may ask for ("Size constraints")."""

DEFAULT_PORT: Final = 10809
"""Assigned by IANA (uri.md, "NBD URI authority")."""
