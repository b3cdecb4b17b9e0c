"""
Keep the limits of volumes.

May run beside the release before it, 0.1.0: what that one does not know of may be absent.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    with op.batch_alter_table("engine_volume", schema=None) as batch_op:
        batch_op.add_column(sa.Column("iops", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("bytes_per_s", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Move the schema back."""
    with op.batch_alter_table("engine_volume", schema=None) as batch_op:
        batch_op.drop_column("bytes_per_s")
        batch_op.drop_column("iops")
