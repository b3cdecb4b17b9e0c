"""Real NBD servers for tests, each on a Unix socket of its own."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from folders import short_folder
from running import DEADLINE_S


@dataclass(frozen=True)
class Server:
    """A server that listens."""

    process: subprocess.Popen[bytes]
    socket_path: Path

    def uri(self, export: str = "") -> str:
        """Return the URI of one of its exports."""
        return f"nbd+unix:///{export}?socket={self.socket_path}"

    def kill(self) -> None:
        """End it without a word to its clients."""
        self.process.kill()
        self.process.wait()


@contextmanager
def nbdkit(*arguments: str) -> Iterator[Server]:
    """Serve a plugin of nbdkit, given with its filters and parameters."""
    with short_folder() as folder:
        options = ["nbdkit", "--foreground", "--unix", str(folder / "nbd"), "--pidfile", str(folder / "pid")]
        with _running([*options, *arguments], folder) as server:
            yield server


@contextmanager
def qemu_nbd(*arguments: str) -> Iterator[Server]:
    """Serve an image with qemu-nbd, for any number of clients one after the other or at once."""
    with short_folder() as folder:
        options = ["qemu-nbd", "--persistent", "--shared=0", "--socket", str(folder / "nbd")]
        with _running([*options, "--pid-file", str(folder / "pid"), *arguments], folder) as server:
            yield server


@contextmanager
def _running(command: Sequence[str], folder: Path) -> Iterator[Server]:
    """Run *command* until the end of the context; it writes its pid file once it listens."""
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not (folder / "pid").exists():
            assert process.poll() is None, f"{command[0]} ended at once"
            assert time.monotonic() < deadline, f"{command[0]} does not listen"
            time.sleep(0.005)
        yield Server(process, folder / "nbd")
    finally:
        process.terminate()
        process.wait()
