"""Users: who signs in. What they may do is `onecut.service.roles`' matter."""

from collections.abc import Sequence
from typing import Final
from uuid import uuid4

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from onecut.db.identity import Domain, Token, User
from onecut.errors import BadRequest
from onecut.service import access_keys, named, roles
from onecut.service.passwords import Passwords

PASSWORD_CHARS_MIN: Final = 8
"""Source: NIST SP 800-63B, 5.1.1.1."""
PASSWORD_CHARS_MAX: Final = 128
"""The longest that a sign-in takes."""


def create(session: Session, passwords: Passwords, domain: Domain, name: str, password: str) -> User:
    """
    Make a user, who may do nothing before a role is granted.

    Raises:
        BadRequest: The name is none, or taken; or the password is too short or too long.
    """
    named.check_new_name(session, User, name, User.domain_id == domain.id)
    user = User(id=uuid4().hex, domain_id=domain.id, name=name, enabled=True)
    user.password_hash = _hash(passwords, password)
    session.add(user)
    session.flush()
    return user


def list_all(session: Session) -> Sequence[tuple[User, Domain]]:
    """Return all users with their domains, by domain and name."""
    query = select(User, Domain).join(Domain, Domain.id == User.domain_id).order_by(Domain.name, User.name)
    return [(user, domain) for user, domain in session.execute(query)]


def set_password(session: Session, passwords: Passwords, user: User, password: str) -> None:
    """
    Change a password, and end the user's tokens: who knew the old one may hold some.

    Raises:
        BadRequest: It is too short or too long.
    """
    user.password_hash = _hash(passwords, password)
    session.execute(delete(Token).where(Token.user_id == user.id))


def remove(session: Session, user: User) -> None:
    """
    Delete a user with roles and tokens.

    Raises:
        BadRequest: The user has access keys.
    """
    number = access_keys.count(session, user.id)
    if number:
        raise BadRequest(f"user {user.name} can't be deleted: it owns {number} access key{'s' * (number > 1)}")
    roles.revoke_all(session, user)
    session.execute(delete(Token).where(Token.user_id == user.id))
    session.delete(user)


def _hash(passwords: Passwords, password: str) -> str:
    if not PASSWORD_CHARS_MIN <= len(password) <= PASSWORD_CHARS_MAX or not password.isprintable():
        raise BadRequest(
            f"password: has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} printable characters, not {len(password)}"
        )
    return passwords.hash(password)
