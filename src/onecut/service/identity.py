"""
Who calls, and what they may use: sign-in, tokens, projects and access keys.

A user may use the enabled projects of the own domain in which the user has a role (`onecut.service.roles`), and sees
no other. A token scoped to a project may use that project only; one scoped to a domain may use the IAM calls and no
project. A request signed with an access key may use all projects of the user, or the one that its ``X-Project-Id``
names.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal, TypeVarTuple
from uuid import uuid4

from sqlalchemy import Select, and_, bindparam, delete, exists, func, select
from sqlalchemy.orm import Session

from onecut.db.identity import AccessKey, Domain, Project, RoleGrant, Token, User
from onecut.db.session import Asker, Database
from onecut.errors import Forbidden, NotFound, Unauthenticated
from onecut.service import access_keys, roles, secrets, signing
from onecut.service.passwords import Passwords
from onecut.service.roles import Role
from onecut.service.secrets import ServiceKey

TOKEN_LIFE: Final = timedelta(hours=24)
"""Source: EVS API reference, authentication."""

Method = Literal["password", "token"]

Ts = TypeVarTuple("Ts")


@dataclass(frozen=True)
class Caller:
    """Somebody whose token or signature was right."""

    user_id: str
    domain_id: str
    project_id: str | None
    """The project that the token, or the signed request's ``X-Project-Id``, names; None if there is none."""
    roles: Mapping[str, Role]
    """Every project this request may use, by id, with the user's role in it."""
    how: Literal["token", "signature"]

    @property
    def project_ids(self) -> frozenset[str]:
        """Every project this request may use."""
        return frozenset(self.roles)


@dataclass(frozen=True)
class Signer:
    """The owner of an access key, and the secret that a signature is checked with."""

    user_id: str
    domain_id: str
    roles: Mapping[str, Role]
    """Every project the owner may use, by id, with the owner's role in it."""
    secret_key: str = field(repr=False)

    def caller(self, project_id: str | None) -> Caller:
        """Return the caller whose request was signed, narrowed to *project_id* when the request names one."""
        if project_id is None:
            return Caller(self.user_id, self.domain_id, None, self.roles, "signature")
        usable = {project_id: self.roles[project_id]} if project_id in self.roles else {}
        named = project_id if usable else None
        return Caller(self.user_id, self.domain_id, named, usable, "signature")


@dataclass(frozen=True)
class Credentials:
    """What the first start made: the only time that password and secret key are in plain text."""

    domain_name: str
    user_name: str
    password: str = field(repr=False)
    project_name: str
    project_id: str
    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class Scope:
    """What a token shall be good for: a project (by id, or by name and domain) or a domain (by id or name)."""

    kind: Literal["project", "domain"]
    id: str | None = None
    name: str | None = None
    domain_id: str | None = None
    """For a project by name: its domain; the user's own one when neither this nor the next is given."""
    domain_name: str | None = None


@dataclass(frozen=True)
class TokenFacts:
    """All that a token says of its owner."""

    user: User
    user_domain: Domain
    project: Project | None
    domain: Domain | None
    """The domain it is scoped to; None when it is scoped to a project."""
    role: Role | None
    """What the owner may do in that project, or in every project of that domain; None for nothing."""
    method: str
    issued_at: datetime
    expires_at: datetime

    def scope(self) -> Scope:
        """Return what the token is good for."""
        if self.project is not None:
            return Scope("project", self.project.id)
        return Scope("domain", self.user_domain.id)


@dataclass(frozen=True)
class ProjectFilter:
    """Which projects are wanted; None stands for any."""

    name: str | None = None
    domain_id: str | None = None
    parent_id: str | None = None
    """The domain, as no project lies in another."""
    enabled: bool | None = None
    is_domain: bool | None = None
    """True finds nothing: domains are not projects here."""


def new_id() -> str:
    """Make an id in IAM's form: 32 hex digits."""
    return uuid4().hex


# First start


def bootstrap(
    session: Session,
    service_key: ServiceKey,
    passwords: Passwords,
    *,
    region: str,
    now: datetime,
) -> Credentials | None:
    """
    Make domain, project (named *region*), admin user and access key; None when an earlier start did.

    Write the credentials down before the transaction of *session* is committed: a crash between the two leaves a
    file that the next start replaces, never a user whose password nobody knows.

    Raises:
        Misconfigured: The database's secret keys were encrypted with another service key.
    """
    if session.scalar(select(func.count()).select_from(Domain)):
        access_keys.check_service_key(session, service_key)
        return None
    domain = Domain(id=new_id(), name="onecut")
    project = Project(id=new_id(), domain_id=domain.id, name=region)
    password = secrets.new_password()
    user = User(id=new_id(), domain_id=domain.id, name="admin", password_hash=passwords.hash(password))
    session.add(domain)
    session.flush()
    session.add_all((project, user))
    session.flush()
    roles.grant(session, user, "admin", None)
    key, secret_key = access_keys.create(session, service_key, user.id, "made at the first start", now)
    return Credentials(domain.name, user.name, password, project.name, project.id, key.access, secret_key)


# Callers


def _of_good_token(columns: Select[*Ts]) -> Select[*Ts]:
    """
    Select *columns* of a token that is good now: see `_good`.

    There is one row for each role that the user has in the token's project, and one without a role if there is none.
    """
    return (
        columns.select_from(Token)
        .join(User, User.id == Token.user_id)
        .join(Domain, Domain.id == User.domain_id)
        .outerjoin(Project, Project.id == Token.project_id)
        .outerjoin(RoleGrant, roles.opens(Token.project_id))
        .where(
            Token.token_sha256 == bindparam("token_sha256"),
            Token.expires_at > bindparam("now"),
            User.enabled,
            Domain.enabled,
            Project.enabled.is_not(False),  # null for a token that is scoped to the domain
        )
    )


def _good(token: str, now: datetime) -> dict[str, object]:
    return {"token_sha256": secrets.token_digest(token), "now": now}


# Asked for each request: built once, and read as rows.
_CALLER: Final = _of_good_token(select(User.id, User.domain_id, Token.project_id, RoleGrant.role))
_TOKEN: Final = _of_good_token(select(Token, User, Domain, Project, RoleGrant.role))


def caller_by_token(asker: Asker, token: str, now: datetime) -> Caller:
    """
    Find out who calls with *token*. One whose user has lost the role in its project names the project all the same.

    Raises:
        Unauthenticated: It is unknown, revoked or expired, or its user, domain or project was disabled.
    """
    rows = asker.execute(_CALLER, _good(token, now)).all()
    if not rows:
        raise Unauthenticated("the token is unknown or expired")
    user_id, domain_id, project_id, _ = rows[0]
    role = roles.strongest(row[3] for row in rows)
    usable = {} if project_id is None or role is None else {project_id: role}
    return Caller(user_id, domain_id, project_id, usable, "token")


# One row for each role that the user has in each enabled project of the own domain; one without if there is none.
_SIGNER: Final = (
    select(User.id, User.domain_id, AccessKey.secret_encrypted, Project.id, RoleGrant.role)
    .select_from(AccessKey)
    .join(User, User.id == AccessKey.user_id)
    .join(Domain, Domain.id == User.domain_id)
    .outerjoin(Project, and_(Project.domain_id == User.domain_id, Project.enabled))
    .outerjoin(RoleGrant, roles.opens(Project.id))
    .where(AccessKey.access == bindparam("access_key"), AccessKey.active, User.enabled, Domain.enabled)
)


def find_signer(asker: Asker, service_key: ServiceKey, access_key: str) -> Signer:
    """
    Find the owner of *access_key*, whose signature is then to be verified.

    Raises:
        Unauthenticated: The key is unknown or inactive, or its user or domain was disabled.
    """
    rows = asker.execute(_SIGNER, {"access_key": access_key}).all()
    if not rows:
        raise signing.unknown_key()
    user_id, domain_id, secret, _, _ = rows[0]
    held: defaultdict[str | None, list[str | None]] = defaultdict(list)
    for *_, project_id, role in rows:
        held[project_id].append(role)
    usable = {
        project_id: best
        for project_id, found in held.items()
        if project_id is not None and (best := roles.strongest(found)) is not None
    }
    return Signer(user_id, domain_id, usable, service_key.decrypt(secret, owner=access_key))


# Tokens


def sign_in(database: Database, passwords: Passwords, *, domain_name: str, user_name: str, password: str) -> str:
    """
    Check a password, and return the user's id.

    Takes the database, not a session: a password check is slow on purpose, and no transaction waits for it.

    Raises:
        Unauthenticated: There is no such user, or the password is wrong (told apart neither by words nor by time),
            or the user failed too often.
    """
    with database.reading() as session:
        user = session.scalar(
            select(User)
            .join(Domain, Domain.id == User.domain_id)
            .where(User.name == user_name, Domain.name == domain_name, User.enabled, Domain.enabled),
        )
    right = passwords.check((domain_name, user_name), user.password_hash if user else None, password)
    if user is None or not right:
        raise Unauthenticated("the user name or the password is wrong")
    return user.id


def issue_token(session: Session, user_id: str, scope: Scope | None, *, now: datetime) -> tuple[str, TokenFacts]:
    """
    Issue a token to a user whose password was right; return it with what it says.

    Without a scope the token is good for the only project that the user may use; where there are several, or none,
    for the domain. Expired tokens of everybody are swept on the way.

    Raises:
        Unauthenticated: The user may not use that scope, or was disabled since.
    """
    session.execute(delete(Token).where(Token.expires_at <= now))
    return _issue(session, user_id, scope, method="password", now=now, expires_at=now + TOKEN_LIFE)


def exchange_token(session: Session, token: str, scope: Scope | None, *, now: datetime) -> tuple[str, TokenFacts]:
    """
    Issue a token in another scope for one that is valid; it expires with the first.

    Without a scope the new token has that of the first. Revoking one does not revoke the other.

    Raises:
        Unauthenticated: The first token is not valid, or its user may not use that scope.
    """
    first = _find_token(session, token, now)
    if first is None:
        raise Unauthenticated("the token is unknown or expired")
    if scope is None:
        scope = first.scope()
    return _issue(session, first.user.id, scope, method="token", now=now, expires_at=first.expires_at)


def validate_token(session: Session, caller: Caller, token: str, now: datetime) -> TokenFacts:
    """
    Return what a token of the caller says; an administrator of the domain may ask about those of all its users.

    Raises:
        NotFound: It is unknown, expired, or one that the caller may not ask about.
    """
    facts = _find_token(session, token, now)
    if facts is None or not _may_manage(session, caller, facts.user):
        raise NotFound("token", "in X-Subject-Token")
    return facts


def _may_manage(session: Session, caller: Caller, user: User) -> bool:
    if user.id == caller.user_id:
        return True
    return user.domain_id == caller.domain_id and roles.held(session, caller.user_id, None) == "admin"


def revoke_token(session: Session, caller: Caller, token: str, now: datetime) -> None:
    """
    End a token that `validate_token` shows to the caller, at once.

    Raises:
        NotFound: As `validate_token`.
    """
    validate_token(session, caller, token, now)
    session.execute(delete(Token).where(Token.token_sha256 == secrets.token_digest(token)))


def _issue(
    session: Session,
    user_id: str,
    scope: Scope | None,
    *,
    method: Method,
    now: datetime,
    expires_at: datetime,
) -> tuple[str, TokenFacts]:
    user, domain = _enabled_user(session, user_id)
    project, scope_domain = _resolve(session, user, domain, scope)
    project_id = project.id if project else None
    token = secrets.new_token()
    session.add(
        Token(
            token_sha256=secrets.token_digest(token),
            user_id=user.id,
            project_id=project_id,
            domain_id=scope_domain.id if scope_domain else None,
            methods=method,
            issued_at=now,
            expires_at=expires_at,
        ),
    )
    role = roles.held(session, user_id, project_id)
    return token, TokenFacts(user, domain, project, scope_domain, role, method, now, expires_at)


def _enabled_user(session: Session, user_id: str) -> tuple[User, Domain]:
    row = session.execute(
        select(User, Domain)
        .join(Domain, Domain.id == User.domain_id)
        .where(User.id == user_id, User.enabled, Domain.enabled),
    ).one_or_none()
    if row is None:
        raise Unauthenticated("the user is disabled")
    user, domain = row
    return user, domain


def _resolve(session: Session, user: User, own: Domain, scope: Scope | None) -> tuple[Project | None, Domain | None]:
    """Find what *scope* names within the user's own domain; a foreign one is refused like one that is not there."""
    if scope is None:
        projects = session.scalars(_usable_projects(user.id).limit(2)).all()
        if len(projects) == 1:
            return projects[0], None
        return None, own
    if scope.kind == "domain":
        if own.id == scope.id if scope.id is not None else own.name == scope.name:
            return None, own
    elif _within(scope, own):
        wanted = Project.id == scope.id if scope.id is not None else Project.name == scope.name
        project = session.scalar(_usable_projects(user.id).where(wanted))
        if project is not None:
            return project, None
    raise Unauthenticated(f"the user may not use this {scope.kind}, or there is none")


def _within(scope: Scope, own: Domain) -> bool:
    return scope.domain_id in {None, own.id} and scope.domain_name in {None, own.name}


def _granted_projects(user_id: str) -> Select[Project]:
    """Select the projects in which the user has a role, enabled or not."""
    granted = exists().where(User.id == user_id, User.domain_id == Project.domain_id, roles.opens(Project.id))
    return select(Project).where(granted).order_by(Project.name)


def _usable_projects(user_id: str) -> Select[Project]:
    return _granted_projects(user_id).where(Project.enabled)


def _find_token(session: Session, token: str, now: datetime) -> TokenFacts | None:
    rows = session.execute(_TOKEN, _good(token, now)).all()
    if not rows:
        return None
    found, user, domain, project, _ = rows[0]
    return TokenFacts(
        user,
        domain,
        project,
        domain if project is None else None,  # a user's tokens have the own domain, see `_resolve`
        roles.strongest(row[4] for row in rows),
        found.methods,
        found.issued_at,
        found.expires_at,
    )


# Projects and domains


def list_projects(
    session: Session,
    caller: Caller,
    wanted: ProjectFilter,
    *,
    page: int,
    per_page: int,
) -> tuple[Sequence[Project], bool]:
    """Return one page (from 1) of the projects in which the caller has a role, by name, and whether more follow."""
    query = _granted_projects(caller.user_id)
    for column, value in ((Project.name, wanted.name), (Project.enabled, wanted.enabled)):
        if value is not None:
            query = query.where(column == value)
    foreign = {wanted.domain_id, wanted.parent_id} - {None, caller.domain_id}
    if foreign or wanted.is_domain:
        return (), False
    found = session.scalars(query.offset((page - 1) * per_page).limit(per_page + 1)).all()
    return found[:per_page], len(found) > per_page


def usable_projects(session: Session, user_id: str) -> Sequence[Project]:
    """Return the projects that a user can have a token for."""
    return session.scalars(_usable_projects(user_id)).all()


def own_domain(session: Session, caller: Caller) -> Domain:
    """Return the caller's domain."""
    return session.get_one(Domain, caller.domain_id)


def region_of(project: Project) -> str:
    """Return the region a project lies in: its name up to the first underscore (``region-1_team``), as in IAM."""
    return project.name.split("_", 1)[0]


# Access keys


def create_access_key(
    session: Session,
    service_key: ServiceKey,
    caller: Caller,
    *,
    user_id: str,
    description: str,
    now: datetime,
) -> tuple[AccessKey, str]:
    """
    Make an access key for the caller; the secret key is returned this once.

    Raises:
        Forbidden: *user_id* is not the caller's.
        BadRequest: The user has as many as there may be.
    """
    _check_own(caller, user_id)
    return access_keys.create(session, service_key, user_id, description, now)


def list_access_keys(session: Session, caller: Caller, *, user_id: str | None) -> Sequence[AccessKey]:
    """
    Return the caller's access keys, the oldest first.

    Raises:
        Forbidden: *user_id* is given and not the caller's.
    """
    _check_own(caller, user_id or caller.user_id)
    return access_keys.list_of(session, caller.user_id)


def get_access_key(session: Session, caller: Caller, access: str) -> AccessKey:
    """
    Return one of the caller's access keys.

    Raises:
        NotFound: There is none, or it is somebody else's.
    """
    key = access_keys.find(session, access)
    if key.user_id != caller.user_id:
        raise NotFound("access key", access)
    return key


def update_access_key(
    session: Session,
    caller: Caller,
    access: str,
    *,
    active: bool | None,
    description: str | None,
) -> AccessKey:
    """Change one of the caller's access keys; None leaves a field as it is. An inactive key signs nothing."""
    key = get_access_key(session, caller, access)
    access_keys.change(key, active=active, description=description)
    return key


def delete_access_key(session: Session, caller: Caller, access: str) -> None:
    """Delete one of the caller's access keys; it signs nothing from then on."""
    session.delete(get_access_key(session, caller, access))


def _check_own(caller: Caller, user_id: str) -> None:
    if user_id != caller.user_id:
        raise Forbidden("a user manages the own access keys only")
