"""What the API answers in a second, against ``moto_server``, and how a long list grows. The database is on disk."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import httpx
from sqlalchemy import text
from sqlalchemy.orm import Session

from bench import moto
from bench.requests import Request, Server
from bench.result import Result
from onecut.cli.client import Api
from onecut.cli.throwaway import throwaway_process
from onecut.db.session import Database

ROUNDS = 3
GROUPS = 100
"""Of one round, with two members each."""
SHOWS, LISTS = 500, 40
"""Requests of one round."""
NAME, MEMBER = "backup", "backup-0001"
FEW, MANY = 10_000, 1_000_000
OF_VOLUME = 10
"""Snapshots of each volume, one after the other through all volumes: each snapshot of a page is of another chain."""
PAGE_RUNS = 15
EARLIER = "strftime('%Y-%m-%d %H:%M:%f000', first.created_at, '-' || i || ' seconds')"
"""When a copy was made: each a second before the last, in SQLAlchemy's form."""


def measure() -> Iterator[Result]:
    """Measure requests of both servers in turn, then the lists."""
    with _service() as ours, moto.running_moto() as peer:
        yield from _against_moto(ours, peer)
    with _service() as few, _service() as many:
        few.fill(FEW)
        many.fill(MANY)
        took: tuple[list[float], list[float]] = [], []
        for _ in range(PAGE_RUNS):
            for project, times in zip((few, many), took, strict=True):
                times.append(project.list_ms())
        few_ms, many_ms = map(statistics.median, took)
    what = f"list 1,000 snapshots of {MANY:,}"
    yield Result(what, f"{many_ms:.1f} ms", f"{few_ms:.1f} ms out of {FEW:,}", many_ms / few_ms, "<=", 1.5)


@dataclass(frozen=True)
class Service:
    """A service of one process, with the memory engine, and its first project."""

    api: Api
    server: Server
    token: str

    def request(self, method: str, path: str, body: object = None) -> Request:
        """Build a call with a token; ``{p}`` in *path* stands for the project."""
        sent = None if body is None else json.dumps(body).encode()
        headers = {"X-Auth-Token": self.token, "Content-Type": "application/json"}
        return Request(method, path.replace("{p}", self.api.credentials.project_id), headers, sent)

    def new_volumes(self, count: int) -> list[str]:
        """Make volumes."""
        wanted = {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "name": "disk", "count": count}
        answer = self.api.call("POST", "/v2.1/{p}/cloudvolumes", body={"volume": wanted})
        self.api.wait(answer["job_id"], "making volumes")
        found: list[str] = answer["volume_ids"]
        return found

    def creation(self, volume_ids: Sequence[str]) -> Request:
        """Build the call that takes a group."""
        return self.request(
            "POST", "/v5/{p}/snapshot-groups", {"snapshot_group": {"volume_ids": list(volume_ids), "name": NAME}}
        )

    def wait_until_idle(self) -> None:
        """Wait until no group is in creation."""
        while self.api.call("GET", "/v5/{p}/snapshot-groups/count", query={"status": "creating"})["count"]:
            time.sleep(0.1)

    def fill(self, snapshots: int) -> None:
        """Have so many snapshots: copies of one that was taken and archived."""
        (volume_id,) = self.new_volumes(1)
        answer = self.api.call("POST", "/v5/{p}/snapshots", body={"snapshot": {"volume_id": volume_id}})
        self.api.wait(answer["job_id"], "taking a snapshot")
        chains = snapshots // OF_VOLUME
        database = Database(f"sqlite:///{self.api.credentials_path.parent / 'onecut.db'}")
        with database.writing() as session:
            _copy(session, "snapshot_chain", chains, {"id": _uuid("i")})
            _copy(session, "snapshot", snapshots, {"id": _uuid("i"), "created_at": EARLIER})
            of_chain = f"iif(i % {chains}, {_uuid(f'i % {chains}')}, first.chain_id)"
            copies = {"id": "first.id + i", "snapshot_id": _uuid("i"), "run_id": "i", "chain_id": of_chain}
            _copy(session, "archive", snapshots, copies)
        database.close()

    def list_ms(self) -> float:
        """Return how long a page of the newest takes."""
        began = time.perf_counter()
        found = json.loads(self.server.ask(self.request("GET", "/v5/{p}/snapshots/detail?limit=1000")))["snapshots"]
        took_ms = (time.perf_counter() - began) * 1000
        if len(found) != 1000:
            raise AssertionError(f"the page has {len(found)} snapshots")
        return took_ms


def _uuid(number: str) -> str:
    """Return SQL for the id of a copy; ids lie in no order, as real ones."""
    return f"printf('%08x-0000-4000-8000-%012x', {number} * 2654435761 & 4294967295, {number})"


def _copy(session: Session, table: str, count: int, changes: Mapping[str, str]) -> None:
    """Copy the only row of a table until there are so many; in *changes*, ``i`` is the number of the copy."""
    columns = [column.name for column in session.execute(text(f"PRAGMA table_info({table})"))]
    values = ", ".join(changes.get(name, f'first."{name}"') for name in columns)
    numbers = "WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < :last)"
    source = f"numbers, (SELECT * FROM {table} LIMIT 1) AS first"  # noqa: S608 - our own names
    session.execute(
        text(f"INSERT INTO {table} {numbers} SELECT {values} FROM {source}"),  # noqa: S608 - see above
        {"last": count - 1},
    )


@contextmanager
def _service() -> Iterator[Service]:
    with throwaway_process(module=["bench.memory_service"]) as (api, _):
        told = json.loads(api.credentials_path.read_text())
        user = {"name": told["user_name"], "password": told["password"], "domain": {"name": told["domain_name"]}}
        scope = {"project": {"id": told["project_id"]}}
        body = {"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}
        answer = httpx.post(f"{told['endpoint']}/v3/auth/tokens", json=body, trust_env=False).raise_for_status()
        address = urlsplit(told["endpoint"])
        yield Service(api, Server(str(address.hostname), address.port or 80), answer.headers["X-Subject-Token"])


def _against_moto(ours: Service, peer: Server) -> Iterator[Result]:
    """Take groups in both servers, then ask both for what they left: as many rows, out of as many."""
    taking = moto.request("CreateSnapshots", InstanceSpecification__InstanceId=moto.new_instance(peer))
    pairs = zip(ours.new_volumes(GROUPS), ours.new_volumes(GROUPS), strict=True)
    creations = [ours.creation(pair) for pair in pairs]

    def create() -> float:
        ours.wait_until_idle()
        return ours.server.per_second(creations)

    yield _compared("groups of 2 volumes accepted", create, lambda: peer.per_second([taking] * GROUPS), 1.0)
    ours.wait_until_idle()
    theirs = peer.ask(moto.request("DescribeSnapshots", Filter__1__Name="owner-id", Filter__1__Value__1=moto.ACCOUNT))
    snapshot_id, volume_id = (moto.texts(theirs, name)[-1] for name in ("snapshotId", "volumeId"))
    of_volume = moto.request("DescribeSnapshots", Filter__1__Name="volume-id", Filter__1__Value__1=volume_id)
    named = ours.request("GET", f"/v5/{{p}}/snapshots/detail?name={MEMBER}")
    found = json.loads(ours.server.ask(named))["snapshots"]
    if len(found) != len(moto.texts(peer.ask(of_volume), "snapshotId")):
        raise AssertionError("the lists are not of as many rows")
    shown = ours.request("GET", f"/v5/{{p}}/snapshots/{found[0]['id']}")
    described = moto.request("DescribeSnapshots", SnapshotId__1=snapshot_id)
    for what, mine, its in (
        ("one snapshot shown", [shown] * SHOWS, [described] * SHOWS),
        (f"filtered lists of {len(found)} snapshots", [named] * LISTS, [of_volume] * LISTS),
    ):
        yield _compared(what, partial(ours.server.per_second, mine), partial(peer.per_second, its), 2.0)


def _compared(what: str, ours: Callable[[], float], peer: Callable[[], float], bar: float) -> Result:
    """Measure both in turn, and compare the medians."""
    rates = [(ours(), peer()) for _ in range(ROUNDS)]
    mine, its = (statistics.median(found) for found in zip(*rates, strict=True))
    return Result(f"{what}, in a second", f"{mine:.0f}", f"{its:.0f} by moto_server", mine / its, ">=", bar)
