"""Holding a project while something about all that it has is decided."""

from typing import Final

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from onecut.db.identity import Project
from onecut.db.rows import ask_rows

_HOLD: Final = select(Project.id).where(Project.id == bindparam("project_id")).with_for_update(key_share=True)


def hold(session: Session, project_id: str) -> None:
    """
    Make others who hold this project wait until the transaction ends.

    Take it after all other rows of the transaction: whoever has it waits for nobody, so nobody waits in a circle. On
    PostgreSQL it is ``FOR NO KEY UPDATE``, which does not keep others from adding rows that name the project.
    """
    ask_rows(session, _HOLD, {"project_id": project_id})
