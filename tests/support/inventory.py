"""What a data folder, its database and its daemon hold, and whether anything of it has no owner."""

import asyncio
from collections.abc import Collection
from functools import partial
from pathlib import Path

from running import DEADLINE_S, wait_until
from sqlalchemy import select

from onecut.db.ledger import DatabaseLedger
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Attachment, Volume
from onecut.engine.files import LayerFiles
from onecut.engine.forest import mergeable, needless
from onecut.engine.ledger import Holdings
from onecut.engine.monitor import Monitor
from onecut.engine.nodes import Nodes
from onecut.jobs import points
from onecut.repository.address import open_store
from onecut.repository.collector import plan_collection
from onecut.repository.repository import Repository

MERGE_DEADLINE_S = 240.0
"""One merge at its limited speed, of a layer that a load has filled, beside other loads."""


class Inventory:
    """Reads the database, the layers' folder and, once the service has let go of it, the daemon."""

    def __init__(self, data: Path, repository: str | None = None) -> None:
        self._data = data
        self._files = LayerFiles(data / "layers")
        self._store = open_store(repository or str(data / "repository"))

    def wait_until_tidy(self) -> None:
        """
        Wait until nothing without an owner is left in files and database; the service may be running.

        Merging takes its time: what is waited for, again and again, is that less is left.
        """
        database = Database(f"sqlite:///{self._data}/onecut.db")
        try:
            while left := self._disorder(database):
                less = partial(self._is_less, database, len(left))
                wait_until(less, f"less is left of {left}", MERGE_DEADLINE_S)
        finally:
            database.close()

    def check_repository(self) -> None:
        """Assert that manifests reach every object of the repository, and that nothing in it is half done."""
        plan = plan_collection(Repository.open(self._store), thorough=True)
        assert [info.path for info in plan.unreferenced] == []
        left = [info.path for room in ("leases", "deletions", "clock") for info in self._store.list(room)]
        assert left == []

    def _is_less(self, database: Database, before: int) -> bool:
        return len(self._disorder(database)) < before

    def check_daemon(self) -> None:
        """Compare the daemon's nodes, jobs and exports with the database. The service must be gone."""
        database = Database(f"sqlite:///{self._data}/onecut.db")
        try:
            holdings = DatabaseLedger(database).holdings()
        finally:
            database.close()
        asyncio.run(self._compare_daemon(holdings))

    async def _compare_daemon(self, holdings: Holdings) -> None:
        monitor = Monitor()
        await monitor.connect(self._data / "run" / "qmp.sock", timeout_s=DEADLINE_S)
        try:
            nodes = Nodes(monitor, self._files)
            assert set(await nodes.layers()) == set(holdings.layers)
            assert await nodes.exports() == {
                export: holdings.tops[volume] for export, volume in holdings.exports.items()
            }
            assert not await monitor.jobs()
        finally:
            await monitor.close()

    def _disorder(self, database: Database) -> list[str]:
        """Name everything that has no owner, or is wanted and not there."""
        holdings = DatabaseLedger(database).holdings()
        with database.reading() as session:
            volumes = session.scalars(select(Volume.id)).all()
            attachments = session.scalars(select(Attachment.id)).all()
            in_engine = session.scalars(select(Snapshot.id).where(Snapshot.point.in_(("held", "leaving")))).all()
            needless_points = points.volumes_with_needless(session)
        return [
            *_differences("layer", self._files.ids(), holdings.layers),
            *_differences("volume", holdings.tops, volumes),
            *_differences("export", holdings.exports, attachments),
            *_differences("point", holdings.points, in_engine),
            *(f"a point of volume {volume_id} is needless" for volume_id in needless_points),
            *(f"lease {info.path} is left" for info in self._store.list("leases")),
            *(f"deletion {info.path} is half done" for info in self._store.list("deletions")),
            *(f"layer {layer.id} is needless" for layer in needless(holdings)),
            *(f"layer {layer.id} could be merged" for layer, _ in mergeable(holdings)),
            *(f"cut {plan.id} is half done" for plan in holdings.plans),
        ]


def _differences(noun: str, there: Collection[str], wanted: Collection[str]) -> list[str]:
    return [f"{noun} {key} has no owner" for key in set(there) - set(wanted)] + [
        f"{noun} {key} is missing" for key in set(wanted) - set(there)
    ]
