"""``/v5/{project_id}/snapshot-chains`` on the wire: forms, filters, pages and refusals."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from orders import new_volumes
from running import Site, Tenant, running_site

CHAIN_FIELDS = {
    "id", "availability_zone", "snapshot_count", "capacity", "project_id", "volume_id", "category", "created_at",
    "updated_at",
}  # fmt: skip

UNKNOWN = str(uuid4())

PATH = "/v5/{p}/snapshot-chains"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose first volume has two chains of one snapshot each, and whose second has one of two."""
    with running_site(tmp_path_factory.mktemp("data")) as site:
        first, second = new_volumes(site, 2)
        for volume_id, incremental in ((first, True), (first, False), (second, True), (second, True)):
            wanted = {"volume_id": volume_id, "incremental": incremental}
            site.done(site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": wanted}))
        yield site


def listed(tenant: Tenant, **query: Any) -> list[dict[str, Any]]:
    """List chains."""
    found: list[dict[str, Any]] = tenant.call("GET", PATH, 200, params=query)["snapshot_chains"]
    return found


def counted(tenant: Tenant, **query: Any) -> int:
    """Count chains."""
    answer = tenant.call("GET", f"{PATH}/count", 200, params=query)
    assert set(answer) == {"count"}
    number: int = answer["count"]
    return number


def test_a_chain_has_the_documented_fields(site: Site) -> None:
    """Newest first, with the number of its snapshots and what they take in the repository."""
    chains = listed(site)

    assert {frozenset(chain) for chain in chains} == {frozenset(CHAIN_FIELDS)}
    assert [chain["snapshot_count"] for chain in chains] == [2, 1, 1]
    assert {chain["project_id"] for chain in chains} == {site.project_id}
    assert [chain["created_at"] for chain in chains] == sorted(
        (chain["created_at"] for chain in chains), reverse=True
    )
    assert all(0 <= chain["capacity"] < 10 for chain in chains)


def test_filters(site: Site) -> None:
    """List and count have the same ones, but the zone, which only the count has; an empty one is as none."""
    newest, *of_first = listed(site)
    for query, expected in (
        ({"id": newest["id"]}, [newest]),
        ({"volume_id": of_first[0]["volume_id"]}, of_first),
        ({"category": "standard"}, [newest, *of_first]),
        ({"category": "flash"}, []),
        ({"id": UNKNOWN}, []),
        ({"id": "", "volume_id": ""}, [newest, *of_first]),
    ):
        assert listed(site, **query) == expected
        assert counted(site, **query) == len(expected)
    assert counted(site, availability_zone="az1") == 3
    refused = site.call("GET", f"{PATH}/count", 400, params={"availability_zone": "az2"})["error"]
    assert (refused["code"], "'az2' is not one of az1" in refused["message"]) == ("EVS.1041", True)


def test_pages(site: Site) -> None:
    """A page begins after the marker; together the pages are the list."""
    chains = listed(site)

    assert listed(site, limit=2) == chains[:2]
    assert listed(site, limit=2, marker=chains[1]["id"]) == chains[2:]
    assert listed(site, marker=chains[2]["id"]) == []


@pytest.mark.parametrize(
    ("query", "code"),
    [({"limit": "0"}, "EVS.1023"), ({"limit": "1001"}, "EVS.1023"), ({"marker": UNKNOWN}, "EVS.1024")],
)
def test_a_wrong_page_is_refused(site: Site, query: dict[str, str], code: str) -> None:
    """400 with the code of the field."""
    assert site.call("GET", PATH, 400, params=query)["error"]["code"] == code


def test_another_project_sees_none(site: Site) -> None:
    """Neither listed nor counted, by id or by volume; as a marker it is as unknown as one that never was."""
    chain = listed(site)[0]
    other = site.second_tenant()

    for query in ({}, {"id": chain["id"]}, {"volume_id": chain["volume_id"]}):
        assert (listed(other, **query), counted(other, **query)) == ([], 0)
    assert other.call("GET", PATH, 400, params={"marker": chain["id"]})["error"]["code"] == "EVS.1024"
