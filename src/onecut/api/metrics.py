"""Counting requests, and reading the rest of the metrics from the database when they are asked for."""

import time
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from onecut.api.template import path_template
from onecut.db.jobs import Job
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.volumes import Volume
from onecut.service import policies

COUNTED: Final[Mapping[str, type[Volume | Snapshot | SnapshotGroup | Job]]] = {
    "volumes": Volume,
    "snapshots": Snapshot,
    "snapshot_groups": SnapshotGroup,
    "jobs": Job,
}


class StateCounts(Collector):
    """How many volumes, snapshots, groups and jobs are in which state, of all projects together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Count now."""
        with self._database.reading() as session:
            for name, table in COUNTED.items():
                family = GaugeMetricFamily(f"onecut_{name}", f"Number of {name} by status.", labels=["status"])
                for status, number in session.execute(select(table.status, func.count()).group_by(table.status)):
                    family.add_metric([status], number)
                yield family
            shares = GaugeMetricFamily(
                "onecut_policy_volumes",
                "Number of volumes by what became of them at their policies' latest time points.",
                labels=["status"],
            )
            for status, number in policies.latest_shares(session).items():
                shares.add_metric([status], number)
            yield shares
            damaged = select(func.count()).select_from(Snapshot).where(Snapshot.fault.is_not(None))
            yield GaugeMetricFamily(
                "onecut_damaged_snapshots",
                "Number of snapshots known to be damaged in the repository.",
                value=session.scalar(damaged) or 0,
            )


class RequestMetrics:
    """ASGI middleware that counts requests by route (not by path: ids are no labels), method and status."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        self._requests = Counter(
            "onecut_http_requests", "Requests answered.", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "onecut_http_request_seconds",
            "Time to the first byte of the answer.",
            ["method", "route"],
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note what was answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = path_template(scope) or "none"
                self._requests.labels(scope["method"], route, str(message["status"])).inc()
                self._seconds.labels(scope["method"], route).observe(time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, noting)
