"""Requests as fast as a server answers them: a fixed number of clients, each on a connection of its own."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection

CLIENTS = 4
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Request:
    """What is sent."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True)
class Server:
    """Who is asked. Connections stay open for as long as the server lets them."""

    host: str
    port: int

    def ask(self, request: Request) -> bytes:
        """Send one request, and return the body of the answer."""
        connection = HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            return _answer(connection, request)
        finally:
            connection.close()

    def per_second(self, requests: Sequence[Request]) -> float:
        """Send requests, as many at a time as there are clients, and return how many were answered in a second."""
        waiting = iter(requests)  # next() of a list's iterator is atomic: no request is sent twice
        began = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as clients:
            for done in [clients.submit(self._ask_all, waiting) for _ in range(CLIENTS)]:
                done.result()
        return len(requests) / (time.perf_counter() - began)

    def _ask_all(self, waiting: Iterator[Request]) -> None:
        connection = HTTPConnection(self.host, self.port, timeout=TIMEOUT_S)
        try:
            for request in waiting:
                _answer(connection, request)
        finally:
            connection.close()


def _answer(connection: HTTPConnection, request: Request) -> bytes:
    connection.request(request.method, request.path, request.body, dict(request.headers))
    answer = connection.getresponse()
    body = answer.read()
    if answer.status >= 400:
        raise AssertionError(f"{request.method} {request.path}: {answer.status} {body[:200]!r}")
    return body
