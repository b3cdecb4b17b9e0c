"""
A repository: a store, its format, and the names that objects have in it.

Nothing in this module decides what may be written or deleted when; `archive`, `delete` and `collector` do.
"""

import contextlib
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final

from onecut.repository.cache import Cache
from onecut.repository.chunk import unseal
from onecut.repository.errors import (
    Damaged,
    NoSuchObject,
    NoSuchSnapshot,
    NotARepository,
    ObjectExists,
    StoreUnavailable,
)
from onecut.repository.keys import ProjectKeys
from onecut.repository.manifest import Chain, GroupManifest, SnapshotManifest, read_group, read_snapshot
from onecut.repository.page import Entry, Page, Ref, decode
from onecut.repository.store import ObjectStore, PutMode
from onecut.units import KiB, MiB

FORMAT: Final = "onecut repository"
VERSION: Final = 1
MARKER: Final = "repository.json"

CHUNK_BYTES: Final = 256 * KiB
"""Length of a chunk in new repositories; measured in docs/decisions/0010-chunk-size.md."""

CHUNK_LIMIT_BYTES: Final = 16 * MiB
"""Longest chunk a repository may have: a few of them are in memory at once."""

CACHED_PAGES: Final = 512
"""Pages that a reader keeps in memory, at most some 30 KiB each."""

IMAGE_PAGES: Final = 1024
"""Pages that all images keep in memory: 30 MiB, for any number of them."""

IMAGE_CHUNK_BYTES: Final = 64 * MiB
"""Chunks that all images keep in memory: clients read in smaller pieces than a chunk, and in some order."""

Place = tuple[bytes, int]
"""An object's run and ordinal."""

OBJECTS_PER_FOLDER: Final = 1024
"""Objects of a run to one folder, so that no folder of a local store becomes slow."""


class Repository:
    """Chunks, trees and manifests in a store. May be used by several threads."""

    def __init__(self, store: ObjectStore, repository_id: str, chunk_bytes: int) -> None:
        self.store = store
        self.id = repository_id
        self.chunk_bytes = chunk_bytes
        self.image_pages: Cache[Place, Page] = Cache(IMAGE_PAGES)
        self.image_chunks: Cache[Place, bytes] = Cache(IMAGE_CHUNK_BYTES // chunk_bytes)
        self.keys = lru_cache(maxsize=None)(lambda project_id: ProjectKeys.derive(repository_id, project_id))

    @classmethod
    def open(cls, store: ObjectStore) -> "Repository":
        """
        Open the repository in *store*.

        Raises:
            NotARepository: There is none, or one of a format that is not known here.
        """
        try:
            marker = json.loads(store.get(MARKER))
            known = marker["format"] == FORMAT and marker["version"] == VERSION
            repository = cls(store, marker["id"], marker["chunk_bytes"])
        except NoSuchObject as error:
            raise NotARepository("there is no repository.json: this is not a repository") from error
        except (ValueError, KeyError, TypeError) as error:
            raise NotARepository("repository.json is damaged") from error
        if not known:
            raise NotARepository(f"this is no {FORMAT} of version {VERSION}")
        return repository

    @classmethod
    def create(cls, store: ObjectStore, *, chunk_bytes: int = CHUNK_BYTES) -> "Repository":
        """Open the repository in *store*, or make one where there is none. Several callers get the same one."""
        if not 0 < chunk_bytes <= CHUNK_LIMIT_BYTES or chunk_bytes % 512:
            raise ValueError(f"a chunk can't have {chunk_bytes} bytes")
        try:
            store.head(MARKER)
        except (
            NoSuchObject
        ):  # asked first: an endpoint that knows no If-None-Match would replace the id, and so all keys
            marker = {"format": FORMAT, "version": VERSION, "id": uuid.uuid4().hex, "chunk_bytes": chunk_bytes}
            with contextlib.suppress(ObjectExists):
                store.put(MARKER, json.dumps(marker).encode(), PutMode.CREATE)
        return cls.open(store)

    def reader(self, project_id: str, pages: Cache[Place, Page] | None = None) -> "Reader":
        """Return a reader of a project's pages and chunks, with a cache of its own unless *pages* is one."""
        return Reader(self, self.keys(project_id), Cache(CACHED_PAGES) if pages is None else pages)

    def chains(self, project_id: str | None = None) -> Iterator[Chain]:
        """Yield the chains that have snapshots."""
        seen = set()
        for info in self.store.list("snapshots" if project_id is None else f"snapshots/{project_id}"):
            chain = Chain(*info.path.split("/")[1:4])
            if chain not in seen:
                seen.add(chain)
                yield chain

    def manifests(self, chain: Chain) -> list[SnapshotManifest]:
        """
        Return the manifests of a chain's snapshots, in the order of their cuts.

        Raises:
            Damaged: One of them can't be read.
        """
        found, damages = self.manifests_and_damages(chain)
        if damages:
            raise damages[0]
        return found

    def manifests_and_damages(self, chain: Chain) -> tuple[list[SnapshotManifest], list[Damaged]]:
        """Return what `manifests` does, and apart from it what can't be read."""
        paths = [info.path for info in self.store.list(f"snapshots/{chain.path}")]
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(self._manifest_or_damage, paths))
        found = [each for each in read if isinstance(each, SnapshotManifest)]
        damages = [each for each in read if isinstance(each, Damaged)]
        return sorted(found, key=lambda manifest: (manifest.cut_at, manifest.snapshot_id)), damages

    def _manifest_or_damage(self, path: str) -> SnapshotManifest | Damaged | None:
        try:
            return self.read_manifest(path)
        except Damaged as damage:
            return damage

    def read_manifest(self, path: str) -> SnapshotManifest | None:
        """Return the manifest at *path*; None when it is gone, or marks a run that was given up."""
        try:
            data = self.store.get(path)
        except NoSuchObject:
            return None
        if data == ABANDONED:
            return None
        return read_snapshot(path, data, self.keys(path.split("/")[1]))

    def snapshot(self, chain: Chain, snapshot_id: str) -> SnapshotManifest:
        """
        Return the manifest of one snapshot.

        Raises:
            NoSuchSnapshot: There is none of that id in the chain.
            StoreUnavailable: The whole repository is not there.
            Damaged: It can't be read.
        """
        prefix = f"snapshots/{chain.path}/{snapshot_id}."
        for info in self.store.list(f"snapshots/{chain.path}"):
            if info.path.startswith(prefix) and (manifest := self.read_manifest(info.path)) is not None:
                return manifest
        raise self._unless_away(NoSuchSnapshot(f"there is no snapshot {snapshot_id} in chain {chain.path}"))

    def find(self, snapshot_id: str) -> SnapshotManifest:
        """
        Return the manifest of a snapshot of which only the id is known. Lists all snapshots.

        Raises:
            NoSuchSnapshot: There is none of that id.
            Damaged: It can't be read.
        """
        for info in self.store.list("snapshots"):
            name = info.path.rpartition("/")[2]
            if name.partition(".")[0] == snapshot_id and (manifest := self.read_manifest(info.path)) is not None:
                return manifest
        raise self._unless_away(NoSuchSnapshot(f"there is no snapshot {snapshot_id}"))

    def groups(self, group_id: str | None = None) -> Iterator[GroupManifest]:
        """Yield the groups' manifests, or that of one; raises `Damaged` if it can't be read."""
        for info in self.store.list("groups"):
            if group_id is None or info.path.endswith(f"/{group_id}.json"):
                yield read_group(info.path, self.store.get(info.path), self.keys(info.path.split("/")[1]))

    def explain_missing(self, path: str) -> Exception:
        """Say what it means that an object which a tree names is not there."""
        return self._unless_away(Damaged(path, "it is missing"))

    def _unless_away(self, error: Exception) -> Exception:
        """
        Return *error*, which says that something is not there; or, when nothing is, that the store is unavailable.

        A folder that was unmounted, or a bucket that was emptied by mistake, has lost its marker too; then nothing is
        known about what it holds.
        """
        try:
            self.store.get_range(MARKER, 0, 1)
        except NoSuchObject:
            return StoreUnavailable("the repository is not there at the moment")
        return error


ABANDONED: Final = b'{"kind":"abandoned","version":1}\n'
"""Stands in a manifest's place when a run was given up as dead: it can't be completed any more."""


class Reader:
    """Reads one project's pages and chunks, each verified."""

    def __init__(self, repository: Repository, keys: ProjectKeys, pages: Cache[Place, Page]) -> None:
        self._repository, self._keys, self._pages = repository, keys, pages

    def page(self, ref: Ref) -> Page:
        """
        Return the page at *ref*.

        Raises:
            Damaged: It is missing or not what it was.
        """
        page = self._pages.get(ref.place)
        if page is not None:
            return page
        path = page_path(ref.run, ref.ordinal)
        page = decode(path, self.fetch(path), self._keys.page, ref.digest)
        self.remember(ref, page)
        return page

    def page_bytes(self, ref: Ref) -> int:
        """Return the size of a page's object; raises `Damaged` as `page` does."""
        return len(self.page(ref).encoded(self._keys.page)[1])

    def remember(self, ref: Ref, page: Page) -> None:
        """Keep a page that is known to be right."""
        self._pages.put(ref.place, page)

    def chunk(self, entry: Entry) -> bytes:
        """
        Return a chunk's data.

        Raises:
            Damaged: It is missing or not what it was.
        """
        path = chunk_path(entry.run, entry.ordinal)
        return unseal(path, self.fetch(path), self._keys.chunk, entry.digest, self._repository.chunk_bytes)

    def fetch(self, path: str) -> bytes:
        """Return an object that must be there."""
        try:
            return self._repository.store.get(path)
        except NoSuchObject:
            raise self._repository.explain_missing(path) from None


def chunk_path(run: bytes, ordinal: int) -> str:
    """Return the name of a chunk's object."""
    return _run_path("chunks", run, ordinal)


def page_path(run: bytes, ordinal: int) -> str:
    """Return the name of a page's object."""
    return _run_path("trees", run, ordinal)


def _run_path(room: str, run: bytes, ordinal: int) -> str:
    return f"{room}/{run.hex()}/{ordinal // OBJECTS_PER_FOLDER:06x}/{ordinal % OBJECTS_PER_FOLDER:03x}"
