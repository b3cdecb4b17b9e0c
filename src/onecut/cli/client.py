"""The API as the commands use it: signed calls, errors as sentences, names beside ids, and waiting for jobs."""

import json
import os
import re
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self

import click
import httpx
from rich.console import Console
from rich.status import Status

from onecut.service import signing

WAIT_FOR_JOB: Final = {"Prefer": "wait=4"}
"""Lets the service answer when a job has ended (RFC 7240)."""

JOB_POLL_S: Final = 0.1
"""Least time between two looks at a job, should something on the way not let the service wait."""

CALL_TIMEOUT_S: Final = 60.0

UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Credentials:
    """What a client needs to know of the service, as the first start wrote it."""

    endpoint: str
    project_id: str
    access_key: str
    secret_key: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """
        Read ``credentials.json``.

        Raises:
            click.ClickException: There is none, or it is not what the service wrote.
        """
        try:
            found = json.loads(path.read_text())
            return cls(*(found[name] for name in ("endpoint", "project_id", "access_key", "secret_key")))
        except OSError as error:
            raise click.ClickException(
                f"{path}: {error.strerror}. Start the service, or name the file with --credentials."
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise click.ClickException(f"{path} is not a credentials file of Onecut: {error!r}") from error

    @staticmethod
    def default_path() -> Path:
        """Return where the service on this machine writes them."""
        return Path(os.environ.get("ONECUT_DATA", "onecut-data")) / "credentials.json"


class Signature(httpx.Auth):
    """Signs requests with SDK-HMAC-SHA256, as the vendor's SDK does."""

    requires_request_body = True

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the three headers of a signed request."""
        request.headers["X-Project-Id"] = self._credentials.project_id
        request.headers["X-Sdk-Date"] = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        wire = signing.WireRequest(
            method=request.method,
            raw_path=request.url.raw_path.partition(b"?")[0],
            query_string=request.url.query,
            headers=[(name.lower(), value) for name, value in request.headers.raw],
            body=request.content,
        )
        request.headers["Authorization"] = signing.sign(
            wire,
            self._credentials.access_key,
            self._credentials.secret_key,
            signed_headers=("host", "x-project-id", "x-sdk-date"),
        )
        yield request


class Api:
    """
    The API of one project.

    The credentials are read at the first call, so that ``--help`` works where no service ever ran.
    """

    def __init__(self, credentials_path: Path) -> None:
        self.credentials_path = credentials_path

    @cached_property
    def credentials(self) -> Credentials:
        """The credentials, read once."""
        return Credentials.load(self.credentials_path)

    @cached_property
    def _http(self) -> httpx.Client:
        return httpx.Client(
            base_url=self.credentials.endpoint,
            auth=Signature(self.credentials),
            timeout=CALL_TIMEOUT_S,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections, if there are any."""
        if "_http" in self.__dict__:
            self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | Sequence[Any] | None = None,
        query: Mapping[str, str | int | None] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:  # noqa: ANN401 - JSON
        """
        Make one call; ``{p}`` in *path* stands for the project.

        Raises:
            click.ClickException: The service refused, in its own words, or does not answer.
        """
        asked = {name: value for name, value in (query or {}).items() if value is not None}
        path = path.replace("{p}", self.credentials.project_id)
        try:
            answer = self._http.request(method, path, json=body, params=asked, headers=headers)
        except httpx.HTTPError as error:
            raise click.ClickException(f"{self._http.base_url} does not answer: {error}") from error
        if answer.is_error:
            raise click.ClickException(_refusal(answer))
        return answer.json() if answer.content else None

    def wait(self, job_id: str, doing: str) -> dict[str, Any]:
        """
        Wait for a job, with a spinner on a terminal, and return it.

        Raises:
            click.ClickException: The job failed; the message is its reason.
        """
        with Status(doing, console=Console(stderr=True)):
            return self.ended(job_id)

    def ended(self, job_id: str) -> dict[str, Any]:
        """Wait for a job as `wait` does, and show nothing."""
        while True:
            again_at = time.monotonic() + JOB_POLL_S
            job: dict[str, Any] = self.call("GET", f"/v1/{{p}}/jobs/{job_id}", headers=WAIT_FOR_JOB)
            if job["status"] == "SUCCESS":
                return job
            if job["status"] == "FAIL":
                raise click.ClickException(f"{job['job_type']} failed: {job['fail_reason']}")
            time.sleep(max(0.0, again_at - time.monotonic()))

    def find(self, noun: str, name_or_id: str) -> str:
        """
        Return the id of the one server, volume, group, snapshot or policy of that name; an id is returned as it is.

        Raises:
            click.ClickException: No such name, or several.
        """
        if UUID.fullmatch(name_or_id):
            return name_or_id
        path, key = LISTS[noun]
        found = self.call("GET", path, query={"name": name_or_id})[key]
        ids = [item["id"] for item in found if item["name"] == name_or_id]
        if len(ids) != 1:
            raise click.ClickException(
                f"{noun} {name_or_id!r}: " + ("there are several; use the id" if ids else "there is none")
            )
        found_id: str = ids[0]
        return found_id


LISTS: Final[Mapping[str, tuple[str, str]]] = {
    "server": ("/v1/{p}/cloudservers/detail", "servers"),
    "volume": ("/v2/{p}/cloudvolumes/detail", "volumes"),
    "group": ("/v5/{p}/snapshot-groups/detail", "snapshot_groups"),
    "snapshot": ("/v5/{p}/snapshots/detail", "snapshots"),
    "policy": ("/v5/{p}/snapshot-policies", "snapshot_policies"),
}
"""Where each noun is listed, and under which key."""


def _refusal(answer: httpx.Response) -> str:
    try:
        told = answer.json()
    except ValueError:
        return f"HTTP {answer.status_code}: {answer.text[:200]}"
    error = told.get("error", told)
    code, message = error.get("code", error.get("error_code")), error.get("message", error.get("error_msg"))
    return f"{message} ({code})"
