"""The errors page has every code that can be answered, and no other."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

CODE = re.compile(r"\b(?:EVS|APIGW|Common|Ecs)\.\d{4}\b")


def test_every_code_in_the_source_is_explained(page: Callable[[str], Any]) -> None:
    """The codes of the table are those of the source, each once and in order."""
    source = Path(__file__).parents[2] / "src" / "onecut"
    used = {code for path in source.rglob("*.py") for code in CODE.findall(path.read_text())}

    told = [row[0] for row in page("docs/reference/errors.md").section("## All codes").rows()]

    assert told == sorted(used)


def test_the_examples_of_the_page_are_what_the_service_answers(page: Callable[[str], Any], site: Any) -> None:
    """The forms are shown as they come over the wire, and that of the gateway with its keys."""
    shown = [row[0] for row in page("docs/reference/errors.md").section("## The four forms").rows()]
    volume = {"size": 10, "volume_type": "SSD", "availability_zone": "az1", "count": 101}

    refused = site.client.post(f"/v2.1/{site.project_id}/cloudvolumes", json={"volume": volume})
    missing = site.client.get(f"/v3/{site.project_id}/volumes/x")
    signed_out = site.client.get("/v2/x/types", headers={"X-Auth-Token": "nobody"})

    assert refused.text.replace('":', '": ').replace(',"', ', "') == shown[0]
    assert site.client.post("/v3/auth/tokens", json={}).text.replace('":', '": ').replace(',"', ', "') == shown[1]
    assert missing.text.replace('":', '": ').replace(',"', ', "') == shown[3]
    assert list(signed_out.json()) == ["error_code", "error_msg", "request_id"]
