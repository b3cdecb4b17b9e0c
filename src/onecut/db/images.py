"""Archived snapshots that volumes are being restored from."""

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from onecut.db.schema import Base


class ServedImage(Base):
    """
    A snapshot's image in the repository while it is served to the engine.

    It holds all that serving takes, so that the snapshot's own row may go meanwhile. Written before anything is
    done, and removed when everything is undone.
    """

    __tablename__ = "served_image"

    snapshot_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Names the export too."""
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    volume_id: Mapped[str] = mapped_column(String(36))
    chain_id: Mapped[str] = mapped_column(String(36))
    run_id: Mapped[str] = mapped_column(String(32))
    """The repository's name for the run that archived it."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    lease_id: Mapped[str] = mapped_column(String(32))
    """Names the lease in the repository that keeps the data."""
    leased: Mapped[bool] = mapped_column(default=False)
    """Whether the lease is known to be there."""
    doomed: Mapped[bool] = mapped_column(default=False)
    """Whether the snapshot was deleted meanwhile: its data goes when no volume needs it any more."""
