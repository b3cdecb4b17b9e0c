"""
A service that is killed where a test says.

At the place that the file ``DATA/die-at`` names, the file is removed and the process kills itself. Places:

* ``step TYPE STEP``: the step was written down and is not taken yet;
* ``engine STAGE``: between two stages of one of the engine's acts;
* ``after ACT``: an act of the engine is done, and nobody has been told;
* ``ledger CALL``: the engine is about to write down what it did;
* ``store ACT ROOM``: the repository is about to `put`, `commit` (a batch) or `delete` objects of that room.
"""

import asyncio
import functools
import itertools
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fastapi import FastAPI

from onecut.clock import Clock
from onecut.config import Settings
from onecut.db.ledger import DatabaseLedger
from onecut.db.session import Database
from onecut.engine.port import Engine
from onecut.engine.qemu import QemuEngine
from onecut.jobs.archiving import Archiving
from onecut.repository.store import Batch, ObjectStore, PutMode
from onecut.wiring import Onecut

ACTS = (
    "create_volume", "delete_volume", "extend_volume", "export", "unexport", "cut", "settle", "release", "roll_back"
)  # fmt: skip
LEDGER_CALLS = ("add_volume", "finish_cut", "switch_tops", "absorb", "remove_layer", "remove_export")
MERGE_BYTES_PER_S = 1 << 30

Asked = ParamSpec("Asked")
Result = TypeVar("Result")


def main(listen: str, data: Path, environment: Mapping[str, str], log: Path) -> None:
    """Serve until killed or told to stop, in a process that is this service's own, and say everything to *log*."""
    os.environ.update(environment)
    with log.open("ab") as said:
        os.dup2(said.fileno(), sys.stdout.fileno())
        os.dup2(said.fileno(), sys.stderr.fileno())
    place_file = data / "die-at"

    def reached(place: str) -> None:
        if place_file.exists() and place_file.read_text() == place:
            place_file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    settings: dict[str, Any] = {"listen": listen, "data": data, "merge_bytes_per_s": MERGE_BYTES_PER_S}
    asyncio.run(_serve(Settings(**settings), reached))


async def _serve(settings: Settings, reached: Callable[[str], None]) -> None:
    onecut = _MortalOnecut(
        settings,
        make_engine=functools.partial(_mortal_engine, reached),
        on_step=lambda job_type, step: reached(f"step {job_type} {step}"),
    )
    onecut.reached = reached
    async with onecut.running():
        await onecut.until_stopped()


class _MortalOnecut(Onecut):
    """Tells what it is about to write to the repository."""

    reached: Callable[[str], None]

    @contextmanager
    def _archiving(self, app: FastAPI, engine: Engine, database: Database) -> Iterator[Archiving]:
        app.state.repository.store = _MortalStore(app.state.repository.store, self.reached)
        with super()._archiving(app, engine, database) as archiving:
            yield archiving


class _MortalStore:
    """Tells what is about to be written; objects of several rooms are deleted one room after the other."""

    def __init__(self, inner: ObjectStore, reached: Callable[[str], None]) -> None:
        self._inner, self._reached = inner, reached

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def put(self, path: str, data: bytes, mode: PutMode = PutMode.OVERWRITE) -> None:
        self._reached(f"store put {_room(path)}")
        self._inner.put(path, data, mode)

    def delete(self, paths: Iterable[str]) -> None:
        for room, those in itertools.groupby(paths, _room):
            self._reached(f"store delete {room}")
            self._inner.delete(list(those))

    @contextmanager
    def batch(self) -> Iterator["_MortalBatch"]:
        with self._inner.batch() as batch:
            yield _MortalBatch(batch, self._reached)


class _MortalBatch:
    def __init__(self, inner: Batch, reached: Callable[[str], None]) -> None:
        self._inner, self._reached = inner, reached
        self._rooms: set[str] = set()

    def put(self, path: str, parts: Sequence[bytes | memoryview]) -> None:
        self._rooms.add(_room(path))
        self._inner.put(path, parts)

    def commit(self) -> None:
        for room in self._rooms:
            self._reached(f"store commit {room}")
        self._inner.commit()


def _room(path: str) -> str:
    return path.partition("/")[0]


class _MortalEngine(QemuEngine):
    """Tells which stage of an act it has come to."""

    reached: Callable[[str], None]

    async def _reached(self, step: str) -> None:
        await super()._reached(step)
        self.reached(f"engine {step}")


def _mortal_engine(reached: Callable[[str], None], settings: Settings, database: Database, clock: Clock) -> Engine:
    ledger = DatabaseLedger(database)
    for call in LEDGER_CALLS:
        setattr(ledger, call, _telling_before(getattr(ledger, call), functools.partial(reached, f"ledger {call}")))
    engine = _MortalEngine(
        ledger,
        settings.data,
        settings.data / "run",
        clock=clock,
        merge_bytes_per_s=settings.merge_bytes_per_s,
        hydrate_bytes_per_s=settings.hydrate_bytes_per_s,
    )
    engine.reached = reached
    for act in ACTS:
        setattr(engine, act, _telling_after(getattr(engine, act), functools.partial(reached, f"after {act}")))
    return engine


def _telling_before(call: Callable[Asked, Result], tell: Callable[[], None]) -> Callable[Asked, Result]:
    def told(*args: Asked.args, **kwargs: Asked.kwargs) -> Result:
        tell()
        return call(*args, **kwargs)

    return told


def _telling_after(
    act: Callable[Asked, Awaitable[Result]], tell: Callable[[], None]
) -> Callable[Asked, Awaitable[Result]]:
    async def told(*args: Asked.args, **kwargs: Asked.kwargs) -> Result:
        result = await act(*args, **kwargs)
        tell()
        return result

    return told
