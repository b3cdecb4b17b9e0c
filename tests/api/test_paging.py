"""Lists that are read page by page, by markers, while rows come and go."""

from collections.abc import Callable
from typing import Any

import pytest
from orders import delete_volumes, new_volumes
from running import Site

PATHS = {"volumes": "/v2/{p}/cloudvolumes/detail", "snapshots": "/v5/{p}/snapshots/detail"}


def new_snapshot(site: Site, volume_id: str) -> str:
    """Take a snapshot of one volume, and return its id."""
    answer = site.call("POST", "/v5/{p}/snapshots", 202, json={"snapshot": {"volume_id": volume_id}})
    site.done(answer)
    snapshot_id: str = answer["snapshot_id"]
    return snapshot_id


def delete_snapshot(site: Site, snapshot_id: str) -> None:
    """Delete a snapshot."""
    site.done(site.call("DELETE", f"/v5/{{p}}/snapshots/{snapshot_id}", 202))


@pytest.mark.parametrize("noun", PATHS)
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_what_stays_is_listed_once_while_rows_come_and_go(site: Site, noun: str, direction: str) -> None:
    """Between two pages one row is made, one that was seen goes, and one to come goes: the others come once each."""
    (volume_id,) = new_volumes(site, 1)
    make: Callable[[], str] = lambda: new_volumes(site, 1)[0]  # noqa: E731
    delete: Callable[[str], Any] = lambda found: delete_volumes(site, [found])  # noqa: E731
    if noun == "snapshots":
        make, delete = lambda: new_snapshot(site, volume_id), lambda found: delete_snapshot(site, found)
    rows = [make() for _ in range(9)]
    order = rows if direction == "asc" else rows[::-1]
    going = [order[0], order[4]]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 3, "sort_key": "created_at", "sort_dir": direction}
    while page := [row["id"] for row in site.call("GET", PATHS[noun], 200, params=query)[noun]]:
        seen += page
        query["marker"] = page[-1]
        if len(seen) < 9:
            make()
        while going:
            delete(going.pop())

    assert len(seen) == len(set(seen))
    assert set(rows) - {order[4]} <= set(seen)
    assert order[4] not in seen
