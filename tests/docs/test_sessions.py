"""The sessions that the pages show work: each command in a block with `$` is run, page by page, on real disks."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onecut.cli.throwaway import throwaway_service

DOCS = Path(__file__).parents[2] / "docs"
SESSION_LIMIT_S = 50

SHOWN = re.compile(r"^\$ (.*(?:\\\n.*)*)$|^(.+)$", re.MULTILINE)


PAGES = [path for path in sorted(DOCS.rglob("*.md")) if "```console\n" in path.read_text()]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder to work in, beside a service of its own."""
    with throwaway_service() as api:
        tmp_path.joinpath("onecut-data").symlink_to(api.credentials_path.parent)
        yield tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_session_runs_as_it_is_shown(path: Path, folder: Path, page: Any) -> None:
    """Each command succeeds in the order of the page, and what it is shown to print is among what it prints."""
    shown = [line for block in page(path.as_posix()).blocks("console") for line in SHOWN.findall(block)]
    commands, expected = [found[0] for found in shown if found[0]], [found[1] for found in shown if found[1]]

    ran = subprocess.run(
        ["bash", "-ec", "\n".join(commands)],
        cwd=folder,
        env={
            **os.environ,
            "ONECUT_DATA": str(folder / "onecut-data"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        capture_output=True,
        text=True,
        timeout=SESSION_LIMIT_S,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert [line for line in expected if line not in ran.stdout.splitlines()] == []
