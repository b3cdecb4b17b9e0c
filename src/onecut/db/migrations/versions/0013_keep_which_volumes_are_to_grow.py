"""
Keep which volumes are to grow when they are detached.

May run beside the release before it, 0.1.0: what that one does not know of may be absent.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.add_column(sa.Column("attached_gib", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Move the schema back."""
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.drop_column("attached_gib")
