"""Performance: what a type gives, what may be chosen, and how the engine follows."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import pytest
from workshop import THEIRS, Workshop, refusal

from onecut.db.volumes import Volume
from onecut.engine.memory import MemoryEngine
from onecut.engine.port import Limits
from onecut.errors import BadRequest, EngineFull, NotFound, WrongState
from onecut.jobs.performance import Following
from onecut.service import limits, performance, volumes
from onecut.states import VOLUME_MOVES
from onecut.units import MiB

UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"
FAST: dict[str, Any] = {"volume_type": "GPSSD2", "iops": 3000, "throughput_mib": 125}


def in_force(shop: Workshop, volume_id: str) -> Limits:
    assert isinstance(shop.engine, MemoryEngine)
    return shop.engine.limits(volume_id)


def shown(shop: Workshop, volume_id: str) -> tuple[str, str, int | None, int | None]:
    volume = shop.get(Volume, volume_id)
    return volume.status, volume.volume_type, volume.iops, volume.throughput_mib


def change(shop: Workshop, volume_id: str, iops: int, throughput_mib: int | None = None, **options: Any) -> str:
    job_id: str = shop.ask(performance.order_change, volume_id, iops=iops, throughput_mib=throughput_mib, **options)
    return job_id


def retype(
    shop: Workshop,
    volume_id: str,
    new_type: str,
    iops: int | None = None,
    throughput_mib: int | None = None,
    **options: Any,
) -> str:
    job_id: str = shop.ask(
        performance.order_retype, volume_id, new_type, iops=iops, throughput_mib=throughput_mib, **options
    )
    return job_id


class FullEngine(MemoryEngine):
    """An engine that can't limit anything."""

    async def limit(self, limits: object) -> None:
        raise EngineFull(f"no space for {limits}")


class OvertakenEngine(MemoryEngine):
    """An engine to which something happens, once, before it limits."""

    meanwhile: Callable[[], Awaitable[None]] | None = None

    async def limit(self, limits: Mapping[str, Limits]) -> None:
        act, self.meanwhile = self.meanwhile, None
        if act is not None:
            await act()
        await super().limit(limits)


class TestFigures:
    @pytest.mark.parametrize(
        ("volume_type", "size_gib", "iops", "throughput_mib"),
        [
            ("SAS", 10, 1880, 101),
            ("SAS", 32768, 5000, 150),
            ("GPSSD", 100, 3000, 150),
            ("SSD", 100, 6800, 170),
            ("SSD", 964, 50000, 350),
            ("ESSD", 1000, 51800, 620),
        ],
    )
    def test_a_type_gives_by_size_what_evs_documents(
        self, volume_type: str, size_gib: int, iops: int, throughput_mib: int
    ) -> None:
        """Base and so much for each GiB, up to the type's limit; only where types limit."""
        given = Limits(iops, throughput_mib * MiB)
        assert limits.of_volume(volume_type, size_gib, None, None, qos="types") == given
        assert limits.of_volume(volume_type, size_gib, None, None, qos="volumes") == Limits()

    def test_what_was_chosen_limits_unless_nothing_does(self) -> None:
        """IOPS without throughput, as ESSD2 has them, limit the IOPS only."""
        for qos in ("volumes", "types"):
            assert limits.of_volume("GPSSD2", 10, 3000, 125, qos=qos) == Limits(3000, 125 * MiB)
            assert limits.of_volume("ESSD2", 10, 100, None, qos=qos) == Limits(100)
        assert limits.of_volume("GPSSD2", 10, 3000, 125, qos="off") == Limits()


class TestChange:
    @pytest.mark.parametrize("attached", [False, True])
    def test_the_engine_follows_whether_the_volume_is_attached_or_not(self, shop: Workshop, attached: bool) -> None:  # noqa: FBT001
        """The volume shows what was asked for, and when the job has ended it is in force; the state stays."""
        volume_id = shop.volume(**FAST)
        if attached:
            shop.server(volume_id)
        status = shop.get(Volume, volume_id).status

        job = shop.job(change(shop, volume_id, 4000, 200))

        assert (job.status, job.job_type) == ("SUCCESS", "modifyVolumeQos")
        assert shown(shop, volume_id) == (status, "GPSSD2", 4000, 200)
        assert in_force(shop, volume_id) == Limits(4000, 200 * MiB)

    def test_the_last_of_several_changes_is_in_force(self, shop: Workshop) -> None:
        """Also when its job overtakes the job of the one before, which is about to tell the engine."""
        engine = shop.engine = OvertakenEngine(shop.clock)
        volume_id = shop.volume(volume_type="ESSD2", iops=100)
        following = Following(engine, shop.database, partial(limits.of_volume, qos="volumes"))

        async def overtake() -> None:
            shop.set(Volume, volume_id, iops=900)
            await following.follow(volume_id)

        engine.meanwhile = overtake
        asyncio.run(following.follow(volume_id))

        assert in_force(shop, volume_id) == Limits(900)

    @pytest.mark.parametrize("status", sorted(set(VOLUME_MOVES) - performance.CHANGEABLE))
    def test_a_volume_in_another_state_is_refused(self, shop: Workshop, status: str) -> None:
        """Only `available` and `in-use` are documented."""
        volume_id = shop.volume(status=status, **FAST)
        with refusal(shop, WrongState, f"is {status}; this needs available or in-use"):
            change(shop, volume_id, 4000, 200)

    @pytest.mark.parametrize(
        ("columns", "asked", "message"),
        [
            ({}, (100, None), "iops: volume type SSD does not take it; got 100"),
            (FAST, (3000, None), "throughput: volume type GPSSD2 needs it"),
            (FAST, (2999, 125), "iops: must be 3000 to 5000 for GPSSD2 of 10 GiB (500 for each GiB), not 2999"),
            (FAST, (5001, 125), "iops: must be 3000 to 5000 for GPSSD2 of 10 GiB (500 for each GiB), not 5001"),
            (FAST, (3000, 124), "throughput: must be 125 to 750 MiB/s for 3000 IOPS (a quarter of them), not 124"),
            (FAST, (3000, 751), "throughput: must be 125 to 750 MiB/s for 3000 IOPS (a quarter of them), not 751"),
            (FAST | {"size_gib": 500}, (128_001, 125), "iops: must be 3000 to 128000 for GPSSD2 of 500 GiB"),
            (FAST | {"size_gib": 500}, (128_000, 1001), "throughput: must be 125 to 1000 MiB/s"),
            ({"volume_type": "ESSD2", "iops": 100}, (100, 125), "throughput: volume type ESSD2 does not take it"),
            ({"volume_type": "ESSD2", "iops": 100}, (99, None), "iops: must be 100 to 10000 for ESSD2 of 10 GiB"),
            ({"volume_type": "ESSD2", "iops": 100}, (10_001, None), "(1000 for each GiB), not 10001"),
        ],
    )
    def test_performance_that_the_volume_can_not_have_is_refused(
        self, shop: Workshop, columns: dict[str, Any], asked: tuple[int, int | None], message: str
    ) -> None:
        """With field, value and limit."""
        volume_id = shop.volume(**columns)
        with refusal(shop, BadRequest, message):
            change(shop, volume_id, *asked)

    def test_a_failed_change_shows_what_is_still_in_force(self, shop: Workshop) -> None:
        """As if it had not been asked for."""
        volume_id = shop.volume(**FAST)
        shop.engine = FullEngine(shop.clock)

        job = shop.job(change(shop, volume_id, 4000, 200))

        assert job.status == "FAIL"
        assert shown(shop, volume_id) == ("available", "GPSSD2", 3000, 125)

    def test_a_change_of_a_volume_that_is_deleted_meanwhile_is_no_failure(self, shop: Workshop) -> None:
        """There is nothing left to limit."""
        volume_id = shop.volume(**FAST)
        job_id = change(shop, volume_id, 4000, 200)
        shop.ask(volumes.order_deletion, volume_id)

        assert shop.job(job_id).status == "SUCCESS"
        assert shop.get(Volume, volume_id) is None


class TestRetype:
    @pytest.mark.parametrize("attached", [False, True])
    def test_the_new_type_limits_when_the_job_has_ended(self, shop: Workshop, attached: bool) -> None:  # noqa: FBT001
        """The volume is `retyping` meanwhile, and goes back to the state it had."""
        volume_id = shop.volume()
        if attached:
            shop.server(volume_id)
        status = shop.get(Volume, volume_id).status

        job_id = retype(shop, volume_id, "GPSSD2", 3000, 125)
        assert shown(shop, volume_id)[0] == "retyping"
        job = shop.job(job_id)

        assert (job.status, job.job_type, job.entities["volume_type"]) == ("SUCCESS", "retypeVolume", "GPSSD2")
        assert shown(shop, volume_id) == (status, "GPSSD2", 3000, 125)
        assert in_force(shop, volume_id) == Limits(3000, 125 * MiB)

    def test_what_was_chosen_goes_with_its_type(self, shop: Workshop) -> None:
        """A type that gives by size limits by size again."""
        volume_id = shop.volume(**FAST)

        shop.job(retype(shop, volume_id, "SAS"))

        assert shown(shop, volume_id) == ("available", "SAS", None, None)
        assert in_force(shop, volume_id) == Limits(1880, 101 * MiB)

    @pytest.mark.parametrize("status", sorted(set(VOLUME_MOVES) - performance.CHANGEABLE))
    def test_a_volume_in_another_state_is_refused(self, shop: Workshop, status: str) -> None:
        """EVS.2087."""
        volume_id = shop.volume(status=status)
        with refusal(shop, WrongState, f"is {status}; this needs available or in-use", code="EVS.2087"):
            retype(shop, volume_id, "SAS")

    @pytest.mark.parametrize(
        ("asked", "code", "message"),
        [
            (("SSD",), "EVS.2088", "is SSD already"),
            (("SATA",), "EVS.2088", "must be one of SAS, GPSSD, SSD, ESSD, GPSSD2, ESSD2, not 'SATA'"),
            (("FAST",), "EVS.2088", "not 'FAST'"),
            (("SAS", 100), "EVS.5400", "iops: volume type SAS does not take it; got 100"),
            (("GPSSD2", 3000), "EVS.5400", "throughput: volume type GPSSD2 needs it"),
            (("ESSD2", 99), "EVS.5400", "iops: must be 100 to 10000 for ESSD2 of 10 GiB"),
        ],
    )
    def test_a_type_that_the_volume_can_not_have_is_refused(
        self, shop: Workshop, asked: tuple[Any, ...], code: str, message: str
    ) -> None:
        """The same, one that is sold out or unknown, and performance that does not fit."""
        volume_id = shop.volume()
        with refusal(shop, BadRequest, message, code=code):
            retype(shop, volume_id, *asked)

    def test_a_failed_retyping_leaves_the_volume_as_it_was(self, shop: Workshop) -> None:
        """With its old type, and usable."""
        volume_id = shop.volume()
        shop.server(volume_id)
        shop.engine = FullEngine(shop.clock)

        assert shop.job(retype(shop, volume_id, "ESSD2", 100)).status == "FAIL"

        assert shown(shop, volume_id) == ("in-use", "SSD", None, None)


class TestFollowing:
    def test_a_new_volume_is_limited_before_it_is_used(self, shop: Workshop) -> None:
        """By its type here, as tests of services have it."""
        order = volumes.VolumeOrder("data", "", 100, "SSD", "az1")
        _, [volume_id] = shop.ask(volumes.create, order, zones=["az1"])

        shop.work()

        assert in_force(shop, volume_id) == Limits(6800, 170 * MiB)

    def test_a_larger_volume_is_as_fast_as_its_new_size_allows(self, shop: Workshop) -> None:
        """At once, not with the next start."""
        volume_id = shop.volume()

        shop.job(shop.ask(volumes.order_extension, volume_id, 100))

        assert in_force(shop, volume_id) == Limits(6800, 170 * MiB)

    def test_performance_out_of_its_limits_is_refused_to_a_new_volume(self, shop: Workshop) -> None:
        """As to one that is changed."""
        order = volumes.VolumeOrder("data", "", 10, "ESSD2", "az1", iops=10_001)
        with refusal(shop, BadRequest, "iops: must be 100 to 10000 for ESSD2 of 10 GiB"):
            shop.ask(volumes.create, order, zones=["az1"])


@pytest.mark.parametrize("whose", [THEIRS, None])
def test_a_foreign_volume_is_not_found(shop: Workshop, whose: str | None) -> None:
    """404 for another project's volume as for an unknown one."""
    volume_id = shop.volume(project_id=whose, **FAST) if whose else UNKNOWN
    with refusal(shop, NotFound, f"volume {volume_id} does not exist", code="EVS.5404"):
        change(shop, volume_id, 4000, 200)
    with refusal(shop, NotFound, f"volume {volume_id} does not exist", code="EVS.5404"):
        retype(shop, volume_id, "SAS")
