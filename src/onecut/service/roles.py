"""
What a user may do: a role for each project, or one for every project of the own domain.

Where a user has both, the stronger one counts. A role is a set of EVS's action names (identity policies, action
names); `permits` is the whole rule. Grants are read anew for each request, so a change takes effect at once.
"""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, get_args
from uuid import uuid4

from sqlalchemy import ColumnElement, Select, and_, delete, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from onecut.db.identity import Domain, Project, RoleGrant, User
from onecut.errors import BadRequest, Forbidden, NotFound

Role = Literal["reader", "operator", "admin"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""The weaker first; each may do all that the one before it may."""

READING: Final = ("get", "list", "show", "count")
"""What the last part of an action begins with that changes nothing."""

ADMINISTRATIVE: Final = frozenset({
    "evs:recycleBin:delete",
    "evs:recycleBin:updatePolicy",
    "evs:transfers:accept",
    "evs:transfers:create",
    "evs:transfers:delete",
})  # fmt: skip
"""What takes a safety net away, or moves data from one project to another."""


def permits(role: Role, action: str) -> bool:
    """Say whether *role* may do *action*, such as ``evs:volumes:create``."""
    if role == "admin":
        return True
    if role == "operator":
        return action not in ADMINISTRATIVE
    return action.rpartition(":")[2].startswith(READING)


def require(role: Role, action: str, project_id: str) -> None:
    """
    Refuse what *role* may not do.

    Raises:
        Forbidden: With EVS.1027, naming action and project.
    """
    if not permits(role, action):
        raise Forbidden(f"the role {role} may not do {action} in project {project_id}", code="EVS.1027")


def strongest(roles: Iterable[str | None]) -> Role | None:
    """Return the strongest of *roles*, among which None stands for no role; None if there is none."""
    held = set(roles)
    return next((role for role in reversed(ROLES) if role in held), None)


def opens(project_id: InstrumentedAttribute[str] | InstrumentedAttribute[str | None]) -> ColumnElement[bool]:
    """Return the condition that a `RoleGrant` of `User` is good in a project of that user's domain."""
    return and_(
        RoleGrant.user_id == User.id,
        or_(RoleGrant.project_id == project_id, RoleGrant.domain_id == User.domain_id),
    )


def held(session: Session, user_id: str, project_id: str | None) -> Role | None:
    """Return the role of a user in a project of the own domain; None stands for every project of that domain."""
    places = or_(RoleGrant.domain_id.is_not(None), RoleGrant.project_id == project_id)
    return strongest(session.scalars(select(RoleGrant.role).where(RoleGrant.user_id == user_id, places)))


# Grants


def grant(session: Session, user: User, role: Role, project: Project | None) -> RoleGrant:
    """
    Give a user a role in *project*, in place of the one held there; None stands for the user's whole domain.

    Raises:
        BadRequest: The project lies in another domain.
    """
    if project is not None and project.domain_id != user.domain_id:
        raise BadRequest(f"project {project.name} and user {user.name} lie in different domains")
    session.execute(select(User.id).where(User.id == user.id).with_for_update())  # two at once would both insert
    found = session.scalar(_of(user, project))
    if found is None:
        found = RoleGrant(id=uuid4().hex, user_id=user.id)
        if project is None:
            found.domain_id = user.domain_id
        else:
            found.project_id = project.id
        session.add(found)
    found.role = role
    return found


def revoke(session: Session, user: User, project: Project | None) -> None:
    """
    Take a user's role in *project* away; None stands for the one in the user's whole domain.

    Raises:
        NotFound: The user has none there.
    """
    found = session.scalar(_of(user, project).with_for_update())
    if found is None:
        raise NotFound("role", f"of user {user.name} in {_place(project)}")
    session.delete(found)


def revoke_all(session: Session, user: User) -> None:
    """Take all roles of a user away."""
    session.execute(delete(RoleGrant).where(RoleGrant.user_id == user.id))


def list_grants(session: Session, user: User | None) -> Sequence[tuple[RoleGrant, User, Domain, Project | None]]:
    """Return all grants, or those of one user, by domain, user and project."""
    query = (
        select(RoleGrant, User, Domain, Project)
        .join(User, User.id == RoleGrant.user_id)
        .join(Domain, Domain.id == User.domain_id)
        .outerjoin(Project, Project.id == RoleGrant.project_id)
        .order_by(Domain.name, User.name, Project.name)
    )
    if user is not None:
        query = query.where(RoleGrant.user_id == user.id)
    return [(row[0], row[1], row[2], row[3]) for row in session.execute(query)]


def _of(user: User, project: Project | None) -> Select[RoleGrant]:
    place = RoleGrant.domain_id.is_not(None) if project is None else RoleGrant.project_id == project.id
    return select(RoleGrant).where(RoleGrant.user_id == user.id, place)


def _place(project: Project | None) -> str:
    return "the whole domain" if project is None else f"project {project.name}"
