"""The front door: every target is explained, and a machine that lacks something is told what."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_help_explains_every_target() -> None:
    """`make help` lists all targets, each with at least one sentence."""
    targets = re.findall(r"^\.PHONY: (\w+)", (ROOT / "Makefile").read_text(), re.MULTILINE)

    text = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert targets
    assert re.findall(r"^make (\w+)\n    [A-Z].*", text, re.MULTILINE) == targets


DEV_PACKAGES = "qemu-system-common qemu-utils qemu-block-extra btrfs-progs fio libnbd-bin nbdkit postgresql"


@pytest.mark.parametrize(
    ("level", "packages"),
    [
        ("run", "qemu-system-common qemu-utils qemu-block-extra"),
        ("dev", DEV_PACKAGES),
        ("bench", f"{DEV_PACKAGES} restic borgbackup"),
    ],
)
def test_a_machine_without_apt_get_is_told_what_to_install(tmp_path: Path, level: str, packages: str) -> None:
    """Where set-up can't install system packages it names them all in one sentence, and touches nothing."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "flock"):
        (tools / name).symlink_to(str(shutil.which(name)))
    checkout = tmp_path / "onecut"
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    python = str(ROOT / ".venv" / "bin" / "python")

    run = subprocess.run(
        [tools / "bash", checkout / "scripts" / "setup", level],
        env={"PATH": str(tools), "PYTHON": python, "POSTGRESQL_FOLDER": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
    )

    assert run.returncode == 1
    assert run.stderr == f"onecut: this machine has no apt-get; install what Debian calls: {packages}\n"
    assert [path.name for path in checkout.iterdir()] == ["scripts"]
