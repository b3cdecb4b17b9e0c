"""
Stores that obstore reaches as a whole: S3, and memory for tests.

A put on them is durable when it returns, so a batch is only a way to have many puts under way at once.
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, Self, TypeVar

import obstore
from obstore.store import MemoryStore, S3Store

from onecut.repository.errors import (
    NoSuchObject,
    ObjectExists,
    RepositoryError,
    StoreDenied,
    StoreFull,
    StoreThrottled,
    StoreUnavailable,
)
from onecut.repository.retry import Backoff, retried
from onecut.repository.store import LIST_PAGE, ObjectInfo, PutMode
from onecut.units import MiB

if TYPE_CHECKING:  # these exist for type checkers only
    from obstore import ObjectMeta
    from obstore.store import S3Config

T = TypeVar("T")

PARALLEL_PUTS: Final = 32
"""Puts of one store that are under way at once: at 30 ms each, some 1,000 chunks a second."""

PART_BYTES: Final = 8 * MiB
"""Larger objects go up in parts of this size (S3 wants at least 5 MiB a part)."""

# The text tells the time that a request took as well ("in 507.8µs"), so a number alone is no status.
_THROTTLED: Final = re.compile(
    r"\bstatus(?: code)?: (?:429|503)\b|\b(?:SlowDown|ThrottlingException|TooManyRequests)\b"
)
_FULL: Final = re.compile(r"\bstatus(?: code)?: 507\b|\b(?:QuotaExceeded|InsufficientCapacity|XMinioStorageFull)\b")


class RemoteStore:
    """Objects in a store that keeps its own promises about durability."""

    uses_local_disks = False

    def __init__(self, objects: S3Store | MemoryStore, backoff: Backoff) -> None:
        self._objects = objects
        self._backoff = backoff
        self.puts = ThreadPoolExecutor(PARALLEL_PUTS, "put")
        self.slots = threading.BoundedSemaphore(2 * PARALLEL_PUTS)

    @classmethod
    def memory(cls) -> "RemoteStore":
        """Make an empty store in memory."""
        return cls(MemoryStore(), Backoff())

    @classmethod
    def s3(
        cls, bucket: str, prefix: str, *, endpoint: str | None, region: str | None, backoff: Backoff
    ) -> "RemoteStore":
        """Open a bucket. Credentials come from the standard environment variables or the machine's role."""
        config: S3Config = {"virtual_hosted_style_request": endpoint is None}
        if endpoint is not None:
            config["endpoint"] = endpoint
        if region is not None:
            config["region"] = region
        objects = S3Store(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=5),
                "timeout": timedelta(seconds=60),
            },
            # A request is repeated by us: obstore's own repeats can't be watched, and hide what was the matter.
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=0)},
        )
        return cls(objects, backoff)

    def put(self, path: str, data: bytes, mode: PutMode = PutMode.OVERWRITE) -> None:
        """Write one object; see `ObjectStore.put`."""
        if mode is PutMode.CREATE:
            self._create(path, data)
            return
        large = len(data) > PART_BYTES
        self._do(path, lambda: obstore.put(self._objects, path, data, use_multipart=large, chunk_size=PART_BYTES))

    def batch(self) -> AbstractContextManager["RemoteBatch"]:
        """Begin a batch; see `ObjectStore.batch`."""
        return RemoteBatch(self)

    def get(self, path: str) -> bytes:
        """Read one object; see `ObjectStore.get`."""
        return self._do(path, lambda: bytes(obstore.get(self._objects, path).bytes()))

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        """Read a part of an object; see `ObjectStore.get_range`."""
        if self.head(path).size_bytes <= offset:
            return b""
        return self._do(path, lambda: bytes(obstore.get_range(self._objects, path, start=offset, length=length)))

    def head(self, path: str) -> ObjectInfo:
        """Tell an object's size and time; see `ObjectStore.head`."""
        meta = self._do(path, lambda: obstore.head(self._objects, path))
        return ObjectInfo(path, meta["size"], meta["last_modified"])

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects below a folder; see `ObjectStore.list`."""
        last = None
        while page := self._do(prefix, partial(self._page, prefix, last)):
            for meta in page:
                yield ObjectInfo(meta["path"], meta["size"], meta["last_modified"])
            if len(page) < LIST_PAGE:
                return
            last = page[-1]["path"]

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; see `ObjectStore.delete`."""
        remaining = iter(paths)
        while page := list(islice(remaining, LIST_PAGE)):
            self._do(page[0], lambda page=page: obstore.delete(self._objects, page))  # type: ignore[misc]

    def _page(self, prefix: str, after: str | None) -> Sequence["ObjectMeta"]:
        """
        Return the next objects of a listing, in the order of their names; fewer than `LIST_PAGE` are the last ones.

        A stream of obstore's has no more after an error, as if it were at its end. So each page has its own.
        """
        return next(
            iter(obstore.list(self._objects, prefix.rstrip("/") or None, offset=after, chunk_size=LIST_PAGE)), ()
        )

    def _create(self, path: str, data: bytes) -> None:
        """
        Write an object that must be new.

        When the answer to an attempt got lost, the next one finds the object there: it is ours if the bytes are.
        """
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            with _mapped(path):
                obstore.put(self._objects, path, data, mode="create", use_multipart=False)

        try:
            retried(attempt, self._backoff)
        except ObjectExists:
            if attempts == 1 or self.get(path) != data:
                raise

    def _do(self, path: str, act: Callable[[], T]) -> T:
        def attempt() -> T:
            with _mapped(path):
                return act()

        return retried(attempt, self._backoff)


class RemoteBatch:
    """Puts that are under way together."""

    def __init__(self, store: RemoteStore) -> None:
        self._store = store
        self._puts: list[Future[None]] = []
        self._failed: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for put in self._puts:
            put.cancel()
        for put in self._puts:
            if not put.cancelled():
                put.exception()

    def put(self, path: str, parts: Sequence[bytes | memoryview]) -> None:
        """Send the object, or wait until one of those under way is done; see `Batch.put`."""
        if self._failed is not None:
            raise self._failed
        self._store.slots.acquire()
        put = self._store.puts.submit(self._store.put, path, b"".join(parts))
        put.add_done_callback(self._done)
        self._puts.append(put)

    def commit(self) -> None:
        """Wait for all puts; see `Batch.commit`."""
        for put in self._puts:
            put.result()
        self._puts.clear()

    def _done(self, put: Future[None]) -> None:
        self._store.slots.release()
        if not put.cancelled() and (error := put.exception()) is not None:
            self._failed = error


@contextmanager
def _mapped(path: str) -> Iterator[None]:
    """Turn obstore's errors into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchObject(f"there is no object {path}") from error
    except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError) as error:
        raise ObjectExists(f"there is an object {path} already") from error
    except (obstore.exceptions.PermissionDeniedError, obstore.exceptions.UnauthenticatedError) as error:
        raise StoreDenied(f"{path}: {_sentence(error)}") from error
    except obstore.exceptions.GenericError as error:
        raise _generic(path, str(error)) from error
    except obstore.exceptions.BaseError as error:
        raise RepositoryError(f"{path}: {_sentence(error)}") from error


def _generic(path: str, text: str) -> RepositoryError:
    """Sort the errors that obstore has no class of its own for: the HTTP status stands in the text only."""
    if _FULL.search(text):
        return StoreFull(f"no space left for {path}")
    if _THROTTLED.search(text):
        return StoreThrottled(f"{path}: the store asks for fewer requests")
    return StoreUnavailable(f"{path}: {text.splitlines()[0]}")


def _sentence(error: Exception) -> str:
    """Return the first line: the others are a dump of obstore's insides."""
    return str(error).splitlines()[0]
