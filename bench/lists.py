"""Showing and listing groups: 1,000 out of 100,000 rows against 1,000 out of 1,000."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from bench.result import Result
from onecut.cli.client import Api
from onecut.cli.throwaway import throwaway_service
from onecut.db import identity  # noqa: F401 - groups refer to projects
from onecut.db.session import Database
from onecut.db.snapshots import SnapshotGroup

FEW, MANY = 1_000, 100_000
RUNS = 15


def measure() -> Iterator[Result]:
    """Time show and list in a project with few groups and in one with many, in turn."""
    with _project_with(FEW) as few, _project_with(MANY) as many:
        listing = _in_turn(_list, few, many)
        showing = _in_turn(_show, few, many)
    for what, (few_ms, many_ms) in {"list 1,000 groups": listing, "show a group": showing}.items():
        yield Result(
            f"{what} of {MANY:,}", f"{many_ms:.1f} ms", f"{few_ms:.1f} ms out of {FEW:,}", many_ms / few_ms, "<=", 3.0
        )


@dataclass(frozen=True)
class Project:
    """A project with so many groups."""

    api: Api
    newest_id: str


@contextmanager
def _project_with(groups: int) -> Iterator[Project]:
    with throwaway_service() as api:
        database = Database(f"sqlite:///{api.credentials_path.parent / 'onecut.db'}")
        now = datetime.now(UTC)
        rows = [
            SnapshotGroup(
                id=str(uuid4()),
                project_id=api.credentials.project_id,
                name=f"g{number}",
                status="available",
                member_count=2,
                created_at=now - timedelta(seconds=number),
                updated_at=now,
            )
            for number in range(groups)
        ]
        with database.writing() as session:
            session.add_all(rows)
        database.close()
        yield Project(api, rows[0].id)


def _in_turn(act: Callable[[Project], None], few: Project, many: Project) -> tuple[float, float]:
    """Return the medians of both, in milliseconds; first few, then many."""
    took: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(RUNS):
        for which, project in enumerate((few, many)):
            began = time.perf_counter()
            act(project)
            took[which].append((time.perf_counter() - began) * 1000)
    return statistics.median(took[0]), statistics.median(took[1])


def _list(project: Project) -> None:
    found = project.api.call("GET", "/v5/{p}/snapshot-groups/detail?limit=1000")["snapshot_groups"]
    if len(found) != FEW:
        raise AssertionError(f"the page has {len(found)} groups")


def _show(project: Project) -> None:
    project.api.call("GET", f"/v5/{{p}}/snapshot-groups/{project.newest_id}")
