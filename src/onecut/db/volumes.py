"""Volumes and their attachments."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from onecut.db.schema import Base
from onecut.db.servers import Server

PASSTHROUGH: Final = "hw:passthrough"
"""The key of the metadata that says so: `true` for a SCSI disk (EVS API reference, creating disks)."""


class Volume(Base):
    """An EVS disk. Its data is the engine's; this is what the API says of it."""

    __tablename__ = "volume"
    __table_args__ = (
        Index(None, "project_id", "created_at", "id"),
        Index(None, "project_id", "volume_type", "size_gib", "growth_gib"),  # what quotas count, without the rows
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str] = mapped_column(String(255), default="")
    description: Mapped[str] = mapped_column(String(255), default="")
    status: Mapped[str] = mapped_column(String(24))
    size_gib: Mapped[int]
    volume_type: Mapped[str] = mapped_column(String(16))
    availability_zone: Mapped[str] = mapped_column(String(64))
    multiattach: Mapped[bool] = mapped_column(default=False)
    # The column is named as in EVS; "metadata" itself is taken by SQLAlchemy.
    metadata_: Mapped[dict[str, str]] = mapped_column("metadata", default=dict)
    snapshot_id: Mapped[str | None] = mapped_column(String(36))
    """The snapshot the volume was made from, which may be gone by now."""
    enterprise_project_id: Mapped[str] = mapped_column(String(36), default="0")
    iops: Mapped[int | None]
    throughput_mib: Mapped[int | None]
    bootable: Mapped[bool] = mapped_column(default=False)
    """What the last who set it says of it; nothing is done with it."""
    fault: Mapped[str | None] = mapped_column(Text)
    """Why the engine can't open the data; None while it can, and for a volume that was never made."""
    hydration: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), default=None)
    """How far a restored volume is filled, and by which job; None when it needs nothing of the repository."""
    growth_gib: Mapped[int] = mapped_column(default=0, server_default="0")
    """What an extension that is under way adds to the size: quotas count it from the order on."""
    attached_gib: Mapped[int | None]
    """The size that its data still has, if it was extended while it was attached: it grows when it is detached."""
    pre_deleted_at: Mapped[datetime | None] = mapped_column(default=None)
    """Since when it is in the recycle bin; None for a volume that is not, which is all that lists and calls know."""
    plan_delete_at: Mapped[datetime | None] = mapped_column(default=None, index=True)
    """When it is destroyed by itself."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    attachments: Mapped[list["Attachment"]] = relationship(
        back_populates="volume",
        cascade="all, delete-orphan",
        order_by="Attachment.attached_at",
        lazy="selectin",
    )

    @property
    def passthrough(self) -> bool:
        """Whether servers see it as a SCSI disk, to which they may send commands."""
        return is_passthrough(self.metadata_)


def is_passthrough(metadata: Mapping[str, str]) -> bool:
    """Say whether a volume with that metadata is a SCSI disk."""
    return metadata.get(PASSTHROUGH) == "true"


class Attachment(Base):
    """A volume's place at a server. Its id names the NBD export."""

    __tablename__ = "attachment"
    __table_args__ = (UniqueConstraint("volume_id", "server_id"), UniqueConstraint("server_id", "device"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    volume_id: Mapped[str] = mapped_column(ForeignKey("volume.id"))
    server_id: Mapped[str] = mapped_column(ForeignKey("server.id"), index=True)
    device: Mapped[str] = mapped_column(String(32))
    """Where the server sees it: ``/dev/vda``."""
    uri: Mapped[str | None] = mapped_column(String(512))
    """The NBD URI; None until the export is made."""
    delete_on_termination: Mapped[bool] = mapped_column(default=False)
    attached_at: Mapped[datetime]

    volume: Mapped[Volume] = relationship(back_populates="attachments")
    server: Mapped[Server] = relationship(lazy="joined")
