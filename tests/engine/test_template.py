"""Overlays that are copied instead of made by QEMU."""

import subprocess
from pathlib import Path

import pytest

from onecut.engine.template import Template

FIRST, OTHER = f"{1:024x}.qcow2", f"{2:024x}.qcow2"


def make_layer(path: Path, size: str, *, below: str = "") -> None:
    options = "extended_l2=on,cluster_size=128k" + (f",backing_file={below},backing_fmt=qcow2" if below else "")
    subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-o", options, path, size], check=True)


@pytest.mark.parametrize("size", ["1G", "10G", "32T"])
def test_a_copy_is_what_qemu_would_have_made(tmp_path: Path, size: str) -> None:
    """A copy that stands on another layer is, byte for byte, the overlay that QEMU makes for that layer."""
    make_layer(tmp_path / "first", size, below=FIRST)
    make_layer(tmp_path / "expected", size, below=OTHER)
    (tmp_path / "copy").touch()

    Template.read(tmp_path / "first").copy(tmp_path / "copy", OTHER)

    assert (tmp_path / "copy").read_bytes() == (tmp_path / "expected").read_bytes()


@pytest.mark.parametrize("size", ["1G", "10G", "32T"])
def test_a_copy_that_stands_on_nothing_is_what_qemu_would_have_made(tmp_path: Path, size: str) -> None:
    """So is a copy of a layer that stands on no other one."""
    make_layer(tmp_path / "first", size)
    (tmp_path / "copy").touch()
    template = Template.read(tmp_path / "first")

    assert template.fits("")
    template.copy(tmp_path / "copy", "")

    assert (tmp_path / "copy").read_bytes() == (tmp_path / "first").read_bytes()


def test_a_copy_takes_little_space(tmp_path: Path) -> None:
    """What is zero in an empty overlay takes no space in its copies."""
    make_layer(tmp_path / "first", "10G", below=FIRST)
    (tmp_path / "copy").touch()

    Template.read(tmp_path / "first").copy(tmp_path / "copy", OTHER)

    assert (tmp_path / "copy").stat().st_blocks * 512 <= 64 << 10


def test_a_name_of_another_length_does_not_fit(tmp_path: Path) -> None:
    """A name that would not take exactly the place of the old one is not written over it."""
    make_layer(tmp_path / "first", "1G", below=FIRST)
    template = Template.read(tmp_path / "first")

    assert template.fits(OTHER)
    assert not template.fits("short.qcow2")
    assert not template.fits("")
