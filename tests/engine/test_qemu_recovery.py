"""The service dies, the daemon dies, or both, at each step: nothing is lost and nothing is left over."""

import asyncio
import threading
from pathlib import Path

import pytest
from engine_sites import SIZE, Killed, QemuSite, new_id, until
from running import DEADLINE_S

from onecut.engine.port import Cut, PointSource, Source
from onecut.errors import Misconfigured, OutcomeUnknown, VolumeUnusable
from onecut.nbd.client import NbdClient
from onecut.units import KiB

BLOCK = 4 * KiB
CUT_STEPS = ["planned", "prepared", "frozen"]


def block(letter: str) -> bytes:
    return letter.encode() * BLOCK


class Pair:
    """Two volumes that are being served, and a cut of both."""

    def __init__(self, site: QemuSite) -> None:
        self.site = site
        self.volumes = [new_id(), new_id()]
        self.exports = [new_id(), new_id()]
        self.uris: list[str] = []
        self.cut_id = new_id()
        self.points = {volume_id: new_id() for volume_id in self.volumes}

    def sources(self) -> dict[str, Source]:
        """What the volumes are rolled back to."""
        return {volume_id: PointSource(point_id) for volume_id, point_id in self.points.items()}

    async def begin(self) -> None:
        """Serve the volumes, with a letter at the beginning of each."""
        for export_id, volume_id in zip(self.exports, self.volumes, strict=True):
            await self.site.engine.create_volume(volume_id, SIZE)
            self.uris.append(await self.site.engine.export(export_id, volume_id))
        await self.write("a")

    async def write(self, letter: str) -> None:
        """Write to the beginning of both, as a client does who knows nothing of the service."""
        for uri in self.uris:
            await asyncio.to_thread(self._write, uri, letter)

    async def contents(self) -> list[bytes]:
        """Read the beginning of both by the URIs of old."""
        return [await asyncio.to_thread(self._read, uri) for uri in self.uris]

    async def point_contents(self) -> list[bytes]:
        """Read the beginning of both points."""
        found = []
        for point_id in self.points.values():
            volume_id = new_id()
            await self.site.engine.create_volume(volume_id, SIZE, source=PointSource(point_id))
            found.append(await self.site.read(volume_id, 0, BLOCK))
            await self.site.engine.delete_volume(volume_id)
        return found

    async def cut(self) -> Cut:
        """Cut both."""
        return await self.site.engine.cut(self.cut_id, self.points, deadline_s=DEADLINE_S)

    @staticmethod
    def _write(uri: str, letter: str) -> None:
        with NbdClient.connect(uri) as client:
            client.write(block(letter), 0)
            client.flush()

    @staticmethod
    def _read(uri: str) -> bytes:
        with NbdClient.connect(uri) as client:
            return client.read(0, BLOCK)


@pytest.fixture
async def pair(qemu: QemuSite) -> Pair:
    pair = Pair(qemu)
    await pair.begin()
    return pair


class TestServiceDies:
    @pytest.mark.parametrize("step", CUT_STEPS)
    async def test_during_a_cut(self, qemu: QemuSite, pair: Pair, step: str) -> None:
        """
        The next service finds out from the daemon whether the cut was made, and clients notice nothing.

        A write after the service's death is never in a point, and never lost.
        """
        qemu.engine.at[step] = qemu.die
        with pytest.raises(Killed):
            await pair.cut()
        await qemu.engine.close()
        await pair.write("b")

        await qemu.new_engine().start()
        cut = await qemu.engine.settle(pair.cut_id)

        assert (cut is not None) == (step == "frozen")
        assert await pair.contents() == [block("b")] * 2
        if cut is not None:
            assert {member.volume_id: member.point_id for member in cut.members} == pair.points
            assert await pair.point_contents() == [block("a")] * 2
        await qemu.tidy()
        assert await pair.cut() == (cut or await qemu.engine.settle(pair.cut_id))

    @pytest.mark.parametrize("step", CUT_STEPS)
    async def test_together_with_the_daemon_during_a_cut(self, qemu: QemuSite, pair: Pair, step: str) -> None:
        """With the daemon gone too, all new layers are adopted if they are all there, and none otherwise."""
        qemu.engine.at[step] = qemu.die
        with pytest.raises(Killed):
            await pair.cut()
        await qemu.engine.close()
        await pair.write("b")
        await qemu.kill_daemon()

        await qemu.new_engine().start()
        cut = await qemu.engine.settle(pair.cut_id)

        assert (cut is not None) == (step != "planned")
        assert await pair.contents() == [block("b")] * 2
        if cut is not None:
            seen = "a" if step == "frozen" else "b"  # what was written before the transaction belongs to the point
            assert await pair.point_contents() == [block(seen)] * 2
        await qemu.tidy()

    async def test_a_cut_with_data_is_adopted_although_a_file_is_missing(self, qemu: QemuSite, pair: Pair) -> None:
        """Data in a new layer is never thrown away: the volume whose layer is gone is unusable, the other works."""
        qemu.engine.at["frozen"] = qemu.die
        with pytest.raises(Killed):
            await pair.cut()
        await qemu.engine.close()
        await pair.write("b")
        await qemu.kill_daemon()
        plan = qemu.ledger.holdings().plans[0]
        lost = next(member for member in plan.members if member.volume_id == pair.volumes[1])
        qemu.engine._files.remove(lost.overlay_id)

        await qemu.new_engine().start()

        assert await qemu.read(pair.volumes[0], 0, BLOCK) == block("b")
        assert set((await qemu.engine.health()).unusable) == {pair.volumes[1]}
        assert await pair.point_contents() == [block("a")] * 2

    @pytest.mark.parametrize("daemon_dies", [False, True])
    async def test_while_a_volume_is_made(self, qemu: QemuSite, daemon_dies: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """The half-made volume leaves nothing, and can be made again."""
        volume_id = new_id()
        qemu.engine.at["laid"] = qemu.die
        with pytest.raises(Killed):
            await qemu.engine.create_volume(volume_id, SIZE)
        if daemon_dies:
            await qemu.engine.close()
            await qemu.kill_daemon()
        await qemu.restart()

        assert await qemu.is_tidy()
        await qemu.engine.create_volume(volume_id, SIZE)
        await qemu.write(volume_id, 0, block("a"))

    @pytest.mark.parametrize("step", ["laid", "switched"])
    @pytest.mark.parametrize("daemon_dies", [False, True])
    async def test_during_a_rollback(self, qemu: QemuSite, pair: Pair, step: str, daemon_dies: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """All volumes are as before or all are rolled back, and doing it again does it."""
        await pair.cut()
        await pair.write("b")
        for export_id in pair.exports:
            await qemu.engine.unexport(export_id)
        qemu.engine.at[step] = qemu.die
        with pytest.raises(Killed):
            await qemu.engine.roll_back(pair.sources())
        if daemon_dies:
            await qemu.engine.close()
            await qemu.kill_daemon()
        await qemu.restart()

        expected = block("b" if step == "laid" else "a")
        assert [await qemu.read(volume_id, 0, BLOCK) for volume_id in pair.volumes] == [expected] * 2
        await qemu.tidy()
        await qemu.engine.roll_back(pair.sources())
        assert [await qemu.read(volume_id, 0, BLOCK) for volume_id in pair.volumes] == [block("a")] * 2
        await qemu.tidy()

    async def test_during_an_extension(self, qemu: QemuSite) -> None:
        """The size that was written down holds after the restart, and a cut keeps it."""
        volume_id, point_id = new_id(), new_id()
        await qemu.engine.create_volume(volume_id, SIZE)
        qemu.engine.at["resize_noted"] = qemu.die
        with pytest.raises(Killed):
            await qemu.engine.extend_volume(volume_id, 2 * SIZE)
        await qemu.restart()

        await qemu.write(volume_id, 2 * SIZE - BLOCK, block("a"))
        await qemu.engine.cut(new_id(), {volume_id: point_id}, deadline_s=DEADLINE_S)

        assert await qemu.read(volume_id, 2 * SIZE - BLOCK, BLOCK) == block("a")

    async def test_and_clients_stay_connected(self, qemu: QemuSite, pair: Pair) -> None:
        """One connection lives through a restart of the service and a cut by the new one."""
        client = await asyncio.to_thread(NbdClient.connect, pair.uris[0])
        await qemu.restart()
        await asyncio.to_thread(client.write, block("b"), 0)
        await pair.cut()

        assert await asyncio.to_thread(client.read, 0, BLOCK) == block("b")
        client.close()


class TestDaemonDies:
    async def test_before_the_overlays_are_made(self, qemu: QemuSite, pair: Pair) -> None:
        """The cut settles to nothing; what was flushed is there, at the same URIs, and the next cut works."""
        qemu.engine.at["planned"] = qemu.lose_daemon
        with pytest.raises(OutcomeUnknown):
            await pair.cut()

        assert await qemu.engine.settle(pair.cut_id) is None

        assert await pair.contents() == [block("a")] * 2
        await qemu.tidy()
        await pair.cut()
        assert await pair.point_contents() == [block("a")] * 2

    async def test_before_the_flush(self, qemu: QemuSite, pair: Pair) -> None:
        """The cut is adopted, as nothing can have been written since; its points hold what was flushed."""
        qemu.engine.at["prepared"] = qemu.lose_daemon
        with pytest.raises(OutcomeUnknown):
            await pair.cut()

        assert isinstance(await qemu.engine.settle(pair.cut_id), Cut)

        assert await pair.contents() == [block("a")] * 2
        assert await pair.point_contents() == [block("a")] * 2
        await qemu.tidy()

    async def test_after_the_transaction(self, qemu: QemuSite, pair: Pair) -> None:
        """The cut is written down all the same, and its points can be read once the daemon is back."""
        qemu.engine.at["frozen"] = qemu.lose_daemon

        cut = await pair.cut()

        await pair_is_back(pair)
        assert await qemu.engine.settle(pair.cut_id) == cut
        assert await pair.contents() == [block("a")] * 2
        assert await pair.point_contents() == [block("a")] * 2
        await qemu.tidy()

    async def test_and_calls_wait_until_it_is_back(self, qemu: QemuSite, pair: Pair) -> None:
        """A call that comes while the daemon is started again is answered, not refused."""
        await qemu.lose_daemon()

        await pair.cut()

        assert await pair.contents() == [block("a")] * 2

    async def test_and_can_not_be_started_again(self, qemu: QemuSite, pair: Pair) -> None:
        """The operator is told why, and the engine comes back by itself when the reason is gone."""
        program, hidden = qemu.folder / "qsd", qemu.folder / "hidden"
        program.symlink_to("/usr/bin/qemu-storage-daemon")
        await qemu.engine.close()
        await qemu.new_engine(program=str(program)).start()
        program.rename(hidden)
        await qemu.lose_daemon()

        await until(lambda: is_told(qemu, "qemu-system-common"))
        hidden.rename(program)

        await until(lambda: is_ready(qemu))
        assert await pair.contents() == [block("a")] * 2


class TestStart:
    async def test_a_missing_layer_stops_only_volumes_that_need_it(self, qemu: QemuSite, pair: Pair) -> None:
        """The others work, health names the file, and nothing of the unusable volume is thrown away."""
        await pair.cut()
        await pair.write("b")
        frozen = qemu.ledger.point(pair.points[pair.volumes[0]])
        assert frozen is not None
        path = qemu.engine._files.path(frozen.layer.id)
        await qemu.engine.close()
        await qemu.kill_daemon()
        path.rename(qemu.folder / "aside")

        await qemu.new_engine().start()

        health = await qemu.engine.health()
        assert health.ready
        assert set(health.unusable) == {pair.volumes[0]}
        assert path.name in health.unusable[pair.volumes[0]]
        assert await qemu.read(pair.volumes[1], 0, BLOCK) == block("b")
        with pytest.raises(VolumeUnusable, match=path.name):
            await qemu.engine.export(new_id(), pair.volumes[0])
        with pytest.raises(VolumeUnusable, match=path.name):
            await qemu.engine.create_volume(new_id(), SIZE, source=PointSource(frozen.id))
        await qemu.engine.close()
        await qemu.kill_daemon()
        (qemu.folder / "aside").rename(path)
        await qemu.new_engine().start()
        assert await pair.contents() == [block("b")] * 2

    async def test_a_damaged_layer_is_named(self, qemu: QemuSite, pair: Pair) -> None:
        """A file that is no qcow2 file any more makes its volume unusable, and stays where it is."""
        kept = qemu.ledger.volume(pair.volumes[0])
        assert kept is not None
        path = qemu.engine._files.path(kept.top.id)
        await qemu.engine.close()
        await qemu.kill_daemon()
        with path.open("r+b") as file:
            file.write(b"damaged!")

        await qemu.new_engine().start()

        assert set((await qemu.engine.health()).unusable) == {pair.volumes[0]}
        assert path.exists()
        assert await qemu.read(pair.volumes[1], 0, BLOCK) == block("a")

    async def test_layers_that_the_ledger_does_not_know_are_kept_if_they_hold_data(
        self, qemu: QemuSite, pair: Pair
    ) -> None:
        """A ledger that was lost or restored from an old copy costs nobody a layer; empty files go."""
        kept = qemu.ledger.volume(pair.volumes[0])
        assert kept is not None
        stray, empty = (qemu.engine._files.path(letter * 24) for letter in "ab")
        stray.write_bytes(qemu.engine._files.path(kept.top.id).read_bytes())
        empty.touch()

        await qemu.restart()

        assert stray.exists()
        assert not empty.exists()

    async def test_files_are_their_owners_only(self, qemu: QemuSite, pair: Pair) -> None:
        """Nobody else on the machine may read a disk, or reach the daemon's sockets."""
        await pair.cut()

        for path in [*qemu.data_dir.rglob("*"), *qemu.run_dir.rglob("*"), qemu.data_dir, qemu.run_dir]:
            assert path.stat().st_mode & 0o077 == 0, path


class TestMisconfigured:
    async def test_a_missing_program(self, qemu: QemuSite) -> None:
        """The sentence names the package to install."""
        await qemu.engine.close()

        with pytest.raises(Misconfigured, match="package qemu-system-common"):
            await qemu.new_engine(program="no-such-program").start()

    async def test_an_old_program(self, qemu: QemuSite, tmp_path: Path) -> None:
        """The sentence names the version that is needed, and the one that is there."""
        await qemu.engine.close()
        old = tmp_path / "qemu-storage-daemon"
        old.write_text("#!/bin/sh\necho qemu-storage-daemon version 5.2.0\n")
        old.chmod(0o755)

        with pytest.raises(Misconfigured, match=r"7\.2 or newer.*5\.2\.0"):
            await qemu.new_engine(program=str(old)).start()

    async def test_a_long_run_dir(self, qemu: QemuSite) -> None:
        """The sentence names the setting and the limit."""
        await qemu.engine.close()
        qemu.run_dir = qemu.folder / ("x" * 100)

        with pytest.raises(Misconfigured, match=r"ONECUT_RUN.*107"):
            await qemu.new_engine().start()
        await qemu.engine.close()
        qemu.run_dir = qemu.folder / "run"
        qemu.new_engine()

    async def test_a_folder_in_use(self, qemu: QemuSite) -> None:
        """Two services never steer one daemon."""
        first = qemu.engine
        second = qemu.new_engine()
        qemu.engine = first

        with pytest.raises(Misconfigured, match="in use"):
            await second.start()
        await second.close()


async def pair_is_back(pair: Pair) -> None:
    await until(lambda: is_ready(pair.site))


async def is_ready(site: QemuSite) -> bool:
    return (await site.engine.health()).ready


async def is_told(site: QemuSite, word: str) -> bool:
    return word in (await site.engine.health()).detail


async def test_a_start_that_is_broken_off_is_finished(qemu: QemuSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that ends while its daemon starts leaves one that the next service finds and does not start again."""
    await qemu.engine.close()  # first: it would start the daemon again
    await qemu.kill_daemon()
    daemon = qemu.engine._daemon
    spawn, begun, may_go_on = daemon._spawn, threading.Event(), threading.Event()

    def slowly(arguments: list[str]) -> int:
        begun.set()
        may_go_on.wait(DEADLINE_S)
        return spawn(arguments)

    monkeypatch.setattr(daemon, "_spawn", slowly)
    starting = asyncio.create_task(daemon.connect())
    await asyncio.to_thread(begun.wait, DEADLINE_S)
    starting.cancel()
    await asyncio.sleep(0)  # the cancellation has arrived
    may_go_on.set()
    await asyncio.wait([starting])

    pid = daemon.pid()
    assert pid is not None
    await qemu.new_engine().start()
    assert qemu.engine._daemon.pid() == pid
