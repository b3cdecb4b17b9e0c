"""The daemon is killed: the service starts it again by itself, and what was on stable storage is there."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from diary import Diary
from inventory import Inventory
from orders import (
    attach,
    delete_groups,
    group,
    judge,
    members,
    new_server,
    new_volumes,
    order_group,
    take_group,
    uris,
)
from running import Site, running_site, wait_until
from sqlalchemy import select

from onecut.clock import Clock
from onecut.config import Settings
from onecut.db.layers import EnginePoint
from onecut.db.ledger import DatabaseLedger
from onecut.db.session import Database
from onecut.engine import qemu
from onecut.errors import EngineDown
from onecut.nbd.client import NbdClient
from onecut.nbd.errors import ConnectionLost
from onecut.units import KiB
from onecut.witness.verify import Outcome

BLOCK = b"\x11" * 4 * KiB


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that dies again and again is started again soon: the pause is not what is tested here."""
    monkeypatch.setattr(qemu, "RESTART_PAUSE_LIMIT_S", 0.1)


def kill_daemon(data: Path) -> int:
    """Kill the daemon, and return the id that its process had."""
    pid = int((data / "run" / "qsd.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    return pid


def wait_for_another(site: Site, data: Path, killed: int) -> None:
    """Wait until the service has another daemon, and is ready."""
    pid_file = data / "run" / "qsd.pid"

    def back() -> bool:
        told = pid_file.read_text() if pid_file.exists() else ""
        return told.strip() not in {"", str(killed)} and site.client.get("/readyz").is_success

    wait_until(back, "the daemon is back")


def test_killed_while_idle(real_site: Site, data: Path) -> None:
    """The service brings the daemon back; the same URI opens the same disk, and cuts, attaching and rollback work."""
    server_id = new_server(real_site)
    attached, detached = new_volumes(real_site, 1, server_id)[0], new_volumes(real_site, 1)[0]
    (uri,) = uris(real_site, [attached])
    with NbdClient.connect(uri) as client:
        client.write(BLOCK, 0, fua=True)
        group_id = take_group(real_site, [attached, detached])
        wait_for_another(real_site, data, kill_daemon(data))
        with pytest.raises(ConnectionLost):
            client.read(0, 4 * KiB)
    with NbdClient.connect(uri) as client:
        assert client.read(0, 4 * KiB) == BLOCK
        client.write(BLOCK, 4 * KiB)
    assert uris(real_site, [attached]) == [uri]
    with NbdClient.connect(attach(real_site, detached, server_id)) as client:
        assert client.read(0, 4 * KiB) == bytes(4 * KiB)
    delete_groups(real_site, [group_id, take_group(real_site, [attached, detached])])


def test_killed_while_clients_write(real_site: Site, data: Path) -> None:
    """After each of three deaths, clients go on at the same URIs, and nothing that was written through is lost."""
    volume_ids = new_volumes(real_site, 2, new_server(real_site))
    with Diary(uris(real_site, volume_ids), reconnect=True) as diary:
        for _ in range(3):
            killed = kill_daemon(data)
            wait_for_another(real_site, data, killed)
            diary.wait_for(20)
    assert diary.losses >= 3
    diary.check()


@pytest.mark.slow
def test_killed_during_cuts(real_site: Site, data: Path) -> None:
    """
    A cut whose daemon is killed at any moment ends as a group that shows one instant, or without a single point.

    The moments are random, from one seed: before, during and after the preparations, the transaction and the
    answer. The clients write on throughout, and lose nothing.
    """
    chance = random.Random(2)  # noqa: S311 - no secret
    volume_ids = new_volumes(real_site, 3, new_server(real_site))
    outcomes: list[str] = []
    with Diary(uris(real_site, volume_ids), reconnect=True) as diary:
        while len(outcomes) < 15:
            answer = order_group(real_site, volume_ids)
            time.sleep(chance.uniform(0.0, 0.12))
            killed = kill_daemon(data)
            real_site.job(answer["job_id"])
            wait_for_another(real_site, data, killed)
            outcomes.append(check_outcome(real_site, answer["snapshot_group_id"]))
            delete_groups(real_site, [answer["snapshot_group_id"]])
            diary.wait_for(6)
    print(outcomes)  # noqa: T201 - shown when the test fails
    diary.check()


def test_killed_before_the_answer_to_the_transaction(data: Path) -> None:
    """
    A cut that was made, and whose answer was lost with the daemon, is adopted with all that was written since.

    Given up, it would take with it the writes that clients had been told are on stable storage.
    """
    engines: list[DeafEngine] = []

    def deaf_engine(settings: Settings, database: Database, clock: Clock) -> DeafEngine:
        engines.append(DeafEngine(DatabaseLedger(database), settings.data, settings.data / "run", clock=clock))
        return engines[0]

    with running_site(data, make_engine=deaf_engine) as site:
        volume_ids = new_volumes(site, 2, new_server(site))
        with Diary(uris(site, volume_ids), reconnect=True) as diary:

            def kill_after_more_writes() -> None:
                diary.wait_for(20)
                kill_daemon(data)

            engines[0].instead_of_the_answer = kill_after_more_writes
            group_id = take_group(site, volume_ids)
            diary.wait_for(20)
        diary.check()
        assert check_outcome(site, group_id) == "available"
        delete_groups(site, [group_id])
        Inventory(data).wait_until_tidy()
    Inventory(data).check_daemon()


class DeafEngine(qemu.QemuEngine):
    """Does not hear that a transaction was carried out, once: something else happens instead."""

    instead_of_the_answer: Callable[[], None] | None = None

    async def _reached(self, step: str) -> None:
        await super()._reached(step)
        if step == "frozen" and self.instead_of_the_answer is not None:
            act, self.instead_of_the_answer = self.instead_of_the_answer, None
            await asyncio.to_thread(act)
            raise EngineDown("the daemon was lost before it answered")


def check_outcome(site: Site, group_id: str) -> str:
    """Check that a group is available and right, or in error and empty; return its status."""
    status: str = group(site, group_id)["status"]
    member_ids = [member["id"] for member in members(site, group_id)]
    if status == "available":
        assert [verdict.outcome for verdict in judge(site, [group_id])] == [Outcome.CONSISTENT]
    else:
        assert status == "error"
        with site.database.reading() as session:
            assert not session.scalars(select(EnginePoint.id).where(EnginePoint.id.in_(member_ids))).all()
    return status
