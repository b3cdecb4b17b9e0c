"""
What can go wrong with a repository, sorted by what the caller should do.

::

    RepositoryError
    ├── TryLater            nothing changed, or repeating is harmless: do it again later
    │   ├── StoreUnavailable  the store does not answer, or answers 5xx
    │   └── StoreThrottled    the store asks for fewer requests
    ├── InUse               a lease holds the snapshot that is to be deleted, for as long as an archive takes
    ├── StoreFull           no space left in the store
    ├── StoreDenied         the store refuses our credentials or our path
    ├── NoSuchObject        there is no object of that name
    ├── ObjectExists        an object that was to be new is there already
    ├── NoSuchSnapshot      the repository has no such snapshot or group
    ├── Damaged             stored bytes disagree with their digest, or are missing: report it, never retry
    ├── ChangeListWrong     blocks reported as unchanged differ: archive in full
    ├── ArchiveCancelled    the caller asked to stop; the same run may be resumed
    ├── RunLost             the run was given up as dead by a collector: start another one
    └── NotARepository      there is no repository here, or one of another format
"""

from onecut.errors import OnecutError


class RepositoryError(OnecutError):
    """Anything that goes wrong with a repository on purpose of this room."""


class TryLater(RepositoryError):
    """Nothing changed, or repeating is harmless."""


class StoreUnavailable(TryLater):
    """The store does not answer, or answers that it can't serve now."""


class StoreThrottled(TryLater):
    """The store asks for fewer requests."""


class InUse(RepositoryError):
    """A lease holds the snapshot that is to be deleted, or another deletion goes first. Nothing changed."""


class StoreFull(RepositoryError):
    """There is no space left in the store."""


class StoreDenied(RepositoryError):
    """The store refuses our credentials, or what we may do with them."""


class NoSuchObject(RepositoryError):
    """There is no object of that name."""


class ObjectExists(RepositoryError):
    """An object that was to be new is there already."""


class NoSuchSnapshot(RepositoryError):
    """The repository has no such snapshot or group."""


class Damaged(RepositoryError):
    """Stored bytes disagree with their digest, or are missing. The sentence names the object."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} is damaged: {reason}")
        self.path, self.reason = path, reason


class ChangeListWrong(RepositoryError):
    """Blocks that were reported as unchanged differ from the base. Archive in full."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"the block at byte {offset} was reported as unchanged, but differs from the base snapshot")
        self.offset = offset


class ArchiveCancelled(RepositoryError):
    """The caller asked to stop. The same run may be resumed."""


class RunLost(RepositoryError):
    """The run was given up as dead, and what it had written is gone. Start another one."""


class NotARepository(RepositoryError):
    """There is no repository here, or one of a format that this version does not know."""
