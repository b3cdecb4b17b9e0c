"""
A service that is killed where a test says: ``python mortal_service.py HOST:PORT DATA``.

At the place that the file ``DATA/die-at`` names, the file is removed and the process kills itself. Places:

* ``step TYPE STEP``: the step was written down and is not taken yet;
* ``engine STAGE``: between two stages of one of the engine's acts;
* ``after ACT``: an act of the engine is done, and nobody has been told;
* ``ledger CALL``: the engine is about to write down what it did.
"""

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from onecut.clock import Clock
from onecut.config import Settings
from onecut.db.ledger import DatabaseLedger
from onecut.db.session import Database
from onecut.engine.port import Engine
from onecut.engine.qemu import QemuEngine
from onecut.wiring import Onecut

ACTS = (
    "create_volume", "delete_volume", "extend_volume", "export", "unexport", "cut", "settle", "release", "roll_back"
)  # fmt: skip
LEDGER_CALLS = ("add_volume", "finish_cut", "switch_tops", "absorb", "remove_layer", "remove_export")
MERGE_BYTES_PER_S = 1 << 30

Asked = ParamSpec("Asked")
Result = TypeVar("Result")


def main(listen: str, data: Path) -> None:
    """Serve until killed or told to stop."""
    place_file = data / "die-at"

    def reached(place: str) -> None:
        if place_file.exists() and place_file.read_text() == place:
            place_file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    settings: dict[str, Any] = {"listen": listen, "data": data, "merge_bytes_per_s": MERGE_BYTES_PER_S}
    asyncio.run(_serve(Settings(**settings), reached))


async def _serve(settings: Settings, reached: Callable[[str], None]) -> None:
    onecut = Onecut(
        settings,
        make_engine=functools.partial(_mortal_engine, reached),
        on_step=lambda job_type, step: reached(f"step {job_type} {step}"),
    )
    async with onecut.running():
        await onecut.until_stopped()


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
        ledger, settings.data, settings.data / "run", clock=clock, merge_bytes_per_s=settings.merge_bytes_per_s
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


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
