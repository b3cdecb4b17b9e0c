"""Jobs: work that survives a crash, written with the change that asks for it."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from onecut.db.schema import Base


class Job(Base):
    """One piece of accepted work, or one member's share of it."""

    __tablename__ = "job"
    __table_args__ = (Index(None, "status", "created_at"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("job.id"), index=True)
    position: Mapped[int] = mapped_column(default=0)
    """Among its parent's sub jobs, from 0."""
    job_type: Mapped[str] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(8))
    """INIT, RUNNING, SUCCESS or FAIL."""
    step: Mapped[str | None] = mapped_column(String(32))
    """The step that was begun last; written before it is taken."""
    request: Mapped[dict[str, Any]]
    """What was asked for, in ids; never changes."""
    entities: Mapped[dict[str, Any]]
    """What came of it, in the words of the job API."""
    error_code: Mapped[str | None] = mapped_column(String(32))
    fail_reason: Mapped[str | None] = mapped_column(String(1024))
    created_at: Mapped[datetime]
    begin_at: Mapped[datetime | None]
    end_at: Mapped[datetime | None]
