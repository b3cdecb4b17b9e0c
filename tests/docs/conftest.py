"""The documentation as tests read it: pages, their tables and their code blocks."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """One Markdown page."""

    path: Path
    text: str

    def section(self, heading: str) -> "Page":
        """Return the part below a heading, up to the next one of the same or a higher level."""
        level = heading.split(maxsplit=1)[0]
        _, found, rest = f"\n{self.text}".partition(f"\n{heading}\n")
        assert found, f"{self.path} has no heading {heading!r}"
        return Page(self.path, re.split(rf"\n#{{1,{len(level)}}} ", rest)[0])

    def rows(self) -> list[list[str]]:
        """Return the cells of every table's rows, without the heads; code marks are taken off."""
        lines = self.text.splitlines()
        heads = {number for number, line in enumerate(lines[1:]) if re.fullmatch(r"\|( -+ \|)+", line)}
        return [
            [_plain(cell) for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for number, line in enumerate(lines)
            if line.startswith("|") and number not in heads and number - 1 not in heads
        ]

    def blocks(self, language: str) -> list[str]:
        """Return the code blocks of a language."""
        return [code for found, code in _FENCE.findall(self.text) if found == language]


def _plain(cell: str) -> str:
    cell = cell.strip().replace("\\|", "|")
    whole = re.fullmatch(r"`([^`]*)`", cell)
    return whole[1] if whole else cell


@pytest.fixture
def page() -> Callable[[str], Page]:
    """Read a page by its path in the repository."""

    def read(path: str) -> Page:
        return Page(ROOT / path, (ROOT / path).read_text())

    return read


@pytest.fixture
def pages() -> list[Page]:
    """Read every page of the repository."""
    paths = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    return [Page(path, path.read_text()) for path in sorted(paths)]
