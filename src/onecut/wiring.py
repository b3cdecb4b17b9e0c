"""
The only place that knows all concrete classes: settings in, running service out.

Start, in this order: lock the data folder, open the database and bring its schema up, open the repository, make the
first account when there is none, listen, start the engine, carry on with the jobs a crash left. Each fault an
operator must mend is a `Misconfigured` with one sentence, raised before the first request is answered.
"""

import asyncio
import fcntl
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI
from sqlalchemy import exists, select

from onecut.api.app import create_app
from onecut.api.metrics import StateCounts
from onecut.clock import Clock, SystemClock
from onecut.config import Settings
from onecut.db import migrate
from onecut.db.archives import Archive
from onecut.db.ledger import DatabaseLedger
from onecut.db.opening import open_database
from onecut.db.session import Database
from onecut.engine.port import Engine
from onecut.engine.qemu import QemuEngine
from onecut.engine.qsd import check_socket_path
from onecut.errors import Misconfigured
from onecut.jobs import exports, hydration
from onecut.jobs import groups as group_jobs
from onecut.jobs import performance as performance_jobs
from onecut.jobs import points as point_jobs
from onecut.jobs import servers as server_jobs
from onecut.jobs import snapshots as snapshot_jobs
from onecut.jobs import volumes as volume_jobs
from onecut.jobs.archiver import PATIENCE, ArchiveLimits, ArchiveMetrics, Archiver
from onecut.jobs.archiving import PATIENT_STEPS, Archiving
from onecut.jobs.endings import Endings
from onecut.jobs.images import Images
from onecut.jobs.performance import Following
from onecut.jobs.points import Points
from onecut.jobs.schedule import repeat
from onecut.jobs.upkeep import Upkeep
from onecut.jobs.worker import Worker
from onecut.repository.address import open_store
from onecut.repository.errors import RepositoryError
from onecut.repository.repository import Repository
from onecut.repository.serve import ImageServer
from onecut.service import idempotency, identity, limits, listing, quotas, recycle_bin, retention, scheduler, volumes
from onecut.service.passwords import Passwords
from onecut.service.secrets import ServiceKey

KEEP_ALIVE_S: Final = 65
"""
How long a connection may be idle. Clients that keep connections forget them earlier (httpx after 5 seconds, which is
uvicorn's own default too; most proxies after 60): who closes last closes none on which a request is under way.
"""

FORGET_EVERY_S: Final = 3600.0

log = structlog.get_logger()

MakeEngine = Callable[[Settings, Database, Clock], Engine]
OnStep = Callable[[str, str], None]


def _forget(database: Database, now: datetime) -> None:
    """Remove what need not be known any more."""
    idempotency.forget(database, now)
    listing.forget(database, now)


def qemu_engine(settings: Settings, database: Database, clock: Clock) -> Engine:
    """Make the default engine: one qemu-storage-daemon for the machine."""
    return QemuEngine(
        DatabaseLedger(database),
        settings.data.absolute(),
        _run_folder(settings),
        clock=clock,
        program=settings.qemu_storage_daemon,
        merge_bytes_per_s=settings.merge_bytes_per_s,
        hydrate_bytes_per_s=settings.hydrate_bytes_per_s,
    )


class Onecut:
    """One service: what it is made of, and its life from start to stop."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        make_engine: MakeEngine = qemu_engine,
        on_step: OnStep = lambda _job_type, _step: None,
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self._make_engine, self._on_step = make_engine, on_step
        self.credentials_path = settings.data / "credentials.json"
        self.first_start = False
        self.endpoint = ""
        self.app: FastAPI | None = None
        self._server: uvicorn.Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Onecut"]:
        """
        Start the service, and stop it at the end of the block. The engine's daemon goes on.

        Raises:
            Misconfigured: An operator must act first; the sentence says on what.
        """
        with (
            _data_folder(self.settings.data),
            _listening(self.settings) as listener,
            open_database(self.settings, migrate.upgrade) as database,
        ):
            self.endpoint = self.settings.endpoint or _endpoint(listener)
            app = self.app = self._application(database)
            self._set_default_quotas(database)
            app.state.repository = await asyncio.to_thread(_open_repository, self.settings, database)
            self._make_first_account(database, app.state.secrets, app.state.passwords)
            engine = app.state.engine = self._make_engine(self.settings, database, self.clock)
            with self._archiving(app, engine, database) as archiving:
                # Before the engine starts: its volumes may be waiting for their images.
                await archiving.images.serve_again()
                try:
                    await engine.start()
                    await self._mark_unusable(engine, database)
                    following = self._following(engine, database)
                    await following.follow_all()
                    await exports.refresh_uris(engine, database)
                    async with self._working(archiving, engine, database, following), self._answering(app, listener):
                        yield self
                finally:
                    await engine.close()

    async def until_stopped(self) -> None:
        """Wait until a signal, or `stop`, ends the service."""
        if self._serving is not None:
            await self._serving

    def stop(self) -> None:
        """Ask the service to stop."""
        if self._server is not None:
            self._server.should_exit = True

    def _application(self, database: Database) -> FastAPI:
        app = create_app()
        app.state.settings, app.state.clock, app.state.database = self.settings, self.clock, database
        app.state.secrets = ServiceKey.open(self.settings.data / "secret.key")
        app.state.passwords = Passwords(self.clock)
        app.state.endings = Endings(database)
        app.state.registry.register(StateCounts(database))
        return app

    def _set_default_quotas(self, database: Database) -> None:
        settings = self.settings
        with database.writing() as session:
            quotas.set_defaults(
                session,
                {
                    "volumes": settings.quota_volumes,
                    "gigabytes": settings.quota_gigabytes,
                    "per_volume_gigabytes": settings.quota_per_volume_gigabytes,
                    "snapshots": settings.quota_snapshots,
                },
            )

    def _make_first_account(self, database: Database, secrets: ServiceKey, passwords: Passwords) -> None:
        """Make the first account when there is none; its credentials are on disk before it is in the database."""
        with database.writing() as session:
            made = identity.bootstrap(session, secrets, passwords, region=self.settings.region, now=self.clock.now())
            self.first_start = made is not None
            if made is not None:
                self._write_credentials({"region": self.settings.region} | asdict(made))
            elif self.credentials_path.exists():
                self._write_credentials(json.loads(self.credentials_path.read_text()))

    def _write_credentials(self, credentials: dict[str, str]) -> None:
        draft = self.credentials_path.with_suffix(".new")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump({"endpoint": self.endpoint} | credentials | {"endpoint": self.endpoint}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self.credentials_path)

    async def _mark_unusable(self, engine: Engine, database: Database) -> None:
        health = await engine.health()
        with database.writing() as session:
            volumes.mark_unusable(session, health.unusable, self.clock.now())

    def _following(self, engine: Engine, database: Database) -> Following:
        return Following(engine, database, partial(limits.of_volume, qos=self.settings.qos))

    @asynccontextmanager
    async def _working(
        self, archiving: Archiving, engine: Engine, database: Database, following: Following
    ) -> AsyncIterator[None]:
        deadline_s = self.settings.cut_deadline_s
        job_types = {
            **volume_jobs.job_types(engine, database, self.clock, archiving.images, following),
            **performance_jobs.job_types(following, self.clock),
            **hydration.job_types(engine, database, archiving.images),
            **server_jobs.job_types(engine, database, self.clock),
            **group_jobs.job_types(engine, database, self.clock, archiving, cut_deadline_s=deadline_s),
            **snapshot_jobs.job_types(engine, database, self.clock, archiving, cut_deadline_s=deadline_s),
            **point_jobs.job_types(archiving.points),
        }
        worker = Worker(
            database,
            self.clock,
            job_types,
            limit=self.settings.workers,
            patient_steps=PATIENT_STEPS,
            on_step=self._on_step,
        )
        tasks = [
            asyncio.create_task(worker.run(), name="worker"),
            asyncio.create_task(repeat(lambda: retention.enforce(database, self.clock.now())), name="retention"),
            asyncio.create_task(repeat(lambda: scheduler.look(database, self.clock.now())), name="policies"),
            asyncio.create_task(
                repeat(lambda: _forget(database, self.clock.now()), every_s=FORGET_EVERY_S), name="forgetting"
            ),
            asyncio.create_task(repeat(lambda: recycle_bin.empty(database, self.clock.now())), name="recycle bin"),
            asyncio.create_task(
                archiving.upkeep.collect_for_ever(
                    every_s=self.settings.collect_every_s, grace=timedelta(seconds=self.settings.collect_grace_s)
                ),
                name="collection",
            ),
            asyncio.create_task(
                archiving.upkeep.verify_for_ever(
                    every_s=self.settings.verify_every_s, share=self.settings.verify_share
                ),
                name="verification",
            ),
            asyncio.create_task(archiving.images.tend_for_ever(), name="images"),
            asyncio.create_task(hydration.look_again_for_ever(engine, database), name="hydration"),
        ]
        for task in tasks:
            task.add_done_callback(self._task_ended)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @contextmanager
    def _archiving(self, app: FastAPI, engine: Engine, database: Database) -> Iterator[Archiving]:
        settings, repository = self.settings, app.state.repository
        patience = replace(PATIENCE, total_s=settings.repository_patience_s)
        limits = ArchiveLimits(
            parallel=settings.archives,
            bytes_per_s=settings.archive_bytes_per_s,
            busy_bytes_per_s=settings.archive_busy_bytes_per_s,
            sampled_chunks=settings.archive_sampled_chunks,
            patience=patience,
        )
        metrics = ArchiveMetrics(app.state.registry)
        upkeep = Upkeep(database, repository, patience=patience, metrics=metrics)
        server = _image_server(settings)
        archiving = Archiving(
            database=database,
            archiver=Archiver(engine, database, self.clock, repository, limits=limits, metrics=metrics),
            upkeep=upkeep,
            points=Points(engine, database),
            images=Images(engine, database, repository, upkeep, server, patience=patience, metrics=metrics),
        )
        try:
            yield archiving
        finally:
            archiving.close()
            server.close()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        """Stop: a service that accepts jobs nobody carries out is worse than none, and a supervisor restarts it."""
        if not task.cancelled() and task.exception() is not None:
            log.critical("task_broken", task=task.get_name(), exc_info=task.exception())
            self.stop()

    @asynccontextmanager
    async def _answering(self, app: FastAPI, listener: socket.socket) -> AsyncIterator[None]:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
        )
        self._server = uvicorn.Server(config)
        listener.listen()  # from here on a connection waits instead of being refused
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="http")
        try:
            yield
        finally:
            self.stop()
            await self._serving


def _run_folder(settings: Settings) -> Path:
    return (settings.run or settings.data / "run").absolute()


def _image_server(settings: Settings) -> ImageServer:
    """Begin to serve images; an engine that outlived the service before asks for them again by itself."""
    folder = _run_folder(settings)
    check_socket_path(folder / "images.sock")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ImageServer(folder / "images.sock")
    except OSError as error:
        raise Misconfigured(f"the folder {folder} can't be used for sockets: {error}") from error


def _open_repository(settings: Settings, database: Database) -> Repository:
    """Open the repository; make it when nothing was archived yet, and never in place of one that is away."""
    address = settings.repository or str(settings.data.absolute() / "repository")
    with database.reading() as session:
        in_use = session.scalar(select(exists().where(Archive.archived_at.is_not(None))))
    try:
        store = open_store(address)
        return Repository.open(store) if in_use else Repository.create(store)
    except (RepositoryError, OSError) as error:
        raise Misconfigured(f"the repository {address} can't be used: {error}") from error


@contextmanager
def _data_folder(data: Path) -> Iterator[None]:
    """Make the data folder if need be, and hold its lock: two services on one folder would undo each other's work."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / "onecut.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Misconfigured(f"the data folder {data} can't be used: {error.strerror}") from error
    try:
        _lock(lock, data)
        yield
    finally:
        os.close(lock)


def _lock(descriptor: int, data: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Misconfigured(f"another service uses the data folder {data}") from error


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that say they are TCP; with it, answers wait 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.host, settings.port))
        except OSError as error:
            raise Misconfigured(f"can't listen on {settings.listen}: {error.strerror}") from error
        yield listener


def _endpoint(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
