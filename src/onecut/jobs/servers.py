"""How volumes are attached to servers and detached from them, and how servers end."""

import functools
from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from onecut.clock import Clock
from onecut.db.moves import move
from onecut.db.servers import Server
from onecut.db.session import Database
from onecut.db.volumes import Volume
from onecut.engine.port import Engine
from onecut.errors import EngineError
from onecut.jobs import queue, recycle_bin
from onecut.jobs.exports import Exports, settle
from onecut.jobs.patience import ENGINE_PAUSES_S, persist
from onecut.jobs.points import Points
from onecut.jobs.transaction import transact
from onecut.jobs.volumes import Steps, forget
from onecut.jobs.worker import JobType, Order


class AttachVolume:
    """
    Exports a volume to one server after the other.

    The first failure ends the job: that server and those after it do not get the volume, the others keep it.
    """

    def __init__(self, engine: Engine, database: Database, clock: Clock, *, pauses_s: Sequence[float]) -> None:
        self._database, self._clock = database, clock
        self._exports = Exports(engine, database, clock, pauses_s=pauses_s)

    @property
    def steps(self) -> Steps:
        """Make the exports."""
        return {"export": self._export}

    async def _export(self, order: Order) -> None:
        attachment_ids = order.request["attachment_ids"]
        for position, attachment_id in enumerate(attachment_ids):
            try:
                await self._exports.begin(attachment_id)
            except EngineError:
                for given_up in attachment_ids[position:]:
                    await self._exports.end(given_up)
                raise
            await _finish_member(self._database, order, position, self._clock)

    def finish(self, session: Session, order: Order) -> None:
        """Show the volume as in use."""
        settle(session, [order.request["volume_id"]], self._clock)

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - JobType's signature
        """Show the volume as in use when a server has it, or may have it; that one can be detached."""
        settle(session, [order.request["volume_id"]], self._clock)


class DetachVolume:
    """Ends a volume's exports. One whose end fails stays, and so does the volume's state."""

    def __init__(self, engine: Engine, database: Database, clock: Clock, *, pauses_s: Sequence[float]) -> None:
        self._database, self._clock = database, clock
        self._exports = Exports(engine, database, clock, pauses_s=pauses_s)

    @property
    def steps(self) -> Steps:
        """End the exports."""
        return {"unexport": self._unexport}

    async def _unexport(self, order: Order) -> None:
        for position, attachment_id in enumerate(order.request["attachment_ids"]):
            await self._exports.end(attachment_id)
            await _finish_member(self._database, order, position, self._clock)

    def finish(self, session: Session, order: Order) -> None:
        """Show the volume as available, or as in use at the servers that are left."""
        settle(session, [order.request["volume_id"]], self._clock)

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - JobType's signature
        """Show the volume as in use at the servers that are left; the caller asks again."""
        settle(session, [order.request["volume_id"]], self._clock)


class DeleteServers:
    """Detaches the servers' volumes, deletes those that go with them, then forgets the servers."""

    def __init__(self, engine: Engine, database: Database, clock: Clock, *, pauses_s: Sequence[float]) -> None:
        self._engine, self._database, self._clock, self._pauses_s = engine, database, clock, pauses_s
        self._exports = Exports(engine, database, clock, pauses_s=pauses_s)
        self._points = Points(engine, database, pauses_s=pauses_s)

    @property
    def steps(self) -> Steps:
        """Detach, then delete, then give up the points that the deleted volumes' next snapshots had needed."""
        return {"unexport": self._unexport, "delete": self._delete, "release": self._release}

    async def _release(self, order: Order) -> None:
        await self._points.release_needless(order.request["doomed_ids"])

    async def _unexport(self, order: Order) -> None:
        for attachment_id in order.request["attachment_ids"]:
            await self._exports.end(attachment_id)

    async def _delete(self, order: Order) -> None:
        await transact(self._database, functools.partial(self._show_deleting, order=order))
        for volume_id in order.request["doomed_ids"]:
            await persist(functools.partial(self._engine.delete_volume, volume_id), self._pauses_s)

    def _show_deleting(self, session: Session, order: Order) -> None:
        """Volumes without an attachment: what is `available` now can't be attached again before it is `deleting`."""
        settle(session, order.request["doomed_ids"], self._clock)
        query = select(Volume.id).where(Volume.id.in_(order.request["doomed_ids"]), Volume.status != "deleting")
        move(session, Volume, session.scalars(query).all(), to="deleting", now=self._clock.now())

    def finish(self, session: Session, order: Order) -> None:
        """Forget the servers and the volumes that went with them; the others are available, or in use elsewhere."""
        forget(session, order.request["doomed_ids"], self._clock.now())
        settle(session, order.request["volume_ids"], self._clock)
        if binned := order.request.get("binned_ids"):  # absent in a job of a release without a recycle bin
            # One whose disk could not grow is in `error_extending`, and stays where its owner sees it.
            sound = select(Volume.id).where(Volume.id.in_(binned), Volume.status == "available")
            keep_days = order.request["keep_days"]
            recycle_bin.put_in(session, session.scalars(sound).all(), self._clock.now(), keep_days=keep_days)
        session.execute(delete(Server).where(Server.id.in_(order.request["server_ids"])))

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - JobType's signature
        """Keep the servers, with the volumes that are still attached; the caller asks again."""
        now = self._clock.now()
        deleting = Volume.id.in_(order.request["doomed_ids"]), Volume.status == "deleting"
        move(session, Volume, session.scalars(select(Volume.id).where(*deleting)).all(), to="error_deleting", now=now)
        settle(session, order.request["volume_ids"], self._clock)
        servers = update(Server).where(Server.id.in_(order.request["server_ids"]))
        session.execute(servers.values(task_state=None, updated_at=now))


async def _finish_member(database: Database, order: Order, position: int, clock: Clock) -> None:
    now = clock.now()
    await transact(database, lambda session: queue.finish_member(session, order.job_id, position, now))


def job_types(
    engine: Engine, database: Database, clock: Clock, *, pauses_s: Sequence[float] = ENGINE_PAUSES_S
) -> dict[str, JobType]:
    """Return how each type of job about servers is carried out."""
    attach, detach = (
        AttachVolume(engine, database, clock, pauses_s=pauses_s),
        DetachVolume(engine, database, clock, pauses_s=pauses_s),
    )
    return {
        "attachVolume": attach,
        "batchAttachVolume": attach,
        "detachVolume": detach,
        "batchDetachVolume": detach,
        "deleteServer": DeleteServers(engine, database, clock, pauses_s=pauses_s),
    }
