"""Run migrations on the connection that the service (or Alembic's command line) gives."""

from alembic import context
from sqlalchemy import Connection, create_engine

from onecut.db import (  # noqa: F401 - fills the metadata
    archives,
    client_tokens,
    deleted_rows,
    identity,
    images,
    jobs,
    layers,
    policies,
    quotas,
    recycle_bin,
    servers,
    snapshots,
    tags,
    transfers,
    volumes,
)
from onecut.db.schema import Base


def _run(connection: Connection) -> None:
    # SQLite can't alter a column in place; batch mode copies the table instead.
    context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


if (given := context.config.attributes.get("connection")) is not None:
    _run(given)
else:
    with create_engine(context.config.get_main_option("sqlalchemy.url", "")).connect() as own:
        _run(own)
