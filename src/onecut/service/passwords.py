"""
Hashing passwords, and slowing down those who guess them.

A name with `MAX_FAILURES` wrong passwords, none of them more than `LOCKOUT` after the one before, is refused until
`LOCKOUT` after the last; so is a name nobody has, and so is the right password meanwhile. Tokens and access keys
go on working. The count is kept in memory, by each process for itself: a restart forgets it.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import anyio
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from onecut.clock import Clock
from onecut.errors import Unauthenticated

MAX_FAILURES: Final = 5
"""As in IAM's login policy: five tries, then fifteen minutes."""
LOCKOUT: Final = timedelta(minutes=15)

MAX_REMEMBERED: Final = 10_000
"""Names with failures that are remembered; the one that failed longest ago goes first. Bounds memory."""

MAX_CHECKS: Final = 2
"""Password checks at a time: each takes 64 MiB and, for some 50 ms, up to four threads."""

Account = tuple[str, str]
"""Domain name and user name, as the caller wrote them."""


@dataclass
class _Failures:
    count: int
    last_at: datetime


class Passwords:
    """Checks passwords against argon2id hashes, at the same cost whether the user exists or not."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hasher = PasswordHasher()  # RFC 9106, second recommended option: argon2id, t=3, p=4, 64 MiB
        self._nobody = self._hasher.hash("")
        self._failures: OrderedDict[Account, _Failures] = OrderedDict()
        self._lock = threading.Lock()
        self.limiter = anyio.CapacityLimiter(MAX_CHECKS)
        """For `anyio.to_thread.run_sync`: those who wait for a check hold no thread that others need."""

    def hash(self, password: str) -> str:
        """Return what is stored of a password."""
        return self._hasher.hash(password)

    def check(self, account: Account, stored: str | None, password: str) -> bool:
        """
        Say whether *password* is the one hashed in *stored*; None stands for a user who does not exist.

        Raises:
            Unauthenticated: The account failed too often; nothing was checked.
        """
        self._refuse_locked(account)
        try:
            self._hasher.verify(self._nobody if stored is None else stored, password)
        except VerifyMismatchError:
            self._count_failure(account)
            return False
        if stored is None:
            self._count_failure(account)
            return False
        with self._lock:
            self._failures.pop(account, None)
        return True

    def _refuse_locked(self, account: Account) -> None:
        now = self._clock.now()
        with self._lock:
            failures = self._failures.get(account)
            if failures is None:
                return
            if now - failures.last_at >= LOCKOUT:
                del self._failures[account]
            elif failures.count >= MAX_FAILURES:
                raise Unauthenticated("too many wrong passwords for this user; try again in 15 minutes")

    def _count_failure(self, account: Account) -> None:
        now = self._clock.now()
        with self._lock:
            failures = self._failures.setdefault(account, _Failures(0, now))
            failures.count += 1
            failures.last_at = now
            self._failures.move_to_end(account)
            if len(self._failures) > MAX_REMEMBERED:
                self._failures.popitem(last=False)
