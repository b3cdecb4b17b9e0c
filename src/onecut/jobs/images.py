"""
Serving archived snapshots to the engine, for as long as it needs them.

A snapshot's image is named after the snapshot, so its URI is the same whichever service serves it. A row says that it
is served (`ServedImage`); the row is written first, then the lease that keeps the data in the repository. Both go
when no volume and no point of the engine needs the image any more, and no job is about to use it. Until then the
snapshot may be deleted all the same: its data goes when the image does.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from typing import Final, TypeVar
from weakref import WeakValueDictionary

import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy.orm import Session

from onecut.db.images import ServedImage
from onecut.db.session import Database
from onecut.engine.port import Engine, ImageSource, PointSource, Source
from onecut.errors import OnecutError
from onecut.jobs import served
from onecut.jobs.archive_runs import mark_damaged
from onecut.jobs.archiver import PATIENCE, STORE_LATER, ArchiveMetrics
from onecut.jobs.patience import persist
from onecut.jobs.transaction import read, transact
from onecut.jobs.upkeep import Upkeep
from onecut.repository.errors import Damaged, InUse
from onecut.repository.image import Image
from onecut.repository.lease import Lease, drop_lease, leased_snapshot, put_lease
from onecut.repository.manifest import Chain, snapshot_path
from onecut.repository.repository import Repository
from onecut.repository.retry import Backoff
from onecut.repository.serve import ImageServer

log = structlog.get_logger()

Result = TypeVar("Result")

TEND_S: Final = 5.0
"""How often it is looked whether images are needed, even if nobody says so."""

RENEW_S: Final = 60.0
"""How often leases are renewed."""


class Images:
    """The images that are served, and their leases."""

    def __init__(
        self,
        engine: Engine,
        database: Database,
        repository: Repository,
        upkeep: Upkeep,
        server: ImageServer,
        *,
        patience: Backoff = PATIENCE,
        metrics: ArchiveMetrics | None = None,
    ) -> None:
        self._engine, self._database, self._repository = engine, database, repository
        self._metrics = metrics or ArchiveMetrics(CollectorRegistry())
        self._upkeep, self._server, self._patience = upkeep, server, patience
        self._threads = ThreadPoolExecutor(4, "images")
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._woken = asyncio.Event()
        self._told: set[str] = set()
        """Snapshots whose damage was noted."""

    def close(self) -> None:
        """End the threads, once what they are doing is done."""
        self._threads.shutdown(cancel_futures=True)

    async def serve_again(self) -> None:
        """Serve what an earlier service served. Before the engine starts; the store may be away."""
        for row in await read(self._database, served.rows):
            self._serve(row)

    async def sources(self, snapshot_ids: Collection[str]) -> dict[str, Source]:
        """
        Say what volumes begin as that are to be given the content of snapshots: points where the engine has them.

        What it has not is served from the repository. The snapshots must be kept from being deleted: by a volume
        that is `creating`, or because they are `rollbacking`.

        Raises:
            RepositoryError: A snapshot is not in the repository or can't be read, or the store stays away.
        """
        held = await read(self._database, partial(served.held, snapshot_ids=snapshot_ids))
        return {each: PointSource(each) if each in held else await self._image(each) for each in snapshot_ids}

    def wake(self) -> None:
        """Say that an image may not be needed any more."""
        self._woken.set()

    async def tend_for_ever(self) -> None:
        """See to leases, damage and images that are not needed any more, now and then."""
        renewed_at = -inf
        while True:
            self._woken.clear()
            try:
                if time.monotonic() - renewed_at >= RENEW_S:
                    await self.renew()
                    renewed_at = time.monotonic()
                await self.note_damage()
                await self.drop_needless()
            except OnecutError as error:
                log.warning("images_wait", reason=str(error))
            try:
                await asyncio.wait_for(self._woken.wait(), TEND_S)
            except TimeoutError:
                continue

    async def renew(self) -> None:
        """Renew the leases of all images, so that no collector takes them for a dead service's."""
        for row in await read(self._database, served.rows):
            if row.leased:
                await self._in_thread(partial(put_lease, self._repository, _lease(row)))

    async def note_damage(self) -> dict[str, str]:
        """Show damage that was met while images were read on their snapshots, and return it by their ids."""
        damages = self._server.damages()
        for snapshot_id in damages.keys() - self._told:
            await self._tell_damage(snapshot_id, str(damages[snapshot_id]))
            self._told.add(snapshot_id)
            await self._upkeep.follow_damage(snapshot_id, damages[snapshot_id])
        return {snapshot_id: str(damage) for snapshot_id, damage in damages.items()}

    async def _tell_damage(self, snapshot_id: str, reason: str) -> None:
        log.error("repository_damaged", snapshot_id=snapshot_id, reason=reason)
        self._metrics.damages.inc()
        await self._ask(partial(mark_damaged, snapshot_id=snapshot_id, reason=reason))

    async def drop_needless(self) -> None:
        """Serve no longer what nobody needs, and let its data go if its snapshot was deleted."""
        for row in await read(self._database, served.rows):
            async with self._lock(row.snapshot_id):
                if await self._needed(row.snapshot_id):
                    continue
                try:
                    await self._drop(row)
                except InUse:  # by an archive; its turn comes again
                    continue
                except Damaged as damage:  # the others go all the same
                    log.warning("image_stays", snapshot_id=row.snapshot_id, reason=str(damage))

    async def _image(self, snapshot_id: str) -> ImageSource:
        async with self._lock(snapshot_id):
            row = await self._ask(partial(served.begin, snapshot_id=snapshot_id))
            if not row.leased:
                try:
                    row.size_bytes = await self._patiently(partial(self._hold, row))
                except Damaged as damage:
                    await self._tell_damage(snapshot_id, str(damage))
                    raise
                await self._ask(partial(served.leased, snapshot_id=snapshot_id, size_bytes=row.size_bytes))
            return ImageSource(self._serve(row), row.size_bytes)

    def _hold(self, row: ServedImage) -> int:
        """Put the lease, and return the image's size."""
        lease = _lease(row)
        put_lease(self._repository, lease)
        manifest = leased_snapshot(self._repository, lease)
        assert manifest is not None  # noqa: S101 - the lease holds a snapshot
        return manifest.size_bytes

    def _serve(self, row: ServedImage) -> str:
        if not self._server.serves(row.snapshot_id):
            self._server.add_later(row.snapshot_id, row.size_bytes, partial(self._open, row))
        return self._server.uri(row.snapshot_id)

    def _open(self, row: ServedImage) -> Image:
        path = snapshot_path(_chain(row), row.snapshot_id, row.run_id)
        manifest = self._repository.read_manifest(path)
        if manifest is None:
            raise self._repository.explain_missing(path)
        return Image(self._repository, manifest)

    async def _needed(self, snapshot_id: str) -> bool:
        # In this order: a job's volume leaves its state only after the engine has noted the image.
        if await read(self._database, partial(served.wanted, snapshot_id=snapshot_id)):
            return True
        return self._server.uri(snapshot_id) in await self._engine.images()

    async def _drop(self, row: ServedImage) -> None:
        await self._ask(partial(served.unleased, snapshot_id=row.snapshot_id))
        self._server.remove(row.snapshot_id)
        self._told.discard(row.snapshot_id)
        await self._in_thread(partial(drop_lease, self._repository, _lease(row)))
        if not await self._ask(partial(served.forget, snapshot_id=row.snapshot_id)):
            await self._upkeep.take_out(_chain(row), row.snapshot_id)
            await self._ask(partial(served.forget, snapshot_id=row.snapshot_id, erased=True))
        log.info("image_dropped", snapshot_id=row.snapshot_id)

    def _lock(self, snapshot_id: str) -> asyncio.Lock:
        return self._locks.setdefault(snapshot_id, asyncio.Lock())

    async def _patiently(self, act: Callable[[], Result]) -> Result:
        return await persist(lambda: self._in_thread(act), self._patience.pauses(), STORE_LATER)

    async def _in_thread(self, act: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, act)

    async def _ask(self, act: Callable[[Session], Result]) -> Result:
        return await transact(self._database, act)


def _chain(row: ServedImage) -> Chain:
    return Chain(row.project_id, row.volume_id, row.chain_id)


def _lease(row: ServedImage) -> Lease:
    return Lease(_chain(row), row.lease_id, "read", row.snapshot_id, None)
