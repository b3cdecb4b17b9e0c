"""A PostgreSQL whose data and write-ahead log are on two disks is whole in every group that was cut while it ran."""

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg
import pytest
from folders import short_folder
from kernel_disks import block_devices, missing_for, mounted_ext4, run
from orders import (
    attach,
    delete_groups,
    detach,
    members,
    new_server,
    new_volumes,
    opened,
    take_group,
    uris,
)
from postgres import as_server_user, give_to_server, make_cluster, programs, serving_cluster
from running import Site, wait_until

pytestmark = pytest.mark.slow

CUTS: Final = 4
PROMISES_PER_CUT: Final = 20
"""Transactions of ours, at least, between two cuts."""

LOAD: Final = ["--client=4", "--rate=300", "--time=120", "--no-vacuum"]
"""pgbench's, which is ended with the last cut."""

ROLES: Final = ("data", "wal")
"""Labels of the two file systems."""


@pytest.fixture
def bin_folder() -> Path:
    """The folder of PostgreSQL's programs."""
    reason = missing_for("ext4")
    if reason is not None:
        pytest.skip(reason)
    found = programs()
    if found is None:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    return found


@dataclass
class Cut:
    """A group, and what had been promised when it was cut."""

    group_id: str
    acknowledged: int
    """The last number that was committed before the cut was asked for."""
    begun: int
    """The last number of which a commit was asked for until the cut was done."""


def test_every_committed_transaction_is_restored(real_site: Site, bin_folder: Path) -> None:
    """
    Under pgbench's load, from each of four groups that are cut while it runs, also after a rollback of the disks.

    The server starts on the two disks as after a power failure and recovers; what was committed before the cut is
    there, nothing of what began after it is, no transaction is there by halves, and no page is torn.
    """
    server_id = new_server(real_site)
    volume_ids = new_volumes(real_site, 2, server_id)
    with block_devices(uris(real_site, volume_ids)) as devices:
        for device, role in zip(devices, ROLES, strict=True):
            run("mkfs.ext4", "-q", "-L", role, "-J", "size=16", "-E", "nodiscard", device)
        cuts = cut_under_load(real_site, bin_folder, volume_ids, devices)

    # All but the last are in the repository only.
    assert [is_archived_only(real_site, cut.group_id) for cut in cuts] == [True] * (CUTS - 1) + [False]
    for cut in cuts:
        with opened(real_site, [cut.group_id]) as (disks,), block_devices(disks) as devices:
            check_cluster(bin_folder, devices, cut)

    for volume_id in volume_ids:
        detach(real_site, volume_id)
    path = f"/v5/{{p}}/snapshot-groups/{cuts[1].group_id}/rollback"
    real_site.done(real_site.call("POST", path, 202, json={"rollback": {"undo": False}}))
    with block_devices([attach(real_site, volume_id, server_id) for volume_id in volume_ids]) as devices:
        check_cluster(bin_folder, devices, cuts[1])
    delete_groups(real_site, [cut.group_id for cut in cuts])


def cut_under_load(site: Site, bin_folder: Path, volume_ids: Sequence[str], devices: Sequence[str]) -> list[Cut]:
    """Make a cluster on the disks, load it, and cut groups of the disks meanwhile."""
    cuts = []
    with mounted(devices) as folders, short_folder() as sockets:
        give_to_server(sockets)
        make_cluster(bin_folder, folders["data"] / "cluster", "--data-checksums", "-X", folders["wal"] / "pg_wal")
        with serving_cluster(bin_folder, folders["data"] / "cluster", sockets):
            pgbench = [str(bin_folder / "pgbench"), "-h", str(sockets), "-U", "onecut"]
            run(*pgbench, "--initialize", "--quiet", "--scale=1", "postgres")
            with (
                subprocess.Popen([*pgbench, *LOAD, "postgres"], stderr=subprocess.DEVNULL) as load,
                Promises(sockets) as promises,
            ):
                with connect(sockets) as connection:
                    wait_until(lambda: transactions_of(connection) > 0, "pgbench's first transaction")
                for _ in range(CUTS):
                    promises.wait_for(PROMISES_PER_CUT)
                    acknowledged = promises.acknowledged
                    group_id = take_group(site, volume_ids)
                    cuts.append(Cut(group_id, acknowledged, promises.begun))
                    assert load.poll() is None, "pgbench has ended"
                load.terminate()
    return cuts


def check_cluster(bin_folder: Path, devices: Sequence[str], cut: Cut) -> None:
    """Start the cluster on restored disks, let it recover, and look at all it holds."""
    with mounted(devices) as folders, short_folder() as sockets:
        give_to_server(sockets)
        # Where the log was is a link; the disks are mounted elsewhere now.
        link = folders["data"] / "cluster" / "pg_wal"
        link.unlink()
        link.symlink_to(folders["wal"] / "pg_wal")
        with serving_cluster(bin_folder, folders["data"] / "cluster", sockets):
            assert "automatic recovery in progress" in (sockets / "log").read_text()
            with connect(sockets) as connection:
                check_rows(connection, cut)
                connection.execute("CREATE EXTENSION amcheck")
            run(str(bin_folder / "pg_amcheck"), "--heapallindexed", "-h", str(sockets), "-U", "onecut", "postgres")
        run(*as_server_user(bin_folder / "pg_checksums", "--check", "-D", folders["data"] / "cluster"))


def check_rows(connection: psycopg.Connection, cut: Cut) -> None:
    """Compare our transactions with what was promised, and pgbench's with each other."""
    (number, last) = connection.execute("SELECT count(*), max(number) FROM promises").fetchone() or (0, 0)
    assert cut.acknowledged <= number == last <= cut.begun
    balances = """
        SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
               (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
        """
    sums = connection.execute(balances).fetchone() or ()
    assert len(set(sums)) == 1, sums
    assert transactions_of(connection) > 0


def transactions_of(connection: psycopg.Connection) -> int:
    """Return how many of pgbench's transactions the database has."""
    (number,) = connection.execute("SELECT count(*) FROM pgbench_history").fetchone() or (0,)
    return int(number)


@contextmanager
def mounted(devices: Sequence[str]) -> Iterator[dict[str, Path]]:
    """Mount the file systems on devices, and yield where, by their labels."""
    with ExitStack() as stack:
        found = {run("e2label", device).strip(): stack.enter_context(mounted_ext4(device)) for device in devices}
        for folder in found.values():
            give_to_server(folder)
        yield found


def is_archived_only(site: Site, group_id: str) -> bool:
    """Whether the engine has given up the points of all members of a group."""
    shown = [site.call("GET", f"/v5/{{p}}/snapshots/{each['id']}", 200) for each in members(site, group_id)]
    assert all(each["snapshot"]["onecut"]["archived_at"] for each in shown)
    return not any(each["snapshot"]["onecut"]["in_engine"] for each in shown)


def connect(sockets: Path) -> psycopg.Connection:
    """Connect to the server whose socket is there; each statement is a transaction."""
    return psycopg.connect(host=str(sockets), user="onecut", dbname="postgres", autocommit=True)


class Promises:
    """A client that commits numbered rows, one by one, until the block ends."""

    def __init__(self, sockets: Path) -> None:
        self.begun = self.acknowledged = 0
        self._sockets = sockets
        self._stop = threading.Event()
        self._error: psycopg.Error | None = None
        self._thread = threading.Thread(target=self._commit, name="promises")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def wait_for(self, more: int) -> None:
        """Wait until so many more rows are committed."""
        wanted = self.acknowledged + more
        wait_until(lambda: self.acknowledged >= wanted or not self._thread.is_alive(), f"{wanted} promises")
        assert self._thread.is_alive(), self._error

    def _commit(self) -> None:
        try:
            with connect(self._sockets) as connection:
                connection.execute("CREATE TABLE promises (number integer PRIMARY KEY)")
                for number in count(1):
                    if self._stop.is_set():
                        return
                    self.begun = number
                    connection.execute("INSERT INTO promises VALUES (%s)", [number])
                    self.acknowledged = number
        except psycopg.Error as error:
            self._error = error
