"""
Keep quotas, recycle bins and transfers.

May run beside the release before it, 0.1.0: what that one does not know of has a default or may be absent.
"""

import sqlalchemy as sa
from alembic import op

from onecut.db.schema import UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    op.create_table(
        "default_quota",
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("limit", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("resource", name=op.f("pk_default_quota")),
    )
    op.create_table(
        "project_quota",
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("resource", sa.String(length=64), nullable=False),
        sa.Column("limit", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_project_quota_project_id")),
        sa.PrimaryKeyConstraint("project_id", "resource", name=op.f("pk_project_quota")),
    )
    op.create_table(
        "recycle_policy",
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("switch", sa.Boolean(), nullable=False),
        sa.Column("threshold_days", sa.Integer(), nullable=False),
        sa.Column("keep_days", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_recycle_policy_project_id")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_recycle_policy")),
    )
    op.create_table(
        "volume_transfer",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("auth_key_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_volume_transfer_project_id")),
        sa.ForeignKeyConstraint(["volume_id"], ["volume.id"], name=op.f("fk_volume_transfer_volume_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_volume_transfer")),
        sa.UniqueConstraint("volume_id", name=op.f("uq_volume_transfer_volume_id")),
    )
    with op.batch_alter_table("volume_transfer", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_volume_transfer_project_id_created_at_id"),
            ["project_id", "created_at", "id"],
            unique=False,
        )

    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_snapshot_project_id_volume_type"), ["project_id", "volume_type"], unique=False
        )

    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.add_column(sa.Column("growth_gib", sa.Integer(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("pre_deleted_at", UtcDateTime(), nullable=True))
        batch_op.add_column(sa.Column("plan_delete_at", UtcDateTime(), nullable=True))
        batch_op.create_index(batch_op.f("ix_volume_plan_delete_at"), ["plan_delete_at"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_volume_project_id_volume_type_size_gib_growth_gib"),
            ["project_id", "volume_type", "size_gib", "growth_gib"],
            unique=False,
        )


def downgrade() -> None:
    """Move the schema back."""
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_volume_project_id_volume_type_size_gib_growth_gib"))
        batch_op.drop_index(batch_op.f("ix_volume_plan_delete_at"))
        batch_op.drop_column("plan_delete_at")
        batch_op.drop_column("pre_deleted_at")
        batch_op.drop_column("growth_gib")

    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_snapshot_project_id_volume_type"))

    with op.batch_alter_table("volume_transfer", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_volume_transfer_project_id_created_at_id"))

    op.drop_table("volume_transfer")
    op.drop_table("recycle_policy")
    op.drop_table("project_quota")
    op.drop_table("default_quota")
