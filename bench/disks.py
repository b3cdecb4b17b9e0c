"""Servers, disks and groups of the benchmarks, made through the API."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from onecut.cli.client import Api
from onecut.cli.volumes import attachments
from onecut.units import GiB

SIZE_GIB = 10
SIZE_BYTES = SIZE_GIB * GiB
POLL_S = 0.005
"""Between two looks at a job: a look costs the service as much as it costs the client."""


@dataclass(frozen=True)
class Disks:
    """Disks attached to one server of the service."""

    volume_ids: Sequence[str]
    uris: Sequence[str]


def attach_disks(api: Api, count: int) -> Disks:
    """Make a server and so many disks attached to it."""
    server = api.call("POST", "/v1/{p}/cloudservers", body={"server": {"name": "bench"}})
    api.wait(server["job_id"], "creating the server")
    wanted = {"size": SIZE_GIB, "volume_type": "SSD", "availability_zone": "az1", "count": count}
    body = {"volume": wanted, "server_id": server["serverIds"][0]}
    answer = api.call("POST", "/v2.1/{p}/cloudvolumes", body=body)
    api.wait(answer["job_id"], "creating disks")
    volume_ids = answer["volume_ids"]
    return Disks(volume_ids, [attachments(api, volume_id)[0]["uri"] for volume_id in volume_ids])


@dataclass(frozen=True)
class TakenCut:
    """One group, and what it cost."""

    group_id: str
    cut_ms: float
    """From the request to the end of the cut's pause."""
    total_ms: float
    """From the request to when a client sees that the job has ended."""
    facts: dict[str, Any]
    """The cut, as the job tells it."""


def take_group(api: Api, volume_ids: Sequence[str]) -> TakenCut:
    """Take a group and wait for its job."""
    began, began_at = time.perf_counter(), datetime.now(UTC)
    answer = api.call("POST", "/v5/{p}/snapshot-groups", body={"snapshot_group": {"volume_ids": list(volume_ids)}})
    while (job := api.call("GET", f"/v1/{{p}}/jobs/{answer['job_id']}"))["status"] not in {"SUCCESS", "FAIL"}:
        time.sleep(POLL_S)
    total_ms = (time.perf_counter() - began) * 1000
    if job["status"] == "FAIL":
        raise AssertionError(job["fail_reason"])
    cut = job["entities"]["cut"]
    taken_at = datetime.fromisoformat(cut["taken_at"]).replace(tzinfo=UTC)
    cut_ms = (taken_at - began_at).total_seconds() * 1000 + cut["pause_ms"]
    return TakenCut(answer["snapshot_group_id"], cut_ms, total_ms, cut)


def delete_group(api: Api, group_id: str) -> None:
    """Delete a group and wait until it is gone."""
    api.wait(api.call("DELETE", f"/v5/{{p}}/snapshot-groups/{group_id}")["job_id"], "deleting the group")
