"""
Keep what snapshots are archived as.

May run beside the release before it, 0.1.0: what that one does not know of has a default or may be absent.

Snapshots that are there already have their points in the engine, and stay there: they have no row in `archive`.
"""

import sqlalchemy as sa
from alembic import op

import onecut.db.schema

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    op.create_table(
        "snapshot_chain",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("availability_zone", sa.String(length=64), nullable=False),
        sa.Column("category", sa.String(length=16), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("updated_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_snapshot_chain_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_chain")),
    )
    with op.batch_alter_table("snapshot_chain", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_snapshot_chain_project_id_created_at_id"), ["project_id", "created_at", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_snapshot_chain_volume_id"), ["volume_id"], unique=False)

    op.create_table(
        "archive",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("snapshot_id", sa.String(length=36), nullable=False),
        sa.Column("chain_id", sa.String(length=36), nullable=True),
        sa.Column("run_id", sa.String(length=32), nullable=True),
        sa.Column("base_id", sa.String(length=36), nullable=True),
        sa.Column("full_because", sa.Text(), nullable=True),
        sa.Column("archived_at", onecut.db.schema.UtcDateTime(), nullable=True),
        sa.Column("root", sa.String(length=64), nullable=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=True),
        sa.Column("freed_bytes", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["chain_id"], ["snapshot_chain.id"], name=op.f("fk_archive_chain_id")),
        sa.ForeignKeyConstraint(["snapshot_id"], ["snapshot.id"], name=op.f("fk_archive_snapshot_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archive")),
        sa.UniqueConstraint("snapshot_id", name=op.f("uq_archive_snapshot_id")),
    )
    with op.batch_alter_table("archive", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_archive_chain_id"), ["chain_id"], unique=False)

    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.add_column(sa.Column("point", sa.String(length=8), nullable=False, server_default="none"))
        batch_op.add_column(sa.Column("fault", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("retention_at", onecut.db.schema.UtcDateTime(), nullable=True))
        batch_op.add_column(sa.Column("instant_access_retention_at", onecut.db.schema.UtcDateTime(), nullable=True))
        batch_op.create_index(
            batch_op.f("ix_snapshot_instant_access_retention_at"), ["instant_access_retention_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_snapshot_retention_at"), ["retention_at"], unique=False)

    op.execute(
        "UPDATE snapshot SET point = 'held' "
        "WHERE status IN ('available', 'rollbacking', 'deleting', 'error_deleting')"
    )

    with op.batch_alter_table("snapshot_group", schema=None) as batch_op:
        batch_op.add_column(sa.Column("digest", sa.String(length=64), nullable=True))


def downgrade() -> None:
    """Move the schema back."""
    with op.batch_alter_table("snapshot_group", schema=None) as batch_op:
        batch_op.drop_column("digest")

    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_snapshot_retention_at"))
        batch_op.drop_index(batch_op.f("ix_snapshot_instant_access_retention_at"))
        batch_op.drop_column("instant_access_retention_at")
        batch_op.drop_column("retention_at")
        batch_op.drop_column("fault")
        batch_op.drop_column("point")

    with op.batch_alter_table("archive", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_archive_chain_id"))

    op.drop_table("archive")
    with op.batch_alter_table("snapshot_chain", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_snapshot_chain_volume_id"))
        batch_op.drop_index(batch_op.f("ix_snapshot_chain_project_id_created_at_id"))

    op.drop_table("snapshot_chain")
