"""
Keep what users may do.

Every user there is becomes an administrator of the own domain, which is what all users were. May run beside the
release before it, which knows no roles; the users it makes have none until they are granted one.
"""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    role_grant = op.create_table(
        "role_grant",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=True),
        sa.Column("domain_id", sa.String(length=32), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domain.id"], name=op.f("fk_role_grant_domain_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_role_grant_project_id")),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_role_grant_user_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_grant")),
        sa.UniqueConstraint("user_id", "domain_id", name=op.f("uq_role_grant_user_id_domain_id")),
        sa.UniqueConstraint("user_id", "project_id", name=op.f("uq_role_grant_user_id_project_id")),
    )
    users = op.get_bind().execute(sa.select(sa.table("user", sa.column("id"), sa.column("domain_id")))).all()
    grants = [{"id": uuid4().hex, "user_id": user, "domain_id": domain, "role": "admin"} for user, domain in users]
    op.bulk_insert(role_grant, grants)


def downgrade() -> None:
    """Move the schema back."""
    op.drop_table("role_grant")
