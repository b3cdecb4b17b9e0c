"""NBD URIs mean what the specification says."""

import pytest

from onecut.nbd.address import TcpAddress, UnixAddress, parse_uri
from onecut.nbd.errors import BadAddress


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("nbd+unix:///disk?socket=/run/nbd.sock", UnixAddress("disk", "/run/nbd.sock")),
        ("nbd+unix://?socket=nbd.sock", UnixAddress("", "nbd.sock")),
        ("nbd+unix:////disk?socket=s", UnixAddress("/disk", "s")),
        ("nbd+unix:///?socket=%2Frun%2Fa%20b", UnixAddress("", "/run/a b")),
        ("nbd+unix:///?socket=/run/a+b", UnixAddress("", "/run/a+b")),
        ("nbd://example.com:10810/disk", TcpAddress("disk", "example.com", 10810)),
        ("nbd://example.com", TcpAddress("", "example.com", 10809)),
        ("nbd://example.com//disk", TcpAddress("/disk", "example.com", 10809)),
        ("nbd://example.com/hello%20world", TcpAddress("hello world", "example.com", 10809)),
        ("nbd://[::1]:1234/%C3%A9", TcpAddress("\u00e9", "::1", 1234)),
    ],
)
def test_a_uri_names_an_export(uri: str, address: UnixAddress | TcpAddress) -> None:
    """The examples of the specification, and what URIs may do besides."""
    assert parse_uri(uri) == address


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("nbds://example.com/disk", "TLS"),
        ("nbds+unix:///disk?socket=s", "TLS"),
        ("http://example.com/disk", "not an NBD URI"),
        ("/run/nbd.sock", "not an NBD URI"),
        ("nbd+unix:///disk", "socket=PATH"),
        ("nbd+unix:///disk?socket=", "socket=PATH"),
        ("nbd+unix:///disk?socket=a&socket=b", "socket=PATH"),
        ("nbd+unix:///disk?socket=a&tls-type=psk", "socket=PATH"),
        ("nbd+unix://host/disk?socket=a", "socket=PATH"),
        ("nbd://user@host/disk", "more than"),
        ("nbd:///disk", "no host"),
        ("nbd://host:99999/disk", "not a valid URI"),
        ("nbd://[::1/disk", "not a valid URI"),
        ("nbd://host/%00", "export name"),
        ("nbd://host/%ff", "not a valid URI"),
        ("nbd://host/" + "x" * 4097, "export name"),
    ],
)
def test_a_bad_uri_is_refused_with_the_reason(uri: str, reason: str) -> None:
    """What can't be opened is said before anything is tried."""
    with pytest.raises(BadAddress, match=reason):
        parse_uri(uri)
