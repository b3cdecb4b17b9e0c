"""The engine's contract: every engine keeps these promises."""

import pytest
from engine_sites import SIZE, Site, new_id
from running import DEADLINE_S

from onecut.engine.port import Limits, PointSource, Source
from onecut.errors import CannotCut, EngineError, VolumeUnusable
from onecut.units import KiB, MiB

BLOCK = 4 * KiB


def block(letter: str) -> bytes:
    return letter.encode() * BLOCK


async def new_volume(site: Site, *, source: Source | None = None) -> str:
    volume_id = new_id()
    await site.engine.create_volume(volume_id, SIZE, source=source)
    return volume_id


async def cut(site: Site, *volume_ids: str) -> list[str]:
    """Cut volumes, and return their points in the same order."""
    points = {volume_id: new_id() for volume_id in volume_ids}
    await site.engine.cut(new_id(), points, deadline_s=DEADLINE_S)
    return list(points.values())


async def read_point(site: Site, point_id: str, offset: int, length: int = BLOCK) -> bytes:
    volume_id = await new_volume(site, source=PointSource(point_id))
    data = await site.read(volume_id, offset, length)
    await site.engine.delete_volume(volume_id)
    return data


class TestVolumes:
    async def test_a_new_volume_reads_as_zeros_to_its_end(self, site: Site) -> None:
        """Nothing of what was on the disk before shows through, and the size is as asked."""
        volume_id = await new_volume(site)

        assert await site.read(volume_id, SIZE - BLOCK, BLOCK) == bytes(BLOCK)

    async def test_creating_twice_keeps_what_was_written(self, site: Site) -> None:
        """A job that creates a volume again after a crash does not wipe it."""
        volume_id = await new_volume(site)
        await site.write(volume_id, 0, block("a"))

        await site.engine.create_volume(volume_id, SIZE)

        assert await site.read(volume_id, 0, BLOCK) == block("a")

    async def test_an_extended_volume_keeps_its_data_and_grows_by_zeros(self, site: Site) -> None:
        """Extending changes nothing that was there; a repetition changes nothing at all."""
        volume_id = await new_volume(site)
        await site.write(volume_id, SIZE - BLOCK, block("a"))

        await site.engine.extend_volume(volume_id, 2 * SIZE)
        await site.engine.extend_volume(volume_id, 2 * SIZE)

        assert await site.read(volume_id, SIZE - BLOCK, 2 * BLOCK) == block("a") + bytes(BLOCK)
        assert await site.read(volume_id, 2 * SIZE - BLOCK, BLOCK) == bytes(BLOCK)

    async def test_deleting_a_volume_spares_its_points(self, site: Site) -> None:
        """A point outlives its volume."""
        volume_id = await new_volume(site)
        await site.write(volume_id, 0, block("a"))
        (point_id,) = await cut(site, volume_id)

        await site.engine.delete_volume(volume_id)

        assert await read_point(site, point_id, 0) == block("a")

    async def test_deleting_what_is_not_there_is_no_error(self, site: Site) -> None:
        """A job that deletes again after a crash succeeds."""
        await site.engine.delete_volume(new_id())

    async def test_an_exported_volume_is_neither_deleted_nor_extended(self, site: Site) -> None:
        """As long as somebody may write, the volume stays as it is."""
        volume_id = await new_volume(site)
        await site.engine.export(new_id(), volume_id)

        with pytest.raises(EngineError, match="is exported"):
            await site.engine.delete_volume(volume_id)
        with pytest.raises(EngineError, match="is exported"):
            await site.engine.extend_volume(volume_id, 2 * SIZE)

    async def test_a_volume_from_a_point_is_independent(self, site: Site) -> None:
        """Neither the source nor the new volume sees what is written to the other later."""
        volume_id = await new_volume(site)
        await site.write(volume_id, 0, block("a"))
        (point_id,) = await cut(site, volume_id)

        copy_id = await new_volume(site, source=PointSource(point_id))
        await site.write(volume_id, 0, block("b"))
        await site.write(copy_id, BLOCK, block("c"))

        assert await site.read(copy_id, 0, 2 * BLOCK) == block("a") + block("c")
        assert await site.read(volume_id, 0, 2 * BLOCK) == block("b") + bytes(BLOCK)
        assert await read_point(site, point_id, 0, 2 * BLOCK) == block("a") + bytes(BLOCK)

    async def test_a_volume_from_an_unknown_point_is_refused(self, site: Site) -> None:
        """Nothing is made of nothing."""
        with pytest.raises(VolumeUnusable, match="no point"):
            await new_volume(site, source=PointSource(new_id()))


class TestExports:
    async def test_the_same_export_has_the_same_uri(self, site: Site) -> None:
        """A job that exports again after a crash tells the same URI."""
        volume_id, export_id = await new_volume(site), new_id()

        first = await site.engine.export(export_id, volume_id)

        assert await site.engine.export(export_id, volume_id) == first

    async def test_an_export_does_not_move_to_another_volume(self, site: Site) -> None:
        """An export's id stands for one volume."""
        export_id = new_id()
        await site.engine.export(export_id, await new_volume(site))

        with pytest.raises(EngineError, match="already"):
            await site.engine.export(export_id, await new_volume(site))

    async def test_ending_an_export_twice_is_no_error(self, site: Site) -> None:
        """A job that ends an export again after a crash succeeds."""
        export_id = new_id()
        await site.engine.export(export_id, await new_volume(site))

        await site.engine.unexport(export_id)
        await site.engine.unexport(export_id)


class TestLimits:
    async def test_limits_are_in_force_at_once_and_stay(self, site: Site) -> None:
        """They hold for a volume that is served already, and for its further exports, through a cut and a change."""
        volume_id, first, second = await new_volume(site), new_id(), new_id()
        await site.engine.export(first, volume_id)
        assert await site.limits(volume_id) == Limits()

        await site.engine.limit({volume_id: Limits(iops=100, bytes_per_s=5 * MiB)})
        await site.engine.export(second, volume_id)
        await cut(site, volume_id)
        await site.engine.unexport(first)
        assert await site.limits(volume_id) == Limits(iops=100, bytes_per_s=5 * MiB)

        await site.engine.limit({volume_id: Limits(iops=200)})
        assert await site.limits(volume_id) == Limits(iops=200)

    async def test_limits_hold_for_exports_that_are_made_later(self, site: Site) -> None:
        """A volume that nobody uses may be limited too, and keeps its limits while it is extended and rolled back."""
        volume_id = await new_volume(site)
        await site.engine.limit({volume_id: Limits(bytes_per_s=5 * MiB)})
        (point_id,) = await cut(site, volume_id)

        await site.engine.extend_volume(volume_id, 2 * SIZE)
        await site.engine.roll_back({volume_id: PointSource(point_id)})
        await site.engine.export(new_id(), volume_id)

        assert await site.limits(volume_id) == Limits(bytes_per_s=5 * MiB)

    async def test_limits_of_what_is_not_there_are_no_error(self, site: Site) -> None:
        """A volume may have been deleted meanwhile; the others are limited all the same."""
        volume_id = await new_volume(site)
        await site.engine.export(new_id(), volume_id)

        await site.engine.limit({new_id(): Limits(iops=100), volume_id: Limits(iops=100)})

        assert await site.limits(volume_id) == Limits(iops=100)


class TestCut:
    async def test_points_keep_what_volumes_held(self, site: Site) -> None:
        """A point shows its volume before the cut, whatever is written after it."""
        first, second = await new_volume(site), await new_volume(site)
        await site.write(first, 0, block("a"))
        await site.write(second, 1 * MiB, block("b"))

        points = await cut(site, first, second)
        await site.write(first, 0, block("x"))
        await site.write(second, 1 * MiB, block("y"))

        assert await read_point(site, points[0], 0) == block("a")
        assert await read_point(site, points[1], 1 * MiB) == block("b")
        assert await site.read(first, 0, BLOCK) == block("x")

    async def test_a_cut_tells_how_long_its_points_are(self, site: Site) -> None:
        """Each as long as its volume at that instant, also when it is asked again after the volume has grown."""
        small, large = await new_volume(site), await new_volume(site)
        await site.engine.extend_volume(large, 2 * SIZE)
        cut_id, points = new_id(), {small: new_id(), large: new_id()}
        made = await site.engine.cut(cut_id, points, deadline_s=DEADLINE_S)
        await site.engine.extend_volume(small, 3 * SIZE)

        assert {member.volume_id: member.size_bytes for member in made.members} == {small: SIZE, large: 2 * SIZE}
        assert await site.engine.settle(cut_id) == made

    async def test_repeating_a_cut_returns_the_first(self, site: Site) -> None:
        """The same id never cuts twice, and `settle` finds the same cut."""
        volume_id, cut_id = await new_volume(site), new_id()
        points = {volume_id: new_id()}
        first = await site.engine.cut(cut_id, points, deadline_s=DEADLINE_S)
        await site.write(volume_id, 0, block("a"))

        again = await site.engine.cut(cut_id, points, deadline_s=DEADLINE_S)

        assert again == first == await site.engine.settle(cut_id)
        assert await read_point(site, points[volume_id], 0) == bytes(BLOCK)

    async def test_an_unknown_member_leaves_no_point_behind(self, site: Site) -> None:
        """One bad member, and no member is cut."""
        volume_id, point_id, cut_id = await new_volume(site), new_id(), new_id()

        with pytest.raises(CannotCut, match="no volume"):
            await site.engine.cut(cut_id, {volume_id: point_id, new_id(): new_id()}, deadline_s=DEADLINE_S)

        assert await site.engine.settle(cut_id) is None
        with pytest.raises(VolumeUnusable):
            await new_volume(site, source=PointSource(point_id))

    async def test_no_volume_and_too_many_are_refused(self, site: Site) -> None:
        """A cut has one member at least, and `max_members` at most."""
        for count in (0, site.engine.max_members + 1):
            with pytest.raises(CannotCut, match="1 to 64"):
                await site.engine.cut(new_id(), {new_id(): new_id() for _ in range(count)}, deadline_s=DEADLINE_S)

    async def test_a_point_that_is_there_is_not_made_again(self, site: Site) -> None:
        """A point's id stands for one instant."""
        volume_id = await new_volume(site)
        (point_id,) = await cut(site, volume_id)

        with pytest.raises(CannotCut, match="already"):
            await site.engine.cut(new_id(), {volume_id: point_id}, deadline_s=DEADLINE_S)

    async def test_an_id_stands_for_one_cut(self, site: Site) -> None:
        """The id of a cut that was made is refused for other volumes or points."""
        volume_id, cut_id = await new_volume(site), new_id()
        await site.engine.cut(cut_id, {volume_id: new_id()}, deadline_s=DEADLINE_S)

        with pytest.raises(CannotCut, match="other volumes or points"):
            await site.engine.cut(cut_id, {volume_id: new_id()}, deadline_s=DEADLINE_S)

    async def test_an_unknown_cut_settles_to_nothing(self, site: Site) -> None:
        """What was never begun was not made."""
        assert await site.engine.settle(new_id()) is None


class TestRollBack:
    async def test_all_volumes_have_their_points_content_again(self, site: Site) -> None:
        """Any point can be gone back to, in any order, and the points stay as they are."""
        first, second = await new_volume(site), await new_volume(site)
        cuts = []
        for letter in "abc":
            await site.write(first, 0, block(letter))
            await site.write(second, 0, block(letter))
            cuts.append(await cut(site, first, second))

        for letter, points in (("a", cuts[0]), ("c", cuts[2]), ("b", cuts[1])):
            sources = [PointSource(point_id) for point_id in points]
            await site.engine.roll_back(dict(zip((first, second), sources, strict=True)))

            assert await site.read(first, 0, BLOCK) == block(letter)
            assert await site.read(second, 0, BLOCK) == block(letter)
            await site.write(first, 0, block("x"))

    async def test_a_foreign_point_changes_no_volume(self, site: Site) -> None:
        """All are rolled back, or none."""
        first, second = await new_volume(site), await new_volume(site)
        points = await cut(site, first, second)
        await site.write(first, 0, block("a"))

        with pytest.raises(VolumeUnusable, match="not of volume"):
            await site.engine.roll_back({first: PointSource(points[0]), second: PointSource(points[0])})

        assert await site.read(first, 0, BLOCK) == block("a")

    async def test_a_grown_volume_keeps_its_size(self, site: Site) -> None:
        """What lies beyond the point's end reads as zeros."""
        volume_id = await new_volume(site)
        await site.write(volume_id, 0, block("a"))
        (point_id,) = await cut(site, volume_id)
        await site.engine.extend_volume(volume_id, 2 * SIZE)
        await site.write(volume_id, 2 * SIZE - BLOCK, block("b"))

        await site.engine.roll_back({volume_id: PointSource(point_id)})

        assert await site.read(volume_id, 0, BLOCK) == block("a")
        assert await site.read(volume_id, 2 * SIZE - BLOCK, BLOCK) == bytes(BLOCK)

    async def test_an_exported_volume_is_not_rolled_back(self, site: Site) -> None:
        """Nobody's disk changes under a writer."""
        volume_id = await new_volume(site)
        (point_id,) = await cut(site, volume_id)
        await site.engine.export(new_id(), volume_id)

        with pytest.raises(EngineError, match="is exported"):
            await site.engine.roll_back({volume_id: PointSource(point_id)})


class TestRelease:
    async def test_released_points_are_gone_and_others_stay(self, site: Site) -> None:
        """Whatever is released, in whatever order, the rest keeps its content."""
        volume_id = await new_volume(site)
        points = []
        for letter in "abcde":
            await site.write(volume_id, 0, block(letter))
            await site.write(volume_id, ord(letter) * 64 * KiB, block(letter))
            points += await cut(site, volume_id)

        await site.engine.release([points[0], points[2], points[3]])
        await site.engine.release([points[0]])

        assert await read_point(site, points[1], 0) == block("b")
        assert await read_point(site, points[1], ord("a") * 64 * KiB) == block("a")
        assert await read_point(site, points[4], 0) == block("e")
        assert await read_point(site, points[4], ord("d") * 64 * KiB) == block("d")
        with pytest.raises(VolumeUnusable):
            await new_volume(site, source=PointSource(points[2]))


class TestHealth:
    async def test_a_working_engine_is_ready(self, site: Site) -> None:
        """Nothing is unusable, and there is a sentence for the operator."""
        health = await site.engine.health()

        assert health.ready
        assert health.detail
        assert not health.unusable
