"""The recycle bin without HTTP: what goes in, what a failure leaves, and what ends whom."""

from datetime import timedelta
from typing import Any

import pytest
from workshop import OURS, Workshop, refusal

from onecut.db.jobs import Job
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume
from onecut.engine.memory import MemoryEngine
from onecut.errors import WrongState
from onecut.service import recycle_bin, recycle_policy, servers, snapshots, tags, volumes
from onecut.service.snapshots import NewSnapshot
from onecut.states import VOLUME_DELETABLE


@pytest.fixture
def shop(shop: Workshop) -> Workshop:
    """A workshop whose project has the bin on, in which volumes of the birth's moment are old enough."""
    with shop.database.writing() as session:
        recycle_policy.update(session, OURS, switch=True, threshold_days=1, keep_days=3)
    shop.clock.jump(timedelta(days=1))
    return shop


def delete(shop: Workshop, volume_id: str) -> str:
    job_id: str = shop.ask(volumes.order_deletion, volume_id)
    return job_id


def empty(shop: Workshop) -> int:
    return recycle_bin.empty(shop.database, shop.clock.now())


def in_bin(shop: Workshop) -> set[str]:
    with shop.database.reading() as session:
        return {row.id for row in session.query(Volume).filter(Volume.pre_deleted_at.is_not(None))}


def test_the_job_has_succeeded_when_it_is_told_of(shop: Workshop) -> None:
    """Nothing is left to be done, and nothing is done to the data."""
    volume_id = shop.volume(content=b"kept")
    job = shop.get(Job, delete(shop, volume_id))
    assert (job.job_type, job.status, job.entities["volume_id"]) == ("deleteVolume", "SUCCESS", volume_id)
    assert shop.read(volume_id, 4) == b"kept"


@pytest.mark.parametrize("status", sorted(VOLUME_DELETABLE - {"available"}))
def test_a_volume_in_an_error_state_is_destroyed(shop: Workshop, status: str) -> None:
    """Nobody could promise that it comes back available."""
    volume_id = shop.volume(status=status)
    assert shop.job(delete(shop, volume_id)).status == "SUCCESS"
    assert shop.get(Volume, volume_id) is None


def test_keys_of_tags_in_the_bin_are_not_told(shop: Workshop) -> None:
    """The list of tags in use is one of the lists that a binned volume leaves, until it is back."""
    volume_id = shop.volume()
    with shop.database.writing() as session:
        tags.put(session, OURS, "volume", volume_id, {"team": "db"})
    delete(shop, volume_id)
    assert shop.look(volumes.TAGGED.in_use) == {}
    shop.ask(recycle_bin.revert, volume_id)
    assert shop.look(volumes.TAGGED.in_use) == {"team": ["db"]}


def test_a_volume_is_ordered_to_be_destroyed_once(shop: Workshop) -> None:
    """However late and however often it is looked."""
    volume_id = shop.volume()
    delete(shop, volume_id)
    shop.clock.jump(timedelta(days=3, microseconds=-1))
    assert empty(shop) == 0
    shop.clock.jump(timedelta(days=1000))
    assert [empty(shop) for _ in range(3)] == [1, 0, 0]
    shop.work()
    assert shop.get(Volume, volume_id) is None
    assert empty(shop) == 0


def test_a_clock_that_jumps_back_destroys_nothing_too_early(shop: Workshop) -> None:
    """The day that was written down counts."""
    volume_id = shop.volume()
    delete(shop, volume_id)
    shop.clock.jump(-timedelta(days=1))
    assert empty(shop) == 0
    shop.clock.jump(timedelta(days=4))
    assert empty(shop) == 1


def test_a_destruction_that_failed_stays_in_the_bin_and_is_tried_again(shop: Workshop) -> None:
    """`error_deleting` there, and nowhere else; an hour later once more, or when somebody asks."""
    volume_id = shop.volume()
    delete(shop, volume_id)
    shop.ask(recycle_bin.order_destruction, volume_id)
    shop.set(Volume, volume_id, status="error_deleting")
    assert in_bin(shop) == {volume_id}
    shop.clock.jump(timedelta(days=3))
    shop.set(Volume, volume_id, updated_at=shop.clock.now() - timedelta(minutes=59))
    assert empty(shop) == 0
    shop.clock.jump(timedelta(minutes=1))
    assert empty(shop) == 1


@pytest.mark.parametrize("status", ["deleting", "error_deleting"])
def test_what_is_being_destroyed_does_not_come_back(shop: Workshop, status: str) -> None:
    """It is refused with the state, and nothing changes."""
    volume_id = shop.volume()
    delete(shop, volume_id)
    shop.set(Volume, volume_id, status=status)
    with refusal(shop, WrongState, f"is {status}; this needs pending-destroy"):
        shop.ask(recycle_bin.revert, volume_id)


def test_a_volume_whose_data_was_lost_meanwhile_comes_back_in_error(shop: Workshop) -> None:
    """What the engine's start found out about it shows then; when the data is back before, it is available."""
    lost, mended = shop.volumes(2)
    for volume_id in (lost, mended):
        delete(shop, volume_id)
    for faults in ({lost: "no file", mended: "no file"}, {lost: "no file"}):
        with shop.database.writing() as session:
            volumes.mark_unusable(session, faults, shop.clock.now())
        assert {shop.get(Volume, each).status for each in (lost, mended)} == {"pending-destroy"}
    shop.ask(recycle_bin.revert, lost)
    shop.ask(recycle_bin.revert, mended)
    assert [shop.get(Volume, each).status for each in (lost, mended)] == ["error", "available"]


def test_snapshots_go_on_where_they_were_after_the_return(shop: Workshop) -> None:
    """The point that the next one is compared with stays in the engine, and so the next one is incremental."""
    volume_id = shop.volume(content=b"first!")
    take(shop, volume_id)
    delete(shop, volume_id)
    shop.work()
    shop.ask(recycle_bin.revert, volume_id)
    shop.write(volume_id, b"second")
    second = take(shop, volume_id)
    archive = shop.get(Snapshot, second).archive
    assert (archive.full_because, archive.base_id is not None) == (None, True)


def test_a_server_takes_its_old_volumes_to_the_bin(shop: Workshop) -> None:
    """The young one and the one that can't be opened are destroyed; a failed job puts nothing there."""
    old, young, broken = shop.volume(), shop.volume(created_at=shop.clock.now()), shop.volume()
    server_id = shop.server(old, young, broken)
    shop.set(Volume, broken, status="error", fault="no file")
    job_id = shop.ask(servers.order_deletion, [server_id], delete_volumes=True)
    assert in_bin(shop) == set()

    assert shop.job(job_id).status == "SUCCESS"

    assert in_bin(shop) == {old}
    row = shop.get(Volume, old)
    assert (row.status, row.attachments) == ("pending-destroy", [])
    assert row.plan_delete_at == shop.clock.now() + timedelta(days=3)
    assert [shop.get(Volume, each) for each in (young, broken)] == [None, None]
    assert set(engine(shop)._volumes) == {old}


def test_who_comes_second_is_refused(shop: Workshop) -> None:
    """A return and a destruction of one volume: one of the two is done."""
    volume_id = shop.volume()
    delete(shop, volume_id)
    shop.ask(recycle_bin.order_destruction, volume_id)
    with refusal(shop, WrongState, "is deleting"):
        shop.ask(recycle_bin.revert, volume_id)
    with refusal(shop, WrongState, "is deleting", code="EVS.1046"):
        shop.ask(recycle_bin.order_destruction, volume_id)


def take(shop: Workshop, volume_id: str, **wanted: Any) -> str:
    job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id, **wanted))
    assert shop.job(job_id).status == "SUCCESS"
    return str(snapshot_id)


def engine(shop: Workshop) -> MemoryEngine:
    assert isinstance(shop.engine, MemoryEngine)
    return shop.engine
