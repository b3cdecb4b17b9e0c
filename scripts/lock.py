"""
Resolve pyproject.toml anew and write requirements.lock and requirements-dev.lock.

pip itself resolves, without installing anything, and reports what it would install. Only names and versions are taken
from its report, so a lock file tells nothing about where the packages came from. requirements-dev.lock holds what the
`dev` extra adds; what both need has one version, because the second resolution is constrained by the first.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNTIME_LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"


def main() -> None:
    """Write both lock files."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    # The build backend is locked too: the project is installed without build isolation.
    runtime = [*pyproject["build-system"]["requires"], *pyproject["project"]["dependencies"]]
    dev = pyproject["project"]["optional-dependencies"]["dev"]

    runtime_pins = resolve(runtime)
    write(RUNTIME_LOCK, "What Onecut runs with", runtime_pins)
    added = resolve([*runtime, *dev, *runtime_pins]) - runtime_pins
    write(DEV_LOCK, "What tests, checks and benchmarks need besides requirements.lock", added)


def resolve(requirements: list[str] | set[str]) -> set[str]:
    """Return `name==version` of every distribution that *requirements* lead to."""
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--dry-run"]
        command += ["--ignore-installed", "--report", report.name, *requirements]
        subprocess.run(command, check=True)
        installs = json.load(report)["install"]
    return {f"{normal(item['metadata']['name'])}=={item['metadata']['version']}" for item in installs}


def normal(name: str) -> str:
    """Spell a distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def write(lock: Path, title: str, pins: set[str]) -> None:
    """Write *pins* to *lock*, one a line, in order of their names."""
    header = f"# {title}: every package, exact versions, for Python 3.11 on Linux. Written by `make lock`.\n"
    lock.write_text(header + "".join(f"{pin}\n" for pin in sorted(pins)))


if __name__ == "__main__":
    main()
