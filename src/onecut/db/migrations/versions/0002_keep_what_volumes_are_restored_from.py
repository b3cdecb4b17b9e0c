"""
Keep what volumes are restored from.

Must not run beside the release before it, which would read zeros for what is still to be fetched from a source.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    with op.batch_alter_table("engine_layer", schema=None) as batch_op:
        batch_op.add_column(sa.Column("source_uri", sa.String(length=1024), nullable=True))
        batch_op.add_column(sa.Column("source_size_bytes", sa.BigInteger(), nullable=True))

    with op.batch_alter_table("engine_point", schema=None) as batch_op:
        batch_op.add_column(sa.Column("adopted", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    """Move the schema back."""
    with op.batch_alter_table("engine_point", schema=None) as batch_op:
        batch_op.drop_column("adopted")

    with op.batch_alter_table("engine_layer", schema=None) as batch_op:
        batch_op.drop_column("source_size_bytes")
        batch_op.drop_column("source_uri")
