"""The service's settings, as commands read them that run it or work on its database."""

import click
from pydantic import ValidationError

from onecut.config import Settings


def load_settings(**given: object) -> Settings:
    """
    Read the settings; what is *given* on the command line, and not None, goes before environment and file.

    Raises:
        click.ClickException: A value is none that the setting takes.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type] # pydantic checks the values
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise click.ClickException(f"setting {name} (ONECUT_{name.upper()}): {first['msg']}") from error
