"""Tags of volumes on the wire, and the search by them: forms, codes, filters, and the vendor's SDK as the client."""

from collections.abc import Iterator
from typing import Any

import huaweicloudsdkevs.v2 as evs
import pytest
from running import Site, running_site
from sdk import evs_client

from onecut.db.volumes import Volume

UNKNOWN = "0c1d7c52-11aa-4c38-9a6f-3c9d5a2e7701"
PLAIN = {"availability_zone": "az1", "volume_type": "SSD", "size": 10}
SEARCH = "/v2/{p}/cloudvolumes/resource_instances/action"


def make(site: Site, **fields: Any) -> str:
    """Make a volume, and return its id."""
    answer = site.call("POST", "/v2.1/{p}/cloudvolumes", 202, json={"volume": PLAIN | fields})
    site.done(answer)
    volume_id: str = answer["volume_ids"][0]
    return volume_id


def path(volume_id: str) -> str:
    return f"/v2/{{p}}/cloudvolumes/{volume_id}/tags"


def act(site: Site, volume_id: str, action: str, *tags: dict[str, str]) -> None:
    """Add or remove tags; the answer has no body."""
    body = {"action": action, "tags": list(tags)}
    assert site.call("POST", f"{path(volume_id)}/action", 204, json=body) is None


def tags_of(site: Site, volume_id: str) -> dict[str, str]:
    """Return a volume's tags, once both of the calls that tell them agree."""
    listed = site.call("GET", path(volume_id), 200)["tags"]
    shown: dict[str, str] = site.call("GET", f"/v2/{{p}}/cloudvolumes/{volume_id}", 200)["volume"]["tags"]
    assert shown == {tag["key"]: tag["value"] for tag in listed}
    return shown


def refused(site: Site, path: str, status: int, code: str, body: Any) -> str:
    """Post what must be refused, and return the message."""
    error = site.call("POST", path, status, json=body)["error"]
    assert error["code"] == code, error
    return str(error["message"])


def search(site: Site, **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = site.call("POST", SEARCH, 200, json={"action": "filter"} | body)
    return found


def names(site: Site, **body: Any) -> set[str]:
    """Search, check that the count agrees, and return the names of what is found."""
    found = search(site, **body)
    assert site.call("POST", SEARCH, 200, json=body | {"action": "count"}) == {"total_count": found["total_count"]}
    assert len(found["resources"]) == found["total_count"]
    return {resource["resource_name"] for resource in found["resources"]}


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site with volumes that have tags, which no test changes: those that try to must leave it as it was."""
    with running_site(tmp_path_factory.mktemp("tagged")) as site:
        make(site, name="db_data", tags={"env": "prod", "team": "db"})
        make(site, name="db_log", tags={"env": "prod", "team": "ops", "empty": ""})
        make(site, name="Web", tags={"env": "test"}, multiattach=True)
        make(site, name="")
        yield site


class TestTags:
    def test_they_are_added_replaced_listed_and_removed(self, site: Site) -> None:
        """A key that is there gets the new value; one that is not there may be removed; the list is an object."""
        volume_id = make(site, tags={"env": "prod"})

        act(site, volume_id, "create", {"key": "env", "value": "test"}, {"key": "owner", "value": ""})
        assert tags_of(site, volume_id) == {"env": "test", "owner": ""}
        other = make(site, tags={"env": "prod"})
        assert site.call("GET", "/v2/{p}/cloudvolumes/tags", 200) == {
            "tags": {"env": ["prod", "test"], "owner": [""]}
        }

        act(site, volume_id, "delete", {"key": "env", "value": "unlike"}, {"key": "owner"}, {"key": "absent"})
        assert tags_of(site, volume_id) == {}
        assert tags_of(site, other) == {"env": "prod"}

    @pytest.mark.parametrize(
        ("body", "code", "words"),
        [
            ({}, "EVS.5400", "action"),
            ({"action": "update", "tags": []}, "EVS.5400", "'create', 'delete'"),
            ({"action": "create"}, "EVS.1062", "tags: field required"),
            ({"action": "create", "tags": "k"}, "EVS.1062", "tags: "),
            ({"action": "create", "tags": [{"key": "k"}]}, "EVS.1062", "tags.0.value: field required"),
            ({"action": "create", "tags": [{"key": "a b", "value": ""}]}, "EVS.1062", "'a b'"),
            ({"action": "create", "tags": [{"key": "k", "value": "v" * 44}]}, "EVS.1062", "at most 43 characters"),
            ({"action": "create", "tags": [{"key": "k", "value": "v"}] * 2}, "EVS.1062", "names the key k twice"),
            (
                {"action": "create", "tags": [{"key": f"k{number}", "value": ""} for number in range(20)]},
                "EVS.1061",
                "at most 20 tags, not 21",
            ),
            ({"action": "delete", "tags": [{"value": "v"}]}, "EVS.1062", "tags.0.key: field required"),
            ({"action": "delete", "tags": [{"key": "k"}] * 21}, "EVS.1062", "at most 20 items"),
        ],
    )
    def test_wrong_tags_are_refused(self, tagged: Site, body: Any, code: str, words: str) -> None:
        """400 with the documented code and a message with field and limit; not one of the tags is changed."""
        [found] = search(tagged, matches=[{"key": "resource_name", "value": "web"}])["resources"]

        assert words in refused(tagged, f"{path(found['resource_id'])}/action", 400, code, body)
        assert tags_of(tagged, found["resource_id"]) == {"env": "test"}

    def test_those_of_a_volume_that_is_going_stay(self, site: Site) -> None:
        """They are forgotten with it; a tag that came between would belong to nobody."""
        volume_id = make(site, tags={"env": "prod"})
        with site.database.writing() as session:
            session.get_one(Volume, volume_id).status = "deleting"

        for body in ({"action": "create", "tags": [{"key": "k", "value": ""}]}, {"action": "delete", "tags": []}):
            words = f"volume {volume_id} is deleting; this needs "
            assert words in refused(site, f"{path(volume_id)}/action", 400, "EVS.5400", body)
        assert tags_of(site, volume_id) == {"env": "prod"}

    def test_a_foreign_volume_is_as_an_unknown_one(self, site: Site) -> None:
        """Neither tags nor volumes of another tenant are seen, changed or counted; a malformed id is EVS.1002."""
        foreign, other = make(site, name="ours", tags={"env": "prod"}), site.second_tenant()
        body = {"action": "create", "tags": [{"key": "env", "value": "x"}]}

        for volume_id, status, code in (
            (foreign, 404, "EVS.5404"),
            (UNKNOWN, 404, "EVS.5404"),
            ("x", 400, "EVS.1002"),
        ):
            for answer in (
                other.call("GET", path(volume_id), status),
                other.call("POST", f"{path(volume_id)}/action", status, json=body),
                other.call("POST", f"{path(volume_id)}/action", status, json={"action": "delete", "tags": []}),
            ):
                assert answer["error"]["code"] == code
                if status == 404:
                    assert answer["error"]["message"] == f"volume {volume_id} does not exist"
        assert tags_of(site, foreign) == {"env": "prod"}
        assert other.call("GET", "/v2/{p}/cloudvolumes/tags", 200) == {"tags": {}}
        assert other.call("POST", SEARCH, 200, json={"action": "count"}) == {"total_count": 0}
        assert other.call("POST", SEARCH, 200, json={"action": "filter"}) == {"total_count": 0, "resources": []}


class TestSearch:
    @pytest.mark.parametrize(
        ("body", "found"),
        [
            ({}, {"db_data", "db_log", "Web", ""}),
            ({"tags": [], "matches": []}, {"db_data", "db_log", "Web", ""}),
            ({"tags": [{"key": "env", "values": []}]}, {"db_data", "db_log", "Web"}),
            ({"tags": [{"key": "env"}]}, {"db_data", "db_log", "Web"}),
            ({"tags": [{"key": "env", "values": ["prod", "stage"]}]}, {"db_data", "db_log"}),
            ({"tags": [{"key": "env", "values": ["prod", "test"]}]}, {"db_data", "db_log", "Web"}),
            ({"tags": [{"key": "env", "values": ["prod"]}, {"key": "team", "values": ["ops"]}]}, {"db_log"}),
            ({"tags": [{"key": "env", "values": ["test"]}, {"key": "team", "values": []}]}, set()),
            ({"tags": [{"key": "empty", "values": [""]}]}, {"db_log"}),
            ({"tags": [{"key": f"k{number}"} for number in range(10)]}, set()),
            ({"matches": [{"key": "resource_name", "value": "DB"}]}, {"db_data", "db_log"}),
            ({"matches": [{"key": "resource_name", "value": " we "}]}, {"Web"}),
            ({"matches": [{"key": "resource_name", "value": "b_"}]}, {"db_data", "db_log"}),
            ({"matches": [{"key": "resource_name", "value": "%"}]}, set()),
            ({"matches": [{"key": "resource_name", "value": ""}]}, {""}),
            ({"matches": [{"key": "service_type", "value": "EVS"}]}, {"db_data", "db_log", "Web", ""}),
            ({"matches": [{"key": "service_type", "value": "DSS"}]}, set()),
            (
                {
                    "tags": [{"key": "env", "values": ["prod"]}],
                    "matches": [{"key": "resource_name", "value": "log"}, {"key": "service_type", "value": "EVS"}],
                },
                {"db_log"},
            ),
        ],
    )
    def test_keys_are_and_values_are_or(self, tagged: Site, body: dict[str, Any], found: set[str]) -> None:
        """All keys, one of each key's values or any; a name is a part of names, literally, an empty one itself."""
        assert names(tagged, **body) == found

    def test_pages_hold_each_volume_once(self, tagged: Site) -> None:
        """The newest first; numbers as text are taken too; the total does not depend on the page."""
        seen = []
        for offset in range(4):
            page = search(tagged, limit="1", offset=str(offset))
            assert page["total_count"] == 4
            seen += [resource["resource_name"] for resource in page["resources"]]
        assert seen == ["", "Web", "db_log", "db_data"]
        assert [found["resource_name"] for found in search(tagged, limit=2, offset=1)["resources"]] == [
            "Web",
            "db_log",
        ]
        assert search(tagged, limit=1000, offset=4)["resources"] == []
        assert tagged.call("POST", SEARCH, 200, json={"action": "count", "limit": 1, "offset": 3}) == {
            "total_count": 4
        }

    def test_a_volume_is_shown_with_its_tags(self, tagged: Site) -> None:
        """The detail is the volume as the list shows it, but for `shareable`, which is a boolean here alone."""
        [found] = search(tagged, matches=[{"key": "resource_name", "value": "web"}])["resources"]

        listed = tagged.call("GET", "/v2/{p}/cloudvolumes/detail", 200, params={"name": "Web"})["volumes"][0]
        assert found == {
            "resource_id": listed["id"],
            "resource_name": "Web",
            "resource_detail": listed | {"shareable": True},
            "tags": [{"key": "env", "value": "test"}],
        }
        assert listed["shareable"] == "true"

    @pytest.mark.parametrize(
        ("body", "code", "words"),
        [
            ({"action": "find"}, "EVS.5400", "action: input should be 'filter' or 'count'"),
            ({"action": None}, "EVS.5400", "action: "),
            ({"limit": 0}, "EVS.1023", "limit: "),
            ({"limit": "1001"}, "EVS.1023", "limit: "),
            ({"limit": "ten"}, "EVS.1023", "limit: "),
            ({"limit": "9" * 5000}, "EVS.1023", "limit: "),
            ({"offset": "-1"}, "EVS.5400", "offset: "),
            ({"tags": [{"key": f"k{number}"} for number in range(11)]}, "EVS.1061", "must be at most 10, are 11"),
            ({"tags": [{"key": "k"}, {"key": "k"}]}, "EVS.1062", "tags: names k twice"),
            ({"tags": [{"key": "a b"}]}, "EVS.1062", "'a b'"),
            ({"tags": [{"values": []}]}, "EVS.1062", "tags.0.key: field required"),
            (
                {"tags": [{"key": "k", "values": [f"v{number}" for number in range(11)]}]},
                "EVS.1061",
                "tags.0.values: must be at most 10, are 11",
            ),
            ({"tags": [{"key": "k", "values": ["v", "v"]}]}, "EVS.1062", "tags.0.values: names v twice"),
            ({"matches": [{"key": "size", "value": "1"}]}, "EVS.5400", "'resource_name' or 'service_type'"),
            ({"matches": [{"key": "resource_name", "value": "x"}] * 2}, "EVS.1062", "names resource_name twice"),
            ({"matches": [{"key": "resource_name", "value": "x" * 256}]}, "EVS.5400", "255"),
            ({"matches": [{"key": "resource_name", "value": "a\0b"}]}, "EVS.5400", "matches.0.value: "),
        ],
    )
    def test_a_wrong_search_is_refused(self, tagged: Site, body: dict[str, Any], code: str, words: str) -> None:
        """400 with the documented code, naming field, value and limit."""
        assert words in refused(tagged, SEARCH, 400, code, {"action": "filter"} | body)


class TestSdk:
    def test_tags_are_changed_listed_and_searched(self, site: Site) -> None:
        """The vendor's client finds what it tagged, reads every answer, and counts what it finds."""
        client, volume_id = evs_client(site.credentials), make(site, name="data", multiattach=True)
        added = evs.BatchCreateVolumeTagsRequestBody(action="create", tags=[evs.Tag("env", "prod"), evs.Tag("k", "")])
        client.batch_create_volume_tags(evs.BatchCreateVolumeTagsRequest(volume_id=volume_id, body=added))
        removed = evs.BatchDeleteVolumeTagsRequestBody(action="delete", tags=[evs.DeleteTagsOption(key="k")])
        client.batch_delete_volume_tags(evs.BatchDeleteVolumeTagsRequest(volume_id=volume_id, body=removed))

        of_volume = client.show_volume_tags(evs.ShowVolumeTagsRequest(volume_id=volume_id)).tags
        assert [(tag.key, tag.value) for tag in of_volume] == [("env", "prod")]
        assert client.list_volume_tags(evs.ListVolumeTagsRequest()).tags == {"env": ["prod"]}
        wanted = evs.ListVolumesByTagsRequestBody(
            action="filter",
            tags=[evs.TagsForListVolumes("env", ["prod"])],
            matches=[evs.Match("resource_name", "dat")],
            limit=10,
            offset=0,
        )
        found = client.list_volumes_by_tags(evs.ListVolumesByTagsRequest(body=wanted))
        assert (found.total_count, [resource.resource_id for resource in found.resources]) == (1, [volume_id])
        detail = found.resources[0].resource_detail
        assert (detail.name, detail.size, detail.shareable, detail.tags) == ("data", 10, True, {"env": "prod"})
