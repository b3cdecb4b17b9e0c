"""
A store in a local folder.

obstore reads and lists. It does not do the writing: its local puts rename a temporary file into place without
`fsync`, so that after a power cut a name may stand for an empty file. Here a file's bytes reach the disk before it
has its name, and the name before `put` returns. A batch pays for that once: one `syncfs` for all its files.
"""

import ctypes
import errno
import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

import obstore
from obstore.store import LocalStore as ObstoreLocal

from onecut.repository.errors import (
    NoSuchObject,
    ObjectExists,
    RepositoryError,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
)
from onecut.repository.store import LIST_PAGE, ObjectInfo, PutMode

STAGING: Final = ".staging"
"""Folder of files that have no name yet. What a crash leaves there is deleted when the store is opened next."""

NAMING_ATTEMPTS: Final = 100
"""More than there can be deletions in one folder at once."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
_SYNC_FILE_RANGE_WRITE: Final = 2


class LocalStore:
    """Objects as files below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with _mapped(str(folder)):
            folder.mkdir(parents=True, exist_ok=True)
            self._staging = folder / STAGING / uuid.uuid4().hex
            self._remove_stale_staging()
        self._objects = ObstoreLocal(str(folder.absolute()))
        self._ordinal = 0
        self._ordinal_lock = threading.Lock()

    def put(self, path: str, data: bytes, mode: PutMode = PutMode.OVERWRITE) -> None:
        """Write one object; see `ObjectStore.put`."""
        with _mapped(path):
            temporary = self.stage([data], durable=True)
            target = self._folder / path
            try:
                made = _named(temporary, target, os.link if mode is PutMode.CREATE else os.replace)
            finally:
                temporary.unlink(missing_ok=True)
            for folder in [target.parent, *made]:
                _sync_folder(folder)

    def batch(self) -> AbstractContextManager["LocalBatch"]:
        """Begin a batch; see `ObjectStore.batch`."""
        return LocalBatch(self)

    def get(self, path: str) -> bytes:
        """Read one object; see `ObjectStore.get`."""
        with _mapped(path):
            return bytes(obstore.get(self._objects, path).bytes())

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        """Read a part of an object; see `ObjectStore.get_range`."""
        with _mapped(path), (self._folder / path).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def head(self, path: str) -> ObjectInfo:
        """Tell an object's size and time; see `ObjectStore.head`."""
        with _mapped(path):
            meta = obstore.head(self._objects, path)
            return ObjectInfo(path, meta["size"], meta["last_modified"])

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects below a folder; see `ObjectStore.list`."""
        with _mapped(prefix):
            for page in obstore.list(self._objects, prefix.rstrip("/") or None, chunk_size=LIST_PAGE):
                for meta in page:
                    if not meta["path"].startswith(STAGING):
                        yield ObjectInfo(meta["path"], meta["size"], meta["last_modified"])

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects and the folders that are empty then; see `ObjectStore.delete`."""
        folders = set()
        with _mapped("the objects to be deleted"):
            for path in paths:
                target = self._folder / path
                target.unlink(missing_ok=True)
                folders.add(target.parent)
            for folder in folders:
                with suppress(FileNotFoundError):
                    _sync_folder(folder)  # what is deleted next may rely on this being gone
            for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
                self._prune(folder)

    def stage(self, parts: Sequence[bytes | memoryview], *, durable: bool) -> Path:
        """Write a file that has no name in the store yet."""
        with self._ordinal_lock:
            self._ordinal += 1
            temporary = self._staging / str(self._ordinal)
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileNotFoundError:
            if not self._folder.is_dir():  # an unmounted disk must not be taken for an empty repository
                raise
            self._staging.mkdir(parents=True, exist_ok=True)
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _write_all(fd, parts)
            if durable:
                os.fsync(fd)
            else:
                _begin_writing(fd)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
        return temporary

    def publish(self, staged: Sequence[tuple[Path, str]]) -> None:
        """Make staged files durable, then give them their names in this order, then make the names durable."""
        self.sync()
        for temporary, path in staged:
            _named(temporary, self._folder / path, os.replace)
        self.sync()

    def sync(self) -> None:
        """Flush the file system that holds the folder (syncfs(2)): all files of a batch in one go."""
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _libc.syncfs(fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        finally:
            os.close(fd)

    def _prune(self, folder: Path) -> None:
        """Remove *folder* and its parents as far as they are empty. One that is being filled just now stays."""
        while folder != self._folder:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _remove_stale_staging(self) -> None:
        """
        Delete staged files whose process is gone.

        Each process holds a lock on its staging folder for as long as it lives (flock(2) is released by the kernel).
        """
        parent = self._folder / STAGING
        self._staging.mkdir(parents=True)
        self._staging_lock = _lock(self._staging)
        for folder in parent.iterdir():
            if folder == self._staging:
                continue
            try:
                fd = _lock(folder)
            except OSError:
                continue
            for file in folder.iterdir():
                file.unlink(missing_ok=True)
            with suppress(OSError):
                folder.rmdir()
            os.close(fd)


class LocalBatch:
    """Files that are staged one by one and published together."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._staged: list[tuple[Path, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for temporary, _path in self._staged:
            temporary.unlink(missing_ok=True)

    def put(self, path: str, parts: Sequence[bytes | memoryview]) -> None:
        """Write the object's bytes; see `Batch.put`."""
        with _mapped(path):
            self._staged.append((self._store.stage(parts, durable=False), path))

    def commit(self) -> None:
        """Publish everything; see `Batch.commit`."""
        with _mapped("a batch of objects"):
            if self._staged:
                self._store.publish(self._staged)
            self._staged.clear()


def _write_all(fd: int, parts: Sequence[bytes | memoryview]) -> None:
    length = sum(map(len, parts))
    written = os.writev(fd, parts)
    if written < length:  # a signal, or a disk that is nearly full
        rest = memoryview(b"".join(parts))[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def _begin_writing(fd: int) -> None:
    """
    Have the kernel write a file now, without waiting for it (sync_file_range(2)).

    Otherwise all of it is written by the next `sync`, and whoever writes to the same file system waits meanwhile:
    measured, the slowest hundredth of a disk's writes took 10 ms during an archive, this way 5. It promises nothing,
    so an error means nothing: the `sync` tells.
    """
    _libc.sync_file_range(fd, 0, 0, _SYNC_FILE_RANGE_WRITE)


def _named(temporary: Path, target: Path, name: Callable[[Path, Path], object]) -> list[Path]:
    """
    Give a file its name and return the folders above whose entries have changed by it.

    A folder that was empty may be removed by a deletion just as it is wanted again; then it is made once more.
    """
    changed: list[Path] = []
    for _ in range(NAMING_ATTEMPTS):
        try:
            name(temporary, target)
        except FileNotFoundError:
            if not temporary.exists():
                raise
            with suppress(FileNotFoundError):  # a deletion has just taken one that was there
                _make_folders(target.parent, changed)
        else:
            return changed
    raise StoreUnavailable(f"the folder of {target} disappears again and again")


def _make_folders(folder: Path, changed: list[Path]) -> None:
    """Make *folder* and those above it, and note in *changed* whose entries have changed by it."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        changed.append(each.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock(folder: Path) -> int:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise
    return fd


@contextmanager
def _mapped(path: str) -> Iterator[None]:
    """Turn the errors of the file system and of obstore into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchObject(f"there is no object {path}") from error
    except FileExistsError as error:
        raise ObjectExists(f"there is an object {path} already") from error
    except PermissionError as error:
        raise StoreDenied(f"{path}: {error.strerror}") from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StoreFull(f"no space left for {path}") from error
        raise StoreUnavailable(f"{path}: {error}") from error
    except obstore.exceptions.PermissionDeniedError as error:
        raise StoreDenied(f"{path}: {error}") from error
    except obstore.exceptions.BaseError as error:
        raise RepositoryError(f"{path}: {error}") from error
