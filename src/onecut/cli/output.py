"""How commands answer: a table for people, JSON for programs."""

import json
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

WIDEST = 1000
"""Characters; wider than any table here."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print the API's JSON instead of a table.")


def show(answer: Any, rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:  # noqa: ANN401 - JSON
    """Print *answer* as JSON, or the *columns* of *rows* as a table (the full width of each value)."""
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    # Ids are there to be copied: a table may be wider than the terminal, but cuts nothing off.
    Console(width=WIDEST).print(table)


def show_one(answer: Any, fields: dict[str, Any], *, as_json: bool) -> None:  # noqa: ANN401 - JSON
    """Print *answer* as JSON, or *fields* one to a line."""
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    width = max(map(len, fields))
    for name, value in fields.items():
        click.echo(f"{name:{width}}  {_cell(value)}")


def _cell(value: Any) -> str:  # noqa: ANN401 - JSON
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return str(value)
