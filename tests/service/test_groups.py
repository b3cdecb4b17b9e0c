"""Snapshot groups: which volumes one cut goes through, what is refused, and what becomes of a group."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from workshop import OURS, THEIRS, Workshop, refusal

from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.volumes import Volume
from onecut.errors import BadRequest, NotFound, Refused, SnapshotInCreation, WrongState
from onecut.service import groups, snapshots, tags
from onecut.service.groups import GroupFilter, NewGroup
from onecut.service.listing import Page
from onecut.service.snapshots import NewSnapshot
from onecut.states import VOLUME_MOVES


def make(shop: Workshop, *volume_ids: str, **wanted: Any) -> str:
    """Make a group of volumes, and return its id once it is available."""
    job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=volume_ids, **wanted))
    job = shop.job(job_id)
    assert job.status == "SUCCESS", job.fail_reason
    return str(group_id)


def status(shop: Workshop, group_id: str) -> tuple[str, set[str]]:
    """Return a group's state, and those of its members."""
    return shop.get(SnapshotGroup, group_id).status, {member.status for member in shop.members(group_id)}


class TestChoosingVolumes:
    def test_a_server_alone_means_all_its_volumes(self, shop: Workshop) -> None:
        """With only a server id, the members are the volumes attached to it, in the order of their devices."""
        ours, _other = shop.volumes(3), shop.server(shop.volume())
        server_id = shop.server(*ours)

        _, group_id = shop.ask(groups.create, NewGroup(server_id=server_id))

        assert [member.volume_id for member in shop.members(group_id)] == ours
        assert shop.get(SnapshotGroup, group_id).server_id == server_id

    def test_a_server_and_volumes_mean_exactly_those_volumes(self, shop: Workshop) -> None:
        """With a server id and volume ids, only the named volumes are members, in the order of the request."""
        first, second, third = shop.volumes(3)
        server_id = shop.server(first, second, third)

        _, group_id = shop.ask(groups.create, NewGroup(server_id=server_id, volume_ids=[third, first]))

        assert [member.volume_id for member in shop.members(group_id)] == [third, first]

    def test_volumes_alone_may_be_of_any_servers(self, shop: Workshop) -> None:
        """Without a server id, volumes of two servers and a detached one are cut together."""
        chosen = shop.volumes(3)
        shop.server(chosen[0])
        shop.server(chosen[1])

        group_id = make(shop, *chosen)

        assert status(shop, group_id) == ("available", {"available"})
        assert shop.get(SnapshotGroup, group_id).server_id is None

    def test_neither_is_refused(self, shop: Workshop) -> None:
        """A group needs a server or volumes."""
        with refusal(shop, BadRequest, "server_id", "volume_ids"):
            shop.ask(groups.create, NewGroup())

    def test_an_unknown_server_is_refused(self, shop: Workshop) -> None:
        """A server that does not exist is 400 EVS.2229."""
        server_id = str(uuid4())
        with refusal(shop, BadRequest, "server_id", server_id, code="EVS.2229"):
            shop.ask(groups.create, NewGroup(server_id=server_id))

    def test_a_server_without_volumes_is_refused(self, shop: Workshop) -> None:
        """There is nothing to cut at a server that has no volume attached."""
        server_id = shop.server()
        with refusal(shop, BadRequest, "server_id", server_id, "no volume"):
            shop.ask(groups.create, NewGroup(server_id=server_id))

    def test_a_volume_that_is_not_attached_to_the_server_is_refused(self, shop: Workshop) -> None:
        """One named volume elsewhere refuses the whole group, and the message names it."""
        here, elsewhere = shop.volumes(2)
        server_id = shop.server(here)
        with refusal(shop, BadRequest, "volume_ids", elsewhere, server_id):
            shop.ask(groups.create, NewGroup(server_id=server_id, volume_ids=[here, elsewhere]))

    def test_an_unknown_volume_is_refused(self, shop: Workshop) -> None:
        """One unknown volume refuses the whole group."""
        known, unknown = shop.volume(), str(uuid4())
        with refusal(shop, NotFound, unknown, code="EVS.5404"):
            shop.ask(groups.create, NewGroup(volume_ids=[known, unknown]))

    def test_a_volume_named_twice_is_refused(self, shop: Workshop) -> None:
        """A duplicate is refused, not folded."""
        first, second = shop.volumes(2)
        with refusal(shop, BadRequest, "volume_ids", first, "twice"):
            shop.ask(groups.create, NewGroup(volume_ids=[first, second, first]))

    def test_64_volumes_are_cut_together(self, shop: Workshop) -> None:
        """The largest group that is allowed works."""
        group_id = make(shop, *shop.volumes(64))

        assert len(shop.members(group_id)) == 64
        assert status(shop, group_id) == ("available", {"available"})

    def test_65_volumes_are_refused_before_any_is_looked_at(self, shop: Workshop) -> None:
        """The number is checked first: that none of them exists is not even noticed."""
        with refusal(shop, BadRequest, "volume_ids", "64", "65"):
            shop.ask(groups.create, NewGroup(volume_ids=[str(uuid4()) for _ in range(65)]))

    def test_two_availability_zones_are_refused(self, shop: Workshop) -> None:
        """All volumes of a group lie in one zone; the message names both."""
        here, there = shop.volume(), shop.volume(availability_zone="az2")
        with refusal(shop, BadRequest, "volume_ids", here, "az1", there, "az2"):
            shop.ask(groups.create, NewGroup(volume_ids=[here, there]))

    @pytest.mark.parametrize("state", sorted(set(VOLUME_MOVES) - {"available", "in-use"}))
    def test_a_volume_in_another_state_is_refused(self, shop: Workshop, state: str) -> None:
        """Only available and in-use volumes can be cut; the message names volume, state and what is needed."""
        good, bad = shop.volume(), shop.volume(status=state)
        with refusal(shop, WrongState, bad, state, "available or in-use"):
            shop.ask(groups.create, NewGroup(volume_ids=[good, bad]))


class TestLimits:
    @pytest.mark.parametrize("volume_type", ["SATA", "SAS"])
    def test_instant_access_needs_an_ssd(self, shop: Workshop, volume_type: str) -> None:
        """Common I/O and High I/O volumes are refused with instant access, and taken without."""
        slow, fast = shop.volume(volume_type=volume_type), shop.volume()
        with refusal(shop, BadRequest, "instant_access", slow, volume_type):
            shop.ask(groups.create, NewGroup(volume_ids=[fast, slow], instant_access=True))

        make(shop, slow)

    def test_an_eighth_instant_snapshot_is_refused(self, shop: Workshop) -> None:
        """Seven per volume may be instant; one more that is not instant is taken."""
        full, other = shop.volumes(2)
        add_snapshots(shop, full, 7, instant_access=True)
        with refusal(shop, BadRequest, "instant_access", full, "7"):
            shop.ask(groups.create, NewGroup(volume_ids=[other, full], instant_access=True))

        make(shop, other, full)

    def test_a_257th_snapshot_is_refused(self, shop: Workshop) -> None:
        """256 per volume are the limit; one in error is none."""
        full, other = shop.volumes(2)
        add_snapshots(shop, full, 255)
        add_snapshots(shop, full, 1, status="error")
        make(shop, full)

        with refusal(shop, BadRequest, full, "256"):
            shop.ask(groups.create, NewGroup(volume_ids=[other, full]))

    def test_a_volume_with_a_snapshot_in_creation_is_refused(self, shop: Workshop) -> None:
        """EVS.2409, for which clients wait; once that snapshot is there the same request is taken."""
        busy, idle = shop.volumes(2)
        shop.ask(snapshots.create, NewSnapshot(busy))
        with refusal(shop, SnapshotInCreation, busy, code="EVS.2409"):
            shop.ask(groups.create, NewGroup(volume_ids=[idle, busy]))
        shop.work()

        make(shop, idle, busy)

    def test_what_waiting_can_not_mend_is_refused_first(self, shop: Workshop) -> None:
        """A volume that is full and has a snapshot in creation does not answer EVS.2409, which clients retry on."""
        volume_id = shop.volume()
        add_snapshots(shop, volume_id, 255)
        add_snapshots(shop, volume_id, 1, status="creating")
        with refusal(shop, BadRequest, "256"):
            shop.ask(groups.create, NewGroup(volume_ids=[volume_id]))

    def test_more_than_20_tags_are_refused(self, shop: Workshop) -> None:
        """Adding the 21st tag is EVS.1061 and adds none."""
        group_id = make(shop, shop.volume(), tags={f"k{number}": "v" for number in range(19)})
        with refusal(shop, BadRequest, "20", "21", code="EVS.1061"):
            put_tags(shop, group_id, {"one": "", "two": ""})

    def test_of_eight_at_once_exactly_one_wins(self, shop: Workshop) -> None:
        """Eight threads ask for a group that shares a volume with every other; one gets it, seven get EVS.2409."""
        shared, barrier, outcomes = shop.volume(), threading.Barrier(8), []

        def ask(own: str) -> None:
            barrier.wait()
            try:
                outcomes.append(shop.ask(groups.create, NewGroup(volume_ids=[own, shared]))[1])
            except Refused as error:
                outcomes.append(error.code)

        threads = [threading.Thread(target=ask, args=(volume_id,)) for volume_id in shop.volumes(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert outcomes.count("EVS.2409") == 7
        winner = next(outcome for outcome in outcomes if outcome != "EVS.2409")
        shop.work()
        assert status(shop, winner) == ("available", {"available"})
        assert len(shop.state()["snapshot"]) == 2


class TestMembers:
    def test_members_are_like_their_group_and_their_volumes(self, shop: Workshop) -> None:
        """Flags and enterprise project come from the group, size, type and zone from the volume, no text or tag."""
        project = str(uuid4())
        volume_id = shop.volume(size_gib=17, volume_type="ESSD")
        group_id = make(
            shop,
            volume_id,
            name="nightly",
            description="all disks",
            tags={"env": "prod"},
            instant_access=True,
            incremental=False,
            enterprise_project_id=project,
        )

        (member,) = shop.members(group_id)
        assert (member.name, member.description) == ("nightly-0001", "")
        assert (member.instant_access, member.incremental) == (True, False)
        assert (member.size_gib, member.volume_type, member.availability_zone) == (17, "ESSD", "az1")
        assert (member.enterprise_project_id, member.snapshot_type, member.category) == (project, "user", "standard")
        assert (member.volume_id, member.progress_percent) == (volume_id, 100)
        with shop.database.reading() as session:
            assert tags.of(session, [member.id, group_id]) == {member.id: {}, group_id: {"env": "prod"}}

    @pytest.mark.parametrize(
        ("name", "member_name"),
        [
            ("", "-0001"),
            ("x" * 59, "x" * 59 + "-0001"),
            ("x" * 60, "x" * 59 + "-0001"),
            ("盘" * 85, "盘" * 59 + "-0001"),
        ],
    )
    def test_member_names_are_cut_to_64_characters(self, shop: Workshop, name: str, member_name: str) -> None:
        """The group's name gives way, never the number."""
        (member,) = shop.members(make(shop, shop.volume(), name=name))

        assert member.name == member_name

    def test_the_cut_is_told(self, shop: Workshop) -> None:
        """Group, members, job and sub jobs say when the cut was and how long it held writes."""
        chosen = shop.volumes(2)
        shop.clock.jump(timedelta(seconds=1))
        job_id, group_id = shop.ask(groups.create, NewGroup(volume_ids=chosen))
        job = shop.job(job_id)

        cut = {"taken_at": "2026-01-15T22:10:06.000000", "prepare_ms": 0.0, "pause_ms": 0.0}
        assert shop.get(SnapshotGroup, group_id).cut == cut
        assert [member.cut for member in shop.members(group_id)] == [{"id": group_id, **cut}] * 2
        assert job.entities == {"snapshot_group_id": group_id, "cut": {"id": group_id, **cut}}
        assert [(sub.job_type, sub.status, sub.entities) for sub in shop.sub_jobs(job_id)] == [
            ("createSnapshot", "SUCCESS", {"volume_id": member.volume_id, "snapshot_id": member.id, "pause_ms": 0.0})
            for member in shop.members(group_id)
        ]


class TestChanging:
    def test_name_and_description_change_one_by_one(self, shop: Workshop) -> None:
        """What is not given stays; an empty text clears; members keep their names."""
        group_id = make(shop, shop.volume(), name="old", description="text")
        shop.clock.jump(timedelta(minutes=1))

        shop.ask(groups.update, group_id, name="new", description=None)
        group = shop.ask(groups.update, group_id, name=None, description="")

        assert (group.name, group.description, group.updated_at) == ("new", "", shop.clock.now())
        assert shop.members(group_id)[0].name == "old-0001"

    @pytest.mark.parametrize("state", ["creating", "deleting", "deleted"])
    def test_nothing_changes_while_a_job_works_on_the_group(self, shop: Workshop, state: str) -> None:
        """Names and tags change only in available, error and error_deleting."""
        group_id = make(shop, shop.volume())
        shop.set(SnapshotGroup, group_id, status=state)
        with refusal(shop, WrongState, group_id, state, "available or error or error_deleting"):
            shop.ask(groups.update, group_id, name="new", description=None)
        with refusal(shop, WrongState, group_id, state):
            put_tags(shop, group_id, {"k": "v"})
        with refusal(shop, WrongState, group_id, state):
            remove_tags(shop, group_id, ["k"])

    def test_tags_are_added_replaced_and_removed(self, shop: Workshop) -> None:
        """An existing key gets the new value; removing an absent one is no error."""
        group_id = make(shop, shop.volume(), tags={"env": "prod"})

        put_tags(shop, group_id, {"env": "test", "owner": ""})
        remove_tags(shop, group_id, ["owner", "absent"])

        with shop.database.reading() as session:
            assert tags.of(session, [group_id]) == {group_id: {"env": "test"}}
            assert groups.TAGGED.in_use(session, OURS) == {"env": ["test"]}


class TestDeleting:
    def test_group_members_tags_and_points_are_gone(self, shop: Workshop) -> None:
        """Nothing of a deleted group is left, neither rows nor points; the volumes stay."""
        chosen = shop.volumes(2)
        group_id = make(shop, *chosen, tags={"k": "v"})

        job_id = shop.ask(groups.order_deletion, group_id)
        assert status(shop, group_id) == ("deleting", {"deleting"})
        job = shop.job(job_id)

        assert job.status == "SUCCESS"
        assert shop.get(SnapshotGroup, group_id) is None
        assert (shop.members(group_id), shop.state()["tag"], shop.points()) == ([], [], set())
        assert {shop.get(Volume, volume_id).status for volume_id in chosen} == {"available"}

    @pytest.mark.parametrize("state", ["creating", "deleting", "deleted"])
    def test_a_group_that_a_job_works_on_is_not_deleted(self, shop: Workshop, state: str) -> None:
        """Deletion is taken in available, error and error_deleting only."""
        group_id = make(shop, shop.volume())
        shop.set(SnapshotGroup, group_id, status=state)
        with refusal(shop, WrongState, group_id, state, "available or error or error_deleting"):
            shop.ask(groups.order_deletion, group_id)

    @pytest.mark.parametrize("state", ["rollbacking", "deleting", "creating"])
    def test_a_member_that_a_job_works_on_saves_the_group(self, shop: Workshop, state: str) -> None:
        """A member that is rolling back, say, refuses the deletion of its group (EVS.1047)."""
        group_id = make(shop, *shop.volumes(2))
        member = shop.members(group_id)[1]
        shop.set(Snapshot, member.id, status=state)
        with refusal(shop, WrongState, member.id, state, code="EVS.1047"):
            shop.ask(groups.order_deletion, group_id)

    def test_a_volume_in_creation_from_a_member_saves_the_group(self, shop: Workshop) -> None:
        """The data of a member is needed until the volume is made from it."""
        group_id = make(shop, shop.volume())
        _, made = shop.ask(groups.order_volumes, group_id)
        (volume_id,) = made.values()
        with refusal(shop, BadRequest, volume_id, *made):
            shop.ask(groups.order_deletion, group_id)
        shop.work()

        assert shop.job(shop.ask(groups.order_deletion, group_id)).status == "SUCCESS"

    def test_a_member_may_be_deleted_alone(self, shop: Workshop) -> None:
        """The group has one member less, and can still be deleted; also when none is left."""
        group_id = make(shop, *shop.volumes(2))
        for member in shop.members(group_id):
            assert shop.job(shop.ask(snapshots.order_deletion, member.id)).status == "SUCCESS"
        assert status(shop, group_id) == ("available", set())

        assert shop.job(shop.ask(groups.order_deletion, group_id)).status == "SUCCESS"
        assert shop.get(SnapshotGroup, group_id) is None

    def test_a_group_outlives_its_volumes(self, shop: Workshop) -> None:
        """A group whose volume was deleted is shown, and deleted, as any other."""
        volume_id = shop.volume()
        group_id = make(shop, volume_id)
        drop_volume(shop, volume_id)

        assert shop.job(shop.ask(groups.order_deletion, group_id)).status == "SUCCESS"


class TestRollingBack:
    def test_all_volumes_are_as_they_were(self, shop: Workshop) -> None:
        """Every volume reads as at the cut; volumes and snapshots are available again."""
        chosen = shop.volumes(2, content=b"before")
        group_id = make(shop, *chosen)
        overwrite(shop, chosen, b"after!")

        job_id, undo_id = shop.ask(groups.order_rollback, group_id, undo=False)
        assert {shop.get(Volume, volume_id).status for volume_id in chosen} == {"rollbacking"}
        assert status(shop, group_id) == ("available", {"rollbacking"})
        job = shop.job(job_id)

        assert (job.status, undo_id) == ("SUCCESS", None)
        assert [shop.read(volume_id, 6) for volume_id in chosen] == [b"before"] * 2
        assert {shop.get(Volume, volume_id).status for volume_id in chosen} == {"available"}
        assert status(shop, group_id) == ("available", {"available"})

    def test_the_undo_group_gives_back_what_the_rollback_took(self, shop: Workshop) -> None:
        """The undo group is an ordinary group of the same volumes; rolling back to it undoes the rollback."""
        chosen = shop.volumes(2, content=b"before")
        group_id = make(shop, *chosen, name="nightly")
        overwrite(shop, chosen, b"after!")
        job_id, undo_id = shop.ask(groups.order_rollback, group_id, undo=True)
        assert status(shop, undo_id) == ("creating", {"creating"})
        assert shop.job(job_id).entities["undo_snapshot_group_id"] == undo_id

        undo = shop.get(SnapshotGroup, undo_id)
        assert (undo.name, undo.status, undo.cut is not None) == ("undo of nightly", "available", True)
        assert [member.volume_id for member in shop.members(undo_id)] == chosen
        back_id, _ = shop.ask(groups.order_rollback, undo_id, undo=False)
        assert shop.job(back_id).status == "SUCCESS"
        assert [shop.read(volume_id, 6) for volume_id in chosen] == [b"after!"] * 2

    def test_the_undo_name_is_cut_to_255_bytes(self, shop: Workshop) -> None:
        """A name of the longest kind stays within the limit, and no character is broken."""
        group_id = make(shop, shop.volume(), name="盘" * 85)
        _, undo_id = shop.ask(groups.order_rollback, group_id, undo=True)

        name = shop.get(SnapshotGroup, undo_id).name
        assert name.startswith("undo of 盘")
        assert 253 <= len(name.encode()) <= 255

    def test_an_attached_volume_refuses_all(self, shop: Workshop) -> None:
        """One attached volume refuses the rollback of every one, and the message names it."""
        chosen = shop.volumes(2)
        group_id = make(shop, *chosen)
        shop.server(chosen[1])
        for undo in (True, False):
            with refusal(shop, WrongState, chosen[1], "in-use", "available or error_rollbacking"):
                shop.ask(groups.order_rollback, group_id, undo=undo)

    def test_a_lost_volume_refuses_all(self, shop: Workshop) -> None:
        """There is nothing to roll back when a source volume was deleted."""
        chosen = shop.volumes(2)
        group_id = make(shop, *chosen)
        drop_volume(shop, chosen[0])
        with refusal(shop, BadRequest, chosen[0], "deleted"):
            shop.ask(groups.order_rollback, group_id, undo=True)

    def test_a_lost_member_refuses_all(self, shop: Workshop) -> None:
        """A group that lost a member is no longer one instant of all its volumes."""
        group_id = make(shop, *shop.volumes(2))
        shop.job(shop.ask(snapshots.order_deletion, shop.members(group_id)[0].id))
        with refusal(shop, BadRequest, group_id, "1 of its 2 members"):
            shop.ask(groups.order_rollback, group_id, undo=True)
        with refusal(shop, BadRequest, group_id, "1 of its 2 members"):
            shop.ask(groups.order_volumes, group_id)

    @pytest.mark.parametrize("state", ["creating", "error", "deleting", "error_deleting"])
    def test_a_group_that_is_not_available_is_refused(self, shop: Workshop, state: str) -> None:
        """Only a finished group has something to give back."""
        group_id = make(shop, shop.volume())
        shop.set(SnapshotGroup, group_id, status=state)
        with refusal(shop, WrongState, group_id, state):
            shop.ask(groups.order_rollback, group_id, undo=False)
        with refusal(shop, WrongState, group_id, state):
            shop.ask(groups.order_volumes, group_id)

    @pytest.mark.parametrize("state", ["rollbacking", "deleting"])
    def test_a_member_that_is_not_available_refuses_all(self, shop: Workshop, state: str) -> None:
        """A member that another job works on refuses the rollback of every volume."""
        group_id = make(shop, *shop.volumes(2))
        member = shop.members(group_id)[1]
        shop.set(Snapshot, member.id, status=state)
        with refusal(shop, WrongState, member.id, state):
            shop.ask(groups.order_rollback, group_id, undo=False)
        with refusal(shop, WrongState, member.id, state, code="EVS.2043"):
            shop.ask(groups.order_volumes, group_id)

    @pytest.mark.parametrize("undo", [True, False])
    def test_a_snapshot_in_creation_refuses_all(self, shop: Workshop, *, undo: bool) -> None:
        """A volume is not rolled back under a cut that is under way."""
        chosen = shop.volumes(2)
        group_id = make(shop, *chosen)
        shop.ask(snapshots.create, NewSnapshot(chosen[1]))
        with refusal(shop, SnapshotInCreation, chosen[1], code="EVS.2409"):
            shop.ask(groups.order_rollback, group_id, undo=undo)

    def test_no_room_for_the_undo_group_refuses_all(self, shop: Workshop) -> None:
        """With 256 snapshots of a volume there is no undo; declining it is the way out."""
        volume_id = shop.volume()
        group_id = make(shop, volume_id)
        add_snapshots(shop, volume_id, 255)
        with refusal(shop, BadRequest, volume_id, "256"):
            shop.ask(groups.order_rollback, group_id, undo=True)

        job_id, _ = shop.ask(groups.order_rollback, group_id, undo=False)
        assert shop.job(job_id).status == "SUCCESS"

    def test_a_failed_rollback_may_be_tried_again(self, shop: Workshop) -> None:
        """A volume in error_rollbacking is taken, also with an undo group."""
        volume_id = shop.volume(content=b"before")
        group_id = make(shop, volume_id)
        shop.set(Volume, volume_id, status="error_rollbacking")

        job_id, _ = shop.ask(groups.order_rollback, group_id, undo=True)

        assert shop.job(job_id).status == "SUCCESS"
        assert shop.get(Volume, volume_id).status == "available"

    def test_a_volume_that_has_grown_keeps_its_size(self, shop: Workshop) -> None:
        """Rolling back to a smaller image is no reason to refuse, nor to shrink."""
        volume_id = shop.volume(content=b"before")
        group_id = make(shop, volume_id)
        shop.set(Volume, volume_id, size_gib=20)

        job_id, _ = shop.ask(groups.order_rollback, group_id, undo=False)

        assert shop.job(job_id).status == "SUCCESS"
        assert shop.get(Volume, volume_id).size_gib == 20


class TestNewVolumes:
    def test_each_member_becomes_a_volume(self, shop: Workshop) -> None:
        """The new volumes hold what the members hold, are as large, and are named as asked for."""
        chosen = [shop.volume(content=b"one", size_gib=11), shop.volume(content=b"two", size_gib=12)]
        group_id = make(shop, *chosen, name="nightly")

        job_id, made = shop.ask(groups.order_volumes, group_id, name="restored")

        assert shop.job(job_id).status == "SUCCESS"
        assert list(made) == [member.id for member in shop.members(group_id)]
        volumes = [shop.get(Volume, volume_id) for volume_id in made.values()]
        assert [shop.read(volume.id, 3) for volume in volumes] == [b"one", b"two"]
        assert [(volume.name, volume.size_gib) for volume in volumes] == [
            ("restored-0001", 11),
            ("restored-0002", 12),
        ]
        assert [volume.snapshot_id for volume in volumes] == list(made)

    def test_without_a_name_they_are_named_as_the_members(self, shop: Workshop) -> None:
        """The name of a member is the name of its volume."""
        group_id = make(shop, shop.volume(), name="nightly")

        _, made = shop.ask(groups.order_volumes, group_id)

        assert [shop.get(Volume, volume_id).name for volume_id in made.values()] == ["nightly-0001"]

    @pytest.mark.parametrize(
        ("field", "value", "code"),
        [("availability_zone", "az9", "EVS.2054"), ("volume_type", "SAS", "EVS.2096")],
    )
    def test_another_zone_or_type_is_refused(self, shop: Workshop, field: str, value: str, code: str) -> None:
        """As for a volume from a single snapshot."""
        group_id = make(shop, *shop.volumes(2))
        with refusal(shop, BadRequest, field, value, code=code):
            shop.ask(groups.order_volumes, group_id, **{field: value})

    def test_performance_comes_from_the_source(self, shop: Workshop) -> None:
        """A type that needs IOPS gets those of the source volume, and is refused when nobody knows them any more."""
        volume_id = shop.volume(volume_type="GPSSD2", iops=3000, throughput_mib=125)
        group_id = make(shop, volume_id)
        _, made = shop.ask(groups.order_volumes, group_id)
        (volume,) = [shop.get(Volume, made_id) for made_id in made.values()]
        assert (volume.iops, volume.throughput_mib) == (3000, 125)
        shop.work()

        drop_volume(shop, volume_id)
        with refusal(shop, BadRequest, "iops", "GPSSD2"):
            shop.ask(groups.order_volumes, group_id)

    def test_performance_of_a_source_of_another_type_is_not_taken(self, shop: Workshop) -> None:
        """The source was retyped since; the new volume has the snapshot's type, and nothing was chosen for that."""
        volume_id = shop.volume(volume_type="SSD")
        group_id = make(shop, volume_id)
        shop.set(Volume, volume_id, volume_type="GPSSD2", iops=3000, throughput_mib=125)

        _, made = shop.ask(groups.order_volumes, group_id)

        (volume,) = [shop.get(Volume, made_id) for made_id in made.values()]
        assert (volume.volume_type, volume.iops, volume.throughput_mib) == ("SSD", None, None)

    def test_an_unknown_server_is_refused(self, shop: Workshop) -> None:
        """New volumes can't be attached to a server that is not there."""
        group_id = make(shop, shop.volume())
        server_id = str(uuid4())
        with refusal(shop, BadRequest, "server_id", server_id, code="EVS.2131"):
            shop.ask(groups.order_volumes, group_id, server_id=server_id)


class TestLists:
    @pytest.fixture
    def made(self, shop: Workshop) -> list[str]:
        """Three groups, a second apart: one of a server, one with tags, one in error."""
        volume_id = shop.volume()
        server_id = shop.server(volume_id)
        first = make(shop, server_id=server_id, name="same")
        shop.clock.jump(timedelta(seconds=1))
        second = make(shop, volume_id, name="same", tags={"env": "prod", "owner": ""})
        shop.clock.jump(timedelta(seconds=1))
        third = make(shop, volume_id, name="other", enterprise_project_id="e" * 36, tags={"env": "test"})
        shop.set(SnapshotGroup, third, status="error")
        return [first, second, third]

    @pytest.mark.parametrize(
        ("wanted", "positions"),
        [
            ({}, [2, 1, 0]),
            ({"name": "same"}, [1, 0]),
            ({"name": "sam"}, []),
            ({"status": "error"}, [2]),
            ({"status": "deleting"}, []),
            ({"enterprise_project_id": "0"}, [1, 0]),
            ({"enterprise_project_id": "all_granted_eps"}, [2, 1, 0]),
            ({"tag_key": "env"}, [2, 1]),
            ({"tags": {"env": "prod"}}, [1]),
            ({"tags": {"env": "prod", "owner": ""}}, [1]),
            ({"tags": {"env": "test", "owner": ""}}, []),
            ({"tag_key": "owner", "name": "same", "status": "available"}, [1]),
        ],
    )
    def test_filters_hold_together(
        self, shop: Workshop, made: list[str], wanted: dict[str, Any], positions: list[int]
    ) -> None:
        """A list holds exactly the groups that pass all filters, the newest first, and the count agrees."""
        found = shop.look(groups.list_page, GroupFilter(**wanted), Page())

        assert [group.id for group in found] == [made[position] for position in positions]
        assert shop.look(groups.count, GroupFilter(**wanted)) == len(positions)

    def test_id_and_server_filter_exactly(self, shop: Workshop, made: list[str]) -> None:
        """One group has this id, one was made for this server."""
        server_id = shop.get(SnapshotGroup, made[0]).server_id

        assert [group.id for group in shop.look(groups.list_page, GroupFilter(id=made[1]), Page())] == [made[1]]
        assert [g.id for g in shop.look(groups.list_page, GroupFilter(server_id=server_id), Page())] == [made[0]]

    @pytest.mark.parametrize("key", ["id", "status", "created_at"])
    @pytest.mark.parametrize("direction", ["asc", "desc"])
    def test_pages_neither_repeat_nor_lose(self, shop: Workshop, made: list[str], key: str, direction: Any) -> None:
        """Page by page, in every order, each group comes once; past the end the page is empty."""
        rows = [shop.get(SnapshotGroup, group_id) for group_id in made]
        ordered = sorted(rows, key=lambda row: (getattr(row, key), row.id), reverse=direction == "desc")

        pages = [shop.look(groups.list_page, GroupFilter(), Page(key, direction, 1, offset)) for offset in range(4)]

        assert [[group.id for group in page] for page in pages] == [[row.id] for row in ordered] + [[]]


ACTS: dict[str, Callable[[Workshop, str, str], Any]] = {
    "show": lambda shop, group_id, of: shop.look(groups.find, group_id, project_id=of),
    "update": lambda shop, group_id, of: shop.ask(
        groups.update, group_id, project_id=of, name="stolen", description=None
    ),
    "delete": lambda shop, group_id, of: shop.ask(groups.order_deletion, group_id, project_id=of),
    "roll back": lambda shop, group_id, of: shop.ask(groups.order_rollback, group_id, project_id=of, undo=True),
    "make volumes": lambda shop, group_id, of: shop.ask(groups.order_volumes, group_id, project_id=of),
    "add tags": lambda shop, group_id, of: put_tags(shop, group_id, {"k": "v"}, project_id=of),
    "remove tags": lambda shop, group_id, of: remove_tags(shop, group_id, ["env"], project_id=of),
}


class TestTenants:
    @pytest.mark.parametrize("act", ACTS)
    def test_a_foreign_group_is_as_an_unknown_one(self, shop: Workshop, act: str) -> None:
        """Whatever is asked of another tenant's group: the answer is that of an unknown one, and nothing changes."""
        foreign, unknown = make(shop, shop.volume(), tags={"env": "prod"}), str(uuid4())
        for group_id in (foreign, unknown):
            with refusal(shop, NotFound, f"snapshot group {group_id} does not exist", code="EVS.5404"):
                ACTS[act](shop, group_id, THEIRS)

    def test_foreign_volumes_and_servers_are_as_unknown_ones(self, shop: Workshop) -> None:
        """A group of another tenant's volumes, or of their server, is refused as if they did not exist."""
        volume_id = shop.volume()
        server_id = shop.server(volume_id)
        with refusal(shop, NotFound, f"volume {volume_id} does not exist", code="EVS.5404"):
            shop.ask(groups.create, NewGroup(volume_ids=[volume_id]), project_id=THEIRS)
        with refusal(shop, BadRequest, f"server {server_id} does not exist", code="EVS.2229"):
            shop.ask(groups.create, NewGroup(server_id=server_id), project_id=THEIRS)

    def test_foreign_groups_are_neither_listed_nor_counted(self, shop: Workshop) -> None:
        """Lists, counts and tags of one tenant know nothing of another's."""
        make(shop, shop.volume(), tags={"env": "prod"})

        assert shop.look(groups.list_page, GroupFilter(), Page(), project_id=THEIRS) == []
        assert shop.look(groups.count, GroupFilter(), project_id=THEIRS) == 0
        with shop.database.reading() as session:
            assert groups.TAGGED.in_use(session, THEIRS) == {}


def put_tags(shop: Workshop, group_id: str, wanted: dict[str, str], *, project_id: str = OURS) -> None:
    """Add tags to a group."""
    with shop.database.writing() as session:
        groups.TAGGED.put(session, project_id, group_id, wanted)


def remove_tags(shop: Workshop, group_id: str, keys: list[str], *, project_id: str = OURS) -> None:
    """Remove tags from a group."""
    with shop.database.writing() as session:
        groups.TAGGED.remove(session, project_id, group_id, keys)


def overwrite(shop: Workshop, volume_ids: list[str], content: bytes) -> None:
    """Write the same to several volumes."""
    for volume_id in volume_ids:
        shop.write(volume_id, content)


def drop_volume(shop: Workshop, volume_id: str) -> None:
    """Delete a volume, as its own job would."""
    with shop.database.writing() as session:
        session.delete(session.get_one(Volume, volume_id))


def add_snapshots(shop: Workshop, volume_id: str, number: int, **columns: Any) -> None:
    """Add rows of finished snapshots to a volume."""
    with shop.database.writing() as session:
        volume = session.get_one(Volume, volume_id)
        for _ in range(number):
            row = snapshots.fields(volume, NewSnapshot(volume_id), None, shop.clock.now())
            session.add(Snapshot(**row | {"status": "available"} | columns))
