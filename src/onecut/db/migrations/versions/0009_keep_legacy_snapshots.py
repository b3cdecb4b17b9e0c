"""
Keep legacy snapshots, and which volumes a system can be started from.

May run beside the release before it, 0.1.0: what that one does not know of has a default or may be absent.

A legacy snapshot's name and description may be longer than other snapshots' were. SQLite heeds no lengths, and could
change a column only by making the table anew, so only PostgreSQL's columns are widened.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

LENGTHS = {"name": 64, "description": 85}
"""Columns that are widened to 255, and how long they were."""


def upgrade() -> None:
    """Move the schema forwards."""
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.add_column(sa.Column("legacy", sa.Boolean(), nullable=False, server_default=sa.false()))
        batch_op.add_column(sa.Column("metadata", sa.JSON(), nullable=False, server_default="{}"))
        batch_op.create_index(
            "ix_snapshot_legacy_project_id_created_at_id",
            ["project_id", "created_at", "id"],
            unique=False,
            sqlite_where=sa.text("legacy = 1"),
            postgresql_where=sa.text("legacy"),
        )
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.add_column(sa.Column("bootable", sa.Boolean(), nullable=False, server_default=sa.false()))
    if op.get_context().dialect.name != "sqlite":
        for column in LENGTHS:
            op.alter_column("snapshot", column, type_=sa.String(length=255))


def downgrade() -> None:
    """Move the schema back."""
    if op.get_context().dialect.name != "sqlite":
        for column, length in LENGTHS.items():
            op.alter_column("snapshot", column, type_=sa.String(length=length))
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.drop_column("bootable")
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.drop_index("ix_snapshot_legacy_project_id_created_at_id")
        batch_op.drop_column("metadata")
        batch_op.drop_column("legacy")
