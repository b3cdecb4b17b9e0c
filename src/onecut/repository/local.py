"""
A store in a local folder.

obstore has one too, but its puts rename a temporary file into place without `fsync`, so that after a power cut a name
may stand for an empty file, and its errors do not tell a bad sector from a server that is away. Here a file's bytes
reach the disk before it has its name, and the name before `put` returns. A batch pays for that once: one `syncfs` for
all its files.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from onecut.repository.errors import (
    Damaged,
    NoSuchObject,
    ObjectExists,
    StoreDenied,
    StoreFull,
    StoreUnavailable,
)
from onecut.repository.store import ObjectInfo, PutMode
from onecut.units import KiB

STAGING: Final = ".staging"
"""Folder of files that have no name yet. The next process that writes deletes what a crash left there."""

NAMING_ATTEMPTS: Final = 100
"""More than there can be deletions in one folder at once."""

UNREADABLE: Final = {errno.EIO, errno.EBADMSG, errno.EUCLEAN}
"""A bad sector, and what file systems say of checksums and structures that are wrong."""

ALIGNMENT: Final = 4 * KiB
"""Where direct I/O may begin and end, in the file and in memory; open(2)."""

DIRECT_BYTES: Final = 16 * KiB
"""Shorter objects of a batch are written through the page cache, which collects them."""

_libc = ctypes.CDLL(None, use_errno=True)
_memories = threading.local()


class LocalStore:
    """
    Objects as files below a folder.

    Reading asks for no more than the right to read: nothing is made before the first write. That something is not
    there means nothing while the folder is not the one that was opened, as when its disk was unmounted.
    """

    uses_local_disks = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._staging = folder / STAGING / uuid.uuid4().hex
        self._staging_lock: int | None = None
        self._durable: set[Path] = set()
        """Folders whose names are durable, and those above them."""
        self._ordinal = 0
        self._ordinal_lock = threading.Lock()
        with _mapped(str(folder)):
            self._opened = _identity(folder)

    def put(self, path: str, data: bytes, mode: PutMode = PutMode.OVERWRITE) -> None:
        """Write one object; see `ObjectStore.put`."""
        with self.acting(path):
            temporary = self.stage([data], durable=True)
            target = self._folder / path
            try:
                self._name(temporary, target, os.link if mode is PutMode.CREATE else os.replace)
            finally:
                temporary.unlink(missing_ok=True)
            self._sync_names(target.parent)

    def batch(self) -> AbstractContextManager["LocalBatch"]:
        """Begin a batch; see `ObjectStore.batch`."""
        return LocalBatch(self)

    def get(self, path: str) -> bytes:
        """Read one object; see `ObjectStore.get`."""
        with self._reading(path):
            return (self._folder / path).read_bytes()

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        """Read a part of an object; see `ObjectStore.get_range`."""
        with self._reading(path), (self._folder / path).open("rb", buffering=0) as file:
            return os.pread(file.fileno(), length, offset)

    def head(self, path: str) -> ObjectInfo:
        """Tell an object's size and time; see `ObjectStore.head`."""
        with self.acting(path):
            return _info(path, (self._folder / path).stat())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield all objects below a folder; see `ObjectStore.list`."""
        folder = prefix.rstrip("/")
        with self.acting(folder):
            yield from _below(str(self._folder / folder), f"{folder}/" if folder else "")
            self._check_folder()

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects and the folders that are empty then; see `ObjectStore.delete`."""
        folders = set()
        with self.acting("the objects to be deleted"):
            for path in paths:
                target = self._folder / path
                target.unlink(missing_ok=True)
                folders.add(target.parent)
            self._check_folder()
            for folder in folders:
                with suppress(FileNotFoundError):
                    _sync_folder(folder)  # what is deleted next may rely on this being gone
            for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
                self._prune(folder)

    @contextmanager
    def acting(self, path: str) -> Iterator[None]:
        """Turn errors into ours, among them that the folder itself is not there."""
        with _mapped(path):
            try:
                yield
            except FileNotFoundError:
                self._check_folder()
                raise

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        """Turn errors into ours as `acting` does; that the disk has lost the object's bytes is `Damaged`."""
        with self.acting(path):
            try:
                yield
            except OSError as error:
                if error.errno not in UNREADABLE:
                    raise
                os.statvfs(self._folder)  # fails if the disk as a whole does, or a server: then nothing is known
                raise Damaged(path, f"it can't be read: {error.strerror}") from error

    def stage(self, parts: Sequence[bytes | memoryview], *, durable: bool) -> Path:
        """Write a file that has no name in the store yet."""
        with self._ordinal_lock:
            if self._staging_lock is None:
                self._staging_lock = self._begin_writing()
            self._ordinal += 1
            temporary = self._staging / str(self._ordinal)
        try:
            fd = _create(temporary)
        except FileNotFoundError:
            self._check_folder()
            self._staging.mkdir(parents=True, exist_ok=True)
            fd = _create(temporary)
        try:
            if durable or not _write_directly(fd, parts):
                _write_all(fd, parts)
            if durable:
                os.fsync(fd)
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
            self._name(temporary, self._folder / path, os.replace)
        self.sync()

    def sync(self) -> None:
        """Flush the file system that was written to (syncfs(2)): all files of a batch in one go."""
        fd = os.open(self._staging, os.O_RDONLY | os.O_DIRECTORY)  # not there unless the folder is ours
        try:
            if _libc.syncfs(fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        finally:
            os.close(fd)

    def _name(self, temporary: Path, target: Path, name: Callable[[Path, Path], object]) -> None:
        """
        Give a file its name.

        A folder that was empty may be removed by a deletion just as it is wanted again; then it is made once more.
        """
        for _ in range(NAMING_ATTEMPTS):
            try:
                name(temporary, target)
            except FileNotFoundError:
                if not temporary.exists():
                    raise
                with suppress(FileNotFoundError):  # a deletion has just taken one that was there
                    self._make_folders(target.parent)
            else:
                return
        raise StoreUnavailable(f"the folder of {target} disappears again and again")

    def _make_folders(self, folder: Path) -> None:
        """Make *folder* and those above it; a new one is not durable, though one that another process took was."""
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            self._durable.discard(each)
            each.mkdir(exist_ok=True)

    def _sync_names(self, folder: Path) -> None:
        """Make durable what *folder* holds, and its own name, which another may have made and not synced yet."""
        _sync_folder(folder)
        new = []
        while folder != self._folder and folder not in self._durable:
            new.append(folder)
            folder = folder.parent
            _sync_folder(folder)
        self._durable.update(new)

    def _check_folder(self) -> None:
        """
        Raise unless the folder is the one that was opened: a mount point without its disk is a folder, too.

        A disk that comes back as another device is known by our staging folder.
        """
        found = _identity(self._folder)
        if found == self._opened:
            return
        if self._opened is not None and not self._staging.is_dir():
            raise StoreUnavailable(f"the folder {self._folder} is not the one that was opened; is its disk mounted?")
        self._opened = found
        self._durable.clear()

    def _prune(self, folder: Path) -> None:
        """Remove *folder* and its parents as far as they are empty. One that is being filled just now stays."""
        while folder != self._folder:
            self._durable.discard(folder)  # before another may make it anew
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _begin_writing(self) -> int:
        """
        Make a staging folder, lock it, and delete those whose process is gone; return the lock.

        Each process holds a lock on its staging folder for as long as it lives (flock(2) is released by the kernel).
        """
        self._check_folder()
        parent = self._staging.parent
        parent.mkdir(parents=True, exist_ok=True)
        self._check_folder()
        one_at_a_time = _lock(
            parent, fcntl.LOCK_EX
        )  # a folder that is not locked yet would be taken for a dead one's
        try:
            for folder in parent.iterdir():
                _remove_stale(folder)
            self._staging.mkdir()
            return _lock(self._staging, fcntl.LOCK_EX)
        finally:
            os.close(one_at_a_time)


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
        with self._store.acting(path):
            self._staged.append((self._store.stage(parts, durable=False), path))

    def commit(self) -> None:
        """Publish everything; see `Batch.commit`."""
        with self._store.acting("a batch of objects"):
            if self._staged:
                self._store.publish(self._staged)
            self._staged.clear()


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write_all(fd: int, parts: Sequence[bytes | memoryview]) -> None:
    length = sum(map(len, parts))
    written = os.writev(fd, parts)
    if written < length:  # a signal, or a disk that is nearly full
        rest = memoryview(b"".join(parts))[written:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def _write_directly(fd: int, parts: Sequence[bytes | memoryview]) -> bool:
    """
    Write an empty file past the page cache (open(2), "O_DIRECT"), and say whether that was done.

    What is archived is not read again soon. In the page cache it would take the place of what is, and be written by
    the next `sync`, for which whoever writes to the same file system waits. Measured: an archive takes a tenth less
    time.
    """
    length = sum(map(len, parts))
    if length < DIRECT_BYTES:
        return False
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | os.O_DIRECT)
    except OSError:  # the file system has none
        return False
    try:
        with memoryview(_aligned(parts, length)) as data:
            done = 0
            while done < length:
                done += os.pwrite(fd, data[done : _rounded_up(length)], done)
        os.ftruncate(fd, length)
    except OSError as error:
        if error.errno != errno.EINVAL:  # as for a disk whose blocks are longer than our alignment
            raise
        os.ftruncate(fd, 0)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        return False
    return True


def _aligned(parts: Sequence[bytes | memoryview], length: int) -> mmap.mmap:
    """Put parts one behind the other, and zeros up to a whole block, into this thread's aligned memory."""
    memory: mmap.mmap | None = getattr(_memories, "memory", None)
    if memory is None or len(memory) < length:
        memory = _memories.memory = mmap.mmap(-1, _rounded_up(length))
    at = 0
    for part in parts:
        memory[at : at + len(part)] = part
        at += len(part)
    memory[at : _rounded_up(at)] = bytes(_rounded_up(at) - at)
    return memory


def _rounded_up(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return what tells a folder from any other; None when there is none."""
    try:
        status = folder.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _below(folder: str, prefix: str) -> Iterator[ObjectInfo]:
    """Yield the files below *folder*, with *prefix* before their names; what goes meanwhile may be left out."""
    try:
        with os.scandir(folder) as opened:
            entries = list(opened)
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir():
            if entry.name != STAGING:
                yield from _below(entry.path, f"{prefix}{entry.name}/")
            continue
        with suppress(FileNotFoundError):
            yield _info(prefix + entry.name, entry.stat())


def _info(path: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(path, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove_stale(folder: Path) -> None:
    """Delete a staging folder unless its process lives."""
    try:
        fd = _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return
    for file in folder.iterdir():
        file.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
    os.close(fd)


def _lock(folder: Path, how: int) -> int:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, how)
    except OSError:
        os.close(fd)
        raise
    return fd


@contextmanager
def _mapped(path: str) -> Iterator[None]:
    """Turn the errors of the file system into ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise NoSuchObject(f"there is no object {path}") from error
    except FileExistsError as error:
        raise ObjectExists(f"there is an object {path} already") from error
    except PermissionError as error:
        raise StoreDenied(f"{path}: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise StoreDenied(f"{path}: {error.strerror}") from error
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StoreFull(f"no space left for {path}") from error
        raise StoreUnavailable(f"{path}: {error}") from error
