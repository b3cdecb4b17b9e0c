"""What pages and source name exists: links, files, commands, variables, targets."""

import re
import shlex
from pathlib import Path
from typing import Any

import click

from onecut.cli.main import main
from onecut.config import Settings

ROOT = Path(__file__).parents[2]

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(r"`((?:src|docs|tests|scripts|bench|\.ci)/[\w./-]*)`")
PAGE_IN_SOURCE = re.compile(r"\b(?:docs/[\w/-]+|ARCHITECTURE|CONTRIBUTING|README)\.md\b")
VARIABLE = re.compile(r"\bONECUT_[A-Z_]+[A-Z]\b")
MAKE = re.compile(r"`make ([a-z]+)`|^\$? ?make ([a-z]+)", re.MULTILINE)
COMMAND = re.compile(r"`(onecut [^`]+)`")
SHELL_COMMAND = re.compile(
    r"(?:^|[$!;|] |&&? |\$\(|=\S* )(?:\S*/bin/)?(onecut (?:[^;&|)>#\"\n]|\"[^\"]*\")+)", re.MULTILINE
)
"""Where a shell takes `onecut` for a command, not for a user's name."""

CLIENT_VARIABLES = {"ONECUT_CREDENTIALS", "ONECUT_CONFIG"}


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def complaint(words: list[str]) -> str | None:
    """Say what is wrong with a command line of ours; None when the program has all of it."""
    group: click.Command = main
    context = click.Context(main)
    rest = list(words)
    while isinstance(group, click.Group) and rest and not rest[0].startswith("-"):
        if rest[0].isupper():  # a placeholder
            return None
        found = group.get_command(context, rest[0])
        if found is None:
            return f"there is no {rest[0]!r} in {group.name}"
        group = found
        rest.pop(0)
    known = {name for found in [*group.params, *main.params] for name in [*found.opts, *found.secondary_opts]}
    unknown = [word for word in rest if word.startswith("--") and word.split("=")[0] not in {*known, "--help"}]
    return f"{group.name} has no {', '.join(unknown)}" if unknown else None


def test_every_link_leads_somewhere(pages: list[Any]) -> None:
    """A relative link names a file that is there, and a heading that it has."""
    dead = []
    for page in pages:
        for link in LINK.findall(page.text):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (page.path.parent / name).resolve() if name else page.path
            if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
                dead.append(f"{page.path.relative_to(ROOT)}: {link}")

    assert dead == []


def test_every_page_can_be_found_from_the_index(pages: list[Any]) -> None:
    """Each page under docs is linked from `docs/index.md`, a decision from the page of the decisions."""
    linked = {
        (index.parent / link.split("#")[0]).resolve()
        for index in (ROOT / "docs" / "index.md", ROOT / "docs" / "decisions" / "README.md")
        for link in LINK.findall(index.read_text())
    }

    below_docs = {page.path for page in pages if page.path.is_relative_to(ROOT / "docs")}

    assert sorted(below_docs - linked - {ROOT / "docs" / "index.md"}) == []


def test_every_file_named_exists(pages: list[Any]) -> None:
    """A path of ours in code marks is one of the repository."""
    named = {(page.path.name, path) for page in pages for path in PATH.findall(page.text)}

    assert sorted(f"{page}: {path}" for page, path in named if not (ROOT / path).exists()) == []


def test_every_page_that_the_source_names_exists() -> None:
    """A comment or a message that sends the reader to a page sends them to one that is there."""
    sources = [ROOT / "pyproject.toml", ROOT / "Makefile", *(ROOT / "src").rglob("*.py"), *ROOT.glob("scripts/*")]
    named = {(path.name, page) for path in sources for page in PAGE_IN_SOURCE.findall(path.read_text())}

    assert named
    assert sorted(f"{source}: {page}" for source, page in named if not (ROOT / page).exists()) == []


def test_every_command_named_exists(pages: list[Any]) -> None:
    """`onecut` lines in code marks and in shell blocks name commands and options that the program has."""
    lines = {
        (page.path.name, line.strip())
        for page in pages
        for line in [
            *COMMAND.findall(page.text),
            *(found for language in ("console", "sh") for code in page.blocks(language)
              for found in SHELL_COMMAND.findall(code)),
        ]
    }  # fmt: skip

    wrong = [(page, line, complaint(shlex.split(line)[1:])) for page, line in sorted(lines)]

    assert lines
    assert [found for found in wrong if found[2] is not None] == []


def test_every_variable_named_exists(pages: list[Any]) -> None:
    """An `ONECUT_` variable on a page is a setting, or one that the client reads."""
    known = {f"ONECUT_{name.upper()}" for name in Settings.model_fields} | CLIENT_VARIABLES
    named = {(page.path.name, variable) for page in pages for variable in VARIABLE.findall(page.text)}

    assert sorted(found for found in named if found[1] not in known) == []


def test_every_target_of_make_named_exists(pages: list[Any]) -> None:
    """`make x` on a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {(page.path.name, first or second) for page in pages for first, second in MAKE.findall(page.text)}

    assert named
    assert sorted(found for found in named if found[1] not in targets) == []
