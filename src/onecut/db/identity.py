"""Who may call: domains, projects, users, roles, access keys and tokens."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from onecut.db.schema import Base


class Domain(Base):
    """An account. Projects and users belong to one."""

    __tablename__ = "domain"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    enabled: Mapped[bool] = mapped_column(default=True)


class Project(Base):
    """A tenant: every EVS resource belongs to one. Named after the region it lies in."""

    __tablename__ = "project"
    __table_args__ = (UniqueConstraint("domain_id", "name"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    domain_id: Mapped[str] = mapped_column(ForeignKey("domain.id"))
    name: Mapped[str] = mapped_column(String(64))
    description: Mapped[str] = mapped_column(String(255), default="")
    enabled: Mapped[bool] = mapped_column(default=True)


class User(Base):
    """A person or program that signs in. The password is stored as an argon2id hash."""

    __tablename__ = "user"
    __table_args__ = (UniqueConstraint("domain_id", "name"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    domain_id: Mapped[str] = mapped_column(ForeignKey("domain.id"))
    name: Mapped[str] = mapped_column(String(64))
    password_hash: Mapped[str] = mapped_column(String(255))
    enabled: Mapped[bool] = mapped_column(default=True)


class RoleGrant(Base):
    """What a user may do: in a project, or in every project of the user's domain. The two are never both set."""

    __tablename__ = "role_grant"
    __table_args__ = (UniqueConstraint("user_id", "project_id"), UniqueConstraint("user_id", "domain_id"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"))
    project_id: Mapped[str | None] = mapped_column(ForeignKey("project.id"))
    domain_id: Mapped[str | None] = mapped_column(ForeignKey("domain.id"))
    role: Mapped[str] = mapped_column(String(16))
    """``admin``, ``operator`` or ``reader``."""


class AccessKey(Base):
    """A permanent key pair for signing. The secret is encrypted with the service's own key."""

    __tablename__ = "access_key"

    access: Mapped[str] = mapped_column(String(40), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"), index=True)
    secret_encrypted: Mapped[bytes] = mapped_column(LargeBinary)
    description: Mapped[str] = mapped_column(String(255), default="")
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]


class Token(Base):
    """A token, known only by its SHA-256; scoped to a project or to a domain."""

    __tablename__ = "token"

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[str] = mapped_column(ForeignKey("user.id"), index=True)
    project_id: Mapped[str | None] = mapped_column(ForeignKey("project.id"))
    domain_id: Mapped[str | None] = mapped_column(ForeignKey("domain.id"))
    methods: Mapped[str] = mapped_column(String(64))
    issued_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)
