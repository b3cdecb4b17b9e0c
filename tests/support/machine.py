"""A service in a process of its own, which tests kill and start again, on a data folder that stays."""

import json
import multiprocessing
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

import httpx
import mortal_service
from folders import quick_root, short_folder
from running import DEADLINE_S, NO_TLS, Tenant, sign_in, wait_until
from sqlalchemy import select

from onecut.cli.throwaway import end_daemon
from onecut.db.jobs import Job
from onecut.db.session import Database

OWN_JOBS = ("archiveSnapshot", "archiveSnapshotGroup", "hydrateVolume", "releasePoints")
"""Types of jobs that no client asks for: they follow on what a client asked for."""

PROCESSES: Final = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["onecut.wiring"])  # a service's own imports are nine tenths of what its start takes


class Machine:
    """One data folder and the service on it."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.data = folder / "data"
        self._environment = {f"ONECUT_{name.upper()}": str(value) for name, value in settings.items()}
        self._log = folder / "log"
        self._listen = f"127.0.0.1:{_free_port()}"
        self._place = self.data / "die-at"
        self._process: ForkServerProcess | None = None
        self._client: httpx.Client | None = None
        self.tenant: Tenant

    def start(self) -> None:
        """Start the service; the first time, sign in. The token outlives the process."""
        self._launch()
        wait_until(self._answers, "the service answers")
        if self._client is None:
            told = json.loads((self.data / "credentials.json").read_text())
            self._client = sign_in(
                told["endpoint"], told["domain_name"], told["user_name"], told["password"], told["project_name"]
            )
            self.tenant = Tenant(self._client, told["project_id"])

    def start_until(self, place: str) -> None:
        """Start a service that dies at *place* by itself; see `mortal_service`."""
        self.data.mkdir(exist_ok=True)
        self._place.write_text(place)
        self._launch()
        self._wait_for_death(place)

    def kill(self) -> None:
        """Kill the service; the daemon goes on."""
        assert self._process is not None
        self._process.kill()
        self._wait_for_end()

    def stop(self) -> None:
        """Let the service end in peace; the daemon goes on."""
        if self._process is not None:
            self._process.terminate()
            self._wait_for_end()

    def close(self) -> None:
        """End the service and the daemon, and show what both said, for a test that failed."""
        self.stop()
        if self._client is not None:
            self._client.close()
        end_daemon(self.data / "run" / "qsd.pid")
        for log in (self._log, *self.data.glob("qsd.log")):
            print(log.read_text())  # noqa: T201 - shown when the test fails

    def kill_during(self, order: Callable[[], Any], place: str) -> dict[str, Any]:
        """Give an order to a service that dies at *place*, start it again, and return the job once it has ended."""
        before = self._job_ids()
        self.die_during(order, place)
        self.start()
        (job_id,) = self._job_ids() - before
        return self.tenant.job(job_id)

    def die_during(self, order: Callable[[], Any], place: str) -> None:
        """Give an order to a service that dies at *place*; see `mortal_service`."""
        self._place.write_text(place)
        with suppress(httpx.TransportError):  # it may die before the answer is sent
            order()
        self._wait_for_death(place)

    def _launch(self) -> None:
        arguments = (self._listen, self.data, self._environment, self._log)
        self._process = PROCESSES.Process(target=mortal_service.main, args=arguments)
        self._process.start()

    def _wait_for_death(self, place: str) -> None:
        try:
            self._wait_for_end()
        except TimeoutError as alive:
            raise AssertionError(f"the service never came to: {place}") from alive

    def _wait_for_end(self) -> None:
        assert self._process is not None
        self._process.join(DEADLINE_S)
        if self._process.exitcode is None:
            raise TimeoutError("the service does not end")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.exitcode is None, f"the service ended: {self._log.read_text()[-2000:]}"
        try:
            answer = httpx.get(f"http://{self._listen}/readyz", trust_env=False, verify=NO_TLS)
        except httpx.TransportError:
            return False
        return answer.status_code == httpx.codes.OK

    def _job_ids(self) -> set[str]:
        database = Database(f"sqlite:///{self.data}/onecut.db")
        try:
            with database.reading() as session:
                asked_for = Job.parent_id.is_(None), Job.job_type.not_in(OWN_JOBS)
                return set(session.scalars(select(Job.id).where(*asked_for)))
        finally:
            database.close()


@contextmanager
def running_machine(**settings: object) -> Iterator[Machine]:
    """Run a service in a process and a folder of its own; end it, its daemon and the folder at last."""
    with new_machine(**settings) as machine:
        machine.start()
        yield machine


@contextmanager
def new_machine(**settings: object) -> Iterator[Machine]:
    """The same, for a service that the test starts."""
    with short_folder(quick_root()) as folder:
        machine = Machine(folder, **settings)
        try:
            yield machine
        finally:
            machine.close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
