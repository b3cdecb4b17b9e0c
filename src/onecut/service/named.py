"""What domains, projects and users share: a name within the domain, beside the id."""

from typing import Final, TypeVar

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from onecut.db.identity import Domain, Project, User
from onecut.errors import BadRequest, NotFound

NAME_CHARS: Final = 64
DESCRIPTION_CHARS: Final = 255

Named = TypeVar("Named", Domain, Project, User)


def find(session: Session, table: type[Named], name: str, *conditions: ColumnElement[bool]) -> Named:
    """
    Return, for a change, what has *name* or that id and meets the *conditions*.

    Raises:
        NotFound: There is none.
        BadRequest: Several domains have one of that name.
    """
    query = select(table).where(or_(table.id == name, table.name == name), *conditions)
    found = session.scalars(query.limit(2).with_for_update()).all()
    if not found:
        raise NotFound(table.__tablename__, name)
    if len(found) > 1:
        raise BadRequest(f"{table.__tablename__}: several domains have one called {name!r}; use the id")
    return found[0]


def check_new_name(session: Session, table: type[Named], name: str, *conditions: ColumnElement[bool]) -> None:
    """
    Check the name of what shall be made; no other that meets the *conditions* may have it.

    Raises:
        BadRequest: It has not 1 to 64 printable characters, or is taken.
    """
    noun = table.__tablename__
    if not 1 <= len(name) <= NAME_CHARS or not name.isprintable():
        raise BadRequest(f"name: a {noun}'s has 1 to {NAME_CHARS} printable characters, unlike {name[:NAME_CHARS]!r}")
    if session.scalar(select(table).where(table.name == name, *conditions)) is not None:
        raise BadRequest(f"name: there is a {noun} called {name!r} already")


def check_description(description: str) -> None:
    """
    Check a description.

    Raises:
        BadRequest: It has more than 255 characters, or one that can't be printed.
    """
    if len(description) > DESCRIPTION_CHARS or not description.isprintable():
        raise BadRequest(f"description: has at most {DESCRIPTION_CHARS} printable characters")
