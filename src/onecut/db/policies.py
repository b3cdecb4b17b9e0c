"""Snapshot policies: when snapshots are taken by themselves, of which volumes, and what was done when."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from onecut.db.schema import Base


class SnapshotPolicy(Base):
    """A schedule, and how long what it takes is kept."""

    __tablename__ = "snapshot_policy"
    __table_args__ = (Index(None, "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"))
    name: Mapped[str] = mapped_column(String(255), default="")
    hours: Mapped[list[Any]]
    """Hours of the day in UTC+8, from 0, in the order in which they were given."""
    weekdays: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    """Days of the week from 1, Monday; None for a policy that counts days."""
    interval_days: Mapped[int | None]
    retention_days: Mapped[int]
    """-1 for snapshots that stay."""
    enterprise_project_id: Mapped[str] = mapped_column(String(36), default="0")
    counted_from: Mapped[datetime]
    """When it was made, or its days or hours were changed last; its day (in UTC+8) is the first of the interval."""
    next_at: Mapped[datetime] = mapped_column(index=True)
    """The first time point for which nothing was done yet."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class PolicyVolume(Base):
    """A volume that a policy takes snapshots of."""

    __tablename__ = "snapshot_policy_volume"

    policy_id: Mapped[str] = mapped_column(ForeignKey("snapshot_policy.id"), primary_key=True)
    volume_id: Mapped[str] = mapped_column(ForeignKey("volume.id"), primary_key=True, index=True)


class PolicyRun(Base):
    """
    What a policy did at one time point. Its key is what keeps a time point from being done twice.

    Written, with an empty share for each volume, before the first snapshot is ordered.
    """

    __tablename__ = "snapshot_policy_run"

    policy_id: Mapped[str] = mapped_column(ForeignKey("snapshot_policy.id"), primary_key=True)
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    """The time point."""
    begun_at: Mapped[datetime]
    """When it was begun; later than the time point when the service was down."""
    look_at: Mapped[datetime | None] = mapped_column(index=True)
    """When volumes that wait are looked at again; None when the run has ended."""

    shares: Mapped[list["PolicyShare"]] = relationship(order_by="PolicyShare.volume_id")


class PolicyShare(Base):
    """One volume's share of a run: its snapshot, or what stands in the way of one."""

    __tablename__ = "snapshot_policy_share"
    __table_args__ = (
        ForeignKeyConstraint(
            ["policy_id", "due_at"],
            ["snapshot_policy_run.policy_id", "snapshot_policy_run.due_at"],
        ),
    )

    policy_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    due_at: Mapped[datetime] = mapped_column(primary_key=True)
    volume_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """The volume, which may be gone by now."""
    snapshot_id: Mapped[str | None] = mapped_column(String(36))
    """Written in the transaction that orders the snapshot; the snapshot may be gone by now."""
    obstacle: Mapped[str | None] = mapped_column(Text)
    """Why it has no snapshot; None before the first look."""
