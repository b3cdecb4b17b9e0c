"""Snapshots of single volumes: what is refused, what changes, what the list finds."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal
from uuid import uuid4

import pytest
from workshop import OURS, THEIRS, Workshop, refusal

from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Volume
from onecut.errors import BadRequest, NotFound, SnapshotInCreation, WrongState
from onecut.service import groups, snapshots, tags, volumes
from onecut.service.groups import NewGroup
from onecut.service.listing import Page
from onecut.service.snapshots import NewSnapshot, SnapshotFilter
from onecut.service.volumes import VolumeOrder
from onecut.states import SNAPSHOT_MOVES, VOLUME_MOVES


def take(shop: Workshop, volume_id: str, **wanted: Any) -> str:
    """Take a snapshot, and return its id once it is available."""
    job_id, snapshot_id = shop.ask(snapshots.create, NewSnapshot(volume_id, **wanted))
    job = shop.job(job_id)
    assert job.status == "SUCCESS", job.fail_reason
    return str(snapshot_id)


def change(shop: Workshop, snapshot_id: str, **fields: Any) -> Snapshot:
    """Change some fields of a snapshot."""
    every: dict[str, Any] = {"name": None, "description": None, "instant_access": None} | fields
    changed: Snapshot = shop.ask(snapshots.update, snapshot_id, **every)
    return changed


def add_rows(shop: Workshop, volume_id: str, number: int, **columns: Any) -> list[str]:
    """Add rows of finished snapshots, and return their ids."""
    with shop.database.writing() as session:
        volume = session.get_one(Volume, volume_id)
        rows = [snapshots.fields(volume, NewSnapshot(volume_id), None, shop.clock.now()) for _ in range(number)]
        session.add_all(Snapshot(**row | {"status": "available"} | columns) for row in rows)
    return [row["id"] for row in rows]


class TestTaking:
    def test_a_snapshot_is_as_asked_for(self, shop: Workshop) -> None:
        """Texts, flags, enterprise project and tags are the request's, the rest is the volume's."""
        volume_id, project = shop.volume(size_gib=17), str(uuid4())
        job_id, snapshot_id = shop.ask(
            snapshots.create,
            NewSnapshot(
                volume_id,
                "name",
                "text",
                instant_access=True,
                incremental=False,
                enterprise_project_id=project,
                tags={"env": "prod"},
            ),
        )
        assert shop.get(Snapshot, snapshot_id).status == "creating"
        job = shop.job(job_id)

        found = shop.get(Snapshot, snapshot_id)
        assert (found.name, found.description, found.enterprise_project_id) == ("name", "text", project)
        assert (found.instant_access, found.incremental, found.size_gib) == (True, False, 17)
        assert (found.status, found.progress_percent, found.category) == ("available", 100, "standard")
        assert (found.snapshot_type, found.snapshot_group_id) == ("user", None)
        taken_at = "2026-01-15T22:10:05.000000"
        assert found.cut == {"id": snapshot_id, "taken_at": taken_at, "prepare_ms": 0.0, "pause_ms": 0.0}
        assert job.entities == {"volume_id": volume_id, "snapshot_id": snapshot_id, "cut": found.cut}
        with shop.database.reading() as session:
            assert tags.of(session, [snapshot_id]) == {snapshot_id: {"env": "prod"}}

    @pytest.mark.parametrize("state", sorted(set(VOLUME_MOVES) - {"available", "in-use"}))
    def test_a_volume_in_another_state_is_refused(self, shop: Workshop, state: str) -> None:
        """Only available and in-use volumes can have a snapshot taken."""
        volume_id = shop.volume(status=state)
        with refusal(shop, WrongState, volume_id, state, "available or in-use"):
            shop.ask(snapshots.create, NewSnapshot(volume_id))

    @pytest.mark.parametrize("volume_type", ["SATA", "SAS"])
    def test_instant_access_needs_an_ssd(self, shop: Workshop, volume_type: str) -> None:
        """Common I/O and High I/O volumes are refused with instant access."""
        volume_id = shop.volume(volume_type=volume_type)
        with refusal(shop, BadRequest, "instant_access", volume_id, volume_type):
            shop.ask(snapshots.create, NewSnapshot(volume_id, instant_access=True))

    def test_limits_hold_per_volume(self, shop: Workshop) -> None:
        """Seven instant snapshots and 256 in all; neither another volume's count, nor legacy ones."""
        volume_id, other = shop.volumes(2)
        add_rows(shop, other, 256)
        add_rows(shop, volume_id, 7, legacy=True)
        add_rows(shop, volume_id, 1, legacy=True, status="creating")
        add_rows(shop, volume_id, 7, instant_access=True)
        with refusal(shop, BadRequest, "instant_access", volume_id, "7"):
            shop.ask(snapshots.create, NewSnapshot(volume_id, instant_access=True))
        add_rows(shop, volume_id, 248)
        take(shop, volume_id)

        with refusal(shop, BadRequest, volume_id, "256"):
            shop.ask(snapshots.create, NewSnapshot(volume_id))

    def test_a_snapshot_in_creation_refuses_the_next_as_a_conflict(self, shop: Workshop) -> None:
        """EVS.2409 is marked as asked for by a single snapshot, which EVS answers with 409."""
        volume_id = shop.volume()
        shop.ask(groups.create, NewGroup(volume_ids=[volume_id]))
        with refusal(shop, SnapshotInCreation, volume_id, code="EVS.2409"):
            shop.ask(snapshots.create, NewSnapshot(volume_id))
        with pytest.raises(SnapshotInCreation) as caught:
            shop.ask(snapshots.create, NewSnapshot(volume_id))
        assert caught.value.single


class TestChanging:
    def test_name_and_description_change_one_by_one(self, shop: Workshop) -> None:
        """What is not given stays; an empty text clears."""
        snapshot_id = take(shop, shop.volume(), name="old", description="text")
        shop.clock.jump(timedelta(minutes=1))

        change(shop, snapshot_id, name="new")
        found = change(shop, snapshot_id, description="")

        assert (found.name, found.description, found.updated_at) == ("new", "", shop.clock.now())

    def test_instant_access_is_switched_off_and_on_again(self, shop: Workshop) -> None:
        """A snapshot that was created with it may have it back."""
        snapshot_id = take(shop, shop.volume(), instant_access=True)

        assert not change(shop, snapshot_id, instant_access=False).instant_access
        assert change(shop, snapshot_id, instant_access=True).instant_access

    def test_instant_access_stays_off_when_it_was_off_at_creation(self, shop: Workshop) -> None:
        """True is refused, false changes nothing."""
        snapshot_id = take(shop, shop.volume())
        with refusal(shop, BadRequest, "instant_access", snapshot_id):
            change(shop, snapshot_id, instant_access=True)

        assert not change(shop, snapshot_id, instant_access=False).instant_access

    def test_an_eighth_instant_snapshot_is_not_switched_on(self, shop: Workshop) -> None:
        """The limit of seven holds for switching on too."""
        volume_id = shop.volume()
        snapshot_id = take(shop, volume_id, instant_access=True)
        change(shop, snapshot_id, instant_access=False)
        add_rows(shop, volume_id, 7, instant_access=True)
        with refusal(shop, BadRequest, "instant_access", volume_id, "7"):
            change(shop, snapshot_id, instant_access=True)

    @pytest.mark.parametrize("state", sorted(set(SNAPSHOT_MOVES) - snapshots.CHANGEABLE))
    def test_nothing_changes_while_a_job_works_on_it(self, shop: Workshop, state: str) -> None:
        """Fields and tags change only in available, error and error_deleting."""
        (snapshot_id,) = add_rows(shop, shop.volume(), 1, status=state)
        with refusal(shop, WrongState, snapshot_id, state):
            change(shop, snapshot_id, name="new")
        with refusal(shop, WrongState, snapshot_id, state):
            put_tags(shop, snapshot_id, {"k": "v"})
        with refusal(shop, WrongState, snapshot_id, state):
            remove_tags(shop, snapshot_id, ["k"])

    def test_tags_are_added_replaced_and_removed(self, shop: Workshop) -> None:
        """An existing key gets the new value; removing an absent one is no error."""
        snapshot_id = take(shop, shop.volume(), tags={"env": "prod"})

        put_tags(shop, snapshot_id, {"env": "test", "owner": ""})
        remove_tags(shop, snapshot_id, ["owner", "absent"])

        with shop.database.reading() as session:
            assert tags.of(session, [snapshot_id]) == {snapshot_id: {"env": "test"}}


class TestDeleting:
    def test_row_tags_and_point_are_gone(self, shop: Workshop) -> None:
        """Nothing of a deleted snapshot is left."""
        snapshot_id = take(shop, shop.volume(), tags={"k": "v"})

        job_id = shop.ask(snapshots.order_deletion, snapshot_id)
        assert shop.get(Snapshot, snapshot_id).status == "deleting"

        assert shop.job(job_id).status == "SUCCESS"
        assert (shop.get(Snapshot, snapshot_id), shop.state()["tag"], shop.points()) == (None, [], set())

    @pytest.mark.parametrize("state", ["creating", "rollbacking", "deleting", "deleted"])
    def test_another_state_is_refused(self, shop: Workshop, state: str) -> None:
        """EVS.1047; available, error and error_deleting are taken."""
        (snapshot_id,) = add_rows(shop, shop.volume(), 1, status=state)
        with refusal(shop, WrongState, snapshot_id, state, "available or error", code="EVS.1047"):
            shop.ask(snapshots.order_deletion, snapshot_id)

    def test_a_volume_in_creation_from_it_saves_it(self, shop: Workshop) -> None:
        """Once the volume is made, the snapshot goes and the volume keeps its content."""
        source = shop.volume(content=b"before")
        snapshot_id = take(shop, source)
        _, (volume_id,) = shop.ask(
            volumes.create, VolumeOrder("copy", "", 10, "SSD", "az1", snapshot_id=snapshot_id), zones=["az1"]
        )
        with refusal(shop, BadRequest, snapshot_id, volume_id):
            shop.ask(snapshots.order_deletion, snapshot_id)
        shop.work()

        assert shop.job(shop.ask(snapshots.order_deletion, snapshot_id)).status == "SUCCESS"
        assert shop.read(volume_id, 6) == b"before"


class TestRollingBack:
    def test_the_volume_is_as_it_was(self, shop: Workshop) -> None:
        """Volume and snapshot are rolling back, then available."""
        volume_id = shop.volume(content=b"before")
        snapshot_id = take(shop, volume_id)
        shop.write(volume_id, b"after!")

        job_id = shop.ask(snapshots.order_rollback, snapshot_id, volume_id=volume_id)
        assert shop.get(Volume, volume_id).status == shop.get(Snapshot, snapshot_id).status == "rollbacking"
        assert shop.job(job_id).status == "SUCCESS"

        assert shop.read(volume_id, 6) == b"before"
        assert shop.get(Volume, volume_id).status == shop.get(Snapshot, snapshot_id).status == "available"

    def test_only_the_source_volume_is_taken(self, shop: Workshop) -> None:
        """Another volume is refused, and the message names the right one."""
        source, other = shop.volumes(2)
        snapshot_id = take(shop, source)
        with refusal(shop, BadRequest, "volume_id", source, other):
            shop.ask(snapshots.order_rollback, snapshot_id, volume_id=other)

    @pytest.mark.parametrize("state", sorted(set(VOLUME_MOVES) - {"available", "error_rollbacking"}))
    def test_a_volume_in_another_state_is_refused(self, shop: Workshop, state: str) -> None:
        """The volume must be detached."""
        volume_id = shop.volume()
        snapshot_id = take(shop, volume_id)
        shop.set(Volume, volume_id, status=state)
        with refusal(shop, WrongState, volume_id, state, "available or error_rollbacking"):
            shop.ask(snapshots.order_rollback, snapshot_id, volume_id=volume_id)

    @pytest.mark.parametrize("state", sorted(set(SNAPSHOT_MOVES) - {"available"}))
    def test_a_snapshot_in_another_state_is_refused(self, shop: Workshop, state: str) -> None:
        """Only an available snapshot has something to give back."""
        volume_id = shop.volume()
        (snapshot_id,) = add_rows(shop, volume_id, 1, status=state)
        with refusal(shop, WrongState, snapshot_id, state):
            shop.ask(snapshots.order_rollback, snapshot_id, volume_id=volume_id)

    def test_a_lost_volume_is_refused(self, shop: Workshop) -> None:
        """There is nothing to roll back when the source was deleted."""
        volume_id = shop.volume()
        snapshot_id = take(shop, volume_id)
        with shop.database.writing() as session:
            session.delete(session.get_one(Volume, volume_id))
        with refusal(shop, BadRequest, volume_id, "deleted"):
            shop.ask(snapshots.order_rollback, snapshot_id, volume_id=volume_id)

    def test_a_snapshot_in_creation_is_a_conflict(self, shop: Workshop) -> None:
        """A volume is not rolled back under a cut that is under way."""
        volume_id = shop.volume()
        snapshot_id = take(shop, volume_id)
        shop.ask(groups.create, NewGroup(volume_ids=[volume_id]))
        with refusal(shop, SnapshotInCreation, volume_id, code="EVS.2409"):
            shop.ask(snapshots.order_rollback, snapshot_id, volume_id=volume_id)

    def test_a_snapshot_of_the_backup_service_is_refused(self, shop: Workshop) -> None:
        """The prefix is documented as not for rolling back."""
        volume_id = shop.volume()
        snapshot_id = take(shop, volume_id, name="autobk_snapshot_1")
        with refusal(shop, BadRequest, "autobk_snapshot_1"):
            shop.ask(snapshots.order_rollback, snapshot_id, volume_id=volume_id)


class TestLists:
    @pytest.fixture
    def made(self, shop: Workshop) -> list[str]:
        """Four snapshots, a second apart: a large one, one with tags, a member of a group, one in error."""
        large = shop.volume(size_gib=99, availability_zone="az2")
        found = [take(shop, large, name="same")]
        shop.clock.jump(timedelta(seconds=1))
        found.append(take(shop, shop.volume(), name="same", tags={"env": "prod", "owner": ""}))
        shop.clock.jump(timedelta(seconds=1))
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=[shop.volume()], name="g"))
        shop.job(job_id)
        found.append(shop.members(group_id)[0].id)
        shop.clock.jump(timedelta(seconds=1))
        return found + add_rows(
            shop, shop.volume(), 1, status="error", enterprise_project_id="e" * 36, snapshot_type="auto"
        )

    @pytest.mark.parametrize(
        ("wanted", "positions"),
        [
            ({}, [3, 2, 1, 0]),
            ({"name": "same"}, [1, 0]),
            ({"name": "g-0001"}, [2]),
            ({"status": "error"}, [3]),
            ({"status": "no such state"}, []),
            ({"availability_zone": "az2"}, [0]),
            ({"snapshot_type": "auto"}, [3]),
            ({"enterprise_project_id": "0"}, [2, 1, 0]),
            ({"enterprise_project_id": "all_granted_eps"}, [3, 2, 1, 0]),
            ({"snapshot_chain_id": "c" * 36}, []),
            ({"tag_key": "env"}, [1]),
            ({"tags": {"env": "prod", "owner": ""}}, [1]),
            ({"tags": {"env": "test"}}, []),
            ({"name": "same", "availability_zone": "az1"}, [1]),
        ],
    )
    def test_filters_hold_together(
        self, shop: Workshop, made: list[str], wanted: dict[str, Any], positions: list[int]
    ) -> None:
        """A list holds exactly the snapshots that pass all filters, the newest first, and the count agrees."""
        found = shop.look(snapshots.list_page, SnapshotFilter(**wanted), Page())

        assert [snapshot.id for snapshot in found] == [made[position] for position in positions]
        assert shop.look(snapshots.count, SnapshotFilter(**wanted)) == len(positions)

    def test_ids_volume_and_group_filter_exactly(self, shop: Workshop, made: list[str]) -> None:
        """Unknown ids are ignored; a volume's and a group's snapshots are found."""
        member = shop.get(Snapshot, made[2])
        for wanted in (
            SnapshotFilter(ids=[made[2], str(uuid4())]),
            SnapshotFilter(volume_id=member.volume_id),
            SnapshotFilter(snapshot_group_id=member.snapshot_group_id),
        ):
            assert [found.id for found in shop.look(snapshots.list_page, wanted, Page())] == [made[2]]

    def test_61_ids_are_refused(self, shop: Workshop) -> None:
        """EVS.2228; sixty are taken."""
        shop.look(snapshots.list_page, SnapshotFilter(ids=["x"] * 60), Page())
        with refusal(shop, BadRequest, "ids", "60", "61", code="EVS.2228"):
            shop.look(snapshots.list_page, SnapshotFilter(ids=["x"] * 61), Page())

    @pytest.mark.parametrize("key", ["id", "status", "size", "created_at"])
    @pytest.mark.parametrize("direction", ["asc", "desc"])
    def test_pages_neither_repeat_nor_lose(
        self, shop: Workshop, made: list[str], key: str, direction: Literal["asc", "desc"]
    ) -> None:
        """By offset and by marker, in every order, each snapshot comes once; past the end the page is empty."""
        column = {"size": "size_gib"}.get(key, key)
        rows = [shop.get(Snapshot, snapshot_id) for snapshot_id in made]
        ordered = sorted(rows, key=lambda row: (getattr(row, column), row.id), reverse=direction == "desc")
        expected = [[row.id] for row in ordered] + [[]]

        by_offset = [Page(key, direction, 1, offset) for offset in range(5)]
        by_marker = [Page(key, direction, 1, marker=marker) for marker in [None, *(row.id for row in ordered)]]

        for pages in (by_offset, by_marker):
            found = [shop.look(snapshots.list_page, SnapshotFilter(), page) for page in pages]
            assert [[snapshot.id for snapshot in page] for page in found] == expected

    def test_a_marker_that_is_not_in_the_list_is_refused(self, shop: Workshop, made: list[str]) -> None:
        """EVS.1024, also for a snapshot that belongs to another tenant."""
        for marker, project_id in ((str(uuid4()), OURS), (made[0], THEIRS)):
            with refusal(shop, BadRequest, "marker", marker, code="EVS.1024"):
                shop.look(snapshots.list_page, SnapshotFilter(), Page(marker=marker), project_id=project_id)

    def test_a_marker_that_the_filter_leaves_out_is_a_place_all_the_same(
        self, shop: Workshop, made: list[str]
    ) -> None:
        """What it was when its page was read, it need not be any more."""
        every = [found.id for found in shop.look(snapshots.list_page, SnapshotFilter(), Page())]
        wanted = SnapshotFilter(status="available")
        passing = [found.id for found in shop.look(snapshots.list_page, wanted, Page())]
        assert made[3] not in passing

        found = shop.look(snapshots.list_page, wanted, Page(marker=made[3]))
        assert [row.id for row in found] == [row for row in every[every.index(made[3]) :] if row in passing]


ACTS: dict[str, Callable[[Workshop, str], Any]] = {
    "show": lambda shop, snapshot_id: shop.look(snapshots.find, snapshot_id, project_id=THEIRS),
    "update": lambda shop, snapshot_id: change(shop, snapshot_id, name="stolen", project_id=THEIRS),
    "delete": lambda shop, snapshot_id: shop.ask(snapshots.order_deletion, snapshot_id, project_id=THEIRS),
    "roll back": lambda shop, snapshot_id: shop.ask(
        snapshots.order_rollback, snapshot_id, project_id=THEIRS, volume_id=str(uuid4())
    ),
    "add tags": lambda shop, snapshot_id: put_tags(shop, snapshot_id, {"k": "v"}, project_id=THEIRS),
    "remove tags": lambda shop, snapshot_id: remove_tags(shop, snapshot_id, ["env"], project_id=THEIRS),
}


class TestTenants:
    @pytest.mark.parametrize("act", ACTS)
    def test_a_foreign_snapshot_is_as_an_unknown_one(self, shop: Workshop, act: str) -> None:
        """Whatever is asked of another tenant's snapshot: the answer is that of an unknown one, nothing changes."""
        foreign, unknown = take(shop, shop.volume(), tags={"env": "prod"}), str(uuid4())
        for snapshot_id in (foreign, unknown):
            with refusal(shop, NotFound, f"snapshot {snapshot_id} does not exist", code="EVS.5404"):
                ACTS[act](shop, snapshot_id)

    def test_a_foreign_volume_is_as_an_unknown_one(self, shop: Workshop) -> None:
        """No snapshot of another tenant's volume, and no word that it is there."""
        foreign, unknown = shop.volume(), str(uuid4())
        for volume_id in (foreign, unknown):
            with refusal(shop, NotFound, f"volume {volume_id} does not exist", code="EVS.5404"):
                shop.ask(snapshots.create, NewSnapshot(volume_id), project_id=THEIRS)

    def test_foreign_snapshots_are_neither_listed_nor_counted(self, shop: Workshop) -> None:
        """Lists, counts and tags of one tenant know nothing of another's."""
        snapshot_id = take(shop, shop.volume(), tags={"env": "prod"})
        wanted = SnapshotFilter(ids=[snapshot_id])

        assert shop.look(snapshots.list_page, wanted, Page(), project_id=THEIRS) == []
        assert shop.look(snapshots.count, wanted, project_id=THEIRS) == 0
        with shop.database.reading() as session:
            assert snapshots.TAGGED.in_use(session, THEIRS) == {}


def put_tags(shop: Workshop, snapshot_id: str, wanted: dict[str, str], *, project_id: str = OURS) -> None:
    """Add tags to a snapshot."""
    with shop.database.writing() as session:
        snapshots.TAGGED.put(session, project_id, snapshot_id, wanted)


def remove_tags(shop: Workshop, snapshot_id: str, keys: list[str], *, project_id: str = OURS) -> None:
    """Remove tags from a snapshot."""
    with shop.database.writing() as session:
        snapshots.TAGGED.remove(session, project_id, snapshot_id, keys)
