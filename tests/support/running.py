"""A real service in this process: its own thread, its own event loop, real HTTP on loopback."""

import asyncio
import functools
import json
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from onecut.cli.client import WAIT_FOR_JOB
from onecut.clock import Clock
from onecut.config import Settings
from onecut.db.identity import Domain, Project, User
from onecut.db.migrate import upgrade
from onecut.db.session import Database
from onecut.engine.memory import MemoryEngine
from onecut.engine.port import Engine
from onecut.service import roles
from onecut.service.identity import new_id
from onecut.wiring import MakeEngine, Onecut, OnStep

Result = TypeVar("Result")

DEADLINE_S = 120.0
"""
How long a test waits for anything before it fails.

Far more than anything takes: beside tests that write to disks as fast as those can, a commit may wait half a minute.
"""

POLL_S = 0.01

NO_TLS = False
"""For clients on loopback: to read the certificates of all authorities takes longer than to sign in."""


@functools.cache
def _new_database() -> bytes:
    """Make the file of a database that has this release's schema, and no rows: migrating is half of a first start."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "onecut.db"
        database = Database(f"sqlite:///{file}")
        upgrade(database)
        database.close()
        return file.read_bytes()


def memory_engine(_settings: Settings, _database: Database, clock: Clock) -> Engine:
    """Make the engine that keeps volumes in memory."""
    return MemoryEngine(clock=clock)


def wait_until(holds: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Look again and again until *holds*; fail, naming *what*, when it does not within the deadline."""
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}; {pressure()}"
        time.sleep(POLL_S)


def pressure() -> str:
    """Say what processes waited for lately, in percent of the last minute; Linux, accounting/psi.rst."""
    waits = []
    for resource in ("cpu", "io", "memory"):
        with suppress(OSError):
            some = Path(f"/proc/pressure/{resource}").read_text().split()
            waits.append(f"{resource} {some[2].removeprefix('avg60=')} %")
    return "some waited for " + (", ".join(waits) or "nobody knows what")


@dataclass
class Tenant:
    """One project, and a client signed in to it."""

    client: httpx.Client
    project_id: str

    def call(self, method: str, path: str, status: int, **options: Any) -> Any:
        """Make a call (``{p}`` is the project), check its status, and return the JSON of the answer."""
        answer = self.client.request(method, path.replace("{p}", self.project_id), **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def job(self, job_id: str) -> dict[str, Any]:
        """Wait until a job has ended, and return it."""
        found: dict[str, Any] = {}

        def ended() -> bool:
            found.update(self.call("GET", f"/v1/{{p}}/jobs/{job_id}", 200, headers=WAIT_FOR_JOB))
            return found["status"] in {"SUCCESS", "FAIL"}

        wait_until(ended, f"the end of job {job_id}")
        return found

    def done(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Wait for the job of an answer, check that it succeeded, and return the job."""
        job = self.job(answer["job_id"])
        assert job["status"] == "SUCCESS", job
        return job


@dataclass
class Site(Tenant):
    """A running service, and its first tenant."""

    onecut: Onecut
    engine: Engine
    database: Database
    credentials: dict[str, str]
    _loop: asyncio.AbstractEventLoop
    _clients: list[httpx.Client] = field(default_factory=list)

    def second_tenant(self) -> Tenant:
        """Make another domain with a project and a user, and return a client signed in to it."""
        passwords = self.app_state.passwords
        with self.database.writing() as session:
            domain = Domain(id=new_id(), name=f"domain-{new_id()[:8]}")
            session.add(domain)
            session.flush()
            project = Project(id=new_id(), domain_id=domain.id, name=self.credentials["region"])
            user = User(
                id=new_id(), domain_id=domain.id, name="other", password_hash=passwords.hash("other-password")
            )
            session.add_all((project, user))
            session.flush()
            roles.grant(session, user, "admin", None)
        client = sign_in(self.onecut.endpoint, domain.name, "other", "other-password", project.name)
        self._clients.append(client)
        return Tenant(client, project.id)

    def on_loop(self, act: Coroutine[Any, Any, Result]) -> Result:
        """Let the service's own loop do something, and return what comes of it."""
        return asyncio.run_coroutine_threadsafe(act, self._loop).result(DEADLINE_S)

    @property
    def app_state(self) -> Any:
        """What wiring put into the application's state."""
        assert self.onecut.app is not None
        return self.onecut.app.state


def sign_in(endpoint: str, domain: str, user: str, password: str, project: str) -> httpx.Client:
    """Sign in with a password, and return a client that sends the token."""
    client = httpx.Client(base_url=endpoint, trust_env=False, timeout=DEADLINE_S, verify=NO_TLS)
    identity = {"methods": ["password"], "password": {"user": {
        "name": user, "password": password, "domain": {"name": domain}}}}  # fmt: skip
    body = {"auth": {"identity": identity, "scope": {"project": {"name": project}}}}
    answer = client.post("/v3/auth/tokens", json=body)
    assert answer.status_code == 201, answer.text
    client.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
    return client


@contextmanager
def service_thread(onecut: Onecut) -> Iterator[asyncio.AbstractEventLoop]:
    """Run a service on a loop of its own, which is yielded; an error of its start is raised here."""
    started = threading.Event()
    errors: list[BaseException] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        async with onecut.running():
            started.set()
            await onecut.until_stopped()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that asked
            errors.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="service")
    thread.start()
    try:
        assert started.wait(DEADLINE_S), "the service did not start"
        if errors:
            raise errors[0]
        yield loops[0]
    finally:
        onecut.stop()
        thread.join(DEADLINE_S)
        assert not thread.is_alive(), "the service did not stop"
    if errors:
        raise errors[0]


@contextmanager
def running_site(
    data: Path,
    *,
    make_engine: MakeEngine = memory_engine,
    clock: Clock | None = None,
    on_step: OnStep = lambda _job_type, _step: None,
    **settings: Any,
) -> Iterator[Site]:
    """Run a service on *data*, with a database that is migrated already, and sign in as its first user."""
    if not (data / "onecut.db").exists():
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        (data / "onecut.db").write_bytes(_new_database())
    onecut = Onecut(
        Settings(data=data, listen="127.0.0.1:0", **settings), clock=clock, make_engine=make_engine, on_step=on_step
    )
    with service_thread(onecut) as loop:
        told = json.loads((data / "credentials.json").read_text())
        client = sign_in(
            onecut.endpoint, told["domain_name"], told["user_name"], told["password"], told["project_name"]
        )
        state = onecut.app.state if onecut.app is not None else None
        assert state is not None
        site = Site(client, told["project_id"], onecut, state.engine, state.database, told, loop, [client])
        try:
            yield site
        finally:
            for open_client in site._clients:
                open_client.close()
