"""
Make the first schema.

Nothing ran before it.
"""

import sqlalchemy as sa
from alembic import op

import onecut.db.schema

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Move the schema forwards."""
    op.create_table(
        "domain",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_domain")),
        sa.UniqueConstraint("name", name=op.f("uq_domain_name")),
    )
    op.create_table(
        "engine_cut",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("planned_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("taken_at", onecut.db.schema.UtcDateTime(), nullable=True),
        sa.Column("pause_ms", sa.Double(), nullable=True),
        sa.Column("prepare_ms", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_engine_cut")),
    )
    op.create_table(
        "engine_layer",
        sa.Column("id", sa.String(length=24), nullable=False),
        sa.Column("parent_id", sa.String(length=24), nullable=True),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["engine_layer.id"], name=op.f("fk_engine_layer_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_engine_layer")),
    )
    with op.batch_alter_table("engine_layer", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_engine_layer_parent_id"), ["parent_id"], unique=False)

    op.create_table(
        "engine_cut_member",
        sa.Column("cut_id", sa.String(length=36), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("point_id", sa.String(length=36), nullable=False),
        sa.Column("layer_id", sa.String(length=24), nullable=False),
        sa.Column("overlay_id", sa.String(length=24), nullable=False),
        sa.ForeignKeyConstraint(["cut_id"], ["engine_cut.id"], name=op.f("fk_engine_cut_member_cut_id")),
        sa.PrimaryKeyConstraint("cut_id", "volume_id", name=op.f("pk_engine_cut_member")),
    )
    with op.batch_alter_table("engine_cut_member", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_engine_cut_member_point_id"), ["point_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_engine_cut_member_volume_id"), ["volume_id"], unique=False)

    op.create_table(
        "engine_point",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("layer_id", sa.String(length=24), nullable=False),
        sa.ForeignKeyConstraint(["layer_id"], ["engine_layer.id"], name=op.f("fk_engine_point_layer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_engine_point")),
    )
    with op.batch_alter_table("engine_point", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_engine_point_layer_id"), ["layer_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_engine_point_volume_id"), ["volume_id"], unique=False)

    op.create_table(
        "engine_volume",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("top_layer_id", sa.String(length=24), nullable=False),
        sa.ForeignKeyConstraint(["top_layer_id"], ["engine_layer.id"], name=op.f("fk_engine_volume_top_layer_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_engine_volume")),
        sa.UniqueConstraint("top_layer_id", name=op.f("uq_engine_volume_top_layer_id")),
    )
    op.create_table(
        "project",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("domain_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domain.id"], name=op.f("fk_project_domain_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
        sa.UniqueConstraint("domain_id", "name", name=op.f("uq_project_domain_id_name")),
    )
    op.create_table(
        "user",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("domain_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("password_hash", sa.String(length=255), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domain.id"], name=op.f("fk_user_domain_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("domain_id", "name", name=op.f("uq_user_domain_id_name")),
    )
    op.create_table(
        "access_key",
        sa.Column("access", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("secret_encrypted", sa.LargeBinary(), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_access_key_user_id")),
        sa.PrimaryKeyConstraint("access", name=op.f("pk_access_key")),
    )
    with op.batch_alter_table("access_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_access_key_user_id"), ["user_id"], unique=False)

    op.create_table(
        "engine_export",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["volume_id"], ["engine_volume.id"], name=op.f("fk_engine_export_volume_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_engine_export")),
    )
    with op.batch_alter_table("engine_export", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_engine_export_volume_id"), ["volume_id"], unique=False)

    op.create_table(
        "job",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("parent_id", sa.String(length=32), nullable=True),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("job_type", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=8), nullable=False),
        sa.Column("step", sa.String(length=32), nullable=True),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("entities", sa.JSON(), nullable=False),
        sa.Column("error_code", sa.String(length=32), nullable=True),
        sa.Column("fail_reason", sa.String(length=1024), nullable=True),
        sa.Column("created_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("begin_at", onecut.db.schema.UtcDateTime(), nullable=True),
        sa.Column("end_at", onecut.db.schema.UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["parent_id"], ["job.id"], name=op.f("fk_job_parent_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_job_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_job_parent_id"), ["parent_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_job_status_created_at"), ["status", "created_at"], unique=False)

    op.create_table(
        "server",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("availability_zone", sa.String(length=64), nullable=False),
        sa.Column("enterprise_project_id", sa.String(length=36), nullable=False),
        sa.Column("task_state", sa.String(length=16), nullable=True),
        sa.Column("created_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("updated_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_server_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_server")),
    )
    with op.batch_alter_table("server", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_server_project_id_created_at_id"), ["project_id", "created_at", "id"], unique=False
        )

    op.create_table(
        "snapshot_group",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=True),
        sa.Column("enterprise_project_id", sa.String(length=36), nullable=False),
        sa.Column("member_count", sa.Integer(), nullable=False),
        sa.Column("cut", sa.JSON(), nullable=True),
        sa.Column("created_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("updated_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_snapshot_group_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot_group")),
    )
    with op.batch_alter_table("snapshot_group", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_snapshot_group_project_id_created_at_id"), ["project_id", "created_at", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_snapshot_group_server_id"), ["server_id"], unique=False)

    op.create_table(
        "tag",
        sa.Column("resource_id", sa.String(length=36), nullable=False),
        sa.Column("key", sa.String(length=36), nullable=False),
        sa.Column("value", sa.String(length=43), nullable=False),
        sa.Column("resource_type", sa.String(length=16), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_tag_project_id")),
        sa.PrimaryKeyConstraint("resource_id", "key", name=op.f("pk_tag")),
    )
    with op.batch_alter_table("tag", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_tag_project_id_resource_type_key_value"),
            ["project_id", "resource_type", "key", "value"],
            unique=False,
        )

    op.create_table(
        "token",
        sa.Column("token_sha256", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=True),
        sa.Column("domain_id", sa.String(length=32), nullable=True),
        sa.Column("methods", sa.String(length=64), nullable=False),
        sa.Column("issued_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("expires_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["domain_id"], ["domain.id"], name=op.f("fk_token_domain_id")),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_token_project_id")),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_token_user_id")),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_token")),
    )
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_token_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_token_user_id"), ["user_id"], unique=False)

    op.create_table(
        "volume",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("size_gib", sa.Integer(), nullable=False),
        sa.Column("volume_type", sa.String(length=16), nullable=False),
        sa.Column("availability_zone", sa.String(length=64), nullable=False),
        sa.Column("multiattach", sa.Boolean(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("snapshot_id", sa.String(length=36), nullable=True),
        sa.Column("enterprise_project_id", sa.String(length=36), nullable=False),
        sa.Column("iops", sa.Integer(), nullable=True),
        sa.Column("throughput_mib", sa.Integer(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("created_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("updated_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_volume_project_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_volume")),
    )
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_volume_project_id_created_at_id"), ["project_id", "created_at", "id"], unique=False
        )

    op.create_table(
        "attachment",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("server_id", sa.String(length=36), nullable=False),
        sa.Column("device", sa.String(length=32), nullable=False),
        sa.Column("uri", sa.String(length=512), nullable=True),
        sa.Column("delete_on_termination", sa.Boolean(), nullable=False),
        sa.Column("attached_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["server_id"], ["server.id"], name=op.f("fk_attachment_server_id")),
        sa.ForeignKeyConstraint(["volume_id"], ["volume.id"], name=op.f("fk_attachment_volume_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachment")),
        sa.UniqueConstraint("server_id", "device", name=op.f("uq_attachment_server_id_device")),
        sa.UniqueConstraint("volume_id", "server_id", name=op.f("uq_attachment_volume_id_server_id")),
    )
    with op.batch_alter_table("attachment", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_attachment_server_id"), ["server_id"], unique=False)

    op.create_table(
        "snapshot",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("project_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("description", sa.String(length=85), nullable=False),
        sa.Column("status", sa.String(length=24), nullable=False),
        sa.Column("volume_id", sa.String(length=36), nullable=False),
        sa.Column("snapshot_group_id", sa.String(length=36), nullable=True),
        sa.Column("size_gib", sa.Integer(), nullable=False),
        sa.Column("volume_type", sa.String(length=16), nullable=False),
        sa.Column("availability_zone", sa.String(length=64), nullable=False),
        sa.Column("category", sa.String(length=16), nullable=False),
        sa.Column("instant_access", sa.Boolean(), nullable=False),
        sa.Column("instant_access_at_creation", sa.Boolean(), nullable=False),
        sa.Column("incremental", sa.Boolean(), nullable=False),
        sa.Column("snapshot_type", sa.String(length=8), nullable=False),
        sa.Column("progress_percent", sa.Integer(), nullable=False),
        sa.Column("enterprise_project_id", sa.String(length=36), nullable=False),
        sa.Column("cut", sa.JSON(), nullable=True),
        sa.Column("created_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.Column("updated_at", onecut.db.schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["project.id"], name=op.f("fk_snapshot_project_id")),
        sa.ForeignKeyConstraint(
            ["snapshot_group_id"], ["snapshot_group.id"], name=op.f("fk_snapshot_snapshot_group_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshot")),
    )
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_snapshot_project_id_created_at_id"), ["project_id", "created_at", "id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_snapshot_snapshot_group_id"), ["snapshot_group_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_snapshot_volume_id"), ["volume_id"], unique=False)


def downgrade() -> None:
    """Move the schema back."""
    with op.batch_alter_table("snapshot", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_snapshot_volume_id"))
        batch_op.drop_index(batch_op.f("ix_snapshot_snapshot_group_id"))
        batch_op.drop_index(batch_op.f("ix_snapshot_project_id_created_at_id"))

    op.drop_table("snapshot")
    with op.batch_alter_table("attachment", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_attachment_server_id"))

    op.drop_table("attachment")
    with op.batch_alter_table("volume", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_volume_project_id_created_at_id"))

    op.drop_table("volume")
    with op.batch_alter_table("token", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_token_user_id"))
        batch_op.drop_index(batch_op.f("ix_token_expires_at"))

    op.drop_table("token")
    with op.batch_alter_table("tag", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_tag_project_id_resource_type_key_value"))

    op.drop_table("tag")
    with op.batch_alter_table("snapshot_group", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_snapshot_group_server_id"))
        batch_op.drop_index(batch_op.f("ix_snapshot_group_project_id_created_at_id"))

    op.drop_table("snapshot_group")
    with op.batch_alter_table("server", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_server_project_id_created_at_id"))

    op.drop_table("server")
    with op.batch_alter_table("job", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_job_status_created_at"))
        batch_op.drop_index(batch_op.f("ix_job_parent_id"))

    op.drop_table("job")
    with op.batch_alter_table("engine_export", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_engine_export_volume_id"))

    op.drop_table("engine_export")
    with op.batch_alter_table("access_key", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_access_key_user_id"))

    op.drop_table("access_key")
    op.drop_table("user")
    op.drop_table("project")
    op.drop_table("engine_volume")
    with op.batch_alter_table("engine_point", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_engine_point_volume_id"))
        batch_op.drop_index(batch_op.f("ix_engine_point_layer_id"))

    op.drop_table("engine_point")
    with op.batch_alter_table("engine_cut_member", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_engine_cut_member_volume_id"))
        batch_op.drop_index(batch_op.f("ix_engine_cut_member_point_id"))

    op.drop_table("engine_cut_member")
    with op.batch_alter_table("engine_layer", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_engine_layer_parent_id"))

    op.drop_table("engine_layer")
    op.drop_table("engine_cut")
    op.drop_table("domain")
