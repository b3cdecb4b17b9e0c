"""
The port to whatever keeps the objects, and how a store is opened from its address.

Three stores fulfil it: a local folder (`local.py`), S3 and memory (both `remote.py`).
`tests/repository/test_store.py` is the contract that each of them passes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final, Protocol

LIST_PAGE: Final = 1000
"""Objects to one page of a listing; S3 gives no more."""


class PutMode(Enum):
    """What to do about an object that is there already."""

    CREATE = "create"
    """Leave it and raise `ObjectExists`. Of several writers exactly one succeeds."""
    OVERWRITE = "overwrite"
    """Replace it as a whole."""


@dataclass(frozen=True)
class ObjectInfo:
    """One object, without its bytes."""

    path: str
    size_bytes: int
    modified_at: datetime
    """When it was put, by the store's clock."""


class Batch(Protocol):
    """
    Objects that become durable together, because one by one would wait for the disk each time.

    `put` may be called by several threads. Objects become visible in the order in which they were put, at the latest
    in `commit`; whatever is visible is whole and durable. Leaving the context without `commit` drops what is not yet
    visible.
    """

    def put(self, path: str, parts: Sequence[bytes | memoryview]) -> None:
        """Take an object, the concatenation of *parts*, which may be reused afterwards; replaces one of that name."""
        ...

    def commit(self) -> None:
        """Make everything durable and visible, or raise; then some objects may be visible and some not."""
        ...


class ObjectStore(Protocol):
    """
    Objects by name. Strongly consistent: what one caller has put, the next sees, also in listings.

    A visible object is whole and durable. Names are ``/``-separated, of letters, digits, ``-``, ``_`` and ``.``.
    Acts are repeated with growing pauses while the store is unavailable or throttles; then they raise
    `StoreUnavailable` or `StoreThrottled`. All methods may be called by several threads.
    """

    @property
    def uses_local_disks(self) -> bool:
        """Whether to write objects is work for this host's disks, in front of which others may be waiting."""
        ...

    def put(self, path: str, data: bytes, mode: PutMode = PutMode.OVERWRITE) -> None:
        """
        Write one object, durable and visible as a whole when this returns.

        Raises:
            ObjectExists: With `PutMode.CREATE`, there is one of that name.
            StoreFull: There is no space for it.
        """
        ...

    def batch(self) -> AbstractContextManager[Batch]:
        """Begin a set of objects that become durable together."""
        ...

    def get(self, path: str) -> bytes:
        """
        Read one object.

        Raises:
            NoSuchObject: There is none of that name.
        """
        ...

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        """
        Read *length* bytes from *offset*; fewer where the object ends before.

        Raises:
            NoSuchObject: There is none of that name.
        """
        ...

    def head(self, path: str) -> ObjectInfo:
        """
        Tell an object's size and time.

        Raises:
            NoSuchObject: There is none of that name.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects below the folder *prefix*, in no certain order, fetched in pages."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, in bulk where the store can. One that is not there is no error."""
        ...
