"""What policies do by themselves, on a clock that jumps: on time, once, all volumes of a server at one instant."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import uuid4

import pytest
from sqlalchemy import event, select
from workshop import BIRTH, OURS, THEIRS, Workshop

from onecut.db.jobs import Job
from onecut.db.policies import PolicyRun, PolicyShare, PolicyVolume
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.volumes import Attachment, Volume
from onecut.service import groups, policies, retention, scheduler, snapshots, volumes
from onecut.service.groups import NewGroup
from onecut.service.policies import FOR_EVER, NewPolicy, PolicyChange
from onecut.service.snapshots import SNAPSHOTS_MAX, NewSnapshot

SEVEN = datetime(2026, 1, 15, 23, tzinfo=UTC)
"""The first time point: the workshop's clock begins on a Friday at 06:10:05 in UTC+8."""

EVERY_HOUR = range(24)


def policy(shop: Workshop, *volume_ids: str, **wanted: Any) -> str:
    """Make a policy of volumes, each day at seven unless told otherwise, and return its id."""
    given: dict[str, Any] = {"name": "nightly", "hours": [7], "retention_days": 30}
    if "weekdays" not in wanted:
        given["interval_days"] = 1
    policy_id: str = shop.ask(policies.create, NewPolicy(**(given | wanted))).id
    associate(shop, policy_id, *volume_ids)
    return policy_id


def associate(shop: Workshop, policy_id: str, *volume_ids: str) -> None:
    """Give a policy volumes."""
    with shop.database.writing() as session:
        policies.associate(session, OURS, policy_id, volume_ids)


def look(shop: Workshop, moment: datetime | None = None) -> int:
    """Set the clock, look once what is due, carry it out, and return how many snapshots were ordered."""
    if moment is not None:
        shop.clock.jump(moment - shop.clock.now())
    ordered = scheduler.look(shop.database, shop.clock.now())
    shop.work()
    return ordered


def set_bin(shop: Workshop, volume_id: str, since: datetime | None) -> None:
    """Put a volume into the recycle bin, or take it out, whatever its state."""
    with shop.database.writing() as session:
        session.get_one(Volume, volume_id).pre_deleted_at = since


def taken(shop: Workshop, volume_id: str | None = None) -> Sequence[Snapshot]:
    """Return all snapshots, or those of a volume, the oldest first."""
    query = select(Snapshot).order_by(Snapshot.created_at, Snapshot.name)
    with shop.database.reading() as session:
        return session.scalars(query if volume_id is None else query.where(Snapshot.volume_id == volume_id)).all()


def all_groups(shop: Workshop) -> Sequence[SnapshotGroup]:
    """Return all groups, the oldest first."""
    with shop.database.reading() as session:
        return session.scalars(select(SnapshotGroup).order_by(SnapshotGroup.created_at, SnapshotGroup.name)).all()


def runs(shop: Workshop, policy_id: str) -> Sequence[PolicyRun]:
    """Return a policy's runs, the newest first."""
    with shop.database.reading() as session:
        return policies.runs(session, policy_id)


def share(shop: Workshop, policy_id: str, volume_id: str) -> PolicyShare:
    """Return a volume's share of the latest run."""
    (found,) = [each for each in runs(shop, policy_id)[0].shares if each.volume_id == volume_id]
    return found


class TestTimePoint:
    def test_a_snapshot_is_taken_on_its_hour_and_not_before(self, shop: Workshop) -> None:
        """Nothing a second before; then one automatic snapshot with the policy's name, project and retention."""
        volume_id = shop.volume(content=b"first!")
        project = str(uuid4())
        policy_id = policy(shop, volume_id, enterprise_project_id=project)

        assert look(shop, SEVEN - timedelta(seconds=1)) == 0
        assert look(shop, SEVEN + timedelta(seconds=3)) == 1

        (snapshot,) = taken(shop)
        assert (snapshot.volume_id, snapshot.status, snapshot.snapshot_type) == (volume_id, "available", "auto")
        assert (snapshot.name, snapshot.snapshot_group_id) == ("nightly-20260116-0700", None)
        assert (snapshot.description, snapshot.enterprise_project_id) == (f"snapshot policy {policy_id}", project)
        assert snapshot.retention_at == SEVEN + timedelta(days=30, seconds=3)
        assert (snapshot.instant_access, snapshot.incremental) == (False, True)

    def test_a_time_point_is_done_once(self, shop: Workshop) -> None:
        """However often it is looked within the hour, and after it; the next day has its own."""
        policy(shop, shop.volume())

        assert [look(shop, SEVEN + timedelta(minutes=minutes)) for minutes in (0, 1, 59, 61, 600)] == [1, 0, 0, 0, 0]
        assert look(shop, SEVEN + timedelta(days=1)) == 1

    def test_retention_of_minus_one_is_for_ever(self, shop: Workshop) -> None:
        """Such snapshots have no end."""
        policy(shop, shop.volume(), retention_days=FOR_EVER)

        look(shop, SEVEN)

        assert taken(shop)[0].retention_at is None

    def test_days_of_the_week(self, shop: Workshop) -> None:
        """A policy for Mondays passes the weekend by."""
        policy(shop, shop.volume(), weekdays=[1])

        assert [look(shop, SEVEN + timedelta(days=days)) for days in range(5)] == [0, 0, 0, 1, 0]

    def test_a_policy_without_volumes_does_nothing(self, shop: Workshop) -> None:
        """There is no run; a volume that it gets later is not made up for."""
        policy_id = policy(shop)
        look(shop, SEVEN)
        associate(shop, policy_id, shop.volume())

        assert (look(shop, SEVEN + timedelta(minutes=5)), runs(shop, policy_id)) == (0, [])

    def test_a_policy_made_after_the_hour_waits_for_the_next(self, shop: Workshop) -> None:
        """What was due before it was made was not missed."""
        shop.clock.jump(SEVEN + timedelta(minutes=30) - BIRTH)
        policy(shop, shop.volume())

        assert look(shop) == 0
        assert look(shop, SEVEN + timedelta(days=1)) == 1

    def test_another_schedule_counts_from_its_change(self, shop: Workshop) -> None:
        """An hour that was past when it was set is not made up for; another name changes nothing of the schedule."""
        policy_id = policy(shop, shop.volume())
        shop.clock.jump(SEVEN + timedelta(hours=2) - BIRTH)
        shop.ask(policies.update, policy_id, PolicyChange(hours=[8]))
        assert look(shop) == 0
        shop.ask(policies.update, policy_id, PolicyChange(name="renamed"))

        assert look(shop, SEVEN + timedelta(days=1, hours=1)) == 1
        assert taken(shop)[0].name == "renamed-20260117-0800"

    def test_long_names_leave_room_for_the_time(self, shop: Workshop) -> None:
        """Member names of a policy with the longest name still tell time point and number."""
        volume_id = shop.volume()
        shop.server(volume_id)
        policy(shop, volume_id, name="\u00e4" * 127)

        look(shop, SEVEN)

        assert taken(shop)[0].name == "\u00e4" * 45 + "-20260116-0700-0001"
        assert len(taken(shop)[0].name) == 64


class TestTogether:
    def test_volumes_of_a_server_are_cut_at_one_instant(self, shop: Workshop) -> None:
        """Two servers and a detached disk: a group for each server, a single snapshot for the disk."""
        first, second, alone = shop.volumes(3), shop.volumes(2), shop.volume()
        servers = [shop.server(*first), shop.server(*second)]
        policy(shop, *first, *second, alone)

        assert look(shop, SEVEN) == 6

        found = {group.server_id: group for group in all_groups(shop)}
        assert set(found) == set(servers)
        for server_id, its in zip(servers, (first, second), strict=True):
            group = found[server_id]
            assert (group.status, group.name) == ("available", "nightly-20260116-0700")
            members = shop.members(group.id)
            assert [member.volume_id for member in members] == its
            assert {member.snapshot_type for member in members} == {"auto"}
            assert {member.retention_at for member in members} == {SEVEN + timedelta(days=30)}
            assert len({member.cut["taken_at"] for member in members if member.cut}) == 1
        assert taken(shop, alone)[0].snapshot_group_id is None

    def test_a_server_s_other_volumes_are_left_alone(self, shop: Workshop) -> None:
        """Only the volumes of the policy are cut, not all of the server."""
        chosen, other = shop.volumes(2)
        shop.server(chosen, other)
        policy(shop, chosen)

        look(shop, SEVEN)

        assert [snapshot.volume_id for snapshot in taken(shop)] == [chosen]

    def test_servers_that_share_a_disk_are_cut_together(self, shop: Workshop) -> None:
        """A cluster's own disks and the shared one show one instant: one group, which names no server."""
        left, right, shared, apart = shop.volumes(4)
        server_id, other_id = shop.server(left, shared), shop.server(right)
        with shop.database.writing() as session:
            place = {"device": "/dev/vdz", "attached_at": BIRTH}
            session.add(Attachment(id=str(uuid4()), volume_id=shared, server_id=other_id, **place))
        shop.server(apart)
        policy(shop, left, right, shared, apart)

        look(shop, SEVEN)

        found = {frozenset(m.volume_id for m in shop.members(g.id)): g.server_id for g in all_groups(shop)}
        assert set(found) == {frozenset({left, right, shared}), frozenset({apart})}
        assert found[frozenset({left, right, shared})] is None
        assert server_id != other_id

    def test_more_volumes_than_a_group_has_are_several_groups(self, shop: Workshop) -> None:
        """65 disks of one server are cut 64 and 1, in the order of their places."""
        disks = [shop.volume(status="in-use") for _ in range(65)]
        server_id = shop.server()
        with shop.database.writing() as session:
            for number, disk in enumerate(disks):
                place = {"device": f"/dev/vd{number:03}", "attached_at": BIRTH}
                session.add(Attachment(id=str(uuid4()), volume_id=disk, server_id=server_id, **place))
        policy_id = policy(shop, *disks)

        scheduler.look(shop.database, SEVEN)

        sizes = sorted(group.member_count for group in all_groups(shop))
        assert sizes == [1, 64]
        assert all(each.snapshot_id for each in runs(shop, policy_id)[0].shares)


class TestObstacles:
    def test_the_others_are_cut_and_the_reason_is_shown(self, shop: Workshop) -> None:
        """A broken disk, one that is full of snapshots: both wait with their reason, the third is cut on time."""
        good, broken, full = shop.volumes(3)
        shop.server(good, broken, full)
        fill(shop, full)
        shop.set(Volume, broken, status="error")
        policy_id = policy(shop, good, broken, full)

        assert look(shop, SEVEN) == 1

        assert share(shop, policy_id, good).snapshot_id == taken(shop, good)[0].id
        assert share(shop, policy_id, broken).obstacle == f"volume {broken} is error; this needs available or in-use"
        assert "the limit is 256" in (share(shop, policy_id, full).obstacle or "")
        assert runs(shop, policy_id)[0].look_at == SEVEN + timedelta(minutes=1)

    def test_a_volume_that_can_be_cut_again_within_the_hour_is(self, shop: Workshop) -> None:
        """A snapshot in creation is waited for, and looked at once a minute; the volume's server goes with it."""
        volume_id = shop.volume()
        server_id = shop.server(volume_id)
        _, by_hand = shop.ask(snapshots.create, NewSnapshot(volume_id))
        policy_id = policy(shop, volume_id)
        shop.clock.jump(SEVEN - BIRTH)

        assert scheduler.look(shop.database, SEVEN) == 0
        assert "still being created" in (share(shop, policy_id, volume_id).obstacle or "")
        shop.work()
        assert look(shop, SEVEN + timedelta(seconds=59)) == 0
        assert look(shop, SEVEN + timedelta(seconds=60)) == 1

        assert [snapshot.id == by_hand for snapshot in taken(shop, volume_id)] == [True, False]
        assert all_groups(shop)[0].server_id == server_id
        assert share(shop, policy_id, volume_id).obstacle is None
        assert runs(shop, policy_id)[0].look_at is None

    def test_after_an_hour_it_is_skipped(self, shop: Workshop) -> None:
        """The reason stays on show; mended later, the volume is taken at the next time point."""
        volume_id = shop.volume(status="error")
        policy_id = policy(shop, volume_id)
        look(shop, SEVEN)

        assert look(shop, SEVEN + timedelta(minutes=59)) == 0
        assert runs(shop, policy_id)[0].look_at is not None
        assert look(shop, SEVEN + timedelta(minutes=61)) == 0
        assert runs(shop, policy_id)[0].look_at is None
        shop.set(Volume, volume_id, status="available")
        assert look(shop, SEVEN + timedelta(hours=2)) == 0
        assert "is error" in (share(shop, policy_id, volume_id).obstacle or "")
        assert look(shop, SEVEN + timedelta(days=1)) == 1

    def test_the_next_time_point_ends_the_one_before(self, shop: Workshop) -> None:
        """A volume that waited since seven is taken once at eight, for eight."""
        volume_id = shop.volume(status="error")
        policy_id = policy(shop, volume_id, hours=EVERY_HOUR)
        look(shop, SEVEN)
        shop.set(Volume, volume_id, status="available")

        assert look(shop, SEVEN + timedelta(hours=1)) == 1

        new, old = runs(shop, policy_id)
        assert (new.due_at, old.due_at) == (SEVEN + timedelta(hours=1), SEVEN)
        assert (new.shares[0].snapshot_id is None, old.shares[0].snapshot_id) == (False, None)
        assert old.look_at is None

    def test_two_policies_of_a_volume_take_turns(self, shop: Workshop) -> None:
        """At the same hour the second waits for the first one's snapshot, and takes its own."""
        volume_id = shop.volume()
        policy(shop, volume_id, name="short", retention_days=1)
        policy(shop, volume_id, name="long", retention_days=365)

        assert look(shop, SEVEN) == 1
        assert look(shop, SEVEN + timedelta(minutes=1)) == 1
        assert {snapshot.name for snapshot in taken(shop)} == {"short-20260116-0700", "long-20260116-0700"}

    def test_a_volume_that_leaves_while_it_waits_is_left_alone(self, shop: Workshop) -> None:
        """Disassociated, deleted or another tenant's by now, before its turn came: no snapshot, and the reason."""
        gone, left, theirs = shop.volumes(3, status="error")
        policy_id = policy(shop, gone, left, theirs)
        look(shop, SEVEN)
        with shop.database.writing() as session:
            policies.disassociate(session, OURS, policy_id, [left])
        shop.ask(volumes.order_deletion, gone)
        shop.work()
        shop.set(Volume, left, status="available")
        shop.set(Volume, theirs, status="available", project_id=THEIRS)

        assert look(shop, SEVEN + timedelta(minutes=2)) == 0

        for volume_id in (gone, left):
            assert share(shop, policy_id, volume_id).obstacle == f"volume {volume_id} was deleted or disassociated"
        assert share(shop, policy_id, theirs).obstacle == f"volume {theirs} does not exist"
        assert taken(shop) == []

    def test_a_volume_in_the_recycle_bin_is_left_out_until_it_is_back(self, shop: Workshop) -> None:
        """The policy keeps it; one that goes there while it waits is told of as what it is."""
        volume_id, other = shop.volume(), shop.volume()
        policy_id = policy(shop, volume_id, other)
        set_bin(shop, volume_id, SEVEN)
        assert look(shop, SEVEN) == 1
        assert [each.volume_id for each in runs(shop, policy_id)[0].shares] == [other]

        set_bin(shop, volume_id, None)
        with shop.database.writing() as session:
            session.get_one(Volume, volume_id).status = "extending"
        assert look(shop, SEVEN + timedelta(days=1)) == 1
        set_bin(shop, volume_id, SEVEN)
        look(shop, SEVEN + timedelta(days=1, minutes=2))
        assert share(shop, policy_id, volume_id).obstacle == f"volume {volume_id} is in the recycle bin"

    def test_what_can_not_be_cut_together_waits_together(self, shop: Workshop) -> None:
        """A refusal that is about all of a server's volumes is noted on each, and keeps no other server waiting."""
        here, there, elsewhere = shop.volume(), shop.volume(availability_zone="az2"), shop.volume()
        shop.server(here, there)
        shop.server(elsewhere)
        policy_id = policy(shop, here, there, elsewhere)

        assert look(shop, SEVEN) == 1

        reasons = {share(shop, policy_id, volume_id).obstacle for volume_id in (here, there)}
        assert len(reasons) == 1
        assert "must be of one availability zone" in (reasons.pop() or "")
        assert taken(shop, elsewhere)
        shop.set(Volume, there, availability_zone="az1")
        assert look(shop, SEVEN + timedelta(minutes=1)) == 2

    def test_a_cut_that_fails_is_not_asked_for_again(self, shop: Workshop) -> None:
        """What was ordered was done, also when its job fails: the next time point comes."""
        volume_id = shop.volume()
        policy_id = policy(shop, volume_id)
        shop.clock.jump(SEVEN - BIRTH)
        scheduler.look(shop.database, SEVEN)
        shop.set(Snapshot, taken(shop)[0].id, status="error")

        assert scheduler.look(shop.database, SEVEN + timedelta(minutes=1)) == 0
        assert share(shop, policy_id, volume_id).snapshot_id == taken(shop)[0].id


def fill(shop: Workshop, volume_id: str) -> None:
    """Give a volume as many snapshots as it may have."""
    with shop.database.writing() as session:
        volume = session.get_one(Volume, volume_id)
        rows = [snapshots.fields(volume, NewSnapshot(volume_id), None, BIRTH) for _ in range(SNAPSHOTS_MAX)]
        snapshots.add(session, [row | {"status": "available"} for row in rows])


class TestClock:
    def test_downtime_is_made_up_for_once(self, shop: Workshop) -> None:
        """Down over three days of hourly time points: one snapshot, for the latest of them; then on as ever."""
        policy_id = policy(shop, shop.volume(), hours=EVERY_HOUR)
        look(shop, SEVEN)

        assert look(shop, SEVEN + timedelta(days=3, minutes=20)) == 1
        assert [run.due_at for run in runs(shop, policy_id)] == [SEVEN + timedelta(days=3), SEVEN]
        assert runs(shop, policy_id)[0].begun_at == SEVEN + timedelta(days=3, minutes=20)
        assert look(shop, SEVEN + timedelta(days=3, minutes=59)) == 0
        assert look(shop, SEVEN + timedelta(days=3, hours=1)) == 1

    @pytest.mark.parametrize(
        "back", [timedelta(minutes=10), timedelta(hours=1), timedelta(days=2), timedelta(days=9)]
    )
    def test_a_clock_that_is_set_back_takes_nothing_again(self, shop: Workshop, back: timedelta) -> None:
        """Not at once, nor on the way back to where it was; then on as ever."""
        policy(shop, shop.volume(), hours=EVERY_HOUR)
        look(shop, SEVEN)
        here = SEVEN + timedelta(days=5, minutes=5)
        assert look(shop, here) == 1

        way = [here - back + back * step / 20 for step in range(21)]
        assert [look(shop, moment) for moment in way] == [0] * 21
        assert look(shop, here + timedelta(hours=1)) == 1

    def test_another_schedule_on_a_clock_that_was_set_back_doubles_nothing(self, shop: Workshop) -> None:
        """A time point that was done is not done again, though the schedule counts from a moment before it now."""
        policy_id = policy(shop, shop.volume())
        look(shop, SEVEN)
        shop.clock.jump(timedelta(minutes=-30))
        shop.ask(policies.update, policy_id, PolicyChange(hours=[7, 8]))

        assert look(shop, SEVEN) == 0
        assert look(shop, SEVEN + timedelta(hours=1)) == 1

    def test_another_schedule_ends_the_wait_for_a_clock_that_was_ahead(self, shop: Workshop) -> None:
        """A clock that was a year ahead for a moment: the policy waits for that year, or until it is changed."""
        policy_id = policy(shop, shop.volume())
        look(shop, SEVEN + timedelta(days=365))
        assert look(shop, SEVEN + timedelta(days=1)) == 0

        shop.ask(policies.update, policy_id, PolicyChange(hours=[7, 8]))

        assert look(shop, SEVEN + timedelta(days=1, hours=1)) == 1

    def test_old_runs_are_forgotten(self, shop: Workshop) -> None:
        """Thirty runs are kept, and no shares of others."""
        policy_id = policy(shop, shop.volume(), hours=EVERY_HOUR)
        for hours in range(33):
            scheduler.look(shop.database, SEVEN + timedelta(hours=hours))

        assert len(runs(shop, policy_id)) == scheduler.RUNS_KEPT == 30
        with shop.database.reading() as session:
            assert len(session.scalars(select(PolicyShare)).all()) == 30


class Killed(BaseException):
    """The service is killed."""


class TestKilled:
    @pytest.mark.parametrize("commit", [1, 2, 3, 4, 5])
    @pytest.mark.parametrize("down", [timedelta(seconds=5), timedelta(hours=3)])
    def test_killed_at_any_commit_it_doubles_and_loses_nothing(
        self, shop: Workshop, commit: int, down: timedelta
    ) -> None:
        """Before each commit in turn: after the next start each volume has one snapshot, and its share names it."""
        first, second, alone = shop.volumes(2), shop.volumes(2), shop.volume()
        shop.server(*first)
        shop.server(*second)
        policy_id = policy(shop, *first, *second, alone)

        with dying_at(shop, commit):
            scheduler.look(shop.database, SEVEN)
        for moment in (SEVEN + down, SEVEN + down + timedelta(minutes=5)):
            scheduler.look(shop.database, moment)

        (run,) = runs(shop, policy_id)
        assert (run.due_at, run.look_at) == (SEVEN, None)
        snapshot_of = {each.volume_id: each.id for each in taken(shop)}
        assert {each.volume_id: each.snapshot_id for each in run.shares} == snapshot_of
        assert len(taken(shop)) == len(snapshot_of) == 5
        assert [group.member_count for group in all_groups(shop)] == [2, 2]

    def test_a_look_makes_five_commits(self, shop: Workshop) -> None:
        """To begin, for each of three cuts, and to end: the test above dies before each of them."""
        for disks in (shop.volumes(2), shop.volumes(2)):
            shop.server(*disks)
        with shop.database.reading() as session:
            policy(shop, *session.scalars(select(Volume.id)), shop.volume())

        with dying_at(shop, 5) as fifth:
            scheduler.look(shop.database, SEVEN)
        assert fifth.died
        with dying_at(shop, 2) as second:
            scheduler.look(shop.database, SEVEN)
        assert not second.died

    def test_killed_for_more_than_a_day_the_next_time_point_has_it(self, shop: Workshop) -> None:
        """A run that was begun and went no further is ended by the next one, and its volumes are in that one."""
        volume_id = shop.volume()
        policy_id = policy(shop, volume_id)
        with dying_at(shop, 2):
            scheduler.look(shop.database, SEVEN)

        assert scheduler.look(shop.database, SEVEN + timedelta(days=1, hours=5)) == 1

        new, old = runs(shop, policy_id)
        assert new.shares[0].snapshot_id == taken(shop)[0].id
        assert (old.look_at, old.shares[0].snapshot_id) == (None, None)
        assert old.shares[0].obstacle == "the next time point came before it was looked at"

    def test_two_that_look_at_once_order_once(self, shop: Workshop) -> None:
        """Many threads at the same moment: one run, one snapshot of each volume, one job for each cut."""
        disks = shop.volumes(4)
        shop.server(*disks[:2])
        policy_id = policy(shop, *disks)
        barrier = threading.Barrier(6)
        ordered: list[int] = []

        def race() -> None:
            barrier.wait()
            ordered.append(scheduler.look(shop.database, SEVEN))

        threads = [threading.Thread(target=race) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sum(ordered) == 4
        assert sorted(snapshot.volume_id for snapshot in taken(shop)) == sorted(disks)
        assert len(runs(shop, policy_id)) == 1
        with shop.database.reading() as session:
            assert len(session.scalars(select(Job).where(Job.parent_id.is_(None))).all()) == 3


class dying_at:  # noqa: N801 - reads as a verb where it is used
    """Kill whoever is about to make the commit of that number, counted from 1."""

    def __init__(self, shop: Workshop, commit: int) -> None:
        self._sessions, self._left, self.died = shop.database.writing_sessions, commit, False

    def __enter__(self) -> Self:
        event.listen(self._sessions, "before_commit", self._commit)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> bool:
        event.remove(self._sessions, "before_commit", self._commit)
        return kind is Killed

    def _commit(self, _session: object) -> None:
        self._left -= 1
        if self._left == 0:
            self.died = True
            raise Killed


class TestRetention:
    def test_a_server_s_group_goes_as_a_whole(self, shop: Workshop) -> None:
        """On time, in one job, without a shell that stays; also when it became due while the service was down."""
        first, second = shop.volumes(2)
        shop.server(first, second)
        policy(shop, first, second, retention_days=3)
        look(shop, SEVEN)
        (group,) = all_groups(shop)

        shop.clock.jump(timedelta(days=3, seconds=-1))
        assert retention.enforce(shop.database, shop.clock.now()) == 0
        shop.clock.jump(timedelta(days=30))
        assert [retention.enforce(shop.database, shop.clock.now()) for _ in range(3)] == [1, 0, 0]
        shop.work()

        assert shop.get(SnapshotGroup, group.id) is None
        assert (taken(shop), shop.points()) == ([], set())

    def test_what_is_left_of_a_group_goes_with_it(self, shop: Workshop) -> None:
        """One member was deleted by hand: the others' end is the group's."""
        first, second = shop.volumes(2)
        shop.server(first, second)
        policy(shop, first, second, retention_days=3)
        look(shop, SEVEN)
        shop.ask(snapshots.order_deletion, taken(shop, first)[0].id)
        shop.work()
        assert len(all_groups(shop)) == 1

        shop.clock.jump(timedelta(days=3))
        assert retention.enforce(shop.database, shop.clock.now()) == 1
        shop.work()

        assert (all_groups(shop), taken(shop)) == ([], [])

    def test_a_member_that_stays_keeps_its_group(self, shop: Workshop) -> None:
        """When one member's time has passed and another's has not, the one goes alone."""
        first, second = shop.volumes(2)
        shop.server(first, second)
        policy(shop, first, second, retention_days=3)
        look(shop, SEVEN)
        stays = taken(shop, second)[0].id
        shop.set(Snapshot, stays, retention_at=SEVEN + timedelta(days=9))

        shop.clock.jump(timedelta(days=3))
        assert retention.enforce(shop.database, shop.clock.now()) == 1
        shop.work()

        assert [snapshot.id for snapshot in taken(shop)] == [stays]
        assert len(all_groups(shop)) == 1

    def test_an_automatic_group_goes_with_its_last_member(self, shop: Workshop) -> None:
        """Deleted by hand one by one, also when they were to stay for ever. A group that somebody made stays."""
        first, second = shop.volumes(2)
        shop.server(first, second)
        policy(shop, first, second, retention_days=FOR_EVER)
        look(shop, SEVEN)
        _, by_hand = shop.ask(groups.create, NewGroup(volume_ids=[first]))
        shop.work()

        for snapshot in taken(shop):
            shop.ask(snapshots.order_deletion, snapshot.id)
        shop.work()

        assert [group.id for group in all_groups(shop)] == [by_hand]

    def test_a_group_in_use_is_waited_for(self, shop: Workshop) -> None:
        """While a volume is made from one member all of them stay; then all of them go."""
        first, second = shop.volumes(2)
        shop.server(first, second)
        policy(shop, first, second, retention_days=3)
        look(shop, SEVEN)
        source = taken(shop, first)[0].id
        shop.ask(volumes.create, volumes.VolumeOrder("new", "", 10, "SSD", "az1", snapshot_id=source), zones=["az1"])
        shop.clock.jump(timedelta(days=3))

        assert retention.enforce(shop.database, shop.clock.now()) == 0
        assert {snapshot.status for snapshot in taken(shop)} == {"available"}
        shop.work()
        assert retention.enforce(shop.database, shop.clock.now()) == 1

    def test_a_group_whose_deletion_failed_is_tried_again_after_an_hour(self, shop: Workshop) -> None:
        """As a whole, not member by member."""
        first, second = shop.volumes(2)
        shop.server(first, second)
        policy(shop, first, second, retention_days=3)
        look(shop, SEVEN)
        shop.clock.jump(timedelta(days=4))
        (group,) = all_groups(shop)
        for model, row_id in ((SnapshotGroup, group.id), *((Snapshot, each.id) for each in taken(shop))):
            shop.set(model, row_id, status="error_deleting", updated_at=shop.clock.now())

        assert retention.enforce(shop.database, shop.clock.now()) == 0
        shop.clock.jump(timedelta(hours=1))
        assert retention.enforce(shop.database, shop.clock.now()) == 1
        shop.work()
        assert (all_groups(shop), taken(shop)) == ([], [])

    def test_a_clock_that_is_set_back_ends_nothing_early(self, shop: Workshop) -> None:
        """The end of a snapshot is a moment, not a number of looks."""
        policy(shop, shop.volume(), retention_days=3)
        look(shop, SEVEN)

        for jump in (timedelta(days=-5), timedelta(days=7)):
            shop.clock.jump(jump)
            assert retention.enforce(shop.database, shop.clock.now()) == 0
        shop.clock.jump(timedelta(days=1))
        assert retention.enforce(shop.database, shop.clock.now()) == 1

    def test_snapshots_outlive_their_policy(self, shop: Workshop) -> None:
        """A policy that is deleted takes none with it; they end when they were to end."""
        policy_id = policy(shop, shop.volume(), retention_days=3)
        look(shop, SEVEN)
        with shop.database.writing() as session:
            policies.delete_policy(session, OURS, policy_id, shop.clock.now())

        assert look(shop, SEVEN + timedelta(days=1)) == 0
        assert len(taken(shop)) == 1
        shop.clock.jump(timedelta(days=2))
        assert retention.enforce(shop.database, shop.clock.now()) == 1


def test_a_volume_that_is_deleted_leaves_its_policies(shop: Workshop) -> None:
    """Nothing of it is left in any of them, and they go on with the others."""
    goes, stays = shop.volumes(2)
    policy(shop, goes, stays)
    policy(shop, goes, hours=[8])

    shop.ask(volumes.order_deletion, goes)
    shop.work()

    with shop.database.reading() as session:
        assert session.scalars(select(PolicyVolume.volume_id)).all() == [stays]
    assert look(shop, SEVEN) == 1
