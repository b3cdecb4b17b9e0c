"""A real S3 endpoint behind a proxy that answers some requests with an error of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

LISTING = "list-type="
"""Stands in the request line of each page of a listing, and of nothing else."""

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length"}


class MoodyS3:
    """What the proxy is told."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        """What the next requests are answered with; 200 means that the real endpoint answers."""
        self.concerned = ""
        """Only requests that have this in their line take a status."""
        self.unknown_header = ""
        """A header that is ignored."""
        self.endpoint = ""

    def status(self, line: str) -> int:
        """Return what a request is answered with."""
        return self.statuses.pop(0) if self.statuses and self.concerned in line else 200


@contextmanager
def moody_s3(behind: str) -> Iterator[MoodyS3]:
    """Run a proxy before the endpoint *behind*."""
    moods = MoodyS3()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, data = moods.status(self.requestline), [("ETag", '"1"')], b""
            if status == 200:
                status, headers, data = self.real(body)
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - names that http.server looks for

        def real(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            connection = HTTPConnection(urlsplit(behind).netloc)
            try:
                headers = {
                    name: value for name, value in self.headers.items() if name.lower() != moods.unknown_header
                }
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                answered = [each for each in response.getheaders() if each[0].lower() not in HOP_BY_HOP]
                data = response.read()
                answered.append(("Content-Length", response.getheader("Content-Length") or str(len(data))))
                return response.status, answered, data
            finally:
                connection.close()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        moods.endpoint = f"http://127.0.0.1:{server.server_port}"
        yield moods
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
