"""
Keep the device mode of snapshots.

May run beside the release before it, 0.1.0: what that one does not know of has a default or may be absent.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards; snapshots whose volume is still there have its mode."""
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.add_column(sa.Column("passthrough", sa.Boolean(), server_default=sa.false(), nullable=False))
    snapshot = sa.table("snapshot", sa.column("volume_id"), sa.column("passthrough"))
    volume = sa.table("volume", sa.column("id"), sa.column("metadata", sa.JSON()))
    scsi = sa.select(volume.c.id).where(volume.c.metadata["hw:passthrough"].as_string() == "true")
    op.execute(snapshot.update().where(snapshot.c.volume_id.in_(scsi)).values(passthrough=sa.true()))


def downgrade() -> None:
    """Move the schema back."""
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.drop_column("passthrough")
