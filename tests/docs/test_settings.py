"""The settings page names every setting, with the name, the default and the meaning that the code has."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onecut.config import Settings


def _default(value: Any) -> str:
    return "" if value is None else json.dumps(value, default=str)


def test_every_setting_stands_on_its_page(page: Callable[[str], Any]) -> None:
    """Key, variable, default and the beginning of the meaning are those of `Settings`, in its order."""
    told = [row[:3] for row in page("docs/reference/settings.md").section("## All settings").rows()]

    known = [
        [name, f"ONECUT_{name.upper()}", _default(field.default)] for name, field in Settings.model_fields.items()
    ]

    assert told == known


def test_the_example_file_is_a_file_that_the_service_takes(
    page: Callable[[str], Any], tmp_path: Path, monkeypatch: Any
) -> None:
    """The `onecut.toml` of the page is read without a complaint, and its values are taken."""
    (example,) = page("docs/reference/settings.md").blocks("toml")
    (tmp_path / "onecut.toml").write_text(example)
    monkeypatch.setenv("ONECUT_CONFIG", str(tmp_path / "onecut.toml"))

    read = Settings()

    assert read.availability_zones == ["rack1", "rack2"]
