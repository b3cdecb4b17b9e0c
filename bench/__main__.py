"""``make bench``: measure what the README claims, as ratios within one run; print a table, write JSON."""

import json
import platform
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench import api, archives, changes, cuts, deletions, latency, lists, memory, restores, writes
from bench.result import Result

SECTIONS = {
    "cuts": cuts.measure,
    "writes": writes.measure,
    "lists": lists.measure,
    "api": api.measure,
    "archives": archives.measure,
    "changes": changes.measure,
    "restores": restores.measure,
    "deletions": deletions.measure,
    "memory": memory.measure,
    "latency": latency.measure,
}


@click.command()
@click.argument("sections", nargs=-1, type=click.Choice(sorted(SECTIONS)))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), default=Path("bench/results.json"))
def main(sections: tuple[str, ...], output: Path) -> None:
    """Run the SECTIONS named, or all of them."""
    results = list(_measured(sections or tuple(SECTIONS)))
    _print(results)
    facts = {"at": datetime.now(UTC).isoformat(), "kernel": platform.release(), "python": platform.python_version()}
    output.write_text(json.dumps(facts | {"results": [result.to_json() for result in results]}, indent=2) + "\n")


def _measured(names: Sequence[str]) -> Iterator[Result]:
    """Measure section by section, and tell each figure as it comes: all of them take some twenty minutes."""
    console = Console(stderr=True)
    for number, name in enumerate(names, 1):
        with console.status(f"measuring {name} ({number} of {len(names)})"):
            for result in SECTIONS[name]():
                console.print(f"{result.what}: {result.figure:.3g} ({result.bar})", highlight=False)
                yield result


def _print(results: list[Result]) -> None:
    table = Table("what", "ours", "measured against", "figure", "bar", "met")
    for result in results:
        met = "[green]yes[/green]" if result.met else "[red]no[/red]"
        table.add_row(result.what, result.ours, result.against, f"{result.figure:.3g}", result.bar, met)
    Console().print(table)


main(prog_name="bench")
