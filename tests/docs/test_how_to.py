"""What the how-to pages say of the metrics and of systemd."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_every_metric_is_explained(page: Callable[[str], Any], site: Any) -> None:
    """The table has the metrics that a running service prints, and their labels."""
    site.call("GET", "/v2/{p}/types", 200)
    site.done(site.call("POST", "/v1/{p}/cloudservers", 200, json={"server": {"name": "db1"}}))
    printed = site.client.get("/metrics").text
    families = set(re.findall(r"^# TYPE (\w+) ", printed, re.MULTILINE))

    rows = [row for row in page("docs/how-to/metrics.md").rows() if row[0].startswith("onecut_")]

    assert {row[0] for row in rows} == {name for name in families if not name.endswith("_created")}
    for name, labels, *_ in rows:
        shown = re.search(rf"^{name}(?:_count)?{{([^}}]*)}}", printed, re.MULTILINE)
        if shown is not None:  # no volume, snapshot or group is there
            assert set(re.findall(r"(\w+)=", shown[1])) == set(re.findall(r"\w+", labels))


def test_the_unit_keeps_the_daemon_alive(page: Callable[[str], Any]) -> None:
    """Stopping or restarting the unit, or a lack of memory, ends the service only."""
    (unit,) = page("docs/how-to/systemd.md").blocks("ini")

    assert {"KillMode=process", "OOMPolicy=continue"} <= set(unit.splitlines())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="install systemd")
def test_systemd_takes_the_unit(page: Callable[[str], Any], tmp_path: Path) -> None:
    """Every line of the unit is one that systemd knows."""
    (unit,) = page("docs/how-to/systemd.md").blocks("ini")
    path = tmp_path / "onecut.service"
    path.write_text(unit.replace("/opt/onecut/.venv/bin/onecut", sys.executable))

    verdict = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", "--man=no", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert [line for line in verdict.stderr.splitlines() if "onecut.service" in line] == []
