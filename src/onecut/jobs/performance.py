"""
How the engine is made to follow what volumes are allowed to do.

The rows say what is wanted. A volume is made with its limits, which can't change before that. Whoever has changed one
lets the engine follow, and so does the start of the service: the setting may be another one now.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

from sqlalchemy import select
from sqlalchemy.orm import Session

from onecut.clock import Clock
from onecut.db.moves import move
from onecut.db.session import Database
from onecut.db.volumes import Volume
from onecut.engine.port import Engine, Limits
from onecut.jobs.patience import ENGINE_PAUSES_S, persist
from onecut.jobs.transaction import read
from onecut.jobs.worker import JobType, Order

LimitsOf: TypeAlias = Callable[[str, int, int | None, int | None], Limits]
"""Says what clients may do, given a volume's type, its size in GiB, its IOPS and its throughput in MiB/s."""

VOLUMES_AT_ONCE: Final = 500
"""How many volumes are handed to the engine in one act when the service starts."""


def no_limits(_volume_type: str, _size_gib: int, _iops: int | None, _throughput_mib: int | None) -> Limits:
    """Limit nothing."""
    return Limits()


class Following:
    """Brings the engine's limits in line with the rows."""

    def __init__(
        self, engine: Engine, database: Database, limits_of: LimitsOf, *, pauses_s: Sequence[float] = ENGINE_PAUSES_S
    ) -> None:
        self._engine, self._database = engine, database
        self._limits_of, self._pauses_s = limits_of, pauses_s

    async def follow(self, volume_id: str, *, size_gib: int | None = None) -> None:
        """Limit a volume as its row says, *size_gib* being its size to be; one that is gone is no error."""
        followed = None
        # Whoever was last to tell the engine has looked at the row after that: so jobs may overtake each other.
        while (wanted := await self._wanted(volume_id, size_gib)) not in {None, followed}:
            followed = wanted
            await persist(lambda: self._engine.limit({volume_id: wanted}), self._pauses_s)

    async def follow_all(self) -> None:
        """Limit all volumes as their rows say."""
        for rows in await read(self._database, self._rows):
            await self._engine.limit({row.id: self.of(row) for row in rows})

    async def _wanted(self, volume_id: str, size_gib: int | None) -> Limits | None:
        volume = await read(self._database, lambda session: session.get(Volume, volume_id))
        return None if volume is None else self.of(volume, size_gib)

    def of(self, volume: Volume, size_gib: int | None = None) -> Limits:
        """Say what clients of a volume may do, *size_gib* being its size to be."""
        return self._limits_of(volume.volume_type, size_gib or volume.size_gib, volume.iops, volume.throughput_mib)

    def _rows(self, session: Session) -> Sequence[Sequence[Volume]]:
        return list(session.scalars(select(Volume).order_by(Volume.id)).partitions(VOLUMES_AT_ONCE))


class ModifyQos:
    """Makes the engine follow a volume's new performance."""

    def __init__(self, following: Following) -> None:
        self._following = following

    @property
    def steps(self) -> Mapping[str, Callable[[Order], Awaitable[None]]]:
        """Limit what clients may do."""
        return {"limit": self._limit}

    async def _limit(self, order: Order) -> None:
        await self._following.follow(order.request["volume_id"])

    def finish(self, session: Session, order: Order) -> None:
        """Nothing is left to do: the row has said so from the beginning."""

    def fail(self, session: Session, order: Order, reason: str) -> None:  # noqa: ARG002 - JobType's signature
        """Show what is still in force, unless something else was asked for since."""
        volume = session.get(Volume, order.request["volume_id"], with_for_update=True)
        if volume is None:
            return
        shown = [volume.volume_type, volume.iops, volume.throughput_mib]
        if shown == order.request["wanted"]:
            volume.volume_type, volume.iops, volume.throughput_mib = order.request["before"]


class RetypeVolume(ModifyQos):
    """Makes the engine follow a volume's new type."""

    def __init__(self, following: Following, clock: Clock) -> None:
        super().__init__(following)
        self._clock = clock

    def finish(self, session: Session, order: Order) -> None:
        """Let the volume be used as before."""
        volume = session.get_one(Volume, order.request["volume_id"])
        at_rest = "in-use" if volume.attachments else "available"
        move(session, Volume, [volume.id], to=at_rest, now=self._clock.now(), only_from={"retyping"})

    def fail(self, session: Session, order: Order, reason: str) -> None:
        """Show the type of before, and let the volume be used with it."""
        super().fail(session, order, reason)
        self.finish(session, order)


def job_types(following: Following, clock: Clock) -> dict[str, JobType]:
    """Return how each type of job about performance is carried out."""
    return {"modifyVolumeQos": ModifyQos(following), "retypeVolume": RetypeVolume(following, clock)}
