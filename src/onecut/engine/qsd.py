"""
The daemon's process: found again, or started, always as a process of its own that outlives the service.

Sources: qemu-storage-daemon(1) for the options; QEMU util/oslib-posix.c `qemu_write_pidfile`: the pid file is locked,
so a second daemon on the same folder gives up.
"""

import asyncio
import os
import re
import resource
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from onecut.engine.monitor import Monitor
from onecut.engine.together import to_the_end
from onecut.errors import EngineDown, Misconfigured

OLDEST_VERSION: Final = (7, 2)
"""The oldest version this was measured with (Debian 12)."""

START_LIMIT_S: Final = 60.0
"""
How long a daemon may take until it answers, or a killed one until it is gone.

It takes some 30 ms, and far longer where others keep the disk busy on which its pid file is made. Who gives up too
early may start a second one beside it.
"""

SOCKET_PATH_LIMIT_BYTES: Final = 107
"""``sun_path`` holds 108 bytes with the final zero; unix(7)."""

_PF_EXITING: Final = 0x4
"""Linux, include/linux/sched.h."""

log = structlog.get_logger(__name__)


class StorageDaemon:
    """One `qemu-storage-daemon` for all volumes of the machine."""

    def __init__(self, program: str, run_dir: Path, log_path: Path) -> None:
        self.version = ""
        self.nbd_socket = run_dir / "nbd.sock"
        self._program = program
        self._qmp_socket = run_dir / "qmp.sock"
        self._pid_file = run_dir / "qsd.pid"
        self._log_path = log_path

    def pid(self) -> int | None:
        """Find the running daemon by its pid file; None when it does not run."""
        pid, command_line = self._process()
        # The number may belong to another process by now; ours has our socket among its arguments.
        return pid if os.fsencode(_option(self._qmp_socket)) in command_line else None

    def is_ending(self) -> bool:
        """
        Tell whether a daemon was killed and still has its files open, with writes under way and locks held.

        A process that ends loses its memory first, and its command line with it, then its files; only then it
        becomes a zombie (Linux, kernel/exit.c `do_exit`).
        """
        pid, command_line = self._process()
        if pid is None or command_line:
            return False
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return False
        # A kernel thread that has the number now has no command line either, but it does not exit; proc(5).
        state, flags = fields[0], int(fields[6])
        return bool(flags & _PF_EXITING) and state not in {"Z", "X"}

    def moved_bytes(self) -> int | None:
        """Read how much the running daemon has had read from disks and written to them; proc(5), ``/proc/pid/io``."""
        pid = self.pid()
        try:
            lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        except OSError:  # it does not run, or the kernel does not tell us
            return None
        counted = dict(line.split(": ") for line in lines)
        return int(counted["read_bytes"]) + int(counted["write_bytes"])

    def _process(self) -> tuple[int | None, bytes]:
        try:
            pid = int(self._pid_file.read_text())
            return pid, Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError):
            return None, b""

    async def connect(self) -> Monitor:
        """
        Connect to the running daemon, or start one.

        Raises:
            Misconfigured: The program can't be used, or the sockets' paths are too long.
            EngineDown: It does not answer, or ended at once; the sentence says where its own words are.
        """
        await self._check()
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while self.is_ending():  # noqa: ASYNC110 - another process's act sets no event here
                    await asyncio.sleep(0.005)
        except TimeoutError as stuck:
            raise EngineDown("the daemon was killed, but its writes do not come to an end") from stuck
        if self.pid() is None:
            # One half started would meet the next one.
            await to_the_end(self._start())
        monitor = Monitor()
        await monitor.connect(self._qmp_socket, timeout_s=START_LIMIT_S)
        return monitor

    async def _check(self) -> None:
        for path in (self._qmp_socket, self.nbd_socket):
            check_socket_path(path)
        try:
            answer = await asyncio.to_thread(
                subprocess.run, [self._program, "--version"], capture_output=True, text=True, check=True, timeout=10
            )
        except (OSError, subprocess.SubprocessError) as problem:
            raise Misconfigured(
                f"{self._program} can't be run ({problem}); on Debian it comes with the package qemu-system-common"
            ) from problem
        found = re.search(r"version (\d+)\.(\d+)(\.\d+)?", answer.stdout)
        if found is None or (int(found[1]), int(found[2])) < OLDEST_VERSION:
            first_line = answer.stdout.partition("\n")[0]
            raise Misconfigured(f"{self._program} must be version 7.2 or newer; it says: {first_line}")
        self.version = found[0].removeprefix("version ")

    async def _start(self) -> None:
        self._pid_file.unlink(missing_ok=True)
        self._qmp_socket.unlink(missing_ok=True)
        arguments = [
            "--chardev",
            f"socket,id=qmp,path={_option(self._qmp_socket)},server=on,wait=off",
            "--monitor",
            "chardev=qmp",
            "--nbd-server",
            f"addr.type=unix,addr.path={_option(self.nbd_socket)},max-connections=0",
            "--pidfile",
            str(self._pid_file),
        ]
        life = await asyncio.to_thread(self._spawn, arguments)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(START_LIMIT_S):
                    # The daemon writes its pid file last, when its sockets listen.
                    while self.pid() is None and not _is_at_its_end(life):  # noqa: ASYNC110 - they set no event here
                        await asyncio.sleep(0.005)
        finally:
            os.close(life)
        if self.pid() is None:
            raise EngineDown(f"{self._program} did not start; see {self._log_path}")
        log.info("daemon_started", pid=self.pid(), version=self.version)

    def _spawn(self, arguments: list[str]) -> int:
        """Start the daemon, and return a pipe that is at its end when the daemon is."""
        # `setsid --fork` leaves the daemon to init, in a session of its own: it is no child that could become a
        # zombie, and no signal to the service's terminal reaches it. QSD's own --daemonize would do the same, but
        # sends stderr to /dev/null, and with it the last words of an abort.
        # The daemon inherits the limit, and holds a file open for every layer.
        _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
        life, held = os.pipe()
        try:
            with self._log_path.open("ab") as output:
                self._log_path.chmod(0o600)
                subprocess.run(  # noqa: S603 - the program is the operator's setting
                    ["setsid", "--fork", self._program, *arguments],  # noqa: S607 - util-linux, on every Linux
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[held],
                    cwd="/",
                    umask=0o077,
                    check=True,
                )
        except BaseException:
            os.close(life)
            raise
        finally:
            os.close(held)
        return life


def _is_at_its_end(pipe: int) -> bool:
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 1) == b""
    except BlockingIOError:
        return False


def check_socket_path(path: Path) -> None:
    """Raise `Misconfigured` when the kernel would not take a socket's path."""
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT_BYTES:
        raise Misconfigured(
            f"setting run (ONECUT_RUN) is too long: the socket's path {path} may have at most "
            f"{SOCKET_PATH_LIMIT_BYTES} bytes"
        )


def _option(path: Path) -> str:
    """Write a path so that it can stand in an option with commas; QEMU, util/qemu-option.c."""
    return str(path).replace(",", ",,")
