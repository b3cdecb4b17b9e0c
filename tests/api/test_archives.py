"""What is seen of an archive while it lasts, and how it is held back."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

from orders import new_volumes
from running import DEADLINE_S, Site, running_site, wait_until

from onecut.engine.memory import MemoryEngine
from onecut.units import GiB, MiB

SEEN_AFTER: Final = 100
"""Chunks that are stored before the archive stands still: more than are on their way at the same time."""


class Gate:
    """A store in which an archive stands still between its chunks, until told to go on."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._puts = 0
        self.opened = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @contextmanager
    def batch(self) -> Iterator[Any]:
        """Begin a batch."""
        with self._inner.batch() as batch:
            yield _GatedBatch(self, batch)

    def pass_one(self) -> None:
        """Let a chunk pass; the later ones once told to."""
        self._puts += 1
        if self._puts > SEEN_AFTER:
            assert self.opened.wait(DEADLINE_S)


class _GatedBatch:
    def __init__(self, gate: Gate, inner: Any) -> None:
        self._gate, self._inner = gate, inner
        self.commit = inner.commit

    def put(self, *args: Any) -> None:
        """Put a chunk."""
        self._gate.pass_one()
        self._inner.put(*args)


def order_snapshot(site: Site, content: bytes, offset: int) -> dict[str, Any]:
    """Write to a new volume, and order a snapshot of it."""
    (volume_id,) = new_volumes(site, 1)
    cast("MemoryEngine", site.engine).write(volume_id, offset, content)
    answer: dict[str, Any] = site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": volume_id}})
    return answer


def distinct(length: int) -> bytes:
    """Make up content without repeats."""
    return b"".join(number.to_bytes(4096, "big") for number in range(1, length // 4096 + 1))


def test_progress_is_shown_while_it_lasts(tmp_path: Path) -> None:
    """On the snapshot and in its job, which agree: more than nothing, less than all, and all in the end."""
    with running_site(tmp_path) as site:
        gate = Gate(site.app_state.repository.store)
        site.app_state.repository.store = gate
        answer = order_snapshot(site, distinct(40 * MiB), 5 * GiB)
        snapshot = f"/v5/{{p}}/snapshots/{answer['snapshot_id']}"

        def shown() -> str:
            progress: str = site.call("GET", snapshot, 200)["snapshot"]["progress"]
            return progress

        try:
            wait_until(lambda: shown() not in {"", "0%"}, "progress is shown")
            assert shown() == "50%"
            assert site.call("GET", f"/v1/{{p}}/jobs/{answer['job_id']}", 200)["entities"]["progress"] == "50%"
        finally:
            gate.opened.set()
        site.done(answer)
        assert shown() == "100%"


def test_no_more_is_read_in_a_second_than_allowed(tmp_path: Path) -> None:
    """Three MiB at two MiB a second: the third one's turn is after a second."""
    with running_site(tmp_path, archive_bytes_per_s=2 * MiB) as site:
        begun = time.monotonic()
        site.done(order_snapshot(site, distinct(3 * MiB), 0))
        assert time.monotonic() - begun >= 1.0
