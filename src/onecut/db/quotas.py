"""How much a project may have."""

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from onecut.db.schema import Base


class DefaultQuota(Base):
    """The limit of a resource in every project without one of its own; written at each start, from the settings."""

    __tablename__ = "default_quota"

    resource: Mapped[str] = mapped_column(String(64), primary_key=True)
    limit: Mapped[int]
    """-1 for none."""


class ProjectQuota(Base):
    """The limit of a resource in one project."""

    __tablename__ = "project_quota"

    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    resource: Mapped[str] = mapped_column(String(64), primary_key=True)
    limit: Mapped[int]
    """-1 for none."""
