"""Quotas on the wire: what is counted, what is refused beyond, and that they hold when many ask at once."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from orders import new_volumes, take_group
from postgres import programs, running_postgres
from running import Site, running_site, wait_until

from onecut.clock import SystemClock
from onecut.db.volumes import Volume
from onecut.service import quotas

CALLERS = 12
QUOTAS = "/v2/{p}/os-quota-sets"


def limit(site: Site, **limits: int | None) -> None:
    """Give the project limits of its own."""
    with site.database.writing() as session:
        for resource, number in limits.items():
            quotas.set_limit(session, site.project_id, resource, number)


def usage(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = site.call("GET", f"{QUOTAS}/{site.project_id}", 200, params={"usage": "True"})[
        "quota_set"
    ]
    return found


def used(site: Site, *resources: str) -> list[tuple[int, int]]:
    found = usage(site)
    return [(found[resource]["in_use"], found[resource]["reserved"]) for resource in resources]


def refused(site: Site, method: str, path: str, status: int, code: str, **options: Any) -> str:
    (error,) = site.call(method, path, status, **options).values()
    assert error["code"] == code, error
    return str(error["message"])


def order(**fields: Any) -> dict[str, Any]:
    return {"volume": {"availability_zone": "az1", "volume_type": "SSD", "size": 10} | fields}


def all_at_once(*calls: Callable[[], Any]) -> None:
    """Make all calls at the same moment."""
    barrier = threading.Barrier(len(calls))

    def wait_and(call: Callable[[], Any]) -> None:
        barrier.wait()
        call()

    callers = [threading.Thread(target=wait_and, args=(call,)) for call in calls]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


class TestShow:
    @pytest.mark.parametrize("version", ["v2", "v3"])
    def test_every_resource_has_its_limit_and_its_use(self, site: Site, version: str) -> None:
        """In the documented form, for the project and for each volume type."""
        limit(site, gigabytes=500, snapshots_SSD=9)
        volume_ids = new_volumes(site, 2, size_gib=20)
        take_group(site, volume_ids)
        path = f"/{version}/{{p}}/os-quota-sets/{site.project_id}"
        found = site.call("GET", path, 200, params={"usage": "True"})["quota_set"]

        assert found.pop("id") == site.project_id
        types = ("SATA", "SAS", "GPSSD", "SSD", "ESSD", "GPSSD2", "ESSD2")
        assert set(found) == {
            "volumes", "gigabytes", "snapshots", "backups", "backup_gigabytes", "per_volume_gigabytes",
            *(f"{kind}_{name}" for kind in ("volumes", "gigabytes", "snapshots") for name in types),
        }  # fmt: skip
        assert found["volumes"] == {"limit": 10_000, "in_use": 2, "reserved": 0}
        assert found["gigabytes"] == {"limit": 500, "in_use": 40, "reserved": 0}
        assert found["snapshots_SSD"] == {"limit": 9, "in_use": 2, "reserved": 0}
        assert found["volumes_SAS"] == {"limit": -1, "in_use": 0, "reserved": 0}
        assert found["backups"] == {"limit": 0, "in_use": 0, "reserved": 0}
        plain = site.call("GET", path, 200)["quota_set"]
        assert plain == {"id": site.project_id} | {name: quota["limit"] for name, quota in found.items()}

    def test_a_foreign_project_is_as_unknown_as_none(self, site: Site) -> None:
        """400 Common.0018 in the same words, for the one that exists and the one that does not."""
        other = site.second_tenant()
        messages = {
            refused(site, "GET", f"{QUOTAS}/{target}", 400, "Common.0018") for target in (other.project_id, "0" * 32)
        }
        assert messages == {"target_project_id: is not the project that this request may use"}

    def test_what_is_in_the_bin_is_reserved(self, site: Site) -> None:
        """It counts against the limit, so that it can come back; when it is destroyed there is room again."""
        limit(site, volumes=1)
        [volume_id] = new_volumes(site, 1)
        site.call("PUT", "/v3/{p}/recycle-bin-volumes/policy", 204, json={"switch": True})
        with site.database.writing() as session:
            session.get_one(Volume, volume_id).created_at = SystemClock().now() - timedelta(days=8)
        site.done(site.call("DELETE", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200))

        assert used(site, "volumes", "gigabytes", "volumes_SSD", "gigabytes_SSD") == [
            (0, 1),
            (0, 10),
            (0, 1),
            (0, 10),
        ]
        refused(site, "POST", "/v2.1/{p}/cloudvolumes", 400, "EVS.1034", json=order())
        site.call("POST", f"/v3/{{p}}/recycle-bin-volumes/{volume_id}/revert", 204)
        assert used(site, "volumes", "gigabytes") == [(1, 0), (10, 0)]
        site.done(site.call("DELETE", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200))
        site.call("DELETE", f"/v3/{{p}}/recycle-bin-volumes/{volume_id}", 204)
        wait_until(lambda: used(site, "volumes") == [(0, 0)], "the end of the volume")
        new_volumes(site, 1)


class TestRefusals:
    def test_volumes_beyond_a_limit(self, site: Site) -> None:
        """Number and size, of all and of one type, and the size of one: each with its code; nothing is made."""
        limit(site, volumes=3, gigabytes=45, per_volume_gigabytes=30, volumes_SAS=1, gigabytes_ESSD=25)
        new_volumes(site, 1)
        for fields, code, words in (
            ({"count": 3}, "EVS.1034", "volumes: the project's quota is 3"),
            ({"count": 2, "size": 18}, "EVS.1042", "gigabytes: the project's quota is 45"),
            ({"size": 31}, "EVS.1042", "per_volume_gigabytes: the project's quota is 30"),
            ({"volume_type": "SAS", "count": 2}, "EVS.1034", "volumes_SAS: the project's quota is 1"),
            ({"volume_type": "ESSD", "size": 26}, "EVS.1042", "gigabytes_ESSD: the project's quota is 25"),
        ):
            message = refused(site, "POST", "/v2.1/{p}/cloudvolumes", 400, code, json=order(**fields))
            assert message == f"{words}, which this request would exceed"
        assert used(site, "volumes", "gigabytes") == [(1, 0), (10, 0)]
        assert site.call("GET", "/v2/{p}/cloudvolumes/detail", 200)["count"] == 1

    def test_an_extension_beyond_a_limit(self, site: Site) -> None:
        """It is refused, and the volume is available as before; up to the limit it is done."""
        limit(site, gigabytes=25)
        [volume_id] = new_volumes(site, 1)
        path = f"/v2.1/{{p}}/cloudvolumes/{volume_id}/action"
        refused(site, "POST", path, 400, "EVS.1042", json={"os-extend": {"new_size": 26}})
        site.done(site.call("POST", path, 202, json={"os-extend": {"new_size": 25}}))
        assert used(site, "gigabytes") == [(25, 0)]

    def test_snapshots_beyond_a_limit(self, site: Site) -> None:
        """413 EVS.5413 for a single one, a legacy one, a group, and a rollback's undo group; nothing is taken."""
        volume_ids = new_volumes(site, 2)
        limit(site, snapshots=3)
        group_id = take_group(site, volume_ids)
        words = "snapshots: the project's quota is 3, which this request would exceed"
        body: Any = {"snapshot_group": {"volume_ids": volume_ids}}
        assert refused(site, "POST", "/v5/{p}/snapshot-groups", 413, "EVS.5413", json=body) == words
        path = f"/v5/{{p}}/snapshot-groups/{group_id}/rollback"
        assert refused(site, "POST", path, 413, "EVS.5413", json={"rollback": {}}) == words
        body = {"snapshot": {"volume_id": volume_ids[0]}}
        site.done(site.call("POST", "/v5/{p}/snapshots", 202, json=body))
        assert refused(site, "POST", "/v5/{p}/snapshots", 413, "EVS.5413", json=body) == words
        assert refused(site, "POST", "/v2/{p}/cloudsnapshots", 413, "EVS.5413", json=body) == words
        limit(site, snapshots=None, snapshots_SSD=3)
        refused(site, "POST", "/v2/{p}/cloudsnapshots", 413, "EVS.5413", json=body)
        refused(site, "POST", "/v5/{p}/snapshots", 413, "EVS.5413", json=body)
        assert used(site, "snapshots", "snapshots_SSD") == [(3, 0), (3, 0)]
        assert site.call("GET", "/v5/{p}/snapshot-groups/count", 200)["count"] == 1

    def test_legacy_snapshots_beyond_a_limit(self, site: Site) -> None:
        """They count as others do, by EVS's call and by Cinder's, which says it in its own form."""
        (volume_id,) = new_volumes(site, 1)
        limit(site, snapshots=0)
        words = "snapshots: the project's quota is 0, which this request would exceed"
        body = {"snapshot": {"volume_id": volume_id}}
        assert refused(site, "POST", "/v2/{p}/cloudsnapshots", 413, "EVS.5413", json=body) == words
        fault = site.call("POST", "/v3/{p}/snapshots", 413, json=body)
        assert fault == {"overLimit": {"code": "EVS.5413", "message": words}}
        assert used(site, "snapshots") == [(0, 0)]

    def test_volumes_from_a_group_beyond_a_limit(self, site: Site) -> None:
        """All of them, or none."""
        group_id = take_group(site, new_volumes(site, 2))
        limit(site, volumes=3)
        path = f"/v5/{{p}}/snapshot-groups/{group_id}/volumes"
        refused(site, "POST", path, 400, "EVS.1034", json={"volumes": {}})
        assert used(site, "volumes") == [(2, 0)]

    def test_a_limit_below_what_is_there_takes_nothing_away(self, site: Site) -> None:
        """Volumes stay and are deleted as ever; what does not grow is not refused."""
        volume_ids = new_volumes(site, 2)
        limit(site, volumes=1)
        extend = f"/v2.1/{{p}}/cloudvolumes/{volume_ids[1]}/action"
        site.done(site.call("POST", extend, 202, json={"os-extend": {"new_size": 11}}))
        limit(site, gigabytes=0)
        take_group(site, volume_ids)
        site.done(site.call("DELETE", f"/v2/{{p}}/cloudvolumes/{volume_ids[0]}", 200))
        refused(site, "POST", "/v2.1/{p}/cloudvolumes", 400, "EVS.1034", json=order())

    def test_a_neighbour_does_not_count(self, site: Site) -> None:
        """Limits and use are those of one project."""
        limit(site, volumes=0)
        other = site.second_tenant()
        new_volumes(other, 1)
        assert used(site, "volumes") == [(0, 0)]


class Added(NamedTuple):
    """What a request adds when it is accepted."""

    volumes: int
    gib: int


@contextmanager
def database_of(kind: str) -> Iterator[str | None]:
    """Yield the URL of an empty database; None stands for the service's own."""
    if kind == "sqlite":
        yield None
        return
    bin_folder = programs()
    if bin_folder is None:
        pytest.skip("PostgreSQL's server is not installed: apt-get install postgresql")
    with running_postgres(bin_folder) as url:
        yield url


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
class TestManyAtOnce:
    @pytest.fixture
    def site(self, kind: str, tmp_path: Path) -> Iterator[Site]:
        """A running service on each database."""
        with database_of(kind) as url, running_site(tmp_path, database=url) as site:
            yield site

    def test_no_limit_is_ever_exceeded(self, site: Site) -> None:
        """
        Volumes, groups' volumes and extensions of many callers, all at the same moment over real HTTP.

        What was accepted keeps within both limits, and leaves no room for anything that was refused.
        """
        volume_ids = new_volumes(site, 4)
        group_id = take_group(site, volume_ids[:2])
        limit(site, volumes=4 + 5, gigabytes=40 + 95)
        answers: list[tuple[int, str, Added]] = []

        def post(path: str, body: Any, adds: Added) -> None:
            answer = site.client.post(path.replace("{p}", site.project_id), json=body)
            answers.append((answer.status_code, answer.json().get("error", {}).get("code", ""), adds))

        volumes_path = f"/v5/{{p}}/snapshot-groups/{group_id}/volumes"
        creations = [lambda: post("/v2.1/{p}/cloudvolumes", order(), Added(1, 10))] * CALLERS
        groups = [lambda: post(volumes_path, {"volumes": {}}, Added(2, 20))] * 2
        extensions = [
            lambda volume_id=volume_id: post(
                f"/v2.1/{{p}}/cloudvolumes/{volume_id}/action", {"os-extend": {"new_size": 25}}, Added(0, 15)
            )
            for volume_id in volume_ids
        ]
        all_at_once(*creations, *groups, *extensions)

        wait_until(lambda: used(site, "gigabytes")[0][1] == 0, "the end of the extensions")
        found = usage(site)
        volumes, gib = found["volumes"]["in_use"], found["gigabytes"]["in_use"]
        accepted = [adds for status, _, adds in answers if status == 202]
        assert volumes == 4 + sum(adds.volumes for adds in accepted) <= 9
        assert gib == 40 + sum(adds.gib for adds in accepted) <= 135
        # Nothing that was accepted is given back, so what did not fit then does not fit now.
        for code, adds in [(code, adds) for status, code, adds in answers if status != 202]:
            assert code in {"EVS.1034", "EVS.1042"}
            assert volumes + adds.volumes > 9 or gib + adds.gib > 135

    def test_no_more_snapshots_than_allowed(self, site: Site) -> None:
        """Single snapshots and groups of many volumes, asked for at once."""
        volume_ids = new_volumes(site, CALLERS)
        limit(site, snapshots=5)
        statuses: list[int] = []

        def single(volume_id: str) -> None:
            answer = site.client.post(f"/v5/{site.project_id}/snapshots", json={"snapshot": {"volume_id": volume_id}})
            statuses.append(answer.status_code)

        def pair(pair_ids: list[str]) -> None:
            body = {"snapshot_group": {"volume_ids": pair_ids}}
            statuses.append(site.client.post(f"/v5/{site.project_id}/snapshot-groups", json=body).status_code)

        all_at_once(
            *(lambda volume_id=volume_id: single(volume_id) for volume_id in volume_ids[:6]),
            *(lambda at=at: pair(volume_ids[at : at + 2]) for at in range(6, CALLERS, 2)),
        )

        assert set(statuses) == {202, 413}
        [(taken, _)] = used(site, "snapshots")
        assert 4 <= taken <= 5


def test_the_settings_are_the_limits_of_every_project(tmp_path: Path) -> None:
    """Another start with other settings changes them; a project's own limit stays."""
    with running_site(tmp_path, quota_volumes=1, quota_snapshots=0) as site:
        [volume_id] = new_volumes(site, 1)
        refused(site, "POST", "/v2.1/{p}/cloudvolumes", 400, "EVS.1034", json=order())
        body = {"snapshot": {"volume_id": volume_id}}
        refused(site, "POST", "/v5/{p}/snapshots", 413, "EVS.5413", json=body)
        limit(site, snapshots=7)
    with running_site(tmp_path, quota_volumes=2, quota_snapshots=0) as site:
        assert (usage(site)["volumes"]["limit"], usage(site)["snapshots"]["limit"]) == (2, 7)
        take_group(site, new_volumes(site, 1))
