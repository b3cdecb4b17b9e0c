"""
Leases: who is using what, written in the store itself.

A lease names the run that is writing, and the snapshot that must not be deleted meanwhile. It is put before anything
else is done and deleted after everything else is done, so that nothing in the store is ever without either a manifest
or a lease (or a deletion's record) that answers for it.

No promise rests on a clock. Whether a run may still complete is decided by who first puts an object at its manifest's
name; whether a snapshot may be deleted, by each side writing its own record first and looking for the other's then.
Time only decides when somebody takes the trouble to ask, and it is the store's time on both sides of the comparison.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from onecut.repository.errors import Damaged, NoSuchObject, NoSuchSnapshot
from onecut.repository.manifest import Chain, SnapshotManifest, checked_id
from onecut.repository.repository import Repository
from onecut.repository.store import ObjectStore

ROOM: Final = "leases"

CLOCK: Final = "clock"
"""Where objects are put for a moment, to learn their time (`store_time`)."""


@dataclass(frozen=True)
class Lease:
    """One use of a chain."""

    chain: Chain
    lease_id: str
    """The run's id for an archive; any id for a reader."""
    kind: str
    """`archive` or `read`."""
    holds: str | None
    """The snapshot that must not be deleted: the base of an archive, or what is being read."""
    snapshot_id: str | None
    """The snapshot that an archive is making."""
    attempt: int = 1
    """How often the run was begun, this time included."""

    @property
    def path(self) -> str:
        """The lease's name in the store."""
        return f"{ROOM}/{self.chain.path}/{checked_id(self.lease_id)}.json"


@dataclass(frozen=True)
class KnownLease:
    """A lease, and when it was last renewed by the store's clock."""

    lease: Lease
    renewed_at: datetime


def put_lease(repository: Repository, lease: Lease) -> None:
    """Write a lease, or renew it."""
    repository.store.put(lease.path, json.dumps(asdict(lease)).encode())


def drop_lease(repository: Repository, lease: Lease) -> None:
    """End a lease."""
    repository.store.delete([lease.path])


def read_lease(repository: Repository, path: str) -> Lease | None:
    """Return the lease at *path*; None when it is gone."""
    try:
        plain = json.loads(repository.store.get(path))
        return Lease(**plain | {"chain": Chain(**plain["chain"])})
    except NoSuchObject:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(path, "it is no lease") from error


def leases(repository: Repository, chain: Chain | None = None) -> Iterator[KnownLease]:
    """Yield the leases of a chain, or of all."""
    for info in repository.store.list(ROOM if chain is None else f"{ROOM}/{chain.path}"):
        lease = read_lease(repository, info.path)
        if lease is not None:
            yield KnownLease(lease, info.modified_at)


def deletion_path(chain: Chain) -> str:
    """Return the name of the record of the deletion that is under way in a chain; there is one at most."""
    return f"deletions/{chain.path}.json"


def leased_snapshot(repository: Repository, lease: Lease) -> SnapshotManifest | None:
    """
    Return the manifest of the snapshot that a lease, already put, holds.

    The order makes it safe: lease, then the deletion's record, then the manifest. A deletion puts its record, then
    looks for leases, and deletes the manifest before it takes its record away. So one of the two sees the other.

    Raises:
        NoSuchSnapshot: It is gone, or being deleted. The lease holds nothing.
        Damaged: Its manifest, or the record of a deletion, can't be read.
    """
    if lease.holds is None:
        return None
    if _dying(repository, lease.chain) == lease.holds:
        raise NoSuchSnapshot(f"snapshot {lease.holds} is being deleted")
    return repository.snapshot(lease.chain, lease.holds)


def _dying(repository: Repository, chain: Chain) -> str | None:
    """Return the snapshot whose deletion is under way in a chain."""
    path = deletion_path(chain)
    try:
        return str(json.loads(repository.store.get(path))["snapshot_id"])
    except NoSuchObject:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(path, "it is no record of a deletion") from error


@contextmanager
def reading(repository: Repository, chain: Chain, snapshot_id: str) -> Iterator[SnapshotManifest]:
    """
    Hold a snapshot while it is read, so that it is not deleted meanwhile.

    Raises:
        NoSuchSnapshot: There is none of that id, or it is being deleted.
    """
    lease = Lease(chain, uuid.uuid4().hex, "read", snapshot_id, None)
    put_lease(repository, lease)
    try:
        manifest = leased_snapshot(repository, lease)
        assert manifest is not None  # noqa: S101 - the lease holds a snapshot
        yield manifest
    finally:
        drop_lease(repository, lease)


def store_time(store: ObjectStore) -> datetime:
    """Return the present moment by the store's clock: the time of an object that was put just now."""
    path = f"{CLOCK}/{uuid.uuid4().hex}"
    store.put(path, b"")
    try:
        return store.head(path).modified_at
    finally:
        store.delete([path])
