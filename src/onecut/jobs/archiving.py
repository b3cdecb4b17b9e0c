"""What jobs about snapshots use of the repository: one bundle, made by wiring."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from onecut.db.session import Database
from onecut.jobs import queue
from onecut.jobs.archiver import Archiver
from onecut.jobs.images import Images
from onecut.jobs.points import Points
from onecut.jobs.transaction import transact
from onecut.jobs.upkeep import Upkeep

PATIENT_STEPS: Final = frozenset({"archive", "bind", "unbind", "erase", "find", "hydrate"})
"""Steps that work for hours, or wait for a repository that is away: a job in one of them keeps no other waiting."""


@dataclass(frozen=True)
class Archiving:
    """Into the repository, out of it, and what the engine may give up then."""

    database: Database
    archiver: Archiver
    upkeep: Upkeep
    points: Points
    images: Images

    async def archive(self, job_id: str, snapshot_ids: Iterable[str]) -> None:
        """Archive snapshots; progress is shown in the job, or in each one's sub job. See `Archiver.archive`."""
        wanted = list(snapshot_ids)

        def job_rows(session: Session) -> dict[str, str]:
            of_members = {sub.entities["snapshot_id"]: sub.id for sub in queue.sub_jobs(session, job_id)}
            return {each: of_members.get(each, job_id) for each in wanted}

        await self.archiver.archive(await transact(self.database, job_rows))

    def close(self) -> None:
        """Let go of all threads."""
        self.archiver.close()
        self.upkeep.close()
        self.images.close()
