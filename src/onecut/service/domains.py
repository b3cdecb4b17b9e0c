"""Domains: the accounts that projects and users belong to."""

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from onecut.db.identity import Domain
from onecut.errors import BadRequest
from onecut.service import named


def create(session: Session, name: str) -> Domain:
    """
    Make a domain.

    Raises:
        BadRequest: The name is none, or taken.
    """
    named.check_new_name(session, Domain, name)
    domain = Domain(id=uuid4().hex, name=name, enabled=True)
    session.add(domain)
    session.flush()
    return domain


def list_all(session: Session) -> Sequence[Domain]:
    """Return all domains by name."""
    return session.scalars(select(Domain).order_by(Domain.name)).all()


def find(session: Session, name: str | None) -> Domain:
    """
    Return the domain of that name or id; without one the only domain there is.

    Raises:
        NotFound: There is none of that name.
        BadRequest: No name was given, and there are several domains.
    """
    if name is not None:
        return named.find(session, Domain, name)
    found = session.scalars(select(Domain).limit(2)).all()
    if len(found) != 1:
        raise BadRequest("domain: must be given, as there are several")
    return found[0]
