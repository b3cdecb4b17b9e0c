"""
The few IAM calls that EVS clients need, in IAM's (Keystone's) own forms.

Sources: IAM API reference, tokens, projects, access key management; Keystone v3 API.
"""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlencode

import anyio
from fastapi import Header, Query, Request, Response
from pydantic import AfterValidator, Field, model_validator
from starlette.exceptions import HTTPException

from onecut.api.auth import CurrentCaller
from onecut.api.dependencies import Reading, Time, Writing
from onecut.api.fields import Body, Text255
from onecut.api.iam_answers import (
    AccessKeys,
    AccessKeyView,
    CatalogEntry,
    CatalogView,
    DomainList,
    DomainView,
    EndpointView,
    Named,
    NamedInDomain,
    NewAccessKey,
    NewAccessKeyView,
    OneAccessKey,
    OneToken,
    OwnLink,
    PageLinks,
    ProjectList,
    ProjectView,
    RegionList,
    RegionView,
    TokenUser,
    TokenView,
)
from onecut.api.routing import Router
from onecut.clock import Clock, time_text
from onecut.db.identity import AccessKey, Domain, Project
from onecut.db.session import Database
from onecut.service import identity
from onecut.service.identity import ProjectFilter, Scope, TokenFacts
from onecut.service.passwords import Passwords

router = Router(tags=["IAM"])

PER_PAGE_MAX: Final = 5000
PAGE_MAX: Final = 1_000_000
"""Keeps the offset within what any database takes."""
SIGN_IN_WAIT_S: Final = 10.0
"""How long a sign-in waits for others' password checks before it is told to come back."""

EVS_VERSIONS: Final = {"volumev2": "/v2", "volumev3": "/v3", "block-storage": "/v3", "evs": "/v5"}
"""Catalog types, and where each begins."""


# Requests


def _storable(value: str) -> str:
    value.encode()  # a lone surrogate is a ValueError: neither hash nor database can take it
    if "\0" in value:
        raise ValueError("must not contain the character U+0000")  # PostgreSQL takes it in no text
    return value


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_storable)]
Secret = Annotated[str, Field(min_length=1, max_length=128, repr=False), AfterValidator(_storable)]


class _Domain(Body):
    id: Name | None = None
    name: Name | None = None


class _DomainName(Body):
    name: Name


class _User(Body):
    name: Name
    password: Secret
    domain: _DomainName


class _Password(Body):
    user: _User


class _Token(Body):
    id: Secret


class _Identity(Body):
    methods: list[Literal["password", "token"]] = Field(min_length=1, max_length=1)
    password: _Password | None = None
    token: _Token | None = None

    @model_validator(mode="after")
    def _has_its_method(self) -> Self:
        if getattr(self, self.methods[0]) is None:
            raise ValueError(f"methods has {self.methods[0]!r}, but identity.{self.methods[0]} is missing")
        return self


class _Project(Body):
    id: Name | None = None
    name: Name | None = None
    domain: _Domain | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.id is None and self.name is None:
            raise ValueError("needs id or name")
        return self


class _Scope(Body):
    project: _Project | None = None
    domain: _Domain | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.project is None) == (self.domain is None):
            raise ValueError("needs project or domain, and not both")
        if self.domain is not None and self.domain.id is None and self.domain.name is None:
            raise ValueError("domain needs id or name")
        return self

    def wanted(self) -> Scope:
        """Say it in the service's words."""
        if self.domain is not None:
            return Scope("domain", self.domain.id, self.domain.name)
        assert self.project is not None  # noqa: S101 - see _one
        domain = self.project.domain or _Domain()
        return Scope("project", self.project.id, self.project.name, domain.id, domain.name)


class _Auth(Body):
    identity: _Identity
    scope: _Scope | None = None


class SignIn(Body):
    """The body of a token request."""

    auth: _Auth


class _NewKey(Body):
    user_id: Name
    description: Text255 = ""


class CreateAccessKey(Body):
    """The body that asks for an access key."""

    credential: _NewKey


class _KeyChange(Body):
    status: Literal["active", "inactive"] | None = None
    description: Text255 | None = None


class UpdateAccessKey(Body):
    """The body that changes an access key; what is absent stays."""

    credential: _KeyChange


SUBJECT_TOKEN: Final = "X-Subject-Token"  # noqa: S105 - the header, not a token
SubjectToken = Annotated[str, Header(alias=SUBJECT_TOKEN, description="The token that is asked about.")]
NoCatalog = Annotated[str, Query(description="Any text leaves the catalog out of the answer.")]


# Tokens


@router.post("/v3/auth/tokens", status_code=HTTPStatus.CREATED)
async def create_token(body: SignIn, request: Request, response: Response, nocatalog: NoCatalog = "") -> OneToken:
    """
    Issue a token for a password, or for a token in another scope.

    A coroutine, so that those who wait for a password check hold none of the threads that other requests need.
    """
    passwords: Passwords = request.app.state.passwords
    limiter = passwords.limiter if body.auth.identity.methods == ["password"] else None
    issue = partial(_issue, request.app.state.database, passwords, request.app.state.clock, body.auth)
    try:
        with anyio.fail_after(SIGN_IN_WAIT_S):
            token, facts = await anyio.to_thread.run_sync(issue, limiter=limiter)
    except TimeoutError as error:
        message = "too many sign-ins at once; try again later"
        raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, message) from error
    response.headers[SUBJECT_TOKEN] = token
    return _token_view(request, facts, nocatalog)


def _issue(database: Database, passwords: Passwords, clock: Clock, auth: _Auth) -> tuple[str, TokenFacts]:
    scope = auth.scope.wanted() if auth.scope else None
    if auth.identity.token is not None and auth.identity.methods == ["token"]:
        with database.writing() as session:
            return identity.exchange_token(session, auth.identity.token.id, scope, now=clock.now())
    assert auth.identity.password is not None  # noqa: S101 - see _Identity
    user = auth.identity.password.user
    user_id = identity.sign_in(
        database,
        passwords,
        domain_name=user.domain.name,
        user_name=user.name,
        password=user.password,
    )
    with database.writing() as session:
        return identity.issue_token(session, user_id, scope, now=clock.now())


@router.get("/v3/auth/tokens")
def validate_token(  # noqa: PLR0917 - FastAPI passes by name
    request: Request,
    response: Response,
    session: Reading,
    clock: Time,
    caller: CurrentCaller,
    subject: SubjectToken,
    nocatalog: NoCatalog = "",
) -> OneToken:
    """Say what a token is good for: the caller's own, or any of the domain for its administrator."""
    facts = identity.validate_token(session, caller, subject, clock.now())
    response.headers[SUBJECT_TOKEN] = subject
    return _token_view(request, facts, nocatalog)


@router.head("/v3/auth/tokens", response_class=Response)
def check_token(session: Reading, clock: Time, caller: CurrentCaller, subject: SubjectToken) -> Response:
    """Say whether such a token is valid."""
    identity.validate_token(session, caller, subject, clock.now())
    return Response(headers={SUBJECT_TOKEN: subject})


@router.delete("/v3/auth/tokens", status_code=HTTPStatus.NO_CONTENT)
def revoke_token(session: Writing, clock: Time, caller: CurrentCaller, subject: SubjectToken) -> None:
    """End such a token at once."""
    identity.revoke_token(session, caller, subject, clock.now())


# Projects, domains, regions, catalog


@router.get("/v3/projects")
def list_projects(  # noqa: PLR0917 - FastAPI passes by name
    request: Request,
    session: Reading,
    caller: CurrentCaller,
    domain_id: Name | None = None,
    name: Name | None = None,
    parent_id: Name | None = None,
    enabled: bool | None = None,  # noqa: FBT001 - see above
    is_domain: bool | None = None,  # noqa: FBT001 - see above
    page: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 1,
    per_page: Annotated[int, Query(ge=1, le=PER_PAGE_MAX)] = PER_PAGE_MAX,
) -> ProjectList:
    """List the projects in which the caller has a role; the filters are exact."""
    wanted = ProjectFilter(name, domain_id, parent_id, enabled, is_domain)
    found, more = identity.list_projects(session, caller, wanted, page=page, per_page=per_page)
    return ProjectList(
        projects=[_project_view(request, project) for project in found],
        links=PageLinks(
            itself=_page_link(request, page),
            previous=_page_link(request, page - 1) if page > 1 else None,
            next=_page_link(request, page + 1) if more else None,
        ),
    )


@router.get("/v3/auth/projects")
def list_own_projects(request: Request, session: Reading, caller: CurrentCaller) -> ProjectList:
    """List the projects that the caller can have a token for."""
    found = identity.usable_projects(session, caller.user_id)
    return ProjectList(projects=[_project_view(request, project) for project in found], links=_self_links(request))


@router.get("/v3/auth/domains")
def list_own_domains(request: Request, session: Reading, caller: CurrentCaller) -> DomainList:
    """List the one domain that the caller can have a token for."""
    domain = identity.own_domain(session, caller)
    own = OwnLink(itself=f"{_base(request)}/v3/domains/{domain.id}")
    view = DomainView(id=domain.id, name=domain.name, enabled=domain.enabled, links=own)
    return DomainList(domains=[view], links=_self_links(request))


@router.get("/v3/regions")
def list_regions(request: Request, session: Reading, caller: CurrentCaller) -> RegionList:
    """List the regions in which the caller has projects."""
    names = sorted({identity.region_of(project) for project in identity.usable_projects(session, caller.user_id)})
    regions = [
        RegionView(id=name, locales={"en-us": name}, links=OwnLink(itself=f"{_base(request)}/v3/regions/{name}"))
        for name in names
    ]
    return RegionList(regions=regions, links=_self_links(request))


@router.get("/v3/auth/catalog")
def show_catalog(request: Request, session: Reading, caller: CurrentCaller) -> CatalogView:
    """Say where the services are that the caller's scope opens."""
    project = next((p for p in identity.usable_projects(session, caller.user_id) if p.id == caller.project_id), None)
    return CatalogView(catalog=_catalog(request, project), links=_self_links(request))


# Permanent access keys


@router.post("/v3.0/OS-CREDENTIAL/credentials", status_code=HTTPStatus.CREATED)
def create_access_key(
    body: CreateAccessKey,
    request: Request,
    session: Writing,
    clock: Time,
    caller: CurrentCaller,
) -> NewAccessKey:
    """Make an access key for the caller. The secret key is in this answer and in no other."""
    key, secret_key = identity.create_access_key(
        session,
        request.app.state.secrets,
        caller,
        user_id=body.credential.user_id,
        description=body.credential.description,
        now=clock.now(),
    )
    return NewAccessKey(credential=NewAccessKeyView(**_key_fields(key), secret=secret_key))


@router.get("/v3.0/OS-CREDENTIAL/credentials")
def list_access_keys(session: Reading, caller: CurrentCaller, user_id: Name | None = None) -> AccessKeys:
    """List the caller's access keys."""
    found = identity.list_access_keys(session, caller, user_id=user_id)
    return AccessKeys(credentials=[AccessKeyView(**_key_fields(key)) for key in found])


@router.get("/v3.0/OS-CREDENTIAL/credentials/{access_key}")
def show_access_key(access_key: Name, session: Reading, caller: CurrentCaller) -> OneAccessKey:
    """Show one of the caller's access keys."""
    key = identity.get_access_key(session, caller, access_key)
    return OneAccessKey(credential=AccessKeyView(**_key_fields(key)))


@router.put("/v3.0/OS-CREDENTIAL/credentials/{access_key}")
def update_access_key(
    access_key: Name,
    body: UpdateAccessKey,
    session: Writing,
    caller: CurrentCaller,
) -> OneAccessKey:
    """Switch one of the caller's access keys on or off, or describe it."""
    change = body.credential
    active = None if change.status is None else change.status == "active"
    key = identity.update_access_key(session, caller, access_key, active=active, description=change.description)
    return OneAccessKey(credential=AccessKeyView(**_key_fields(key)))


@router.delete("/v3.0/OS-CREDENTIAL/credentials/{access_key}", status_code=HTTPStatus.NO_CONTENT)
def delete_access_key(access_key: Name, session: Writing, caller: CurrentCaller) -> None:
    """Delete one of the caller's access keys."""
    identity.delete_access_key(session, caller, access_key)


# Views


def _token_view(request: Request, facts: TokenFacts, nocatalog: str) -> OneToken:
    project, domain = facts.project, _named(facts.user_domain)
    view = TokenView(
        methods=[facts.method],
        issued_at=_time_text(facts.issued_at),
        expires_at=_time_text(facts.expires_at),
        user=TokenUser(id=facts.user.id, name=facts.user.name, domain=domain),
        roles=[] if facts.role is None else [Named(id="0", name=facts.role)],
        project=None if project is None else NamedInDomain(id=project.id, name=project.name, domain=domain),
        domain=None if facts.domain is None else _named(facts.domain),
        catalog=None if nocatalog else _catalog(request, project),
    )
    return OneToken(token=view)


def _catalog(request: Request, project: Project | None) -> list[CatalogEntry]:
    """Return the catalog of a project's scope; a domain's scope opens IAM only."""
    base = _base(request)
    if project is None:
        return [_catalog_entry("iam", "identity", "*", f"{base}/v3")]
    region = identity.region_of(project)
    # OpenStack's clients, once told a region, look for every service in it; IAM itself says "*".
    iam = _catalog_entry("iam", "identity", "*", f"{base}/v3")
    iam.endpoints += _catalog_entry("iam", "identity", region, f"{base}/v3").endpoints
    return [
        iam,
        *(
            _catalog_entry("evs", kind, region, f"{base}{version}/{project.id}")
            for kind, version in EVS_VERSIONS.items()
        ),
    ]


def _catalog_entry(name: str, kind: str, region: str, url: str) -> CatalogEntry:
    """Build an entry; its ids tell it from the others, and stay."""
    endpoint = EndpointView(id=f"{kind}-{region}", region=region, region_id=region, url=url)
    return CatalogEntry(id=kind, name=name, type=kind, endpoints=[endpoint])


def _project_view(request: Request, project: Project) -> ProjectView:
    return ProjectView(
        id=project.id,
        name=project.name,
        domain_id=project.domain_id,
        parent_id=project.domain_id,
        enabled=project.enabled,
        description=project.description,
        links=PageLinks(itself=f"{_base(request)}/v3/projects/{project.id}"),
    )


def _key_fields(key: AccessKey) -> dict[str, Any]:
    return {
        "access": key.access,
        "user_id": key.user_id,
        "status": "active" if key.active else "inactive",
        "description": key.description,
        "create_time": _time_text(key.created_at),
    }


def _named(domain: Domain) -> Named:
    return Named(id=domain.id, name=domain.name)


def _base(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _self_links(request: Request) -> PageLinks:
    return PageLinks(itself=f"{_base(request)}{request.url.path}")


def _page_link(request: Request, page: int) -> str:
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "page"]
    if page > 1 or "page" in request.query_params:
        query.append(("page", str(page)))
    return f"{_base(request)}{request.url.path}" + (f"?{urlencode(query)}" if query else "")


def _time_text(moment: datetime) -> str:
    """Print a moment as IAM does: ``2026-01-15T22:10:05.120334Z``."""
    return time_text(moment) + "Z"
