"""Volumes that are offered to another project."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from onecut.db.schema import Base


class VolumeTransfer(Base):
    """An offer that was not accepted yet. Its volume is `awaiting-transfer` as long as the row is there."""

    __tablename__ = "volume_transfer"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    """Who offers."""
    volume_id: Mapped[str] = mapped_column(ForeignKey("volume.id"), unique=True)
    name: Mapped[str] = mapped_column(String(255))
    auth_key_sha256: Mapped[str] = mapped_column(String(64))
    """The key itself was shown once, to whoever offered."""
    created_at: Mapped[datetime]
