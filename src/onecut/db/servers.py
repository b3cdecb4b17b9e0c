"""Servers: what disks are attached to. Onecut does not run them."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from onecut.db.schema import Base


class Server(Base):
    """An attachment target, in ECS's words."""

    __tablename__ = "server"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(String(255), default="")
    availability_zone: Mapped[str] = mapped_column(String(64))
    enterprise_project_id: Mapped[str] = mapped_column(String(36), default="0")
    task_state: Mapped[str | None] = mapped_column(String(16))
    """``deleting`` while its deletion is under way, else None."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
