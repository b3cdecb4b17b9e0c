"""What may be done with policies, what is refused, and that nothing changes then."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from workshop import BIRTH, OURS, THEIRS, Workshop, refusal

from onecut.db.policies import PolicyVolume, SnapshotPolicy
from onecut.db.volumes import Volume
from onecut.errors import BadRequest, NotFound
from onecut.service import policies, scheduler, tags
from onecut.service.listing import Page
from onecut.service.policies import NewPolicy, PolicyChange, PolicyFilter
from onecut.service.tags import TAGS_MAX

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def make(shop: Workshop, project_id: str = OURS, **wanted: Any) -> str:
    """Make a policy, each day at one unless told otherwise, and return its id."""
    given: dict[str, Any] = {"name": "nightly", "hours": [1], "retention_days": 7}
    if "weekdays" not in wanted:
        given["interval_days"] = 1
    policy_id: str = shop.ask(policies.create, NewPolicy(**(given | wanted)), project_id=project_id).id
    return policy_id


def put(shop: Workshop, act: Any, *args: Any, project_id: str = OURS) -> None:
    """Call a function that changes something, and needs no time."""
    with shop.database.writing() as session:
        act(session, project_id, *args)


def associated(shop: Workshop, policy_id: str) -> list[str]:
    """Return a policy's volumes."""
    with shop.database.reading() as session:
        return list(policies.volume_ids(session, policy_id))


def listed(shop: Workshop, project_id: str = OURS, **wanted: Any) -> list[str]:
    """List policies that pass a filter, and check that as many are counted."""
    found = shop.look(policies.list_page, PolicyFilter(**wanted), Page(), project_id=project_id)
    assert shop.look(policies.count, PolicyFilter(**wanted), project_id=project_id) == len(found)
    return [policy.id for policy in found]


class TestSchedule:
    def test_neither_days_nor_interval(self, shop: Workshop) -> None:
        """A policy needs one of the two."""
        with refusal(shop, BadRequest, "one of repeat_weekdays and repeat_interval_days"):
            shop.ask(policies.create, NewPolicy("nightly", [1], 7))

    def test_both(self, shop: Workshop) -> None:
        """And never has both, neither when it is made nor by a change."""
        policy_id = make(shop)
        with refusal(shop, BadRequest, "only one of repeat_weekdays and repeat_interval_days"):
            shop.ask(policies.create, NewPolicy("nightly", [1], 7, weekdays=[1], interval_days=1))
        with refusal(shop, BadRequest, "only one of repeat_weekdays and repeat_interval_days"):
            shop.ask(policies.update, policy_id, PolicyChange(weekdays=[1], interval_days=1))

    def test_the_next_time_point_is_known(self, shop: Workshop) -> None:
        """It was 06:10 on a Friday in UTC+8 when the policies were made."""
        daily, weekly = make(shop), make(shop, weekdays=[1])

        assert shop.get(SnapshotPolicy, daily).next_at == datetime(2026, 1, 16, 17, tzinfo=UTC)
        assert shop.get(SnapshotPolicy, weekly).next_at == datetime(2026, 1, 18, 17, tzinfo=UTC)

    def test_one_takes_the_other_s_place(self, shop: Workshop) -> None:
        """Weekdays instead of an interval, and back; what is not named stays."""
        policy_id = make(shop, interval_days=3)

        shop.ask(policies.update, policy_id, PolicyChange(weekdays=[1, 5]))
        policy = shop.get(SnapshotPolicy, policy_id)
        assert (policy.weekdays, policy.interval_days, policy.hours) == ([1, 5], None, [1])
        shop.ask(policies.update, policy_id, PolicyChange(interval_days=2, retention_days=-1))
        policy = shop.get(SnapshotPolicy, policy_id)
        assert (policy.weekdays, policy.interval_days, policy.hours) == (None, 2, [1])
        assert (policy.name, policy.retention_days) == ("nightly", -1)

    def test_only_another_schedule_begins_to_count_anew(self, shop: Workshop) -> None:
        """An interval goes on in step when the name, the retention or the same schedule is set."""
        policy_id = make(shop, interval_days=3)
        shop.clock.jump(timedelta(days=1))

        shop.ask(
            policies.update, policy_id, PolicyChange(name="renamed", retention_days=1, hours=[1], interval_days=3)
        )
        assert shop.get(SnapshotPolicy, policy_id).counted_from == BIRTH
        shop.ask(policies.update, policy_id, PolicyChange(hours=[2]))
        policy = shop.get(SnapshotPolicy, policy_id)
        assert policy.counted_from == policy.updated_at == BIRTH + timedelta(days=1)
        assert policy.next_at == datetime(2026, 1, 19, 18, tzinfo=UTC)


class TestVolumes:
    def test_a_volume_may_have_several_policies(self, shop: Workshop) -> None:
        """And a policy several volumes; naming one twice, or again, changes nothing."""
        first, second = shop.volumes(2)
        short, long = make(shop), make(shop)

        put(shop, policies.associate, short, [first, second, first])
        put(shop, policies.associate, short, [second])
        put(shop, policies.associate, long, [first])

        assert associated(shop, short) == sorted([first, second])
        assert associated(shop, long) == [first]
        put(shop, policies.disassociate, short, [first])
        put(shop, policies.disassociate, short, [first])
        assert (associated(shop, short), associated(shop, long)) == ([second], [first])

    @pytest.mark.parametrize("act", [policies.associate, policies.disassociate])
    def test_an_unknown_volume_or_policy(self, shop: Workshop, act: Any) -> None:
        """One unknown volume refuses all of the call; another tenant's is one."""
        policy_id, known = make(shop), shop.volume()
        theirs = shop.volume(project_id=THEIRS)
        for unknown in (UNKNOWN, theirs):
            with refusal(shop, NotFound, f"volume {unknown} does not exist", code="EVS.5404"):
                put(shop, act, policy_id, [known, unknown])
        for foreign in (UNKNOWN, make(shop, THEIRS)):
            with refusal(shop, NotFound, f"snapshot policy {foreign} does not exist", code="EVS.5404"):
                put(shop, act, foreign, [known])

    def test_a_volume_that_is_being_deleted(self, shop: Workshop) -> None:
        """It is refused: nothing would ever be taken of it."""
        policy_id, volume_id = make(shop), shop.volume(status="deleting")
        with refusal(shop, BadRequest, f"volume {volume_id} is being deleted"):
            put(shop, policies.associate, policy_id, [volume_id])

    @pytest.mark.parametrize("state", ["creating", "error", "error_deleting", "rollbacking"])
    def test_any_other_state_is_taken(self, shop: Workshop, state: str) -> None:
        """A volume's state matters at the time point, not before."""
        policy_id, volume_id = make(shop), shop.volume(status=state)

        put(shop, policies.associate, policy_id, [volume_id])

        assert associated(shop, policy_id) == [volume_id]


class TestLife:
    def test_deleting_leaves_nothing_of_it(self, shop: Workshop) -> None:
        """Its volumes, tags and runs go with it; the volumes themselves and what was taken stay."""
        before = shop.state()
        policy_id = make(shop, tags={"env": "prod"}, hours=[7])
        volume_id = shop.volume()
        put(shop, policies.associate, policy_id, [volume_id])
        scheduler.look(shop.database, BIRTH + timedelta(hours=1))

        put(shop, policies.delete_policy, policy_id, shop.clock.now())

        after = shop.state()
        for table in (
            "snapshot_policy",
            "snapshot_policy_volume",
            "snapshot_policy_run",
            "snapshot_policy_share",
            "tag",
        ):
            assert after[table] == before[table] == []
        assert shop.get(Volume, volume_id) is not None
        assert len(after["snapshot"]) == 1
        with refusal(shop, NotFound, policy_id, code="EVS.5404"):
            put(shop, policies.delete_policy, policy_id, shop.clock.now())

    def test_tags(self, shop: Workshop) -> None:
        """They are put and removed by key, twenty at most."""
        policy_id = make(shop, tags={"env": "prod"})
        put(shop, policies.TAGGED.put, policy_id, {"env": "test", "team": "db"})
        put(shop, policies.TAGGED.remove, policy_id, ["team", "other"])

        with shop.database.reading() as session:
            assert tags.of(session, [policy_id]) == {policy_id: {"env": "test"}}
        with refusal(shop, BadRequest, str(TAGS_MAX), code="EVS.1061"):
            put(shop, policies.TAGGED.put, policy_id, {f"key{number}": "" for number in range(TAGS_MAX)})
        with refusal(shop, BadRequest, str(TAGS_MAX), code="EVS.1061"):
            make(shop, tags={f"key{number}": "" for number in range(TAGS_MAX + 1)})

    def test_every_act_on_a_foreign_policy(self, shop: Workshop) -> None:
        """It is refused in the words for one that does not exist."""
        theirs = make(shop, THEIRS, tags={"env": "prod"})
        for act, args in (
            (policies.TAGGED.put, ({"env": "x"},)),
            (policies.TAGGED.remove, (["env"],)),
            (policies.delete_policy, (BIRTH,)),
            (policies.find, ()),
        ):
            with refusal(shop, NotFound, f"snapshot policy {theirs} does not exist", code="EVS.5404"):
                put(shop, act, theirs, *args)
        with refusal(shop, NotFound, theirs, code="EVS.5404"):
            shop.ask(policies.update, theirs, PolicyChange(name="ours"))


class TestLists:
    def test_filters(self, shop: Workshop) -> None:
        """Each filter alone; the count agrees with every list."""
        project = str(uuid4())
        first = make(shop, name="a", tags={"env": "prod"})
        shop.clock.jump(timedelta(seconds=1))
        second = make(shop, name="b", enterprise_project_id=project, tags={"env": "test"})
        make(shop, THEIRS, name="a", tags={"env": "prod"})

        assert listed(shop) == [second, first]
        assert listed(shop, id=first) == [first]
        assert listed(shop, name="b") == [second]
        assert listed(shop, enterprise_project_id=project) == [second]
        assert listed(shop, enterprise_project_id="all_granted_eps") == [second, first]
        assert listed(shop, tag_key="env") == [second, first]
        assert listed(shop, tags={"env": "prod"}) == [first]
        assert listed(shop, tags={"env": "prod"}, name="b") == []
        assert len(listed(shop, THEIRS)) == 1

    @pytest.mark.parametrize("key", sorted(policies.SORT_COLUMNS))
    def test_sorting_and_pages(self, shop: Workshop, key: str) -> None:
        """Pages of one, in both directions, hold every policy once."""
        ids = [make(shop, name=name) for name in "bac"]
        for direction in ("asc", "desc"):
            pages = [Page(key, direction, limit=1, offset=offset) for offset in range(4)]
            found = [shop.look(policies.list_page, PolicyFilter(), page) for page in pages]
            assert sorted(policy.id for page in found for policy in page) == sorted(ids)
            values = [getattr(policy, key) for page in found for policy in page]
            assert values == sorted(values, reverse=direction == "desc")


def test_what_became_of_volumes_is_counted(shop: Workshop) -> None:
    """The latest run of each policy, of all tenants together."""
    good, bad, theirs = shop.volume(), shop.volume(status="error"), shop.volume(project_id=THEIRS)
    put(shop, policies.associate, make(shop, hours=[7, 8]), [good, bad])
    put(shop, policies.associate, make(shop, THEIRS, hours=[7, 8]), [theirs], project_id=THEIRS)
    counts = []
    for minutes in (0, 50, 51, 115):
        scheduler.look(shop.database, BIRTH + timedelta(minutes=minutes))
        with shop.database.reading() as session:
            counts.append(policies.latest_shares(session))

    assert counts[0] == {"ordered": 0, "waiting": 0, "skipped": 0}
    assert counts[1] == counts[2] == {"ordered": 2, "waiting": 1, "skipped": 0}
    assert counts[3] == {"ordered": 0, "waiting": 3, "skipped": 0}  # the snapshots of the hour before are in creation
    with shop.database.reading() as session:
        assert session.query(PolicyVolume).count() == 3
