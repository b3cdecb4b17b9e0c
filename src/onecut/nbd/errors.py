"""
What can go wrong on an NBD connection, sorted by what the caller should do.

::

    NbdError
    ├── BadAddress       the URI is wrong, or names a transport that is not spoken here
    ├── ExportRefused    the server answered, but does not serve this export to us
    ├── Unsupported      the server lacks a feature; nothing was sent
    ├── OutOfRange       the range leaves the export or is not aligned; nothing was sent
    ├── RequestError     the server could not carry out one request; the connection goes on
    ├── ConnectionLost   the line broke or the server fell silent; connect again
    └── ProtocolError    the server broke the protocol; the connection was dropped
"""

import errno as errno_names
import os

from onecut.errors import OnecutError


class NbdError(OnecutError):
    """Anything that goes wrong between us and an NBD server."""


class BadAddress(NbdError):
    """The URI is wrong, or names a transport that is not spoken here."""


class ExportRefused(NbdError):
    """The server answered, but does not serve this export to us; the sentence gives its reason."""


class Unsupported(NbdError):
    """The server does not offer what was asked for. Nothing was sent."""


class OutOfRange(NbdError):
    """The range leaves the export, or is not aligned to its smallest block. Nothing was sent."""


class RequestError(NbdError):
    """
    The server could not carry out one request. The connection goes on.

    Of a request that was split because of its length, earlier parts may have been carried out.
    """

    def __init__(self, act: str, errno: int, detail: str = "", *, offset: int | None = None) -> None:
        reason = detail or os.strerror(errno)
        where = "" if offset is None else f" at byte {offset}"
        super().__init__(f"{act} failed{where}: {reason} ({errno_names.errorcode.get(errno, errno)})")
        self.errno = errno
        """One of the values of the specification, "Error values"; they are those of Linux."""
        self.offset = offset
        """Where in the export it failed, if the server said so."""


class ConnectionLost(NbdError):
    """
    The server can't be reached, the line broke, or nothing came within the time allowed.

    Whether a write in progress was carried out is not known.
    """


class ProtocolError(NbdError):
    """The server broke the protocol. The connection was dropped: nothing it says can be trusted any more."""
