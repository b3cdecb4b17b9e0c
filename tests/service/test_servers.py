"""What servers may be, and which volumes they may have."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from workshop import BIRTH, OURS, THEIRS, Workshop

from onecut.db.jobs import Job
from onecut.db.servers import Server
from onecut.db.snapshots import Snapshot
from onecut.db.volumes import Attachment, Volume
from onecut.errors import BadRequest, NotFound, Refused, SnapshotInCreation, WrongState
from onecut.service import servers
from onecut.service.listing import Page
from onecut.service.servers import ServerFilter, ServerOrder, Target
from onecut.states import VOLUME_MOVES

ZONES = ["az1", "az2"]
UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"


def refused(shop: Workshop, kind: type[Refused], act: Callable[[], Any]) -> Refused:
    """Check that something is refused and changes no row; return the refusal."""
    before = shop.state()
    with pytest.raises(kind) as caught:
        act()
    assert shop.state() == before
    return caught.value


def attach(shop: Workshop, volume_id: str, *server_ids: str, batch: bool = False, device: str | None = None) -> str:
    targets = [Target(server_id, device) for server_id in server_ids]
    job_id: str = shop.ask(servers.order_attachment, volume_id, targets, batch=batch)
    return job_id


def detach(shop: Workshop, volume_id: str, *server_ids: str, batch: bool = False, force: bool = False) -> str:
    job_id: str = shop.ask(servers.order_detachment, volume_id, list(server_ids), batch=batch, force=force)
    return job_id


def delete(shop: Workshop, *server_ids: str, delete_volumes: bool = False) -> str:
    job_id: str = shop.ask(servers.order_deletion, list(server_ids), delete_volumes=delete_volumes)
    return job_id


def places(shop: Workshop, volume_id: str) -> list[tuple[str, str]]:
    return [(place.server_id, place.device) for place in shop.get(Volume, volume_id).attachments]


class TestCreation:
    def test_servers_are_there_at_once_and_their_job_has_succeeded(self, shop: Workshop) -> None:
        """ECS clients wait for a job; this one needs no worker."""
        job_id, server_ids = shop.ask(servers.create, ServerOrder("db"), zones=ZONES, count=2)

        rows = [shop.get(Server, server_id) for server_id in server_ids]
        assert [(row.name, row.availability_zone) for row in rows] == [("db-0001", "az1"), ("db-0002", "az1")]
        job = shop.get(Job, job_id)
        assert (job.job_type, job.status, job.begin_at, job.end_at) == ("createServer", "SUCCESS", BIRTH, BIRTH)
        subs = [(sub.job_type, sub.status, sub.entities) for sub in shop.sub_jobs(job_id)]
        assert subs == [("createSingleServer", "SUCCESS", {"server_id": server_id}) for server_id in server_ids]

    @pytest.mark.parametrize(
        ("order", "count", "words"),
        [
            (ServerOrder("db", availability_zone="mars"), 1, "availability_zone: 'mars' is not one of az1, az2"),
            (ServerOrder("db"), 0, "count: must be 1 to 500, not 0"),
            (ServerOrder("db"), 501, "count: must be 1 to 500, not 501"),
            (ServerOrder("x" * 60), 2, "name: must be at most 64 characters, is 65"),
        ],
    )
    def test_a_wrong_field_is_refused_by_name_value_and_limit(
        self, shop: Workshop, order: ServerOrder, count: int, words: str
    ) -> None:
        """ECS's code for a wrong parameter, and no row."""
        error = refused(shop, BadRequest, lambda: shop.ask(servers.create, order, zones=ZONES, count=count))
        assert (error.code, error.message) == ("Ecs.0005", words)


class TestList:
    def test_filters_and_pages_find_the_projects_servers_newest_first(self, shop: Workshop) -> None:
        """A name filter matches a part, and wildcards of SQL are only characters; foreign servers do not count."""
        shop.server(project_id=THEIRS)
        for name in ("db-a", "db-b", "web_%"):
            shop.ask(servers.create, ServerOrder(name), zones=ZONES)

        def names(wanted: ServerFilter, page: Page | None = None) -> tuple[set[str], int]:
            found, total = shop.look(servers.list_page, wanted, page or Page())
            return {server.name for server in found}, total

        assert names(ServerFilter()) == ({"db-a", "db-b", "web_%"}, 3)
        assert names(ServerFilter(name="db")) == ({"db-a", "db-b"}, 2)
        assert names(ServerFilter(name="%")) == ({"web_%"}, 1)
        assert names(ServerFilter(status="ACTIVE"))[1] == 3
        assert names(ServerFilter(status="SHUTOFF")) == (set(), 0)
        assert names(ServerFilter(enterprise_project_id=UNKNOWN)) == (set(), 0)
        first, total = names(ServerFilter(), Page(limit=2))
        second, _ = names(ServerFilter(), Page(limit=2, offset=2))
        assert (len(first), len(second), total) == (2, 1, 3)
        assert first | second == {"db-a", "db-b", "web_%"}


class TestAttachment:
    def test_devices_are_the_first_free_ones_unless_named(self, shop: Workshop) -> None:
        """A gap is filled, a free name is given, and a job says which volume goes to which server."""
        server_id = shop.server(*shop.volumes(1))
        named, filled = shop.volumes(2)

        job_id = attach(shop, named, server_id, device="/dev/vdc")
        attach(shop, filled, server_id)

        assert places(shop, named) == [(server_id, "/dev/vdc")]
        assert places(shop, filled) == [(server_id, "/dev/vdb")]
        job = shop.get(Job, job_id)
        assert (job.job_type, job.entities) == ("attachVolume", {"volume_id": named, "server_id": server_id})
        assert shop.get(Volume, named).status == "attaching"

    def test_a_shared_volume_goes_to_several_servers(self, shop: Workshop) -> None:
        """Each server has its own attachment; another can follow while it is in use."""
        volume_id = shop.volume(multiattach=True)
        first, second, third = (shop.server() for _ in range(3))

        job_id = attach(shop, volume_id, first, second, batch=True)
        shop.work()
        attach(shop, volume_id, third)
        shop.work()

        assert shop.get(Job, job_id).job_type == "batchAttachVolume"
        assert {sub.entities["server_id"] for sub in shop.sub_jobs(job_id)} == {first, second}
        assert {server_id for server_id, _ in places(shop, volume_id)} == {first, second, third}
        uris = {place.uri for place in shop.get(Volume, volume_id).attachments}
        assert len(uris) == 3
        assert None not in uris

    @pytest.mark.parametrize("kind", ["plain", "shared"])
    @pytest.mark.parametrize("status", sorted(VOLUME_MOVES))
    def test_only_a_detached_volume_or_a_shared_one_in_use_is_attached(
        self, shop: Workshop, status: str, kind: str
    ) -> None:
        """EVS.5400 in any other state, naming it."""
        volume_id, server_id = shop.volume(status=status, multiattach=kind == "shared"), shop.server()
        if status == "available" or (kind == "shared" and status == "in-use"):
            attach(shop, volume_id, server_id)
            assert shop.get(Volume, volume_id).status == "attaching"
        else:
            error = refused(shop, WrongState, lambda: attach(shop, volume_id, server_id))
            assert (error.code, f"is {status};" in error.message) == ("EVS.5400", True)

    def test_a_place_that_can_not_be_given_is_refused(self, shop: Workshop) -> None:
        """A taken device, another zone, a server that is being deleted, the same server twice: EVS.2134."""
        server_id = shop.server(*shop.volumes(1))
        far, going = shop.server(), shop.server()
        shop.set(Server, far, availability_zone="az2")
        shop.set(Server, going, task_state="deleting")
        plain, shared = shop.volume(), shop.volume(multiattach=True)
        cases: list[tuple[Callable[[], Any], str]] = [
            (lambda: attach(shop, plain, server_id, device="/dev/vda"), "device: /dev/vda of server"),
            (lambda: attach(shop, plain, far), f"volume {plain} is in az1, server {far} in az2"),
            (lambda: attach(shop, plain, going), f"server {going} is deleting"),
            (lambda: attach(shop, shared, server_id, server_id, batch=True), "is attached to server"),
            (lambda: attach(shop, plain, server_id, far, batch=True), "is not shared; it can have one server"),
        ]
        for act, words in cases:
            error = refused(shop, BadRequest, act)
            assert error.code == "EVS.2134"
            assert words in error.message

    def test_a_shared_volume_has_16_servers_at_most(self, shop: Workshop) -> None:
        """The seventeenth is refused, and none of its batch is attached."""
        volume_id = shop.volume(multiattach=True)
        server_ids = [shop.server() for _ in range(17)]
        attach(shop, volume_id, *server_ids[:15], batch=True)
        shop.work()
        error = refused(shop, BadRequest, lambda: attach(shop, volume_id, *server_ids[15:], batch=True))
        assert (error.code, "at most 16 servers, not 17" in error.message) == ("EVS.2134", True)
        attach(shop, volume_id, server_ids[15], batch=True)

    def test_foreign_servers_and_volumes_are_as_unknown_as_those_that_never_were(self, shop: Workshop) -> None:
        """Ecs.0114 for a server, EVS.5404 for a volume, whoever has it."""
        volume_id, server_id = shop.volume(), shop.server()
        for their_volume, their_server in (
            (UNKNOWN, UNKNOWN),
            (shop.volume(project_id=THEIRS), shop.server(project_id=THEIRS)),
        ):
            for act, code, message in (
                (lambda s=their_server: attach(shop, volume_id, s), "Ecs.0114", f"server {their_server}"),
                (lambda v=their_volume: attach(shop, v, server_id), "EVS.5404", f"volume {their_volume}"),
                (lambda s=their_server: detach(shop, volume_id, s), "Ecs.0114", f"server {their_server}"),
                (lambda v=their_volume: detach(shop, v, server_id), "EVS.5404", f"volume {their_volume}"),
                (lambda s=their_server: delete(shop, server_id, s), "Ecs.0114", f"server {their_server}"),
                (lambda s=their_server: shop.look(servers.find, s), "Ecs.0114", f"server {their_server}"),
            ):
                error = refused(shop, NotFound, act)
                assert (error.code, error.message) == (code, f"{message} does not exist")


class TestDetachment:
    def test_a_volume_that_is_not_attached_there_is_not_found(self, shop: Workshop) -> None:
        """The volume is at another server."""
        [volume_id] = shop.volumes(1)
        shop.server(volume_id)
        other = shop.server()
        error = refused(shop, NotFound, lambda: detach(shop, volume_id, other))
        assert error.message == f"attachment to server {other} of volume {volume_id} does not exist"

    @pytest.mark.parametrize("status", sorted(set(VOLUME_MOVES) - {"in-use"}))
    def test_only_a_volume_in_use_is_detached(self, shop: Workshop, status: str) -> None:
        """EVS.5400 in any other state; force takes one in `error` as well."""
        [volume_id] = shop.volumes(1)
        server_id = shop.server(volume_id)
        shop.set(Volume, volume_id, status=status)
        error = refused(shop, WrongState, lambda: detach(shop, volume_id, server_id))
        assert (error.code, f"is {status}; this needs in-use" in error.message) == ("EVS.5400", True)
        if status != "error":
            refused(shop, WrongState, lambda: detach(shop, volume_id, server_id, force=True))

    def test_force_detaches_a_volume_whose_data_can_not_be_opened(self, shop: Workshop) -> None:
        """It stays in `error`, without a server."""
        [volume_id] = shop.volumes(1)
        server_id = shop.server(volume_id)
        shop.set(Volume, volume_id, status="error", fault="a layer is missing")
        detach(shop, volume_id, server_id, force=True)
        shop.work()
        assert (shop.get(Volume, volume_id).status, places(shop, volume_id)) == ("error", [])


class TestDeletion:
    def test_what_goes_with_a_server_is_decided_per_volume(self, shop: Workshop) -> None:
        """A volume marked so goes too, one that another server shares stays there, any other becomes available."""
        marked, kept, shared = shop.volume(), shop.volume(), shop.volume(multiattach=True)
        server_id, other = shop.server(marked, kept, shared), shop.server(shared)
        with shop.database.writing() as session:
            servers.update_attachment(session, OURS, server_id, marked, delete_on_termination=True)
            servers.update_attachment(session, OURS, server_id, shared, delete_on_termination=True)

        job_id = delete(shop, server_id)
        assert shop.get(Server, server_id).task_state == "deleting"
        shop.work()

        assert shop.get(Job, job_id).status == "SUCCESS"
        assert shop.get(Server, server_id) is None
        assert shop.get(Volume, marked) is None
        assert (shop.get(Volume, kept).status, places(shop, kept)) == ("available", [])
        assert (shop.get(Volume, shared).status, places(shop, shared)) == ("in-use", [(other, "/dev/vda")])

    def test_volumes_go_with_their_servers_when_asked_for(self, shop: Workshop) -> None:
        """A volume that all its servers leave goes, also one in `error`."""
        plain, shared, broken = shop.volume(), shop.volume(multiattach=True), shop.volume()
        first, second = shop.server(plain, shared, broken), shop.server(shared)
        shop.set(Volume, broken, status="error", fault="a layer is missing")

        delete(shop, first, second, delete_volumes=True)
        shop.work()

        for model, row_id in ((Server, first), (Server, second), (Volume, plain), (Volume, shared), (Volume, broken)):
            assert shop.get(model, row_id) is None

    @pytest.mark.parametrize("status", ["attaching", "detaching", "deleting", "error_deleting"])
    def test_a_server_whose_volume_is_busy_stays(self, shop: Workshop, status: str) -> None:
        """EVS.5400, and the other volumes are as they were."""
        volume_ids = shop.volumes(2)
        server_id = shop.server(*volume_ids)
        shop.set(Volume, volume_ids[1], status=status)
        error = refused(shop, WrongState, lambda: delete(shop, server_id))
        assert (error.code, f"volume {volume_ids[1]} is {status}" in error.message) == ("EVS.5400", True)

    def test_a_server_is_deleted_once(self, shop: Workshop) -> None:
        """A second deletion while the first is under way is refused."""
        server_id = shop.server()
        delete(shop, server_id)
        error = refused(shop, WrongState, lambda: delete(shop, server_id))
        assert error.message == f"server {server_id} is deleting; this needs ACTIVE"

    def test_a_volume_that_is_being_snapshotted_does_not_go_with_its_server(self, shop: Workshop) -> None:
        """The deletion is refused as that of the volume would be; without its volumes the server may go."""
        [volume_id] = shop.volumes(1)
        server_id = shop.server(volume_id)
        with shop.database.writing() as session:
            session.add(
                Snapshot(
                    id=str(uuid4()), project_id=OURS, status="creating", volume_id=volume_id, size_gib=10,
                    volume_type="SSD", availability_zone="az1", category="flash", instant_access=False,
                    instant_access_at_creation=False, incremental=True, snapshot_type="manual",
                    created_at=BIRTH, updated_at=BIRTH,
                )
            )  # fmt: skip
        error = refused(shop, SnapshotInCreation, lambda: delete(shop, server_id, delete_volumes=True))
        assert error.code == "EVS.2409"
        delete(shop, server_id)


def test_attachments_are_listed_per_server(shop: Workshop) -> None:
    """Every server asked for has its own list, empty or not."""
    full, empty = shop.server(*shop.volumes(2)), shop.server()
    with shop.database.reading() as session:
        found = servers.attachments_of(session, [full, empty])
        assert [place.device for place in found[full]] == ["/dev/vda", "/dev/vdb"]
        assert found[empty] == []
        assert session.query(Attachment).count() == 2
