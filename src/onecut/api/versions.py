"""The versions of the API, in the form that OpenStack clients look for."""

from http import HTTPStatus
from typing import Final

from fastapi import Request
from pydantic import BaseModel, Field

from onecut.api.links import Link, endpoint
from onecut.api.routing import Router

router = Router(tags=["versions"])

MICROVERSION: Final = "3.0"
"""The one microversion that there is: Cinder's plain v3."""

VERSIONS: Final = {
    "v1": ("SUPPORTED", "", ""),
    "v2": ("SUPPORTED", "", ""),
    "v3": ("CURRENT", MICROVERSION, MICROVERSION),
}
"""For each version its status, its newest and its oldest microversion."""

UPDATED: Final = "2026-01-15T00:00:00Z"


class MediaType(BaseModel):
    """What a version answers."""

    base: str = "application/json"
    type: str


class VersionView(BaseModel):
    """A version of the API."""

    id: str
    status: str
    updated: str = UPDATED
    version: str = Field(description="The newest microversion; empty without any.")
    min_version: str = Field(description="The oldest.")
    links: list[Link]
    media_types: list[MediaType] = Field(serialization_alias="media-types")


class Versions(BaseModel):
    """Versions of the API."""

    versions: list[VersionView]


@router.get("/", status_code=HTTPStatus.MULTIPLE_CHOICES, summary="List the API versions")
def list_versions(request: Request) -> Versions:
    """Name every version. The status is 300, as OpenStack answers here."""
    return Versions(versions=[_version(request, name) for name in VERSIONS])


# Links name the versions with a slash at the end, and keystoneauth looks them up there. It takes the one document of
# /v3 for Keystone's as well as for Cinder's.
@router.get("/v1/", include_in_schema=False)
@router.get("/v2/", include_in_schema=False)
@router.get("/v3/", include_in_schema=False)
@router.get("/v1", summary="Show version 1")
@router.get("/v2", summary="Show version 2")
@router.get("/v3", summary="Show version 3")
def show_version(request: Request) -> Versions:
    """Describe the version of the path."""
    return Versions(versions=[_version(request, request.url.path.strip("/"))])


def _version(request: Request, name: str) -> VersionView:
    status, newest, oldest = VERSIONS[name]
    media_type = f"application/vnd.openstack.volume+json;version={name[1:]}"
    return VersionView(
        id=f"{name}.0",
        status=status,
        version=newest,
        min_version=oldest,
        links=[Link(href=f"{endpoint(request)}/{name}/", rel="self")],
        media_types=[MediaType(type=media_type)],
    )
