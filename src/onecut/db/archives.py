"""What of the snapshots is in the repository, or on its way there."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from onecut.db.schema import Base


class SnapshotChain(Base):
    """The archived snapshots of one volume that build upon each other."""

    __tablename__ = "snapshot_chain"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    volume_id: Mapped[str] = mapped_column(String(36), index=True)
    """The volume, which may be gone by now."""
    availability_zone: Mapped[str] = mapped_column(String(64))
    category: Mapped[str] = mapped_column(String(16), default="standard")
    stored_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    """What its snapshots hold in the repository, all together."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Archive(Base):
    """
    One snapshot's way into the repository. Written with the snapshot; one without it is never archived.

    What is decided about a run is written down before its first attempt, so that the next one goes on with it.
    """

    __tablename__ = "archive"

    id: Mapped[int] = mapped_column(primary_key=True)
    """Grows: of one volume's snapshots the later has the larger, whatever the clock did."""
    snapshot_id: Mapped[str] = mapped_column(ForeignKey("snapshot.id"), unique=True)
    chain_id: Mapped[str | None] = mapped_column(ForeignKey("snapshot_chain.id"), index=True)
    """None until a run is decided about."""
    run_id: Mapped[str | None] = mapped_column(String(32))
    """The repository's name for the run."""
    base_id: Mapped[str | None] = mapped_column(String(36))
    """The snapshot it builds upon; None for one that builds upon nothing. It may be gone by now."""
    full_because: Mapped[str | None] = mapped_column(Text)
    """Why all of the disk is read; None when only what changed since the base is."""
    archived_at: Mapped[datetime | None]
    """None until everything is durable in the repository."""
    root: Mapped[str | None] = mapped_column(String(64))
    """Identity of the disk's content and size."""
    stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """What the run added to the repository."""
    freed_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """What its deletion, once begun, takes from the repository."""
    failure: Mapped[str | None] = mapped_column(Text)
    """Why it was given up; None while there is hope."""

    chain: Mapped[SnapshotChain | None] = relationship(lazy="joined")
