"""The `qemu` engine's ledger: layers, points, cuts and exports. Read and written through `db/ledger.py` only."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column

from onecut.db.schema import Base


class EngineLayer(Base):
    """One qcow2 file. The file and the daemon's node are named after the id."""

    __tablename__ = "engine_layer"

    id: Mapped[str] = mapped_column(String(24), primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("engine_layer.id"), index=True)
    """The layer below; None for a layer that stands on nothing."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    source_uri: Mapped[str | None] = mapped_column(String(1024))
    """NBD URI of the image that is read where the layer has no data yet; None once it has all."""
    source_size_bytes: Mapped[int | None] = mapped_column(BigInteger)


class EngineVolume(Base):
    """A volume the engine keeps: the layer that takes its writes."""

    __tablename__ = "engine_volume"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    top_layer_id: Mapped[str] = mapped_column(ForeignKey("engine_layer.id"), unique=True)
    iops: Mapped[int | None]
    """Requests that all clients together may make in a second; None is no limit."""
    bytes_per_s: Mapped[int | None] = mapped_column(BigInteger)
    """Bytes that they may read and write in a second; None is no limit."""


class EngineCut(Base):
    """One cut: planned before anything is touched, done when every member has its point."""

    __tablename__ = "engine_cut"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    planned_at: Mapped[datetime]
    taken_at: Mapped[datetime | None]
    """None while the cut is planned."""
    pause_ms: Mapped[float | None]
    prepare_ms: Mapped[float | None]


class EngineCutMember(Base):
    """What a planned cut does to one volume: *layer_id* is frozen, *overlay_id* becomes the top."""

    __tablename__ = "engine_cut_member"

    cut_id: Mapped[str] = mapped_column(ForeignKey("engine_cut.id"), primary_key=True)
    volume_id: Mapped[str] = mapped_column(String(36), primary_key=True, index=True)
    point_id: Mapped[str] = mapped_column(String(36), index=True)
    layer_id: Mapped[str] = mapped_column(String(24))
    overlay_id: Mapped[str] = mapped_column(String(24))


class EnginePoint(Base):
    """A frozen layer that somebody still wants."""

    __tablename__ = "engine_point"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    volume_id: Mapped[str] = mapped_column(String(36), index=True)
    layer_id: Mapped[str] = mapped_column(ForeignKey("engine_layer.id"), index=True)
    adopted: Mapped[bool] = mapped_column(server_default=false())
    """Whether its cut was concluded from the files after a crash, so that nobody vouches for what changed."""


class EngineExport(Base):
    """A volume that is being served."""

    __tablename__ = "engine_export"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    volume_id: Mapped[str] = mapped_column(ForeignKey("engine_volume.id"), index=True)
