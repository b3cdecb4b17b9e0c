"""The commands page is what `onecut --help` says, command by command."""

from collections.abc import Callable, Iterator
from typing import Any

import click

from onecut.cli.main import main


def leaves(group: click.Group, path: str = "onecut") -> Iterator[tuple[str, click.Command]]:
    """Give every command that does something, with its whole name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def command_row(name: str, command: click.Command) -> list[str]:
    """Give the row of a command: name and arguments, whether it takes `--json`, what it does."""
    arguments = [
        parameter.make_metavar(click.Context(command))
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    prints_json = any(parameter.name == "as_json" for parameter in command.params)
    return [" ".join([name, *arguments]), "yes" if prints_json else "", _first_paragraph(command.help or "")]


def option_rows(name: str, command: click.Command) -> list[list[str]]:
    """Give a row for each option of a command but `--json`: command, option, meaning with the default."""
    context = click.Context(command)
    rows = []
    for option in command.params:
        if isinstance(option, click.Option) and option.name != "as_json":
            option_help, meaning = option.get_help_record(context) or ("", "")
            rows.append([name, option_help, meaning])
    return rows


def _first_paragraph(text: str) -> str:
    return " ".join(text.split("\n\n", maxsplit=1)[0].split())


def test_every_command_stands_on_its_page(page: Callable[[str], Any]) -> None:
    """Names, arguments and what they do are those of the program; no further command is promised."""
    told = page("docs/reference/commands.md").section("## Commands").rows()

    assert told == [command_row(name, command) for name, command in leaves(main)]


def test_every_option_stands_on_its_page(page: Callable[[str], Any]) -> None:
    """Options, their values, meanings and defaults are those of the program."""
    told = page("docs/reference/commands.md").section("## Options").rows()

    assert told == [row for name, command in [("onecut", main), *leaves(main)] for row in option_rows(name, command)]
