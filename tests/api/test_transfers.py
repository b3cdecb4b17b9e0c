"""Transfers on the wire: a volume goes from one project to another, with what is its own and nothing else."""

from typing import Any

import pytest
from orders import delete_volumes, new_volumes, volume
from running import Site, Tenant, wait_until

from onecut.db.transfers import VolumeTransfer
from onecut.db.volumes import Volume
from onecut.engine.memory import MemoryEngine
from onecut.service import quotas, secrets

UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"
TRANSFERS = "/v2/{p}/os-volume-transfer"


def offer(site: Tenant, volume_id: str, version: str = "v2") -> dict[str, Any]:
    body = {"transfer": {"name": "for you", "volume_id": volume_id}}
    made: dict[str, Any] = site.call("POST", f"/{version}/{{p}}/os-volume-transfer", 202, json=body)["transfer"]
    return made


def accept(tenant: Tenant, transfer_id: str, auth_key: str, status: int = 202) -> Any:
    body = {"accept": {"auth_key": auth_key}}
    return tenant.call("POST", f"{TRANSFERS}/{transfer_id}/accept", status, json=body)


def refused(tenant: Tenant, method: str, path: str, status: int, code: str, **options: Any) -> str:
    (error,) = tenant.call(method, path, status, **options).values()
    assert error["code"] == code, error
    return str(error["message"])


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_a_volume_changes_hands(site: Site, version: str) -> None:
    """
    Offered, shown, listed and accepted by a project of another domain.

    The volume comes with its data and tags, and is no longer known where it was; the transfer is over.
    """
    path = f"/{version}/{{p}}/os-volume-transfer"
    body = {"volume": {"availability_zone": "az1", "volume_type": "SSD", "size": 10, "tags": {"team": "db"}}}
    made = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=body)
    site.done(made)
    [volume_id] = made["volume_ids"]
    engine(site).write(volume_id, 0, b"kept")

    new = offer(site, volume_id, version)
    assert set(new) == {"id", "name", "volume_id", "created_at", "auth_key", "links"}
    assert [link["href"].split(version)[-1] for link in new["links"] if link["rel"] == "self"] == [
        f"/{site.project_id}/os-volume-transfer/{new['id']}"
    ]
    assert volume(site, volume_id)["status"] == "awaiting-transfer"
    shown = site.call("GET", f"{path}/{new['id']}", 200)["transfer"]
    assert shown == {key: value for key, value in new.items() if key != "auth_key"}
    short = {key: value for key, value in shown.items() if key != "created_at"}
    assert site.call("GET", path, 200) == {"transfers": [short]}
    assert site.call("GET", f"{path}/detail", 200) == {"transfers": [shown]}

    other = site.second_tenant()
    accepted = other.call("POST", f"{path}/{new['id']}/accept", 202, json={"accept": {"auth_key": new["auth_key"]}})
    assert {key: accepted["transfer"][key] for key in ("id", "name", "volume_id")} == {
        "id": new["id"], "name": "for you", "volume_id": volume_id,
    }  # fmt: skip
    theirs = volume(other, volume_id)
    assert (theirs["status"], theirs["tags"], theirs["os-vol-tenant-attr:tenant_id"]) == (
        "available", {"team": "db"}, other.project_id,
    )  # fmt: skip
    assert engine(site).read(volume_id, 0, 4) == b"kept"
    refused(site, "GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 404, "EVS.5404")
    assert site.call("GET", path, 200) == {"transfers": []}
    refused(site, "GET", f"{path}/{new['id']}", 404, "EVS.5404")
    delete_volumes(other, [volume_id])


def test_the_key_is_stored_as_a_digest_only(site: Site) -> None:
    """It is in no answer but the first, and the database has what can't be turned back into it."""
    [volume_id] = new_volumes(site, 1)
    new = offer(site, volume_id)
    with site.database.reading() as session:
        row = session.get_one(VolumeTransfer, new["id"])
    assert row.auth_key_sha256 == secrets.token_digest(new["auth_key"])
    assert new["auth_key"] not in repr(vars(row))


def test_an_offer_is_taken_back(site: Site) -> None:
    """Status 202 without a body; the volume is available again, and the key opens nothing any more."""
    [volume_id] = new_volumes(site, 1)
    new = offer(site, volume_id)
    answer = site.client.delete(f"/v2/{site.project_id}/os-volume-transfer/{new['id']}")
    assert (answer.status_code, answer.content) == (202, b"")
    assert volume(site, volume_id)["status"] == "available"
    accept(site.second_tenant(), new["id"], new["auth_key"], 404)


def test_without_the_key_a_transfer_is_as_unknown_as_one_that_never_was(site: Site) -> None:
    """Show, delete and accept by others answer in the same words; the offer stays."""
    [volume_id] = new_volumes(site, 1)
    new = offer(site, volume_id)
    other = site.second_tenant()
    for method, path, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/accept", {"accept": {"auth_key": "0" * 16}}),
    ):
        messages = [
            refused(other, method, f"{TRANSFERS}/{found}{path}", 404, "EVS.5404", json=body).replace(found, "")
            for found in (new["id"], UNKNOWN)
        ]
        assert messages[0] == messages[1]
    assert other.call("GET", TRANSFERS, 200) == {"transfers": []}
    assert volume(site, volume_id)["status"] == "awaiting-transfer"
    accept(other, new["id"], new["auth_key"])


def test_a_volume_on_offer_can_not_be_used(site: Site) -> None:
    """Neither deleted, nor extended, nor cut, nor offered once more: its state refuses it."""
    [volume_id] = new_volumes(site, 1)
    offer(site, volume_id)
    words = f"volume {volume_id} is awaiting-transfer; this needs"
    one = {"volume_id": volume_id}
    calls: list[tuple[str, str, str, Any]] = [
        ("DELETE", f"/v2/{{p}}/cloudvolumes/{volume_id}", "EVS.1046", None),
        ("POST", f"/v2.1/{{p}}/cloudvolumes/{volume_id}/action", "EVS.1064", {"os-extend": {"new_size": 20}}),
        ("POST", "/v5/{p}/snapshots", "EVS.5400", {"snapshot": one}),
        ("POST", TRANSFERS, "EVS.5400", {"transfer": one}),
    ]
    for method, path, code, body in calls:
        assert words in refused(site, method, path, 400, code, json=body)
    assert volume(site, volume_id)["status"] == "awaiting-transfer"


def test_what_can_not_be_handed_over_is_refused(site: Site) -> None:
    """A volume with snapshots, one with a policy, one that is being filled, and one that is not there."""
    with_snapshot, with_policy, filling = new_volumes(site, 3)
    wanted = {"name": "daily", "repeat_interval_days": 1, "time_points": ["1"], "retention_days": 1}
    policy = site.call("POST", "/v5/{p}/snapshot-policies", 201, json={"snapshot_policy": wanted})["snapshot_policy"]
    site.call("POST", f"/v5/{{p}}/snapshot-policies/{policy['id']}/associate", 204, json=[with_policy])
    site.done(site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": with_snapshot}}))
    with site.database.writing() as session:
        session.get_one(Volume, filling).hydration = {"job_id": "", "snapshot_id": "", "percent": 0, "fault": None}

    def message(volume_id: str, status: int = 400, code: str = "EVS.5400") -> str:
        return refused(site, "POST", TRANSFERS, status, code, json={"transfer": {"volume_id": volume_id}})

    assert f"volume {with_snapshot} has snapshots; delete them" in message(with_snapshot)
    assert f"volume {with_policy} has a snapshot policy" in message(with_policy)
    assert f"volume {filling} is still being filled" in message(filling)
    assert message(UNKNOWN, 404, "EVS.5404") == f"volume {UNKNOWN} does not exist"
    assert "volume_id: string should match pattern" in message("x", code="EVS.1002")
    assert site.call("GET", TRANSFERS, 200) == {"transfers": []}
    with site.database.reading() as session:
        assert {session.get_one(Volume, each).status for each in (with_snapshot, with_policy, filling)} == {
            "available"
        }


def test_the_accepting_project_needs_room(site: Site) -> None:
    """Its quota refuses the volume, which stays on offer; with room it is accepted."""
    [volume_id] = new_volumes(site, 1, size_gib=20)
    new = offer(site, volume_id)
    other = site.second_tenant()
    with site.database.writing() as session:
        quotas.set_limit(session, other.project_id, "gigabytes", 19)
    error = accept(other, new["id"], new["auth_key"], 413)["overLimit"]
    assert error == {
        "code": "EVS.1042", "message": "gigabytes: the project's quota is 19, which this request would exceed",
    }  # fmt: skip
    assert volume(site, volume_id)["status"] == "awaiting-transfer"
    with site.database.writing() as session:
        quotas.set_limit(session, other.project_id, "gigabytes", 20)
    accept(other, new["id"], new["auth_key"])


def test_in_the_new_project_snapshots_begin_anew(site: Site) -> None:
    """
    Nothing of the old project is built upon, though the volume had archived snapshots there once.

    The first snapshot reads all of the disk, into a chain of the new project, and restores there.
    """
    [volume_id] = new_volumes(site, 1)
    engine(site).write(volume_id, 0, b"before")
    old = site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": volume_id}})
    site.done(old)
    site.done(site.call("DELETE", f"/v5/{{p}}/snapshots/{old['snapshot_id']}", 202))
    new = offer(site, volume_id)
    other = site.second_tenant()
    accept(other, new["id"], new["auth_key"])

    taken = other.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": volume_id}})
    other.done(taken)
    shown = other.call("GET", f"/v5/{{p}}/snapshots/{taken['snapshot_id']}", 200)["snapshot"]
    assert shown["onecut"]["full_because"] == "no earlier snapshot of the volume is archived"
    [chain] = other.call("GET", "/v5/{p}/snapshot-chains", 200)["snapshot_chains"]
    assert (chain["project_id"], chain["volume_id"]) == (other.project_id, volume_id)
    engine(site).write(volume_id, 0, b"after!")
    path = f"/v5/{{p}}/snapshots/{taken['snapshot_id']}/rollback"
    other.done(other.call("POST", path, 202, json={"rollback": {"volume_id": volume_id}}))
    assert engine(site).read(volume_id, 0, 6) == b"before"


def test_the_new_project_learns_nothing_of_the_old_one(site: Site) -> None:
    """Neither which snapshot a volume was made from, nor its enterprise project."""
    [source] = new_volumes(site, 1)
    taken = site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": source}})
    site.done(taken)
    body = {
        "availability_zone": "az1", "volume_type": "SSD", "size": 10,
        "snapshot_id": taken["snapshot_id"], "enterprise_project_id": UNKNOWN,
    }  # fmt: skip
    made = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": body})
    site.done(made)
    [volume_id] = made["volume_ids"]
    wait_until(lambda: volume(site, volume_id)["onecut"]["hydration"] is None, "the filling of the volume")
    new = offer(site, volume_id)
    other = site.second_tenant()
    accept(other, new["id"], new["auth_key"])
    theirs = volume(other, volume_id)
    assert (theirs["snapshot_id"], theirs["enterprise_project_id"]) == (None, "0")


def test_pages_of_transfers(site: Site) -> None:
    """The newest first; pages neither repeat nor lose."""
    offers = [offer(site, volume_id)["id"] for volume_id in new_volumes(site, 3)]
    pages = [site.call("GET", TRANSFERS, 200, params={"limit": 2, "offset": at})["transfers"] for at in (0, 2)]
    assert [found["id"] for page in pages for found in page] == offers[::-1]
    assert refused(site, "GET", TRANSFERS, 400, "EVS.1023", params={"limit": 0})


def engine(site: Site) -> MemoryEngine:
    assert isinstance(site.engine, MemoryEngine)
    return site.engine
