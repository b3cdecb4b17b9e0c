"""Tags of snapshot groups, snapshot policies, snapshots and volumes."""

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from onecut.db.schema import Base


class Tag(Base):
    """One key of one resource, with its value."""

    __tablename__ = "tag"
    __table_args__ = (Index(None, "project_id", "resource_type", "key", "value"),)

    resource_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    key: Mapped[str] = mapped_column(String(36), primary_key=True)
    value: Mapped[str] = mapped_column(String(43))
    resource_type: Mapped[str] = mapped_column(String(16))
    """``volume``, ``snapshot``, ``snapshot_group`` or ``snapshot_policy``."""
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
