"""Calls about many volumes at once: all of them or none, forms and codes, and the vendor's SDK as the client."""

from collections.abc import Iterator
from typing import Any

import huaweicloudsdkevs.v2 as evs
import pytest
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from orders import attach, new_server, new_volumes, volume
from running import Site, running_site
from sdk import evs_client

from onecut.db.volumes import Attachment, Volume
from onecut.service import snapshots
from onecut.service.snapshots import NewSnapshot

UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"
EXTEND = "/v5/{p}/volumes/batch-extend"
UNSUBSCRIBE = "/v2/{p}/cloudvolumes/unsubscribe"
CHARGE = "/v2/{p}/cloudvolumes/change-charge-mode"
OVER_60 = [f"0c1d7c52-11aa-4c38-9a6f-3c9d5a2e{number:04}" for number in range(61)]


def refused(site: Site, path: str, status: int, code: str, body: Any) -> str:
    """Post what must be refused, and return the message."""
    error = site.call("POST", path, status, json=body)["error"]
    assert error["code"] == code, error
    return str(error["message"])


def seen(site: Site) -> list[tuple[str, str, int]]:
    """Return each volume with its state and size."""
    found = site.call("GET", "/v2/{p}/cloudvolumes/detail", 200, params={"sort_key": "id"})["volumes"]
    return [(volume["id"], volume["status"], volume["size"]) for volume in found]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with two detached volumes, which every test that uses it must leave as it was."""
    with running_site(tmp_path_factory.mktemp("shared")) as site:
        new_volumes(site, 2)
        before = seen(site)
        yield site
        assert seen(site) == before


@pytest.fixture
def pair(shared: Site) -> list[str]:
    """The two volumes of the shared site."""
    return [volume_id for volume_id, _, _ in seen(shared)]


class TestExtending:
    def test_each_volume_gets_its_own_size(self, site: Site) -> None:
        """One job, with a sub job for each in the order of the request, as a single extension tells it."""
        first, second = new_volumes(site, 2)
        body = {"volumes": [{"id": second, "new_size": 12}, {"id": first, "new_size": 11.9}]}

        job = site.done(site.call("POST", EXTEND, 202, json=body | {"bss_param": {"is_auto_pay": "true"}}))
        assert job["job_type"] == "batchExtendVolume"
        told = [(sub["job_type"], sub["status"], sub["entities"]) for sub in job["entities"]["sub_jobs"]]
        assert [(job_type, status, about["volume_id"], about["size"]) for job_type, status, about in told] == [
            ("extendVolume", "SUCCESS", second, 12),
            ("extendVolume", "SUCCESS", first, 11),
        ]
        assert [(volume(site, each)["status"], volume(site, each)["size"]) for each in (first, second)] == [
            ("available", 11),
            ("available", 12),
        ]

    @pytest.mark.parametrize(
        ("second", "code", "words"),
        [
            ({"new_size": 10}, "EVS.1015", "new_size: must be more than the present 10 GiB, not 10"),
            ({"new_size": 32769}, "EVS.1015", "10 to 32768 GiB, not 32769"),
            ({"new_size": "20"}, "EVS.1015", "volumes.1.new_size: "),
            ({"new_size": None}, "EVS.1015", "volumes.1.new_size: "),
            ({"id": UNKNOWN}, "EVS.5404", f"volume {UNKNOWN} does not exist"),
            ({"id": "disk"}, "EVS.1002", "volumes.1.id: must be a UUID"),
            ({"id": None}, "EVS.5400", "volumes.1.id: "),
        ],
    )
    def test_one_that_can_not_be_extended_spares_all(
        self, shared: Site, pair: list[str], second: dict[str, Any], code: str, words: str
    ) -> None:
        """The refusal is that of a single extension, and no volume of the request changes."""
        wanted = [{"id": pair[0], "new_size": 11}, {"id": pair[1], "new_size": 11} | second]

        assert words in refused(shared, EXTEND, 404 if code == "EVS.5404" else 400, code, {"volumes": wanted})

    def test_the_number_is_limited_and_a_volume_named_once(self, shared: Site, pair: list[str]) -> None:
        """None, more than 100, or one twice: 400 that says so."""
        for wanted, words in (
            ([], "volumes: must be 1 to 100, not 0"),
            ([{"id": UNKNOWN, "new_size": 11}] * 101, "volumes: must be 1 to 100, not 101"),
            ([{"id": pair[0], "new_size": 11}] * 2, f"volumes: volume {pair[0]} is named twice"),
        ):
            assert refused(shared, EXTEND, 400, "EVS.5400", {"volumes": wanted}) == words
        assert "volumes: field required" in refused(shared, EXTEND, 400, "EVS.5400", {})

    def test_attached_volumes_are_extended_with_detached_ones(self, site: Site) -> None:
        """Their disks follow when they are detached; a shared one in use spares all, as for a single extension."""
        free, attached = new_volumes(site, 2)
        attach(site, attached, new_server(site))
        wanted = [{"id": free, "new_size": 11}, {"id": attached, "new_size": 12}]
        site.done(site.call("POST", EXTEND, 202, json={"volumes": wanted}))
        after = {free: ("available", 11, None), attached: ("in-use", 12, 10)}
        found = {each: volume(site, each) for each in after}
        assert after == {
            each: (shown["status"], shown["size"], shown["onecut"]["attached_size"]) for each, shown in found.items()
        }

        with site.database.writing() as session:
            session.get_one(Volume, attached).multiattach = True
        before = seen(site)
        wanted = [{"id": free, "new_size": 13}, {"id": attached, "new_size": 13}]
        assert f"volume {attached} is in-use" in refused(site, EXTEND, 400, "EVS.1065", {"volumes": wanted})
        assert seen(site) == before

    def test_the_vendors_client_extends_several(self, site: Site) -> None:
        """Its request is understood, and its answer read."""
        client, volume_ids = evs_client(site.credentials), new_volumes(site, 2)
        body = evs.BatchResizeVolumeRequestBody(
            volumes=[evs.VolumesForBatchResizeVolume(volume_id, 15) for volume_id in volume_ids],
            bss_param=evs.PrepaidParamForBatchResizeVolume(is_auto_pay="true"),
        )

        answer = client.batch_resize_volumes(evs.BatchResizeVolumesRequest(body=body))
        assert site.job(answer.job_id)["status"] == "SUCCESS"
        assert [volume(site, volume_id)["size"] for volume_id in volume_ids] == [15, 15]


class TestUnsubscribing:
    def test_all_volumes_are_deleted_by_one_job(self, site: Site) -> None:
        """The answer is an array with a result for each; the job has a sub job for each; others stay."""
        first, second, stays = new_volumes(site, 3)

        [answer] = site.call("POST", UNSUBSCRIBE, 202, json={"volume_ids": [second, first]})
        assert answer["results"] == [{"volume_id": each, "result": "SUCCESS"} for each in (second, first)]
        job = site.done(answer)
        assert job["job_type"] == "bulkDeleteVolume"
        subs = [(sub["job_type"], sub["entities"]["volume_id"]) for sub in job["entities"]["sub_jobs"]]
        assert subs == [("deleteSingleVolume", second), ("deleteSingleVolume", first)]
        assert [volume_id for volume_id, _, _ in seen(site)] == [stays]

    def test_what_a_single_deletion_refuses_spares_all(self, site: Site) -> None:
        """Attached: EVS.1046. A snapshot in creation: EVS.2409. Unknown: 404. Nothing is deleted."""
        free, attached, snapped = new_volumes(site, 3)
        attach(site, attached, new_server(site))
        with site.database.writing() as session:
            source = session.get_one(Volume, snapped)
            snapshots.add(session, [snapshots.fields(source, NewSnapshot(snapped), None, site.onecut.clock.now())])
        before = seen(site)

        for other, status, code in (
            (attached, 400, "EVS.1046"),
            (snapped, 400, "EVS.2409"),
            (UNKNOWN, 404, "EVS.5404"),
        ):
            assert other in refused(site, UNSUBSCRIBE, status, code, {"volume_ids": [free, other]})
        assert seen(site) == before

    @pytest.mark.parametrize(
        ("volume_ids", "code", "words"),
        [
            (OVER_60, "EVS.1053", "volume_ids: must be at most 60, are 61"),
            ([UNKNOWN, UNKNOWN], "EVS.5400", f"volume_ids: volume {UNKNOWN} is named twice"),
            (["disk"], "EVS.1002", "volume_ids.0: "),
            ([], "EVS.1002", "volume_ids: "),
            (None, "EVS.1002", "volume_ids: "),
        ],
    )
    def test_wrong_ids_are_refused(self, shared: Site, volume_ids: Any, code: str, words: str) -> None:
        """400 with the documented code, naming field and limit."""
        assert words in refused(shared, UNSUBSCRIBE, 400, code, {"volume_ids": volume_ids})

    def test_the_vendors_client_gives_volumes_up(self, site: Site) -> None:
        """It reads the array as it is documented."""
        client, volume_ids = evs_client(site.credentials), new_volumes(site, 2)
        body = evs.UnsubscribeVolumeRequestBody(volume_ids=volume_ids)

        answer = client.unsubscribe_postpaid_volume(evs.UnsubscribePostpaidVolumeRequest(body=body))
        [told] = answer.body
        assert [result["volume_id"] for result in told["results"]] == volume_ids
        assert site.job(told["job_id"])["status"] == "SUCCESS"
        for volume_id in volume_ids:
            with pytest.raises(ClientRequestException) as refusal:
                client.show_volume(evs.ShowVolumeRequest(volume_id=volume_id))
            assert refusal.value.error_code == "EVS.5404"


class TestChargeMode:
    def test_attached_volumes_are_told_that_nothing_is_billed(self, site: Site) -> None:
        """EVS.2147 once all else is right, through the vendor's client too; nothing changes."""
        server_id = new_server(site)
        volume_ids = new_volumes(site, 2, server_id)
        before = seen(site)

        words = "Onecut bills nothing; there is no charging mode but postPaid"
        assert words in refused(site, CHARGE, 400, "EVS.2147", {"volume_ids": volume_ids})
        client = evs_client(site.credentials)
        body = evs.ChangeVolumeChargeModeRequestBody(volume_ids, server_id, evs.BssParam2(is_auto_pay=True))
        with pytest.raises(ClientRequestException) as refusal:
            client.change_volume_charge_mode(evs.ChangeVolumeChargeModeRequest(body=body))
        assert (refusal.value.status_code, refusal.value.error_code) == (400, "EVS.2147")
        assert seen(site) == before

    def test_a_shared_volume_with_several_servers_needs_one_named(self, site: Site) -> None:
        """EVS.2226 without `server_id`."""
        servers = [new_server(site), new_server(site, "db2")]
        [volume_id] = new_volumes(site, 1, servers[0])
        with site.database.writing() as session:
            place = session.get_one(Volume, volume_id).attachments[0]
            session.add(Attachment(id=UNKNOWN, volume_id=volume_id, server_id=servers[1], device=place.device,
                                   uri=place.uri, attached_at=place.attached_at))  # fmt: skip

        words = f"server_id: must be given, volume {volume_id} is attached to 2 servers"
        assert refused(site, CHARGE, 400, "EVS.2226", {"volume_ids": [volume_id]}) == words
        refused(site, CHARGE, 400, "EVS.2147", {"volume_ids": [volume_id], "server_id": servers[1]})

    @pytest.mark.parametrize(
        ("body", "status", "code", "words"),
        [
            ({"volume_ids": OVER_60}, 400, "EVS.2228", "volume_ids: must be at most 60, are 61"),
            ({"volume_ids": [UNKNOWN]}, 404, "EVS.5404", f"volume {UNKNOWN} does not exist"),
            ({"volume_ids": ["disk"]}, 400, "EVS.1002", "volume_ids.0: "),
            ({"volume_ids": []}, 400, "EVS.1002", "volume_ids: "),
            ({}, 400, "EVS.1002", "volume_ids: field required"),
            ({"volume_ids": [UNKNOWN], "server_id": UNKNOWN}, 400, "EVS.2229", f"server {UNKNOWN} does not exist"),
            ({"volume_ids": [UNKNOWN], "server_id": "db1"}, 400, "EVS.2229", "server_id: must be a UUID"),
        ],
    )
    def test_wrong_ids_are_refused(
        self, shared: Site, body: dict[str, Any], status: int, code: str, words: str
    ) -> None:
        """With the documented code, before anything is said of billing."""
        assert words in refused(shared, CHARGE, status, code, body)

    def test_a_detached_volume_is_refused(self, shared: Site, pair: list[str]) -> None:
        """EVS.2227 names the volume and its state."""
        words = f"volume_ids: volume {pair[0]} is available; this needs in-use"
        assert refused(shared, CHARGE, 400, "EVS.2227", {"volume_ids": pair}) == words


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (EXTEND, lambda volume_id: {"volumes": [{"id": volume_id, "new_size": 11}]}),
        (UNSUBSCRIBE, lambda volume_id: {"volume_ids": [volume_id]}),
        (CHARGE, lambda volume_id: {"volume_ids": [volume_id]}),
    ],
)
def test_a_foreign_volume_is_as_an_unknown_one(shared: Site, pair: list[str], path: str, body: Any) -> None:
    """Another tenant is told the same of both, and nothing changes."""
    other = shared.second_tenant()

    for volume_id in (pair[0], UNKNOWN):
        error = other.call("POST", path, 404, json=body(volume_id))["error"]
        assert error == {"code": "EVS.5404", "message": f"volume {volume_id} does not exist"}
