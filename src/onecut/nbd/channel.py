"""
A socket on which each exchange has a deadline.

Receiving is one system call per message, however long: the socket blocks, `MSG_WAITALL` lets the kernel fill the
caller's buffer, and `SO_RCVTIMEO` bounds the wait. Python's own socket timeouts would make every call a `poll` and a
short read. A server that sends one byte now and then is caught by looking at the clock between calls, so an exchange
ends after twice its time at the latest.
"""

import select
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from struct import Struct

from onecut.nbd.address import TcpAddress, UnixAddress
from onecut.nbd.errors import ConnectionLost

_TIMEVAL = Struct("ll")


class Channel:
    """One connection. Every failure is a `ConnectionLost`; the channel is of no use after it."""

    def __init__(self, line: socket.socket, timeout_s: float | None) -> None:
        self._line = line
        self._timeout_s = timeout_s
        self._deadline: float | None = None
        self._writable = select.poll()
        self._writable.register(line, select.POLLOUT)
        line.settimeout(None)
        if timeout_s is not None:
            microseconds = max(1, round(timeout_s * 1_000_000))
            timeval = _TIMEVAL.pack(*divmod(microseconds, 1_000_000))
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    @classmethod
    def open(cls, address: UnixAddress | TcpAddress, timeout_s: float | None) -> "Channel":
        """Connect; *timeout_s* bounds this and each exchange that follows. None waits for ever."""
        try:
            return cls(_connected(address, timeout_s), timeout_s)
        except OSError as error:
            raise ConnectionLost(f"can't connect to {address}: {error}") from error

    def begin(self) -> None:
        """Start the clock of an exchange."""
        if self._timeout_s is not None:
            self._deadline = time.monotonic() + self._timeout_s

    def send(self, parts: Iterable[bytes | memoryview]) -> None:
        """Send all *parts*, one after the other."""
        for part in parts:
            rest = memoryview(part)
            while rest:
                rest = rest[self._send_some(rest) :]

    def _send_some(self, data: memoryview) -> int:
        try:
            return self._line.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            remaining_s = self._remaining_s()
            self._writable.poll(None if remaining_s is None else remaining_s * 1000)
            return 0
        except OSError as error:
            raise ConnectionLost(f"the connection broke while sending: {error}") from error

    def receive_into(self, view: memoryview) -> None:
        """Fill *view*, straight from the kernel."""
        while view:
            self._remaining_s()
            try:
                count = self._line.recv_into(view, 0, socket.MSG_WAITALL)
            except BlockingIOError as error:  # SO_RCVTIMEO has passed, socket(7)
                raise self._silence() from error
            except OSError as error:
                raise ConnectionLost(f"the connection broke while receiving: {error}") from error
            if count == 0:
                raise ConnectionLost("the server closed the connection")
            view = view[count:]

    def receive(self, length: int) -> bytearray:
        """Return the next *length* bytes. The caller has made sure that *length* is reasonable."""
        data = bytearray(length)
        self.receive_into(memoryview(data))
        return data

    def break_off(self) -> None:
        """End what another thread sends or receives, which raises `ConnectionLost` there."""
        with suppress(OSError):  # it broke by itself
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up."""
        self._line.close()

    def _remaining_s(self) -> float | None:
        if self._deadline is None:
            return None
        remaining_s = self._deadline - time.monotonic()
        if remaining_s <= 0:
            raise self._silence()
        return remaining_s

    def _silence(self) -> ConnectionLost:
        return ConnectionLost(f"the server did not finish its answer within {self._timeout_s} s")


def _connected(address: UnixAddress | TcpAddress, timeout_s: float | None) -> socket.socket:
    if isinstance(address, TcpAddress):
        line = socket.create_connection((address.host, address.port), timeout_s)
        # Requests are small and wait for their replies: without this, Nagle's algorithm delays them.
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return line
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.settimeout(timeout_s)
        line.connect(address.socket_path)
    except BaseException:
        line.close()
        raise
    return line
