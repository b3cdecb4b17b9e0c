"""Snapshot groups and snapshots."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column, relationship
from sqlalchemy.types import TypeEngine

from onecut.db.archives import Archive
from onecut.db.schema import Base


def _wider_than_sqlite_was_told(chars: int) -> TypeEngine[str]:
    """Return the type of a text that once had *chars* characters at most; SQLite, which heeds none, kept that."""
    return String(255).with_variant(String(chars), "sqlite")


class SnapshotGroup(Base):
    """A snapshot consistency group: what one cut left, one snapshot per volume."""

    __tablename__ = "snapshot_group"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str] = mapped_column(String(255), default="")
    description: Mapped[str] = mapped_column(String(255), default="")
    status: Mapped[str] = mapped_column(String(24))
    server_id: Mapped[str | None] = mapped_column(String(36), index=True)
    """As given by the caller; the server may be gone by now."""
    enterprise_project_id: Mapped[str] = mapped_column(String(36), default="0")
    member_count: Mapped[int]
    """How many members it was made with; fewer are there when some were deleted alone."""
    cut: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """When the cut was, and how long it took and held writes; None until it is done."""
    digest: Mapped[str | None] = mapped_column(String(64))
    """Of the group's manifest in the repository, in hexadecimal digits; None until all members are archived."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Snapshot(Base):
    """One volume at one cut. Its id is also the id of the engine's point."""

    __tablename__ = "snapshot"
    __table_args__ = (
        Index(None, "project_id", "created_at", "id"),
        Index(None, "project_id", "volume_type"),  # what quotas count, without the rows
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    legacy: Mapped[bool] = mapped_column(default=False)
    """Whether the older calls made it (cloudsnapshots, Cinder): it is never archived, and goes with its volume."""
    name: Mapped[str] = mapped_column(_wider_than_sqlite_was_told(64), default="")
    description: Mapped[str] = mapped_column(_wider_than_sqlite_was_told(85), default="")
    # The column is named as in EVS; "metadata" itself is taken by SQLAlchemy.
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", default=dict)
    """Of legacy ones."""
    status: Mapped[str] = mapped_column(String(24))
    volume_id: Mapped[str] = mapped_column(String(36), index=True)
    """The source volume, which may be gone by now."""
    snapshot_group_id: Mapped[str | None] = mapped_column(ForeignKey("snapshot_group.id"), index=True)
    size_gib: Mapped[int]
    volume_type: Mapped[str] = mapped_column(String(16))
    availability_zone: Mapped[str] = mapped_column(String(64))
    passthrough: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether servers saw the source volume as a SCSI disk, as they will see volumes made from this."""
    category: Mapped[str] = mapped_column(String(16))
    instant_access: Mapped[bool]
    """Whether Instant Snapshot Restore is on now."""
    instant_access_at_creation: Mapped[bool]
    """Whether it was asked for; only then may it be switched on again."""
    incremental: Mapped[bool]
    snapshot_type: Mapped[str] = mapped_column(String(8))
    progress_percent: Mapped[int] = mapped_column(default=0)
    enterprise_project_id: Mapped[str] = mapped_column(String(36), default="0")
    cut: Mapped[dict[str, Any] | None] = mapped_column(default=None)
    """When the cut was, and how long it held writes to this volume; None until it is done."""
    point: Mapped[str] = mapped_column(String(8), default="none")
    """Whether the engine has its point: `none` before the cut, `held`, `leaving` while it is given up, `gone`."""
    fault: Mapped[str | None] = mapped_column(Text)
    """What is known to be damaged of it in the repository; None while nothing is."""
    retention_at: Mapped[datetime | None] = mapped_column(index=True)
    """When it is deleted by itself; None for one that stays."""
    instant_access_retention_at: Mapped[datetime | None] = mapped_column(index=True)
    """When Instant Snapshot Restore is switched off by itself."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    archive: Mapped[Archive | None] = relationship(lazy="selectin")


# Legacy ones are few among many. SQLite uses the index for a condition of the same words, `legacy = 1`.
Index(
    "ix_snapshot_legacy_project_id_created_at_id",
    Snapshot.project_id,
    Snapshot.created_at,
    Snapshot.id,
    sqlite_where=text("legacy = 1"),
    postgresql_where=text("legacy"),
)
