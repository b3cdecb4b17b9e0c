"""
Keep what images are served to the engine.

May run beside the release before it, 0.1.0: what that one does not know of has a default or may be absent.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    op.create_table(
        "served_image",
        sa.Column("snapshot_id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("chain_id", sa.String(length=36), nullable=False),
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("lease_id", sa.String(length=32), nullable=False),
        sa.Column("leased", sa.Boolean(), nullable=False),
        sa.Column("doomed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_served_image_project_id")),
        sa.PrimaryKeyConstraint("snapshot_id", name=op.f("pk_served_image")),
    )
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.add_column(sa.Column("hydration", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Move the schema back."""
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.drop_column("hydration")

    op.drop_table("served_image")
