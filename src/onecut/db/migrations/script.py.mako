"""
${message}.

${"May run beside the release before it: (say which, and why)." if down_revision else "Nothing ran before it."}
"""

import sqlalchemy as sa
from alembic import op

import onecut.db.schema

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    """Move the schema forwards."""
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    """Move the schema back."""
    ${downgrades if downgrades else "pass"}
