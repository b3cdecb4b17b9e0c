"""What ends by itself: on time, once, and also what became due while the service was down."""

from datetime import timedelta
from typing import Any

from workshop import BIRTH, Workshop

from onecut.db.jobs import Job
from onecut.db.snapshots import Snapshot
from onecut.service import retention, snapshots, volumes
from onecut.service.snapshots import NewSnapshot
from onecut.service.volumes import VolumeOrder


def take(shop: Workshop, volume_id: str, **wanted: Any) -> str:
    """Take a snapshot, and return its id once it is archived."""
    job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id, **wanted))
    assert shop.job(job_id).status == "SUCCESS"
    return str(snapshot_id)


def enforce(shop: Workshop) -> int:
    """Look once what is due, and carry it out."""
    ordered = retention.enforce(shop.database, shop.clock.now())
    shop.work()
    return ordered


def test_a_snapshot_goes_on_its_day_and_not_before(shop: Workshop) -> None:
    """Seven days after the request; one without a retention stays."""
    volume_id = shop.volume(content=b"first!")
    stays = take(shop, volume_id)
    goes = take(shop, volume_id, retention_days=7)
    assert shop.get(Snapshot, goes).retention_at == BIRTH + timedelta(days=7)

    shop.clock.jump(timedelta(days=7, seconds=-1))
    assert (enforce(shop), shop.get(Snapshot, goes) is not None) == (0, True)
    shop.clock.jump(timedelta(seconds=1))
    assert (enforce(shop), shop.get(Snapshot, goes)) == (1, None)
    assert shop.get(Snapshot, stays) is not None
    assert shop.points() == set()


def test_it_is_ordered_once(shop: Workshop) -> None:
    """Looking again while the deletion is under way orders nothing, however late it is."""
    goes = take(shop, shop.volume(), retention_days=1)
    shop.clock.jump(timedelta(days=400))

    assert [retention.enforce(shop.database, shop.clock.now()) for _ in range(3)] == [1, 0, 0]
    assert len([row for row in shop.state()[Job.__tablename__] if "deleteSnapshot" in row]) == 1
    shop.work()
    assert shop.get(Snapshot, goes) is None
    assert enforce(shop) == 0


def test_what_can_not_go_now_goes_later(shop: Workshop) -> None:
    """A volume is being made from it: the retention waits, and does not fail."""
    goes = take(shop, shop.volume(), retention_days=1)
    order = VolumeOrder("new", "", 10, "SSD", "az1", snapshot_id=goes)
    shop.ask(volumes.create, order, zones=["az1"])
    shop.clock.jump(timedelta(days=2))

    assert retention.enforce(shop.database, shop.clock.now()) == 0
    shop.work()
    assert (enforce(shop), shop.get(Snapshot, goes)) == (1, None)


def test_a_deletion_that_failed_is_tried_again_after_an_hour(shop: Workshop) -> None:
    """Not at once, or a store that is away would be asked without end."""
    goes = take(shop, shop.volume(), retention_days=1)
    shop.clock.jump(timedelta(days=2))
    shop.set(Snapshot, goes, status="error_deleting", updated_at=shop.clock.now())

    assert enforce(shop) == 0
    shop.clock.jump(timedelta(hours=1))
    assert (enforce(shop), shop.get(Snapshot, goes)) == (1, None)


def test_instant_access_is_switched_off_on_its_day(shop: Workshop) -> None:
    """The point goes, unless it is the newest; the snapshot stays."""
    volume_id = shop.volume(content=b"first!")
    first = take(shop, volume_id, instant_access=True)
    second = take(shop, volume_id, instant_access=True)
    assert shop.points() == {first, second}
    shop.set(Snapshot, first, instant_access_retention_at=BIRTH + timedelta(days=1))
    shop.clock.jump(timedelta(days=1))

    assert enforce(shop) == 1
    assert (shop.get(Snapshot, first).instant_access, shop.points()) == (False, {second})
    assert enforce(shop) == 0
