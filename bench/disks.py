"""Servers, disks and groups of the benchmarks, made through the API."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from onecut.cli.client import Api
from onecut.cli.volumes import attachments
from onecut.units import GiB

SIZE_GIB = 10
SIZE_BYTES = SIZE_GIB * GiB
POLL_S = 0.1
"""Between two looks at a volume that is being filled: more of them would slow the work down."""


@dataclass(frozen=True)
class Disks:
    """Disks attached to one server of the service."""

    server_id: str
    volume_ids: Sequence[str]
    uris: Sequence[str]


def attach_disks(api: Api, count: int, size_gib: int = SIZE_GIB) -> Disks:
    """Make a server and so many disks attached to it."""
    return new_disks(api, new_server(api), {"size": size_gib, "count": count})


def new_server(api: Api) -> str:
    """Make a server, and return its id."""
    server = api.call("POST", "/v1/{p}/cloudservers", body={"server": {"name": "bench"}})
    api.ended(server["job_id"])
    server_id: str = server["serverIds"][0]
    return server_id


def new_disks(api: Api, server_id: str, wanted: Mapping[str, Any]) -> Disks:
    """Make disks attached to a server."""
    volume = {"volume_type": "SSD", "availability_zone": "az1", **wanted}
    answer = api.call("POST", "/v2.1/{p}/cloudvolumes", body={"volume": volume, "server_id": server_id})
    api.ended(answer["job_id"])
    volume_ids = answer["volume_ids"]
    return Disks(server_id, volume_ids, [attachments(api, volume_id)[0]["uri"] for volume_id in volume_ids])


def delete_disks(api: Api, disks: Disks) -> None:
    """Delete disks and their server."""
    body = {"servers": [{"id": disks.server_id}], "delete_volume": True}
    api.ended(api.call("POST", "/v1/{p}/cloudservers/delete", body=body)["job_id"])


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
    """Take a group that is available right after the cut, and wait for its job."""
    began, began_at = time.perf_counter(), datetime.now(UTC)
    wanted = {"volume_ids": list(volume_ids), "instant_access": True}
    answer = api.call("POST", "/v5/{p}/snapshot-groups", body={"snapshot_group": wanted})
    job = api.ended(answer["job_id"])
    total_ms = (time.perf_counter() - began) * 1000
    cut = job["entities"]["cut"]
    taken_at = datetime.fromisoformat(cut["taken_at"]).replace(tzinfo=UTC)
    cut_ms = (taken_at - began_at).total_seconds() * 1000 + cut["pause_ms"]
    return TakenCut(answer["snapshot_group_id"], cut_ms, total_ms, cut)


def delete_group(api: Api, group_id: str) -> None:
    """Delete a group and wait until it is gone."""
    api.ended(api.call("DELETE", f"/v5/{{p}}/snapshot-groups/{group_id}")["job_id"])


@dataclass(frozen=True)
class Archived:
    """One snapshot in the repository, and what it cost."""

    snapshot_id: str
    took_s: float
    """From the request to when a client sees that the job has ended: cut, archived, durable."""


def archive_disk(api: Api, volume_id: str) -> Archived:
    """Take a snapshot of a disk, and wait until it is archived."""
    began = time.perf_counter()
    answer = api.call("POST", "/v5/{p}/snapshots", body={"snapshot": {"volume_id": volume_id}})
    job = api.ended(answer["job_id"])
    return Archived(job["entities"]["snapshot_id"], time.perf_counter() - began)


def delete_snapshot(api: Api, snapshot_id: str) -> float:
    """Delete a snapshot, and return how many seconds it took until it was gone."""
    began = time.perf_counter()
    api.ended(api.call("DELETE", f"/v5/{{p}}/snapshots/{snapshot_id}")["job_id"])
    return time.perf_counter() - began
