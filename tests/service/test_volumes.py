"""What volumes may be, what is refused, and what the list finds."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from workshop import BIRTH, OURS, THEIRS, Workshop

from onecut.db.jobs import Job
from onecut.db.servers import Server
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Attachment, Volume
from onecut.errors import BadRequest, NotFound, Refused, SnapshotInCreation, WrongState
from onecut.service import catalog, tags, volumes
from onecut.service.listing import Page
from onecut.service.volumes import VolumeFilter, VolumeOrder
from onecut.states import VOLUME_DELETABLE, VOLUME_MOVES

ZONES = ["az1", "az2"]
PLAIN = VolumeOrder("data", "", 10, "SSD", "az1")
UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"


def create(shop: Workshop, order: VolumeOrder = PLAIN, **options: Any) -> tuple[str, list[str]]:
    job_id, volume_ids = shop.ask(volumes.create, order, zones=ZONES, **options)
    return job_id, volume_ids


def snapshot_of(shop: Workshop, volume_id: str = UNKNOWN, **columns: Any) -> str:
    given: dict[str, Any] = {
        "id": str(uuid4()),
        "project_id": OURS,
        "status": "available",
        "volume_id": volume_id,
        "size_gib": 20,
        "volume_type": "SSD",
        "availability_zone": "az1",
        "category": "flash",
        "point": "held",
        "instant_access": False,
        "instant_access_at_creation": False,
        "incremental": True,
        "snapshot_type": "manual",
        "created_at": BIRTH,
        "updated_at": BIRTH,
    }
    snapshot = Snapshot(**(given | columns))
    with shop.database.writing() as session:
        session.add(snapshot)
    return snapshot.id


def refused(shop: Workshop, kind: type[Refused], act: Any) -> Refused:
    """Check that something is refused and changes no row; return the refusal."""
    before = shop.state()
    with pytest.raises(kind) as caught:
        act()
    assert shop.state() == before
    return caught.value


class TestCreation:
    def test_a_volume_is_there_as_creating_before_its_job_has_run(self, shop: Workshop) -> None:
        """Row, tags and job are written together; the job says what it is about in the job API's words."""
        order = replace(
            PLAIN, description="d", size_gib=12, tags={"team": "db"}, metadata={"k": "v"}, multiattach=True
        )

        job_id, [volume_id] = create(shop, order)

        volume, job = shop.get(Volume, volume_id), shop.get(Job, job_id)
        assert (volume.status, volume.size_gib, volume.metadata_, volume.multiattach) == (
            "creating",
            12,
            {"k": "v"},
            True,
        )
        assert (job.job_type, job.status) == ("createVolume", "INIT")
        assert job.entities == {"volume_id": volume_id, "volume_type": "SSD", "size": 12, "name": "data"}
        with shop.database.reading() as session:
            assert tags.of(session, [volume_id]) == {volume_id: {"team": "db"}}

    def test_several_volumes_get_numbered_names_and_a_sub_job_each(self, shop: Workshop) -> None:
        """`count` 3 makes name-0001 to name-0003, and one job whose sub jobs are in the order of the ids."""
        job_id, volume_ids = create(shop, count=3)

        names = [shop.get(Volume, volume_id).name for volume_id in volume_ids]
        assert names == ["data-0001", "data-0002", "data-0003"]
        subs = shop.sub_jobs(job_id)
        assert [sub.entities["volume_id"] for sub in subs] == volume_ids
        assert {sub.job_type for sub in subs} == {"createVolume"}
        assert shop.get(Job, job_id).job_type == "batchCreateVolume"

    def test_a_volume_for_a_server_has_its_place_from_the_beginning(self, shop: Workshop) -> None:
        """The device names are the first free ones, in the order of the volumes."""
        server_id = shop.server(*shop.volumes(1))

        _, volume_ids = create(shop, count=2, server_id=server_id)

        places = [shop.get(Volume, volume_id).attachments[0] for volume_id in volume_ids]
        assert [(place.server_id, place.device, place.uri) for place in places] == [
            (server_id, "/dev/vdb", None),
            (server_id, "/dev/vdc", None),
        ]

    @pytest.mark.parametrize("volume_type", ["SAS", "GPSSD", "SSD", "ESSD"])
    def test_types_without_performance_of_their_own_are_taken(self, shop: Workshop, volume_type: str) -> None:
        """Each type that EVS offers can be ordered."""
        assert create(shop, replace(PLAIN, volume_type=volume_type))

    def test_types_with_performance_keep_it(self, shop: Workshop) -> None:
        """GPSSD2 takes both figures, ESSD2 one."""
        _, [both] = create(shop, replace(PLAIN, volume_type="GPSSD2", iops=3000, throughput_mib=125))
        _, [one] = create(shop, replace(PLAIN, volume_type="ESSD2", iops=5000))

        assert (shop.get(Volume, both).iops, shop.get(Volume, both).throughput_mib) == (3000, 125)
        assert (shop.get(Volume, one).iops, shop.get(Volume, one).throughput_mib) == (5000, None)

    @pytest.mark.parametrize(
        ("change", "code", "sentence"),
        [
            ({"availability_zone": "mars"}, "EVS.1036", "availability_zone: 'mars' is not one of az1, az2"),
            ({"volume_type": "tape"}, "EVS.2070", "volume_type: 'tape' is not one of SATA"),
            ({"volume_type": "SATA"}, "EVS.2072", "volume_type: SATA is sold out"),
            ({"size_gib": 9}, "EVS.1010", "size: must be 10 to 32768 GiB, not 9"),
            ({"size_gib": 32769}, "EVS.1010", "size: must be 10 to 32768 GiB, not 32769"),
            ({"iops": 100}, "EVS.5400", "iops: volume type SSD does not take it; got 100"),
            ({"throughput_mib": 100}, "EVS.5400", "throughput: volume type SSD does not take it; got 100"),
            ({"volume_type": "GPSSD2", "iops": 1}, "EVS.5400", "throughput: volume type GPSSD2 needs it"),
            ({"volume_type": "ESSD2"}, "EVS.5400", "iops: volume type ESSD2 needs it"),
            (
                {"volume_type": "ESSD2", "iops": 1, "throughput_mib": 2},
                "EVS.5400",
                "throughput: volume type ESSD2 does not take it; got 2",
            ),
            ({"metadata": {"full_clone": "2"}}, "EVS.1063", "metadata.full_clone: must be 0 or 1; got '2'"),
            ({"metadata": {"hw:passthrough": "1"}}, "EVS.1057", "metadata.hw:passthrough: must be false or true"),
            ({"metadata": {"__system__encrypted": "1"}}, "EVS.2041", "metadata.__system__encrypted: must be 0"),
            ({"metadata": {"__system__cmkid": "x"}}, "EVS.2041", "metadata.__system__cmkid: is not supported"),
        ],
    )
    def test_a_wrong_field_is_refused_by_name_value_and_limit(
        self, shop: Workshop, change: Mapping[str, Any], code: str, sentence: str
    ) -> None:
        """Each refusal has its documented code, and no row is written."""
        error = refused(shop, BadRequest, lambda: create(shop, replace(PLAIN, **change)))
        assert (error.code, error.message[: len(sentence)]) == (code, sentence)

    @pytest.mark.parametrize("count", [0, -1, 101])
    def test_a_count_outside_1_to_100_is_refused(self, shop: Workshop, count: int) -> None:
        """EVS.1021, with the limit."""
        error = refused(shop, BadRequest, lambda: create(shop, count=count))
        assert (error.code, error.message) == ("EVS.1021", f"count: must be 1 to 100, not {count}")

    def test_a_name_that_gets_a_number_has_250_bytes_at_most(self, shop: Workshop) -> None:
        """The limit is in bytes of UTF-8: 84 characters of three bytes are too many, 83 are not."""
        error = refused(shop, BadRequest, lambda: create(shop, replace(PLAIN, name="卷" * 84), count=2))
        assert (error.code, "at most 250 bytes" in error.message, "is 252" in error.message) == (
            "EVS.1003",
            True,
            True,
        )
        create(shop, replace(PLAIN, name="卷" * 83), count=2)
        create(shop, replace(PLAIN, name="卷" * 84), count=1)

    @pytest.mark.parametrize(
        ("server", "code"),
        [("unknown", "EVS.2131"), ("theirs", "EVS.2131"), ("far", "EVS.2134"), ("ends", "EVS.2134")],
    )
    def test_a_server_that_can_not_have_the_volume_is_refused(self, shop: Workshop, server: str, code: str) -> None:
        """An unknown server, a foreign one (told apart by nothing), one of another zone, one being deleted."""
        server_id = {"unknown": UNKNOWN, "theirs": shop.server(project_id=THEIRS)}.get(server) or shop.server()
        if server == "far":
            shop.set(Server, server_id, availability_zone="az2")
        if server == "ends":
            shop.set(Server, server_id, task_state="deleting")
        error = refused(shop, BadRequest, lambda: create(shop, server_id=server_id))
        assert error.code == code
        assert server_id in error.message

    def test_a_server_with_all_its_places_taken_is_refused(self, shop: Workshop) -> None:
        """The 129th disk is one too many, and the batch it came with is not made either."""
        server_id = shop.server()
        create(shop, count=100, server_id=server_id)
        error = refused(shop, BadRequest, lambda: create(shop, count=29, server_id=server_id))
        assert (error.code, "the limit is 128" in error.message) == ("EVS.2134", True)
        create(shop, count=28, server_id=server_id)
        with shop.database.reading() as session:
            devices = {place.device for place in session.query(Attachment)}
        assert len(devices) == 128
        assert {"/dev/vda", "/dev/vdz", "/dev/vdaa"} < devices

    @pytest.mark.parametrize(
        ("sources", "code"),
        [
            (("s", "b", None), "EVS.1016"),
            (("s", None, "i"), "EVS.1016"),
            ((None, "b", "i"), "EVS.1016"),
            ((None, "b", None), "EVS.1006"),
            ((None, None, "i"), "EVS.2046"),
        ],
    )
    def test_sources_that_are_too_many_or_not_kept_are_refused(
        self, sources: tuple[str | None, str | None, str | None], code: str
    ) -> None:
        """At most one source, and only a snapshot."""
        with pytest.raises(BadRequest) as caught:
            volumes.refuse_other_sources(*sources)
        assert caught.value.code == code


class TestCreationFromASnapshot:
    def test_several_volumes_can_be_made_from_one_snapshot(self, shop: Workshop) -> None:
        """They may be larger than it, and name it as their source while they are made."""
        snapshot_id = snapshot_of(shop)
        _, volume_ids = create(shop, replace(PLAIN, snapshot_id=snapshot_id, size_gib=21), count=2)
        rows = [shop.get(Volume, volume_id) for volume_id in volume_ids]
        assert {(row.status, row.snapshot_id) for row in rows} == {("creating", snapshot_id)}

    @pytest.mark.parametrize(
        ("change", "code", "words"),
        [
            ({"availability_zone": "az2"}, "EVS.2054", "needs az1, not az2"),
            ({"volume_type": "ESSD"}, "EVS.2096", "needs SSD, not ESSD"),
            ({"size_gib": 19}, "EVS.1010", "at least the snapshot's 20 GiB, not 19"),
            ({"metadata": {"hw:passthrough": "true"}}, "EVS.1043", "metadata.hw:passthrough"),
            ({"metadata": {"__system__encrypted": "0"}}, "EVS.1043", "metadata.__system__encrypted"),
            ({"metadata": {"__system__cmkid": UNKNOWN}}, "EVS.1043", "metadata.__system__cmkid"),
        ],
    )
    def test_what_the_source_decides_can_not_be_asked_otherwise(
        self, shop: Workshop, change: Mapping[str, Any], code: str, words: str
    ) -> None:
        """Zone, type, device mode and encryption are those of the source; the size is at least its own."""
        order = replace(PLAIN, size_gib=20, snapshot_id=snapshot_of(shop))
        error = refused(shop, BadRequest, lambda: create(shop, replace(order, **change)))
        assert error.code == code
        assert words in error.message

    @pytest.mark.parametrize("status", ["creating", "error", "deleting", "rollbacking", "error_deleting"])
    def test_a_snapshot_that_is_not_available_is_refused(self, shop: Workshop, status: str) -> None:
        """EVS.2043, with the state."""
        order = replace(PLAIN, size_gib=20, snapshot_id=snapshot_of(shop, status=status))
        error = refused(shop, WrongState, lambda: create(shop, order))
        assert (error.code, f"is {status}; this needs available" in error.message) == ("EVS.2043", True)

    def test_a_foreign_snapshot_is_as_unknown_as_one_that_never_was(self, shop: Workshop) -> None:
        """Both answers differ in nothing but the id."""
        theirs = snapshot_of(shop, project_id=THEIRS)
        errors = [
            refused(shop, NotFound, lambda found=found: create(shop, replace(PLAIN, snapshot_id=found)))
            for found in (theirs, UNKNOWN)
        ]
        assert errors[0].message.replace(theirs, "") == errors[1].message.replace(UNKNOWN, "")
        assert {error.code for error in errors} == {"EVS.5404"}


class TestDeletion:
    @pytest.mark.parametrize("status", sorted(VOLUME_MOVES))
    def test_only_states_that_end_can_be_deleted(self, shop: Workshop, status: str) -> None:
        """EVS.1046 in every state but the documented ones, and a failed deletion can be asked again."""
        volume_id = shop.volume(status=status)
        if status in VOLUME_DELETABLE:
            job_id = shop.ask(volumes.order_deletion, volume_id)
            assert shop.get(Volume, volume_id).status == "deleting"
            assert shop.get(Job, job_id).job_type == "deleteVolume"
        else:
            error = refused(shop, WrongState, lambda: shop.ask(volumes.order_deletion, volume_id))
            assert (error.code, f"is {status};" in error.message) == ("EVS.1046", True)

    def test_a_volume_whose_snapshot_is_being_created_stays(self, shop: Workshop) -> None:
        """The snapshot's data is still being taken care of."""
        volume_id = shop.volume()
        snapshot_id = snapshot_of(shop, volume_id, status="creating")
        error = refused(shop, SnapshotInCreation, lambda: shop.ask(volumes.order_deletion, volume_id))
        assert error.code == "EVS.2409"
        shop.set(Snapshot, snapshot_id, status="available")
        shop.ask(volumes.order_deletion, volume_id)


class TestExtension:
    @pytest.mark.parametrize("status", sorted(VOLUME_MOVES))
    def test_only_a_volume_at_rest_is_extended(self, shop: Workshop, status: str) -> None:
        """EVS.1064 otherwise; a failed extension can be asked again."""
        volume_id = shop.volume(status=status)
        if status in {"available", "in-use", "error_extending"}:
            shop.ask(volumes.order_extension, volume_id, 11)
            assert shop.get(Volume, volume_id).status == "extending"
        else:
            error = refused(shop, WrongState, lambda: shop.ask(volumes.order_extension, volume_id, 11))
            assert (error.code, f"is {status};" in error.message) == ("EVS.1064", True)

    @pytest.mark.parametrize(
        ("size_gib", "words"),
        [(10, "more than the present 10 GiB, not 10"), (9, "not 9"), (32769, "10 to 32768 GiB, not 32769")],
    )
    def test_a_size_that_is_not_larger_or_too_large_is_refused(
        self, shop: Workshop, size_gib: int, words: str
    ) -> None:
        """EVS.1015, with the limit."""
        volume_id = shop.volume()
        error = refused(shop, BadRequest, lambda: shop.ask(volumes.order_extension, volume_id, size_gib))
        assert (error.code, words in error.message) == ("EVS.1015", True)


class TestUpdate:
    def test_what_is_not_given_stays(self, shop: Workshop) -> None:
        """Name and description change one by one; an empty text is a value."""
        volume_id = shop.volume(name="old", description="old")
        shop.clock.jump(timedelta(seconds=1))
        shop.ask(volumes.update, volume_id, name="new", description=None)
        shop.ask(volumes.update, volume_id, name=None, description="")
        volume = shop.get(Volume, volume_id)
        assert (volume.name, volume.description, volume.updated_at) == ("new", "", shop.clock.now())

    def test_an_update_of_nothing_is_refused(self, shop: Workshop) -> None:
        """EVS.1007."""
        volume_id = shop.volume()
        update = lambda: shop.ask(volumes.update, volume_id, name=None, description=None)  # noqa: E731
        assert refused(shop, BadRequest, update).code == "EVS.1007"


@pytest.mark.parametrize("whose", [THEIRS, None])
def test_a_foreign_volume_is_not_found_by_any_act(shop: Workshop, whose: str | None) -> None:
    """Show, update, delete and extend answer 404 for another project's volume as for an unknown one."""
    volume_id = shop.volume(project_id=whose) if whose else UNKNOWN
    for act in (
        lambda: shop.look(volumes.find, volume_id),
        lambda: shop.ask(volumes.update, volume_id, name="n", description=None),
        lambda: shop.ask(volumes.order_deletion, volume_id),
        lambda: shop.ask(volumes.order_extension, volume_id, 20),
    ):
        error = refused(shop, NotFound, act)
        assert (error.code, error.message) == ("EVS.5404", f"volume {volume_id} does not exist")


class TestList:
    def listed(self, shop: Workshop, page: Page | None = None, **filters: Any) -> volumes.Listed:
        found: volumes.Listed = shop.look(volumes.list_page, VolumeFilter(**filters), page or Page(), zones=ZONES)
        return found

    def names(self, shop: Workshop, **filters: Any) -> set[str]:
        return {volume.name for volume in self.listed(shop, **filters).volumes}

    @pytest.fixture
    def many(self, shop: Workshop) -> dict[str, str]:
        """Volumes that differ in all that can be filtered by."""
        epid = str(uuid4())
        ids = {
            "a": shop.volume(name="a"),
            "b": shop.volume(name="b", status="error", availability_zone="az2", multiattach=True),
            "c": shop.volume(
                name="c", volume_type="ESSD", enterprise_project_id=epid, metadata_={"k": "v", "x.y": "1"}
            ),
            "d": shop.volume(name="d", metadata_={"k": "w"}),
            "theirs": shop.volume(name="theirs", project_id=THEIRS),
        }
        return ids | {"server": shop.server(ids["d"]), "epid": epid}

    def test_each_filter_finds_what_it_names_and_nothing_else(self, shop: Workshop, many: dict[str, str]) -> None:
        """Filters are exact; another project's volumes are never found, nor counted."""
        cases: list[tuple[dict[str, Any], set[str]]] = [
            ({}, {"a", "b", "c", "d"}),
            ({"name": "a"}, {"a"}),
            ({"name": "A"}, set()),
            ({"ids": [many["a"], many["theirs"], UNKNOWN]}, {"a"}),
            ({"status": "error"}, {"b"}),
            ({"status": "backing-up"}, set()),
            ({"availability_zone": "az2"}, {"b"}),
            ({"multiattach": True}, {"b"}),
            ({"multiattach": False}, {"a", "c", "d"}),
            ({"volume_type_id": catalog.VOLUME_TYPES["ESSD"].id}, {"c"}),
            ({"volume_type_id": UNKNOWN}, set()),
            ({"enterprise_project_id": many["epid"]}, {"c"}),
            ({"server_id": many["server"]}, {"d"}),
            ({"server_id": UNKNOWN}, set()),
            ({"metadata": '{"k": "v"}'}, {"c"}),
            ({"metadata": '{"k": "v", "x.y": "1"}'}, {"c"}),
            ({"metadata": '{"k": "v", "x.y": "2"}'}, set()),
            ({"not_metadata": '{"k": "v"}'}, {"a", "b", "d"}),
            ({"service_type": "EVS"}, {"a", "b", "c", "d"}),
            ({"service_type": "DSS"}, set()),
            ({"dedicated_storage": "pool"}, set()),
            ({"name": "b", "status": "error"}, {"b"}),
            ({"name": "a", "status": "error"}, set()),
        ]
        for filters, names in cases:
            listed = self.listed(shop, **filters)
            assert ({volume.name for volume in listed.volumes}, listed.total) == (names, len(names)), filters

    @pytest.mark.parametrize(
        ("filters", "code"),
        [
            ({"status": "melting"}, "EVS.1031"),
            ({"availability_zone": "mars"}, "EVS.1041"),
            ({"metadata": "k=v"}, "EVS.1025"),
            ({"metadata": '["k"]'}, "EVS.1025"),
            ({"metadata": '{"k": 1}'}, "EVS.1025"),
            ({"metadata": '{"k\\"": "v"}'}, "EVS.1025"),
            ({"metadata": "[" * 255}, "EVS.1025"),
            ({"metadata": '{"a\\tb": "v"}'}, "EVS.1025"),
            ({"metadata": '{"k": "\\ud800"}'}, "EVS.1025"),
            ({"metadata": '{"k": "\\u0000"}'}, "EVS.1025"),
            ({"not_metadata": '{"a\\\\b": "v"}'}, "EVS.1025"),
        ],
    )
    def test_a_filter_that_can_not_be_meant_is_refused(
        self, shop: Workshop, filters: dict[str, Any], code: str
    ) -> None:
        """States and zones that do not exist, and metadata filters that are no JSON object of texts."""
        with pytest.raises(BadRequest) as caught:
            self.listed(shop, **filters)
        assert caught.value.code == code

    @pytest.mark.parametrize("key", ["plain", "x.y", "$", "a b", "键", "k'", "[0]", "#", "%", "*"])
    def test_any_other_metadata_key_can_be_searched(self, shop: Workshop, key: str) -> None:
        """Keys with a meaning in JSON paths or SQL are only keys."""
        shop.volume(name="has", metadata_={key: "v"})
        shop.volume(name="has not", metadata_={"other": "v", "nested": "v"})
        assert self.names(shop, metadata=json.dumps({key: "v"})) == {"has"}
        assert self.names(shop, not_metadata=json.dumps({key: "v"})) == {"has not"}

    @pytest.mark.parametrize("sort_key", sorted(volumes.SORT_COLUMNS))
    @pytest.mark.parametrize("sort_dir", ["asc", "desc"])
    def test_pages_follow_each_other_without_gap_or_repetition(
        self, shop: Workshop, sort_key: str, sort_dir: Any
    ) -> None:
        """By marker and by offset, in every order, also where the sort column is the same for all."""
        for number in range(5):
            shop.volume(name=str(number), size_gib=10 + number // 2)
        whole = [volume.id for volume in self.listed(shop, Page(sort_key, sort_dir)).volumes]
        by_offset: list[str] = []
        by_marker: list[str] = []
        for offset in (0, 2, 4):
            page = self.listed(shop, Page(sort_key, sort_dir, limit=2, offset=offset))
            assert (page.total, page.more) == (5, offset < 4)
            by_offset += [volume.id for volume in page.volumes]
            marker = by_marker[-1] if by_marker else None
            by_marker += [
                volume.id for volume in self.listed(shop, Page(sort_key, sort_dir, limit=2, marker=marker)).volumes
            ]
        assert whole == by_offset == by_marker
        columns = {"id": "id", "status": "status", "size": "size_gib", "created_at": "created_at"}
        values = [getattr(shop.get(Volume, volume_id), columns[sort_key]) for volume_id in whole]
        assert values == sorted(values, reverse=sort_dir == "desc")


class TestDataThatCanNotBeOpened:
    def test_volumes_go_to_error_and_come_back_with_their_data(self, shop: Workshop) -> None:
        """Attached ones come back attached; a volume in error for another reason stays there."""
        idle, used, broken, busy = (
            shop.volume(),
            shop.volume(),
            shop.volume(status="error"),
            shop.volume(status="extending"),
        )
        shop.server(used)

        def mark(faults: Mapping[str, str]) -> list[str]:
            with shop.database.writing() as session:
                volumes.mark_unusable(session, faults, shop.clock.now())
            return [shop.get(Volume, volume_id).status for volume_id in (idle, used, broken, busy)]

        faults = {idle: "layer 1 is missing", used: "layer 2 is missing", busy: "layer 3 is missing", UNKNOWN: "gone"}
        assert mark(faults) == ["error", "error", "error", "extending"]
        assert shop.get(Volume, used).fault == "layer 2 is missing"
        assert mark(faults) == ["error", "error", "error", "extending"]
        assert mark({idle: "layer 1 is missing"}) == ["error", "in-use", "error", "extending"]
        assert mark({}) == ["available", "in-use", "error", "extending"]
        assert shop.get(Volume, idle).fault is None
