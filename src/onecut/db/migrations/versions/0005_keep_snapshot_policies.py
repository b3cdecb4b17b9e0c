"""
Keep snapshot policies.

May run beside the release before it, 0.1.0: what that one does not know of may be absent. A deletion by that one of a
volume that a policy takes snapshots of fails, and can be asked for again.
"""

import sqlalchemy as sa
from alembic import op

import onecut.db.schema

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    op.create_table(
        "snapshot_policy",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("hours", sa.JSON(), nullable=False),
        sa.Column("weekdays", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("interval_days", sa.Integer(), nullable=True),
        sa.Column("retention_days", sa.Integer(), nullable=False),
        sa.Column("enterprise_project_id", sa.String(length=36), nullable=False),
        sa.Column("counted_from", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("next_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("created_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("updated_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_snapshot_policy_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_policy")),
    )
    with op.batch_alter_table("snapshot_policy", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_snapshot_policy_next_at"), ["next_at"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_snapshot_policy_project_id_created_at_id"),
            ["project_id", "created_at", "id"],
            unique=False,
        )

    op.create_table(
        "snapshot_policy_run",
        sa.Column("policy_id", sa.String(length=36), nullable=False),
        sa.Column("due_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("begun_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("look_at", onecut.db.schema.UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["policy_id"], ["snapshot_policy.id"], name=op.f("fk_snapshot_policy_run_policy_id")),
        sa.PrimaryKeyConstraint("policy_id", "due_at", name=op.f("pk_snapshot_policy_run")),
    )
    with op.batch_alter_table("snapshot_policy_run", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_snapshot_policy_run_look_at"), ["look_at"], unique=False)

    op.create_table(
        "snapshot_policy_volume",
        sa.Column("policy_id", sa.String(length=36), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(
            ["policy_id"], ["snapshot_policy.id"], name=op.f("fk_snapshot_policy_volume_policy_id")
        ),
        sa.ForeignKeyConstraint(["volume_id"], ["volume.id"], name=op.f("fk_snapshot_policy_volume_volume_id")),
        sa.PrimaryKeyConstraint("policy_id", "volume_id", name=op.f("pk_snapshot_policy_volume")),
    )
    with op.batch_alter_table("snapshot_policy_volume", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_snapshot_policy_volume_volume_id"), ["volume_id"], unique=False)

    op.create_table(
        "snapshot_policy_share",
        sa.Column("policy_id", sa.String(length=36), nullable=False),
        sa.Column("due_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("snapshot_id", sa.String(length=36), nullable=True),
        sa.Column("obstacle", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["policy_id", "due_at"],
            ["snapshot_policy_run.policy_id", "snapshot_policy_run.due_at"],
            name=op.f("fk_snapshot_policy_share_policy_id_due_at"),
        ),
        sa.PrimaryKeyConstraint("policy_id", "due_at", "volume_id", name=op.f("pk_snapshot_policy_share")),
    )


def downgrade() -> None:
    """Move the schema back."""
    op.drop_table("snapshot_policy_share")
    op.drop_table("snapshot_policy_volume")
    op.drop_table("snapshot_policy_run")
    op.drop_table("snapshot_policy")
