"""Permanent access keys: at most two for each user, active or not."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from onecut.db.identity import AccessKey, User
from onecut.errors import BadRequest, NotFound
from onecut.service import secrets
from onecut.service.secrets import ServiceKey

MAX_ACCESS_KEYS: Final = 2
"""Per user. Source: IAM API reference, creating a permanent access key (400 ``akSkNumExceed``)."""


def create(
    session: Session, service_key: ServiceKey, user_id: str, description: str, now: datetime
) -> tuple[AccessKey, str]:
    """
    Make an access key; the secret key is returned this once.

    Raises:
        BadRequest: The user has `MAX_ACCESS_KEYS` already.
    """
    session.execute(select(User).where(User.id == user_id).with_for_update())  # two at once would both count one
    if count(session, user_id) >= MAX_ACCESS_KEYS:
        raise BadRequest(f"akSkNumExceed: a user has at most {MAX_ACCESS_KEYS} access keys; delete one first")
    access, secret_key = secrets.new_access_key(), secrets.new_secret_key()
    key = AccessKey(
        access=access,
        user_id=user_id,
        secret_encrypted=service_key.encrypt(secret_key, owner=access),
        description=description,
        active=True,
        created_at=now,
    )
    session.add(key)
    return key, secret_key


def count(session: Session, user_id: str) -> int:
    """Count a user's access keys."""
    return session.scalar(select(func.count()).select_from(AccessKey).where(AccessKey.user_id == user_id)) or 0


def find(session: Session, access: str) -> AccessKey:
    """
    Return an access key.

    Raises:
        NotFound: There is none.
    """
    key = session.get(AccessKey, access)
    if key is None:
        raise NotFound("access key", access)
    return key


def list_of(session: Session, user_id: str) -> Sequence[AccessKey]:
    """Return a user's access keys, the oldest first."""
    query = select(AccessKey).where(AccessKey.user_id == user_id)
    return session.scalars(query.order_by(AccessKey.created_at, AccessKey.access)).all()


def list_all(session: Session) -> Sequence[tuple[AccessKey, User]]:
    """Return everybody's access keys with their owners, by name."""
    query = select(AccessKey, User).join(User, User.id == AccessKey.user_id)
    rows = session.execute(query.order_by(User.name, AccessKey.created_at, AccessKey.access))
    return [(key, user) for key, user in rows]


def change(key: AccessKey, *, active: bool | None, description: str | None) -> None:
    """Change a key; None leaves a field as it is. An inactive key signs nothing."""
    if active is not None:
        key.active = active
    if description is not None:
        key.description = description


def check_service_key(session: Session, service_key: ServiceKey) -> None:
    """
    Check that the database's secret keys were encrypted with *service_key*.

    Raises:
        Misconfigured: They were not.
    """
    key = session.scalar(select(AccessKey).limit(1))
    if key is not None:
        service_key.decrypt(key.secret_encrypted, owner=key.access)
