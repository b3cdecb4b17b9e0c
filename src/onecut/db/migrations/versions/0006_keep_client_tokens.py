"""
Keep client tokens.

May run beside the release before it, 0.1.0: what that one does not know of has a default or may be absent.
"""

import sqlalchemy as sa
from alembic import op

import onecut.db.schema

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    op.create_table(
        "client_token",
        sa.Column("domain_id", sa.String(length=32), nullable=False),
        sa.Column("token", sa.String(length=36), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("volume_ids", sa.JSON(), nullable=False),
        sa.Column("created_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domain.id"], name=op.f("fk_client_token_domain_id")),
        sa.PrimaryKeyConstraint("domain_id", "token", name=op.f("pk_client_token")),
    )
    with op.batch_alter_table("client_token", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_client_token_created_at"), ["created_at"], unique=False)


def downgrade() -> None:
    """Move the schema back."""
    with op.batch_alter_table("client_token", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_client_token_created_at"))

    op.drop_table("client_token")
