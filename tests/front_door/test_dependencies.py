"""What we build on is declared once, explained once, and locked."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


@pytest.fixture
def declared() -> list[Requirement]:
    """Every requirement that pyproject.toml declares."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    names = [
        *pyproject["build-system"]["requires"],
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
    ]
    return [Requirement(name) for name in names]


def test_every_dependency_is_locked_at_a_version_it_allows(declared: list[Requirement]) -> None:
    """A checkout installs what pyproject.toml asks for: nothing was declared without `make lock`."""
    locked = dict(
        line.split("==")
        for lock in ("requirements.lock", "requirements-dev.lock")
        for line in (ROOT / lock).read_text().splitlines()
        if "==" in line
    )

    unmet = [
        str(requirement)
        for requirement in declared
        if not requirement.specifier.contains(locked.get(requirement.name.replace(".", "-"), "0"))
    ]

    assert unmet == []


def test_every_dependency_has_its_reason(declared: list[Requirement]) -> None:
    """The decision page has one row per dependency, and none for a package that is gone."""
    page = (ROOT / "docs/decisions/0001-dependencies.md").read_text().split("## System packages")[0]

    explained = re.findall(r"^\| `(\S+)` \|", page, re.MULTILINE)

    assert sorted(explained) == sorted(requirement.name for requirement in declared)


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://index.example/simple",
        "--find-links /opt/wheels",
        "rich @ file:///opt/wheels/rich-15.0.0-py3-none-any.whl",
        "rich>=15",
        "rich==15.*",
        "-e .",
        "# from https://index.example/simple",
    ],
)
def test_a_lock_file_with_more_than_names_and_versions_fails_the_check(tmp_path: Path, line: str) -> None:
    """Neither an address, nor a path, nor an open version gets into a lock file unnoticed."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    (tmp_path / "requirements.lock").write_text("click==8.5.1\n")
    (tmp_path / "requirements-dev.lock").write_text("pytest==9.2.0\n")
    check = [tmp_path / "scripts" / "check-locks"]
    before = subprocess.run(check, check=False, capture_output=True)
    (tmp_path / "requirements.lock").write_text(f"click==8.5.1\n{line}\n")

    after = subprocess.run(check, check=False, capture_output=True, text=True)

    assert before.returncode == 0
    assert after.returncode == 1
    assert f"requirements.lock:2:{line}" in after.stdout
