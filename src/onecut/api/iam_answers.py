"""
What the IAM calls answer, in IAM's (Keystone's) own forms.

Sources: IAM API reference, tokens, projects, access key management; Keystone v3 API.
"""

from pydantic import BaseModel, Field

from onecut.api.fields import absent


class Named(BaseModel):
    """A domain, a role or a project, by id and name."""

    id: str
    name: str


class NamedInDomain(Named):
    """A project, with its domain."""

    domain: Named


class TokenUser(NamedInDomain):
    """Whom a token speaks for."""

    password_expires_at: str = Field(default="", description="Empty: passwords do not expire.")


class EndpointView(BaseModel):
    """Where a service is, for clients of a region."""

    id: str
    interface: str = "public"
    region: str
    region_id: str
    url: str


class CatalogEntry(BaseModel):
    """A service, and where it is."""

    id: str
    name: str
    type: str
    endpoints: list[EndpointView]


class TokenView(BaseModel):
    """What a token is good for; the token itself is in the header `X-Subject-Token`."""

    methods: list[str]
    issued_at: str
    expires_at: str
    user: TokenUser
    roles: list[Named]
    project: NamedInDomain | None = Field(exclude_if=absent, description="Of a token for a project.")
    domain: Named | None = Field(exclude_if=absent, description="Of a token for a domain.")
    catalog: list[CatalogEntry] | None = Field(exclude_if=absent, description="Left out when `nocatalog` is given.")


class OneToken(BaseModel):
    """One token."""

    token: TokenView


class OwnLink(BaseModel):
    """Where a resource is."""

    itself: str = Field(serialization_alias="self")


class PageLinks(OwnLink):
    """Where a list is, and the pages beside it."""

    next: str | None = None
    previous: str | None = None


class CatalogView(BaseModel):
    """The services that the caller's scope opens."""

    catalog: list[CatalogEntry]
    links: PageLinks


class ProjectView(BaseModel):
    """A project."""

    id: str
    name: str
    domain_id: str
    parent_id: str
    enabled: bool
    is_domain: bool = False
    description: str
    links: PageLinks


class ProjectList(BaseModel):
    """Projects."""

    projects: list[ProjectView]
    links: PageLinks


class DomainView(BaseModel):
    """A domain."""

    id: str
    name: str
    enabled: bool
    description: str = ""
    links: OwnLink


class DomainList(BaseModel):
    """Domains."""

    domains: list[DomainView]
    links: PageLinks


class RegionView(BaseModel):
    """A region: where projects are called after it."""

    id: str
    type: str = "public"
    description: str = ""
    parent_region_id: str | None = None
    locales: dict[str, str]
    links: OwnLink


class RegionList(BaseModel):
    """Regions."""

    regions: list[RegionView]
    links: PageLinks


class AccessKeyView(BaseModel):
    """An access key, without what it signs with."""

    access: str
    user_id: str
    status: str = Field(description="`active` or `inactive`.")
    description: str
    create_time: str


class NewAccessKeyView(AccessKeyView):
    """An access key that was just made."""

    secret: str = Field(description="What it signs with. It is shown this once.")


class OneAccessKey(BaseModel):
    """One access key."""

    credential: AccessKeyView


class NewAccessKey(BaseModel):
    """One access key that was just made."""

    credential: NewAccessKeyView


class AccessKeys(BaseModel):
    """Access keys."""

    credentials: list[AccessKeyView]
