"""What becomes of a project's deleted volumes. The volumes in the bin are rows of `volume` like all others."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from onecut.db.schema import Base


class RecyclePolicy(Base):
    """A project's policy; a project without one has the default policy, which is switched off."""

    __tablename__ = "recycle_policy"

    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    switch: Mapped[bool]
    """Whether deleted volumes go to the bin."""
    threshold_days: Mapped[int]
    """How old a volume must be to go there."""
    keep_days: Mapped[int]
    """How long it stays there."""
