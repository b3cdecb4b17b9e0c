"""``.../snapshots/{id}/changed-blocks`` and ``.../snapshot-chains`` on the wire."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from orders import new_volumes
from running import Site, running_site

from onecut.engine.memory import MemoryEngine
from onecut.units import GiB


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One service for all tests here; none relies on what another left."""
    with running_site(tmp_path_factory.mktemp("data")) as site:
        yield site


@pytest.fixture
def disk(site: Site) -> str:
    """A new volume."""
    (volume_id,) = new_volumes(site, 1)
    return volume_id


def take(site: Site, volume_id: str, content: bytes = b"", offset: int = 0, **wanted: Any) -> str:
    """Write to a volume, take a snapshot, and return its id once it is archived."""
    if content:
        cast("MemoryEngine", site.engine).write(volume_id, offset, content)
    body = {"snapshot": {"volume_id": volume_id, **wanted}}
    answer = site.call("POST", "/v5/{p}/snapshots", 202, json=body)
    site.done(answer)
    snapshot_id: str = answer["snapshot_id"]
    return snapshot_id


def changed(site: Site, snapshot_id: str, status: int = 200, **query: Any) -> Any:
    """Ask what changed."""
    return site.call("GET", f"/v5/{{p}}/snapshots/{snapshot_id}/changed-blocks", status, params=query)


class TestChangedBlocks:
    def test_blocks_that_differ_are_listed(self, site: Site, disk: str) -> None:
        """With their place, size and digests; both ways round."""
        first = take(site, disk, b"first!")
        second = take(site, disk, b"second", 5 * GiB)

        answer = changed(site, second, base=first)
        (block,) = answer["changed_blocks"]
        assert (block["offset"], block["length"]) == (5 * GiB, answer["block_size"])
        assert (len(block["digest"]), block["base_digest"]) == (64, None)
        assert (answer["size"], answer["next_marker"], answer["base"]) == (10 * GiB, None, first)
        (back,) = changed(site, first, base=second)["changed_blocks"]
        assert (back["digest"], back["base_digest"]) == (None, block["digest"])

    def test_without_a_base_all_that_is_not_zero_is_listed(self, site: Site, disk: str) -> None:
        """A disk of zeros has nothing."""
        assert changed(site, take(site, disk))["changed_blocks"] == []
        assert len(changed(site, take(site, disk, b"first!"))["changed_blocks"]) == 1

    def test_it_is_paged(self, site: Site, disk: str) -> None:
        """The marker of one page begins the next; no block is lost or told twice."""
        first = take(site, disk)
        for number in range(5):
            cast("MemoryEngine", site.engine).write(disk, number * GiB, b"x")
        second = take(site, disk)
        found, marker = [], 0
        while marker is not None:
            page = changed(site, second, base=first, limit=2, marker=marker)
            assert len(page["changed_blocks"]) <= 2
            found += [block["offset"] for block in page["changed_blocks"]]
            marker = page["next_marker"]
        assert found == [number * GiB for number in range(5)]

    def test_what_can_not_be_compared_is_refused(self, site: Site, disk: str) -> None:
        """Another volume's snapshot, one that does not exist, a field that is out of range."""
        first = take(site, disk)
        (other,) = new_volumes(site, 1)
        foreign = take(site, other)

        assert disk in changed(site, first, 400, base=foreign)["error"]["message"]
        changed(site, first, 404, base=str(uuid4()))
        changed(site, str(uuid4()), 404)
        assert changed(site, first, 400, limit=0)["error"]["code"] == "EVS.1023"
        assert changed(site, first, 400, marker=-1)["error"]["code"] == "EVS.1024"

    def test_a_repository_that_is_away_is_no_damage(self, site: Site, disk: str) -> None:
        """The caller is told to come again, and the snapshot has no fault when the repository is back."""
        first = take(site, disk, b"first!")
        folder = Path(site.onecut.settings.data) / "repository"
        away = folder.rename(folder.with_name("away"))
        try:
            changed(site, first, 503)
        finally:
            away.rename(folder)

        assert site.call("GET", f"/v5/{{p}}/snapshots/{first}", 200)["snapshot"]["onecut"]["fault"] is None
        assert len(changed(site, first)["changed_blocks"]) == 1

    def test_another_tenant_s_snapshots_do_not_exist(self, site: Site, disk: str) -> None:
        """Neither as the snapshot nor as the base."""
        first = take(site, disk)
        other = site.second_tenant()
        other.call("GET", f"/v5/{{p}}/snapshots/{first}/changed-blocks", 404)


class TestChains:
    def test_a_chain_tells_its_snapshots_and_what_they_hold(self, site: Site, disk: str) -> None:
        """As shown in the list and on each of its snapshots; a full snapshot is in another."""
        taken = [take(site, disk, content) for content in (b"first!", b"second")]
        full = take(site, disk, incremental=False)

        shown = site.call("GET", "/v5/{p}/snapshot-chains", 200, params={"volume_id": disk})["snapshot_chains"]
        assert sorted(chain["snapshot_count"] for chain in shown) == [1, 2]
        for snapshot_id in (*taken, full):
            snapshot = site.call("GET", f"/v5/{{p}}/snapshots/{snapshot_id}", 200)["snapshot"]
            (chain,) = snapshot["snapshot_chains"]
            assert chain in shown
            assert (chain["volume_id"], chain["category"], 0 < chain["capacity"] < 1) == (disk, "standard", True)
        mine = {"snapshot_chain_id": chain["id"]}
        assert [hit["id"] for hit in site.call("GET", "/v5/{p}/snapshots/detail", 200, params=mine)["snapshots"]] == [
            full
        ]

    def test_chains_are_filtered_counted_and_paged(self, site: Site, disk: str) -> None:
        """By id, volume and category; a page begins behind its marker, and the last one is empty."""
        for _ in range(3):
            take(site, disk, incremental=False)
        query: dict[str, Any] = {"volume_id": disk, "limit": 2}
        first = site.call("GET", "/v5/{p}/snapshot-chains", 200, params=query)["snapshot_chains"]
        query["marker"] = first[-1]["id"]
        rest = site.call("GET", "/v5/{p}/snapshot-chains", 200, params=query)["snapshot_chains"]
        query["marker"] = rest[-1]["id"]
        assert site.call("GET", "/v5/{p}/snapshot-chains", 200, params=query)["snapshot_chains"] == []
        assert len({chain["id"] for chain in first + rest}) == 3

        def count(**wanted: str) -> int:
            number: int = site.call("GET", "/v5/{p}/snapshot-chains/count", 200, params=wanted)["count"]
            return number

        assert count(volume_id=disk) == count(volume_id=disk, category="standard") == 3
        assert count(volume_id=disk, category="backup") == 0
        assert count(volume_id=disk, availability_zone="az1") == 3
        unknown = {"availability_zone": "az9"}
        refusal = site.call("GET", "/v5/{p}/snapshot-chains/count", 400, params=unknown)["error"]
        assert refusal["code"] == "EVS.1041"
        assert count(id=rest[0]["id"]) == 1

    def test_another_tenant_has_no_chains(self, site: Site, disk: str) -> None:
        """Neither to list nor to count."""
        take(site, disk)
        other = site.second_tenant()
        assert other.call("GET", "/v5/{p}/snapshot-chains", 200) == {"snapshot_chains": []}
        assert other.call("GET", "/v5/{p}/snapshot-chains/count", 200) == {"count": 0}

    def test_a_snapshot_tells_what_became_of_it(self, site: Site, disk: str) -> None:
        """Under the one key of our own, and only where one snapshot is shown."""
        snapshot_id = take(site, disk, b"first!")
        told = site.call("GET", f"/v5/{{p}}/snapshots/{snapshot_id}", 200)["snapshot"]["onecut"]
        assert (told["in_engine"], told["fault"], told["failure"]) == (True, None, None)
        assert "no earlier snapshot" in told["full_because"]
        listed = site.call("GET", "/v5/{p}/snapshots/detail", 200, params={"id": snapshot_id})["snapshots"]
        assert "onecut" not in listed[0]
