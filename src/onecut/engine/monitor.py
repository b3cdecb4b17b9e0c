"""
The line to the daemon: commands, jobs and events over QMP.

What an error leaves known is in its class: `DaemonRefused` and `EngineFull`, the daemon said no; `EngineDown`, the
command was not sent; `OutcomeUnknown`, it was sent and nobody knows what became of it.
"""

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from qemu.qmp import (
    EventListener,
    ExecInterruptedError,
    ExecuteError,
    Message,
    QMPClient,
    QMPError,
    Runstate,
    StateError,
)

from onecut.errors import EngineDown, EngineError, EngineFull, OutcomeUnknown
from onecut.units import MiB

REPLY_LIMIT_S: Final = 60.0
"""No command that is used here takes longer, unless the machine's storage hangs."""

# One line holds a whole answer; `query-named-block-nodes` takes about 1 KiB for each layer.
_LINE_LIMIT_BYTES = 256 * MiB

# The connection's fate is reported here; the package's own lines would come on top.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class DaemonRefused(EngineError):
    """The daemon said no, and changed nothing."""


@dataclass(frozen=True)
class Job:
    """A job in the daemon."""

    ended: bool
    problem: str | None
    """What it failed with; None when it did not fail, or has not ended."""


class Monitor:
    """A QMP connection. Commands may be given concurrently; the daemon takes them one after another."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        """Set once the connection is gone."""
        self._client = QMPClient("onecut", readbuflen=_LINE_LIMIT_BYTES)
        self._events = EventListener(names=("JOB_STATUS_CHANGE", "BLOCK_EXPORT_DELETED"))
        self._awaited: defaultdict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, socket: Path, *, timeout_s: float) -> None:
        """Connect to the daemon's socket, or raise `EngineDown`."""
        self._client.register_listener(self._events)
        try:
            async with asyncio.timeout(timeout_s):
                await self._client.connect(str(socket))
        except (QMPError, OSError, TimeoutError) as problem:
            raise EngineDown(f"the daemon does not answer on {socket}: {problem}") from problem
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._dispatch())]

    async def close(self) -> None:
        """Let go of the daemon."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()
        self._declare_lost()

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
        """Give a command, and return the daemon's answer."""
        try:
            async with asyncio.timeout(REPLY_LIMIT_S):
                return await self._client.execute(command, dict(arguments or {}))
        except ExecuteError as refused:
            raise refusal(f"{command}: {refused}") from refused
        except StateError as down:
            raise EngineDown(f"the daemon is gone; {command} was not sent") from down
        except (ExecInterruptedError, TimeoutError) as broken:
            raise OutcomeUnknown(f"the daemon did not answer {command}") from broken

    async def run_job(self, job_id: str, command: str, arguments: Mapping[str, Any]) -> str | None:
        """
        Give a command that starts a job, wait for the job's end, and say what it failed with, if it did.

        A job that was told not to finalize itself (``auto-finalize``) is finalized when its work is done.
        """
        with self._expecting(_work_end(job_id)) as worked, self._expecting(_job_end(job_id)) as ended:
            await self.execute(command, {"job-id": job_id, **arguments})
            await worked
            if not ended.done():
                with contextlib.suppress(DaemonRefused):  # it was cancelled just now
                    await self.execute("job-finalize", {"id": job_id})
                await ended
        return (await self.jobs())[job_id].problem

    async def end_job(self, job_id: str) -> None:
        """Finalize a job whose work is done, cancel one whose work is not, and wait for its end."""
        with self._expecting(_job_end(job_id)) as ended:
            for command in ("job-finalize", "job-cancel"):
                with contextlib.suppress(DaemonRefused):  # its work is not done, or it has ended
                    await self.execute(command, {"id": job_id})
            job = (await self.jobs()).get(job_id)
            if job is not None and not job.ended:
                await ended

    async def dismiss_job(self, job_id: str) -> None:
        """Let the daemon forget a job that has ended."""
        await self.execute("job-dismiss", {"id": job_id})

    async def jobs(self) -> dict[str, Job]:
        """Read all jobs by their ids, ended but undismissed ones included."""
        return {
            job["id"]: Job(ended=job["status"] == "concluded", problem=job.get("error"))
            for job in await self.execute("query-jobs")
        }

    async def delete_export(self, export: str) -> None:
        """End an export and wait until its last client is gone; one that is not there is no error."""
        with self._expecting(_export_end(export)) as ended:
            if not any(found["id"] == export for found in await self.execute("query-block-exports")):
                return
            await self.execute("block-export-del", {"id": export, "mode": "hard"})
            await ended

    @contextlib.contextmanager
    def _expecting(self, name: str) -> Iterator[asyncio.Future[None]]:
        # The event may come before the answer to the command that causes it.
        future = asyncio.get_running_loop().create_future()
        self._awaited[name].add(future)
        try:
            yield future
        finally:
            self._awaited[name].discard(future)
            if not self._awaited[name]:
                del self._awaited[name]
            if not future.cancel() and not future.cancelled():
                future.exception()  # asyncio reports one that nobody has looked at

    async def _dispatch(self) -> None:
        async for event in self._events:
            for name in _event_names(event):
                for future in self._awaited.get(name, ()):
                    if not future.done():
                        future.set_result(None)

    async def _watch(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        with contextlib.suppress(QMPError, OSError, EOFError):
            await self._client.disconnect()
        self._declare_lost()

    def _declare_lost(self) -> None:
        self.lost.set()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        for name, futures in self._awaited.items():
            for future in futures:
                if not future.done():
                    future.set_exception(OutcomeUnknown(f"the daemon was lost before {name}"))


def refusal(sentence: str) -> DaemonRefused | EngineFull:
    """Choose the error for a refusal; the daemon tells a full disk only by ``strerror(ENOSPC)`` in the sentence."""
    return EngineFull(sentence) if "No space left on device" in sentence else DaemonRefused(sentence)


def _job_end(job_id: str) -> str:
    return f"the end of job {job_id}"


def _work_end(job_id: str) -> str:
    return f"the work's end of job {job_id}"


def _export_end(export: str) -> str:
    return f"the end of export {export}"


def _event_names(event: Message) -> Sequence[str]:
    """Say what an event is the end of."""
    data = cast(dict[str, str], event["data"])
    if event["event"] == "BLOCK_EXPORT_DELETED":
        return [_export_end(data["id"])]
    match data["status"]:
        case "pending":
            return [_work_end(data["id"])]
        case "concluded":
            return [_work_end(data["id"]), _job_end(data["id"])]
        case _:
            return []
