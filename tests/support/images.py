"""Images to restore from, served read-only by a real NBD server that can go away and come back."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from folders import short_folder
from running import DEADLINE_S

from onecut.engine.port import ImageSource
from onecut.units import MiB


class ServedImage:
    """A raw file and the server that serves it."""

    def __init__(self, folder: Path, content: bytes) -> None:
        self.content = content
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "image").write_bytes(content)
        # A hole where the content is zero: the server tells it, as an archive does.
        subprocess.run(["fallocate", "--dig-holes", folder / "image"], check=True)

    @property
    def source(self) -> ImageSource:
        """What the engine is given."""
        return ImageSource(f"nbd+unix:///?socket={self._folder}/nbd", len(self.content))

    def serve(self, *filters: str) -> None:
        """Begin to serve; *filters* are those of nbdkit and their parameters, and the log is always kept."""
        pid_file = self._folder / "pid"
        pid_file.unlink(missing_ok=True)
        names = [word for word in filters if word.startswith("--")]
        parameters = [word for word in filters if not word.startswith("--")]
        command = [
            "nbdkit",
            "--foreground",
            "--readonly",
            "--unix",
            f"{self._folder}/nbd",
            "--pidfile",
            str(pid_file),
        ]
        command += ["--filter=log", *names, "file", f"{self._folder}/image", f"logfile={self._folder}/log"]
        self._process = subprocess.Popen([*command, *parameters])
        deadline = time.monotonic() + DEADLINE_S
        while not pid_file.exists():
            assert self._process.poll() is None, "nbdkit ended at once"
            assert time.monotonic() < deadline, "nbdkit does not listen"
            time.sleep(0.005)

    def kill(self) -> None:
        """End the server without a word to its clients."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            (self._folder / "nbd").unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let the server be silent: connections stay, and nothing is answered."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server answer again."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def reads(self) -> list[tuple[int, int]]:
        """List what was read from the server since it was started: offsets and lengths."""
        found = []
        for line in (self._folder / "log").read_text().splitlines():
            if " Read id=" in line:
                fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
                found.append((int(fields["offset"], 16), int(fields["count"], 16)))
        return found


def some_content(size: int) -> bytes:
    """Make up a disk of random data in two places, one of them not aligned to anything but sectors, and zeros."""
    source = random.Random(size)  # noqa: S311 - repeatable content, no secret
    content = bytearray(size)
    for start, length in ((size // 8, size // 4), (5 * size // 8 + 3 * 512, 3 * MiB + 512)):
        content[start : start + length] = source.randbytes(length)
    return bytes(content)


@contextmanager
def image(content: bytes) -> Iterator[ServedImage]:
    """Make an image that is served from the beginning."""
    with short_folder() as folder:
        served = ServedImage(folder, content)
        served.serve()
        try:
            yield served
        finally:
            if served._process is not None:
                served.thaw()
            served.kill()
