"""
Keep where deleted rows stood in lists.

May run beside the release before it, 0.1.0: what that one does not know of has a default or may be absent.
"""

import sqlalchemy as sa
from alembic import op

from onecut.db.schema import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    op.create_table(
        "deleted_row",
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_deleted_row_project_id")),
        sa.PrimaryKeyConstraint("project_id", "id", name=op.f("pk_deleted_row")),
    )
    with op.batch_alter_table("deleted_row", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_deleted_row_deleted_at"), ["deleted_at"], unique=False)


def downgrade() -> None:
    """Move the schema back."""
    with op.batch_alter_table("deleted_row", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_deleted_row_deleted_at"))

    op.drop_table("deleted_row")
