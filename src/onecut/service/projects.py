"""Projects: the tenants that all EVS resources belong to."""

from collections.abc import Iterator, Sequence
from typing import Final
from uuid import uuid4

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from onecut.db.deleted_rows import DeletedRow
from onecut.db.identity import Domain, Project, RoleGrant, Token
from onecut.db.jobs import Job
from onecut.db.quotas import ProjectQuota
from onecut.db.recycle_bin import RecyclePolicy
from onecut.db.schema import Base
from onecut.errors import BadRequest
from onecut.service import named

GOES_WITH_PROJECT: Final = (Token, RoleGrant, ProjectQuota, RecyclePolicy, DeletedRow)
"""What names a project and is no resource of it."""


def create(session: Session, domain: Domain, name: str, description: str) -> Project:
    """
    Make a project.

    Raises:
        BadRequest: The name is none, or taken; or the description is too long.
    """
    named.check_new_name(session, Project, name, Project.domain_id == domain.id)
    named.check_description(description)
    project = Project(id=uuid4().hex, domain_id=domain.id, name=name, description=description, enabled=True)
    session.add(project)
    session.flush()
    return project


def list_all(session: Session) -> Sequence[tuple[Project, Domain]]:
    """Return all projects with their domains, by domain and name."""
    query = select(Project, Domain).join(Domain, Domain.id == Project.domain_id)
    return [(project, domain) for project, domain in session.execute(query.order_by(Domain.name, Project.name))]


def change(project: Project, *, enabled: bool | None, description: str | None) -> None:
    """
    Change a project; None leaves a field as it is. A project that is not enabled opens no call to anybody.

    Raises:
        BadRequest: The description is too long.
    """
    if enabled is not None:
        project.enabled = enabled
    if description is not None:
        named.check_description(description)
        project.description = description


def remove(session: Session, project: Project) -> None:
    """
    Delete a project with the roles and tokens in it, its quotas and settings, and its jobs that have ended.

    Raises:
        BadRequest: It owns resources, or one of its jobs has not ended.
    """
    owned = [f"{number} {noun}{'s' * (number > 1)}" for noun, number in _owned(session, project.id)]
    if owned:
        raise BadRequest(f"project {project.name} can't be deleted: it owns {', '.join(owned)}")
    ended = delete(Job).where(Job.project_id == project.id)
    session.execute(ended.where(Job.parent_id.is_not(None)))  # before those that they are parts of
    session.execute(ended)
    for model in GOES_WITH_PROJECT:
        session.execute(delete(model).where(model.project_id == project.id))
    session.delete(project)


def _owned(session: Session, project_id: str) -> Iterator[tuple[str, int]]:
    """Count what the project owns, by every table that refers to projects."""
    spared = {model.__tablename__ for model in GOES_WITH_PROJECT}
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            if key.column.table is not Project.__table__ or table.name in spared:
                continue
            query = select(func.count()).select_from(table).where(key.parent == project_id)
            if table is Job.__table__:
                query = query.where(Job.end_at.is_(None))
            if number := session.scalar(query):
                yield table.name.replace("_", " "), number
