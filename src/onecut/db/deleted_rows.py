"""Where deleted rows stood in lists, so that whoever reads one by markers can go on behind a row that is gone."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import ForeignKey, String, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from onecut.db.archives import SnapshotChain
from onecut.db.policies import SnapshotPolicy
from onecut.db.schema import Base
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.transfers import VolumeTransfer
from onecut.db.volumes import Volume

Listed = (
    type[Volume]
    | type[Snapshot]
    | type[SnapshotGroup]
    | type[SnapshotChain]
    | type[SnapshotPolicy]
    | type[VolumeTransfer]
)
"""What is listed by markers."""


class DeletedRow(Base):
    """A row that its project lists no more, by what of it never changed."""

    __tablename__ = "deleted_row"

    project_id: Mapped[str] = mapped_column(ForeignKey("project.id"), primary_key=True)
    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    created_at: Mapped[datetime]
    deleted_at: Mapped[datetime] = mapped_column(index=True)


def remember(session: Session, model: Listed, ids: Collection[str], now: datetime) -> None:
    """Note where rows stand that are about to be deleted, or to go to another project."""
    rows = select(model.project_id, model.id, model.created_at).where(model.id.in_(ids))
    for project_id, row_id, created_at in session.execute(rows).all():
        session.merge(DeletedRow(project_id=project_id, id=row_id, created_at=created_at, deleted_at=now))
