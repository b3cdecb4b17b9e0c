"""``python -m bench.memory_service``: the service as it is served, but with volumes that are kept in memory."""

from pathlib import Path

import click

from onecut.cli.serve import run
from onecut.cli.settings import load_settings
from onecut.engine.memory import MemoryEngine

NO_LIMIT = -1


@click.command()
@click.option("--listen", required=True)
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True)
def main(listen: str, data: Path) -> None:
    """Run it in the foreground; the database, its jobs and the repository are on disk."""
    quotas = {"quota_volumes": NO_LIMIT, "quota_gigabytes": NO_LIMIT}
    settings = load_settings(listen=listen, data=data).model_copy(update=quotas)
    run(settings, make_engine=lambda _settings, _database, clock: MemoryEngine(clock=clock))


if __name__ == "__main__":
    main()
