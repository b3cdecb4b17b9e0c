"""Read NBD URIs (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/uri.md)."""

from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from onecut.nbd import wire
from onecut.nbd.errors import BadAddress


@dataclass(frozen=True)
class UnixAddress:
    """An export behind a Unix socket: ``nbd+unix:///NAME?socket=PATH``."""

    export_name: str
    socket_path: str


@dataclass(frozen=True)
class TcpAddress:
    """An export behind a TCP port, in plain text: ``nbd://HOST:PORT/NAME``."""

    export_name: str
    host: str
    port: int


def parse_uri(uri: str) -> UnixAddress | TcpAddress:
    """
    Take an NBD URI apart.

    Raises:
        BadAddress: It is no NBD URI, asks for TLS, or has parameters that are not known here.
    """
    try:
        parts = urlsplit(uri)
        match parts.scheme:
            case "nbd+unix":
                return _unix_address(uri, parts)
            case "nbd":
                return _tcp_address(uri, parts)
    except ValueError as error:  # urlsplit on a bad port or a bad IPv6 address
        raise BadAddress(f"{uri} is not a valid URI: {error}") from error
    if parts.scheme in {"nbds", "nbds+unix"}:
        raise BadAddress(f"{uri} asks for TLS, which is not offered; use nbd+unix or nbd")
    raise BadAddress(f"{uri} is not an NBD URI; it begins with nbd+unix: or nbd:")


def _unix_address(uri: str, parts: SplitResult) -> UnixAddress:
    key, _, socket_path = parts.query.partition("=")
    if key != "socket" or not socket_path or "&" in socket_path or parts.netloc:
        raise BadAddress(f"{uri} needs one parameter, socket=PATH, and nothing but an export name besides")
    # Not parse_qs, which takes "+" for a space as HTML forms do; RFC 3986 does not.
    return UnixAddress(_export_name(uri, parts), unquote(socket_path, errors="strict"))


def _tcp_address(uri: str, parts: SplitResult) -> TcpAddress:
    if parts.hostname is None:
        raise BadAddress(f"{uri} names no host")
    if parts.query or parts.username is not None:
        raise BadAddress(f"{uri} has more than a host, a port and an export name")
    port = wire.DEFAULT_PORT if parts.port is None else parts.port
    return TcpAddress(_export_name(uri, parts), parts.hostname, port)


def _export_name(uri: str, parts: SplitResult) -> str:
    """Return the path without its first slash (uri.md, "NBD URI export name")."""
    name = unquote(parts.path.removeprefix("/"), errors="strict")
    if "\0" in name or len(name.encode()) > wire.STRING_LIMIT_BYTES:
        raise BadAddress(f"{uri} has an export name that NBD does not allow")
    return name
