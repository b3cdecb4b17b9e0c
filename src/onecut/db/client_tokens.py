"""Client tokens: what a client named a request by, so that it can be sent again."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from onecut.db.schema import Base


class ClientToken(Base):
    """An ``X-Client-Token``, the request it was first used for, and the reply. Written with what it created."""

    __tablename__ = "client_token"

    domain_id: Mapped[str] = mapped_column(ForeignKey("domain.id"), primary_key=True)
    """Each account has tokens of its own: nobody learns whether another has used one."""
    token: Mapped[str] = mapped_column(String(36), primary_key=True)
    path: Mapped[str] = mapped_column(String(255))
    """Of the request's URL, with the project."""
    body_sha256: Mapped[str] = mapped_column(String(64))
    """Of the body as canonical JSON."""
    job_id: Mapped[str] = mapped_column(String(32), default="")
    volume_ids: Mapped[list[Any]] = mapped_column(default=list)
    created_at: Mapped[datetime] = mapped_column(index=True)
