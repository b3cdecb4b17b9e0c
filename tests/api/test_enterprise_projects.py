"""Enterprise project ids: kept and shown as they were given, and a filter of every list."""

from typing import Any, Final

import pytest
from orders import new_volumes
from running import Site

FINANCE: Final = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"

LISTS: Final = {
    "volumes": "/v2/{p}/cloudvolumes/detail",
    "servers": "/v1/{p}/cloudservers/detail",
    "snapshot_groups": "/v5/{p}/snapshot-groups/detail",
    "snapshots": "/v5/{p}/snapshots/detail",
}
COUNTS: Final = ("/v5/{p}/snapshot-groups/count", "/v5/{p}/snapshots/count")


def volume_body(enterprise_project_id: str) -> dict[str, Any]:
    volume = {"availability_zone": "az1", "volume_type": "SSD", "size": 10}
    return {"volume": volume | {"enterprise_project_id": enterprise_project_id}}


def server_body(enterprise_project_id: str) -> dict[str, Any]:
    return {"server": {"name": "db1", "extendparam": {"enterprise_project_id": enterprise_project_id}}}


def group_body(volume_id: str, enterprise_project_id: str) -> dict[str, Any]:
    return {"snapshot_group": {"volume_ids": [volume_id], "enterprise_project_id": enterprise_project_id}}


def snapshot_body(volume_id: str, enterprise_project_id: str) -> dict[str, Any]:
    return {"snapshot": {"volume_id": volume_id, "enterprise_project_id": enterprise_project_id}}


def test_what_is_given_is_shown_and_found(site: Site) -> None:
    """Of two of each, one in the default project: the filter finds either, and `all_granted_eps` both."""
    for given in (FINANCE, "0"):
        site.done(site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json=volume_body(given)))
        site.done(site.call("POST", "/v1/{p}/cloudservers", 200, json=server_body(given)))
    volume_ids = [volume["id"] for volume in site.call("GET", LISTS["volumes"], 200)["volumes"]]
    for given, volume_id in zip((FINANCE, "0"), volume_ids, strict=True):
        site.done(site.call("POST", "/v5/{p}/snapshot-groups", 202, json=group_body(volume_id, given)))

    def found(asked: str) -> dict[str, list[str]]:
        return {
            key: [
                item["enterprise_project_id"]
                for item in site.call("GET", f"{path}?enterprise_project_id={asked}", 200)[key]
            ]
            for key, path in LISTS.items()
        }

    assert found(FINANCE) == {key: [FINANCE] for key in LISTS}
    assert found("0") == {key: ["0"] for key in LISTS}
    assert {key: sorted(ids) for key, ids in found("all_granted_eps").items()} == {
        key: ["0", FINANCE] for key in LISTS
    }
    assert found("99999999-11aa-4c38-9a6f-3c9d5a2e7701") == {key: [] for key in LISTS}
    for path in COUNTS:
        assert site.call("GET", f"{path}?enterprise_project_id={FINANCE}", 200) == {"count": 1}
        assert site.call("GET", f"{path}?enterprise_project_id=all_granted_eps", 200) == {"count": 2}


def test_a_single_snapshot_has_its_own(site: Site) -> None:
    """Not its volume's: `0` unless it is given."""
    (volume_id,) = new_volumes(site, 1)

    site.done(site.call("POST", "/v5/{p}/snapshots", 202, json=snapshot_body(volume_id, FINANCE)))

    (snapshot,) = site.call("GET", LISTS["snapshots"], 200)["snapshots"]
    assert snapshot["enterprise_project_id"] == FINANCE
    assert site.call("GET", LISTS["volumes"], 200)["volumes"][0]["enterprise_project_id"] == "0"


@pytest.mark.parametrize("wrong", ["1", "finance", FINANCE.upper(), f"{FINANCE}0", "all"])
def test_what_is_no_enterprise_project_is_refused(site: Site, wrong: str) -> None:
    """400 EVS.2059 with the field's name, in bodies and filters alike; nothing is made."""
    (volume_id,) = new_volumes(site, 1)
    bodies = {
        "/v2.1/{p}/cloudvolumes": volume_body(wrong),
        "/v5/{p}/snapshot-groups": group_body(volume_id, wrong),
        "/v5/{p}/snapshots": snapshot_body(volume_id, wrong),
    }

    refused = [site.call("POST", path, 400, json=body)["error"] for path, body in bodies.items()]
    refused += [
        site.call("GET", f"{path}?enterprise_project_id={wrong}", 400)["error"]
        for path in (*LISTS.values(), *COUNTS)
        if "cloudservers" not in path
    ]

    assert {error["code"] for error in refused} == {"EVS.2059"}
    assert all("enterprise_project_id" in error["message"] and wrong in error["message"] for error in refused)
    assert len(site.call("GET", LISTS["volumes"], 200)["volumes"]) == 1
    assert site.call("GET", LISTS["snapshots"], 200)["snapshots"] == []


def test_all_granted_eps_is_a_filter_only(site: Site) -> None:
    """Nothing lies in all enterprise projects."""
    error = site.call("POST", "/v2.1/{p}/cloudvolumes", 400, json=volume_body("all_granted_eps"))["error"]

    assert error["code"] == "EVS.2059"
