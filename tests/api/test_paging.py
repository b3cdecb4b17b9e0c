"""Lists that are read page by page, by markers, while rows come and go."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from orders import delete_groups, delete_volumes, new_volumes, take_group
from running import Site, Tenant, wait_until
from sqlalchemy import select

from onecut.api.examples import BODIES
from onecut.db.deleted_rows import DeletedRow
from onecut.db.volumes import Volume
from onecut.service import listing

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Noun:
    """What is listed: where, and how one is made and goes."""

    name: str
    path: str
    make: Callable[[Site], str]
    delete: Callable[[Site, str], object]

    def page(self, tenant: Tenant, **query: Any) -> list[str]:
        """Return the ids of one page."""
        return [row["id"] for row in tenant.call("GET", self.path, 200, params=query)[self.name]]


def volume_of(site: Site) -> str:
    """Return a volume to take snapshots of: the first one, which is made when it is missing."""
    query = {"sort_dir": "asc", "limit": 1}
    found = site.call("GET", "/v2/{p}/cloudvolumes/detail", 200, params=query)["volumes"]
    return found[0]["id"] if found else new_volumes(site, 1)[0]


def new_snapshot(site: Site) -> str:
    """Take a snapshot of a volume that has others."""
    answer = site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": volume_of(site)}})
    site.done(answer)
    return str(answer["snapshot_id"])


def delete_snapshot(site: Site, snapshot_id: str) -> None:
    site.done(site.call("DELETE", f"/v5/{{p}}/snapshots/{snapshot_id}", 202))


def new_legacy_snapshot(site: Site) -> str:
    """Take a legacy snapshot of a volume of its own: one has seven at most."""
    (volume_id,) = new_volumes(site, 1)
    answer = site.call("POST", "/v2/{p}/cloudsnapshots", 202, json={"snapshot": {"volume_id": volume_id}})
    path = f"/v2/{{p}}/cloudsnapshots/{answer['snapshot']['id']}"
    wait_until(lambda: site.call("GET", path, 200)["snapshot"]["status"] == "available", "the legacy snapshot")
    return str(answer["snapshot"]["id"])


def delete_legacy_snapshot(site: Site, snapshot_id: str) -> None:
    path = f"/v2/{site.project_id}/cloudsnapshots/{snapshot_id}"
    assert site.client.delete(path).status_code == 202
    wait_until(lambda: site.client.get(path).status_code == 404, "the end of the legacy snapshot")


def new_chain(site: Site) -> str:
    """Take the first snapshot of a volume, which begins a chain."""
    (volume_id,) = new_volumes(site, 1)
    site.done(site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": volume_id}}))
    query = {"volume_id": volume_id}
    (chain,) = site.call("GET", "/v5/{p}/snapshot-chains", 200, params=query)["snapshot_chains"]
    return str(chain["id"])


def delete_chain(site: Site, chain_id: str) -> None:
    """Delete a chain's only snapshot, with which it ends."""
    query = {"snapshot_chain_id": chain_id}
    (snapshot,) = site.call("GET", "/v5/{p}/snapshots/detail", 200, params=query)["snapshots"]
    delete_snapshot(site, snapshot["id"])


def new_policy(site: Site) -> str:
    made = site.call("POST", "/v5/{p}/snapshot-policies", 201, json=BODIES["CreatePolicy"])
    return str(made["snapshot_policy"]["id"])


def new_transfer(site: Site) -> str:
    body = {"transfer": {"volume_id": new_volumes(site, 1)[0]}}
    return str(site.call("POST", "/v2/{p}/os-volume-transfer", 202, json=body)["transfer"]["id"])


def binned_volume(site: Site) -> str:
    """Put a volume into the recycle bin, where only those go that are some days old."""
    site.call("PUT", "/v3/{p}/recycle-bin-volumes/policy", 204, json={"switch": True})
    (volume_id,) = new_volumes(site, 1)
    with site.database.writing() as session:
        session.get_one(Volume, volume_id).created_at -= timedelta(days=30)
    delete_volumes(site, [volume_id])
    return volume_id


def destroy(site: Site, volume_id: str) -> None:
    path = f"/v3/{site.project_id}/recycle-bin-volumes/{volume_id}"
    assert site.client.delete(path).status_code == 204
    wait_until(lambda: site.client.get(path).status_code == 404, "the end of the volume")


VOLUMES = Noun(
    "volumes",
    "/v2/{p}/cloudvolumes/detail",
    lambda site: new_volumes(site, 1)[0],
    lambda site, volume_id: delete_volumes(site, [volume_id]),
)
LEGACY = Noun("snapshots", "/v2/{p}/cloudsnapshots/detail", new_legacy_snapshot, delete_legacy_snapshot)

NOUNS = {
    "volumes": VOLUMES,
    "bin": Noun("volumes", "/v3/{p}/recycle-bin-volumes/detail", binned_volume, destroy),
    "snapshots": Noun("snapshots", "/v5/{p}/snapshots/detail", new_snapshot, delete_snapshot),
    "legacy snapshots": LEGACY,
    "Cinder snapshots": Noun("snapshots", "/v3/{p}/snapshots/detail", new_legacy_snapshot, delete_legacy_snapshot),
    "chains": Noun("snapshot_chains", "/v5/{p}/snapshot-chains", new_chain, delete_chain),
    "groups": Noun(
        "snapshot_groups",
        "/v5/{p}/snapshot-groups/detail",
        lambda site: take_group(site, [volume_of(site)]),
        lambda site, group_id: delete_groups(site, [group_id]),
    ),
    "policies": Noun(
        "snapshot_policies",
        "/v5/{p}/snapshot-policies",
        new_policy,
        lambda site, policy_id: site.call("DELETE", f"/v5/{{p}}/snapshot-policies/{policy_id}", 204),
    ),
    "transfers": Noun(
        "transfers",
        "/v2/{p}/os-volume-transfer",
        new_transfer,
        lambda site, transfer_id: site.call("DELETE", f"/v2/{{p}}/os-volume-transfer/{transfer_id}", 202),
    ),
}


@pytest.mark.parametrize("noun", NOUNS.values(), ids=NOUNS)
def test_what_stays_is_listed_once_while_rows_come_and_go(site: Site, noun: Noun) -> None:
    """
    The newest first. Between two pages one row is made, and the marker itself goes, as does one that is yet to come.

    The others come once each.
    """
    order = [noun.make(site) for _ in range(7)][::-1]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while page := noun.page(site, **query):
        seen += page
        query["marker"] = page[-1]
        noun.make(site)
        noun.delete(site, page[-1])
        if len(seen) == 2:
            noun.delete(site, order[4])

    assert seen == [row for row in order if row != order[4]]


@pytest.mark.parametrize("noun", NOUNS.values(), ids=NOUNS)
def test_a_marker_that_no_row_ever_had_is_refused(site: Site, noun: Noun) -> None:
    """EVS.1024, as for a row of another project, whether it is there or deleted."""
    gone, there = noun.make(site), noun.make(site)
    noun.delete(site, gone)
    other = site.second_tenant()

    for tenant, marker in ((site, UNKNOWN), (site, "x"), (other, gone), (other, there)):
        (error,) = tenant.call("GET", noun.path, 400, params={"marker": marker}).values()
        assert (error["code"], marker in error["message"]) == ("EVS.1024", True)


@pytest.mark.parametrize("sort_dir", ["asc", "desc"])
@pytest.mark.parametrize("sort_key", ["id", "created_at"])
def test_each_order_that_stays_goes_on_behind_a_deleted_row(site: Site, sort_key: str, sort_dir: str) -> None:
    """By id as by the time of creation, and both ways."""
    volume_ids = [VOLUMES.make(site) for _ in range(3)]
    ascending = sorted(volume_ids) if sort_key == "id" else volume_ids
    order = ascending if sort_dir == "asc" else ascending[::-1]

    VOLUMES.delete(site, order[0])

    assert VOLUMES.page(site, marker=order[0], sort_key=sort_key, sort_dir=sort_dir) == order[1:]


def test_the_place_of_a_deleted_row_is_unknown_where_it_may_have_changed(site: Site) -> None:
    """Its state did, on the way to its end: the client is told to begin anew, and nothing is skipped silently."""
    gone, _ = VOLUMES.make(site), VOLUMES.make(site)
    VOLUMES.delete(site, gone)

    error = site.call("GET", VOLUMES.path, 400, params={"marker": gone, "sort_key": "status"})["error"]
    assert error["code"] == "EVS.1024"


def test_our_own_link_leads_on_when_its_marker_was_renamed(site: Site) -> None:
    """The link has the filter, which the marker's row passes no longer."""
    volume_ids = new_volumes(site, 4)
    for volume_id in volume_ids:
        site.call("PUT", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200, json={"volume": {"name": "kept"}})
    first = site.call("GET", VOLUMES.path, 200, params={"name": "kept", "limit": 2})
    marker = first["volumes"][-1]["id"]
    site.call("PUT", f"/v2/{{p}}/cloudvolumes/{marker}", 200, json={"volume": {"name": "other"}})

    (link,) = first["volumes_links"]
    second = site.client.get(link["href"]).json()

    assert {row["id"] for row in first["volumes"] + second["volumes"]} == set(volume_ids)
    assert second["volumes_links"] == []


def test_the_link_of_legacy_snapshots_repeats_nothing(site: Site) -> None:
    """A snapshot that comes between two pages moves no other; the link keeps each of several ids."""
    made = [LEGACY.make(site) for _ in range(4)][::-1]
    page = site.call("GET", LEGACY.path, 200, params={"limit": 2, "id": made})
    LEGACY.make(site)

    (link,) = page["snapshots_links"]
    rest = site.client.get(link["href"]).json()

    assert [row["id"] for row in page["snapshots"] + rest["snapshots"]] == made
    assert (rest["count"], rest["snapshots_links"]) == (4, None)


def test_a_volume_that_was_given_away_keeps_its_place_for_who_gave_it(site: Site) -> None:
    """A walk goes on behind it, though it is another project's now; the other one walks behind it too."""
    first, second = VOLUMES.make(site), VOLUMES.make(site)
    offer = site.call("POST", "/v2/{p}/os-volume-transfer", 202, json={"transfer": {"volume_id": second}})["transfer"]
    other = site.second_tenant()
    body = {"accept": {"auth_key": offer["auth_key"]}}
    other.call("POST", f"/v2/{{p}}/os-volume-transfer/{offer['id']}/accept", 202, json=body)

    assert VOLUMES.page(site, marker=second) == [first]
    assert VOLUMES.page(other, marker=second) == []


def test_places_are_forgotten_after_a_day(site: Site) -> None:
    """Until then a walk goes on behind a deleted row."""
    gone = VOLUMES.make(site)
    VOLUMES.delete(site, gone)
    with site.database.reading() as session:
        deleted_at = session.scalars(select(DeletedRow.deleted_at)).one()

    listing.forget(site.database, deleted_at + timedelta(days=1))
    assert VOLUMES.page(site, marker=gone) == []
    listing.forget(site.database, deleted_at + timedelta(days=1, microseconds=1))
    site.call("GET", VOLUMES.path, 400, params={"marker": gone})
