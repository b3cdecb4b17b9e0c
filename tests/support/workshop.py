"""Services, jobs and the memory engine on a real database, without HTTP."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from running import DEADLINE_S
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from onecut.clock import JumpingClock
from onecut.db.archives import Archive, SnapshotChain
from onecut.db.client_tokens import ClientToken
from onecut.db.identity import Domain, Project
from onecut.db.jobs import Job
from onecut.db.policies import PolicyRun, PolicyShare, PolicyVolume, SnapshotPolicy
from onecut.db.schema import Base
from onecut.db.servers import Server
from onecut.db.session import Database
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.tags import Tag
from onecut.db.volumes import Attachment, Volume
from onecut.engine.memory import MemoryEngine
from onecut.engine.port import Engine
from onecut.errors import Refused
from onecut.jobs import groups as group_jobs
from onecut.jobs import hydration, queue
from onecut.jobs import performance as performance_jobs
from onecut.jobs import points as point_jobs
from onecut.jobs import servers as server_jobs
from onecut.jobs import snapshots as snapshot_jobs
from onecut.jobs import volumes as volume_jobs
from onecut.jobs.archiver import ArchiveLimits, ArchiveMetrics, Archiver
from onecut.jobs.archiving import PATIENT_STEPS, Archiving
from onecut.jobs.images import Images
from onecut.jobs.performance import Following
from onecut.jobs.points import Points
from onecut.jobs.upkeep import Upkeep
from onecut.jobs.worker import JobType, Worker
from onecut.repository.address import open_store
from onecut.repository.repository import Repository
from onecut.repository.retry import Backoff
from onecut.repository.serve import ImageServer
from onecut.service import limits
from onecut.units import GiB

OURS, THEIRS = "a" * 32, "b" * 32
"""Two projects."""

BIRTH: Final = datetime(2026, 1, 15, 22, 10, 5, tzinfo=UTC)

TABLES: Final[Sequence[type[Base]]] = (
    Server, Volume, Attachment, Snapshot, SnapshotGroup, Archive, SnapshotChain, Tag, Job, ClientToken,
    SnapshotPolicy, PolicyVolume, PolicyRun, PolicyShare,
)  # fmt: skip
"""What a request may change."""


@dataclass
class Workshop:
    """What services and jobs need, and short ways to ask for it."""

    database: Database
    engine: Engine
    clock: JumpingClock
    repository: Repository
    images: ImageServer
    """Where jobs serve what volumes are restored from."""
    pauses_s: Sequence[float] = (0.0, 0.0)
    """How jobs wait for an engine that does not answer."""
    patience: Backoff = Backoff(first_s=0.001, longest_s=0.001, total_s=0.002)  # noqa: RUF009 - it is frozen
    """How jobs wait for a repository that does not answer."""
    metrics: ArchiveMetrics = field(default_factory=lambda: ArchiveMetrics(CollectorRegistry()))

    def volume(self, *, content: bytes = b"", **columns: Any) -> str:
        """Make a volume that is available unless told otherwise, in the database and in the engine."""
        given: dict[str, Any] = {
            "id": str(uuid4()),
            "project_id": OURS,
            "name": "disk",
            "status": "available",
            "size_gib": 10,
            "volume_type": "SSD",
            "availability_zone": "az1",
            "created_at": BIRTH,
            "updated_at": BIRTH,
        }
        volume = Volume(**(given | columns))
        with self.database.writing() as session:
            session.add(volume)
        asyncio.run(self.engine.create_volume(volume.id, volume.size_gib * GiB))
        if content:
            self.write(volume.id, content)
        return volume.id

    def volumes(self, number: int, **columns: Any) -> list[str]:
        """Make several volumes."""
        return [self.volume(**columns) for _ in range(number)]

    def write(self, volume_id: str, content: bytes) -> None:
        """Write to a volume's beginning."""
        assert isinstance(self.engine, MemoryEngine)
        self.engine.write(volume_id, 0, content)

    def read(self, volume_id: str, length: int) -> bytes:
        """Read a volume's beginning."""
        assert isinstance(self.engine, MemoryEngine)
        return self.engine.read(volume_id, 0, length)

    def points(self) -> set[str]:
        """Return the ids of all points that the engine holds."""
        assert isinstance(self.engine, MemoryEngine)
        return set(self.engine._points)

    def server(self, *volume_ids: str, project_id: str = OURS) -> str:
        """Make a server that volumes are attached to."""
        server_id = str(uuid4())
        with self.database.writing() as session:
            session.add(
                Server(
                    id=server_id,
                    project_id=project_id,
                    name="db1",
                    availability_zone="az1",
                    created_at=BIRTH,
                    updated_at=BIRTH,
                )
            )
            session.flush()
            for letter, volume_id in zip("abcdefghijklmnopqrstuvwxyz", volume_ids, strict=False):
                session.add(
                    Attachment(
                        id=str(uuid4()),
                        volume_id=volume_id,
                        server_id=server_id,
                        device=f"/dev/vd{letter}",
                        attached_at=BIRTH,
                    )
                )
                session.get_one(Volume, volume_id).status = "in-use"
        return server_id

    def ask(self, act: Callable[..., Any], *args: Any, project_id: str = OURS, **options: Any) -> Any:
        """Call a service's function that changes something, in a transaction of its own."""
        with self.database.writing() as session:
            return act(session, project_id, *args, self.clock.now(), **options)

    def look(self, act: Callable[..., Any], *args: Any, project_id: str = OURS, **options: Any) -> Any:
        """Call a service's function that changes nothing."""
        with self.database.reading() as session:
            return act(session, project_id, *args, **options)

    def set(self, model: type[Base], row_id: str, **columns: Any) -> None:
        """Change a row, as something that is not part of the test would."""
        with self.database.writing() as session:
            row = session.get_one(model, row_id)
            for name, value in columns.items():
                setattr(row, name, value)

    def get(self, model: type[Any], row_id: str) -> Any:
        """Return a row, or None."""
        with self.database.reading() as session:
            return session.get(model, row_id)

    def members(self, group_id: str) -> list[Snapshot]:
        """Return a group's members, in the order of their names."""
        with self.database.reading() as session:
            query = select(Snapshot).where(Snapshot.snapshot_group_id == group_id).order_by(Snapshot.name)
            return list(session.scalars(query))

    def sub_jobs(self, job_id: str) -> Sequence[Job]:
        """Return a job's sub jobs."""
        with self.database.reading() as session:
            return queue.sub_jobs(session, job_id)

    def state(self) -> Mapping[str, Any]:
        """Return what a refused request must leave as it was: every row of every table that it might touch."""
        with self.database.reading() as session:
            return {model.__tablename__: _rows(session, model) for model in TABLES}

    def archiving(self) -> Archiving:
        """Make what archives anew, as a service that starts does."""
        upkeep = Upkeep(self.database, self.repository, patience=self.patience)
        return Archiving(
            database=self.database,
            archiver=Archiver(
                self.engine,
                self.database,
                self.clock,
                self.repository,
                limits=ArchiveLimits(patience=self.patience),
                metrics=self.metrics,
            ),
            upkeep=upkeep,
            points=Points(self.engine, self.database, pauses_s=self.pauses_s),
            images=Images(self.engine, self.database, self.repository, upkeep, self.images, patience=self.patience),
        )

    def job_types(self) -> dict[str, JobType]:
        """Make the job types anew, as a service that starts does."""
        archiving = self.archiving()
        limits_of = partial(limits.of_volume, qos="types")
        following = Following(self.engine, self.database, limits_of, pauses_s=self.pauses_s)
        cuts: dict[str, Any] = {"cut_deadline_s": 5.0, "pauses_s": self.pauses_s}
        return {
            **group_jobs.job_types(self.engine, self.database, self.clock, archiving, **cuts),
            **snapshot_jobs.job_types(self.engine, self.database, self.clock, archiving, **cuts),
            **point_jobs.job_types(archiving.points),
            **volume_jobs.job_types(
                self.engine, self.database, self.clock, archiving.images, following, pauses_s=self.pauses_s
            ),
            **performance_jobs.job_types(following, self.clock),
            **hydration.job_types(self.engine, self.database, archiving.images),
            **server_jobs.job_types(self.engine, self.database, self.clock, pauses_s=self.pauses_s),
        }

    def worker(self, on_step: Callable[[str, str], None] = lambda _job_type, _step: None) -> Worker:
        """Make a worker, as a service that starts does."""
        return Worker(
            self.database, self.clock, self.job_types(), limit=4, patient_steps=PATIENT_STEPS, on_step=on_step
        )

    def work(self) -> None:
        """Carry out all jobs."""
        asyncio.run(self.work_until_idle(self.worker()))

    async def work_until_idle(self, worker: Worker) -> None:
        """Let a worker run until there is no job to do."""
        await self.work_until(lambda: not self._open_jobs(), worker)

    async def work_until(self, holds: Callable[[], bool], worker: Worker | None = None) -> None:
        """Let a worker run until something holds, and end it."""
        task = asyncio.create_task((worker or self.worker()).run())
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not holds():
                    assert not task.done(), task.exception()
                    await asyncio.sleep(0.005)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def job(self, job_id: str) -> Job:
        """Carry out all jobs, and return one of them."""
        self.work()
        job: Job = self.get(Job, job_id)
        return job

    def _open_jobs(self) -> int:
        with self.database.reading() as session:
            return session.scalar(select(func.count()).select_from(Job).where(Job.status.in_(queue.OPEN))) or 0


@contextmanager
def refusal(shop: Workshop, kind: type[Refused], *words: str, code: str = "EVS.5400") -> Iterator[None]:
    """Expect exactly this refusal, a message with all of *words*, and that nothing changed."""
    before = shop.state()
    with pytest.raises(kind) as caught:
        yield
    assert type(caught.value) is kind
    assert caught.value.code == code
    for word in words:
        assert word in caught.value.message
    assert shop.state() == before


def _rows(session: Session, model: type[Base]) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in session.execute(select(*model.__table__.columns))), key=repr)


@contextmanager
def open_workshop(folder: Path, make_engine: Callable[[JumpingClock], Engine] = MemoryEngine) -> Iterator[Workshop]:
    """Open a new workshop, with two projects."""
    database = Database(f"sqlite:///{folder}/onecut.db")
    Base.metadata.create_all(database.engine)
    with database.writing() as session:
        session.add(Domain(id="d" * 32, name="domain"))
        session.flush()
        session.add_all(
            Project(id=project_id, domain_id="d" * 32, name=project_id[:1]) for project_id in (OURS, THEIRS)
        )
    clock = JumpingClock(BIRTH)
    repository = Repository.create(open_store(str(folder / "repository")))
    images = ImageServer(folder / "images.sock")
    try:
        yield Workshop(database, make_engine(clock), clock, repository, images)
    finally:
        images.close()
        database.close()
