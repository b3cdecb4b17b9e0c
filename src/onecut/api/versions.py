"""The versions of the API, in the form that OpenStack clients look for."""

from http import HTTPStatus
from typing import Any, Final

from fastapi import Request

from onecut.api.links import endpoint
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


@router.get("/", status_code=HTTPStatus.MULTIPLE_CHOICES, summary="List the API versions")
def list_versions(request: Request) -> dict[str, list[dict[str, Any]]]:
    """Name every version. The status is 300, as OpenStack answers here."""
    return {"versions": [_version(request, name) for name in VERSIONS]}


# Links name the versions with a slash at the end, and keystoneauth looks them up there. It takes the one document of
# /v3 for Keystone's as well as for Cinder's.
@router.get("/v1/", include_in_schema=False)
@router.get("/v2/", include_in_schema=False)
@router.get("/v3/", include_in_schema=False)
@router.get("/v1", summary="Show version 1")
@router.get("/v2", summary="Show version 2")
@router.get("/v3", summary="Show version 3")
def show_version(request: Request) -> dict[str, list[dict[str, Any]]]:
    """Describe the version of the path."""
    return {"versions": [_version(request, request.url.path.strip("/"))]}


def _version(request: Request, name: str) -> dict[str, Any]:
    status, newest, oldest = VERSIONS[name]
    media_type = f"application/vnd.openstack.volume+json;version={name[1:]}"
    return {
        "id": f"{name}.0",
        "status": status,
        "updated": UPDATED,
        "version": newest,
        "min_version": oldest,
        "links": [{"href": f"{endpoint(request)}/{name}/", "rel": "self"}],
        "media-types": [{"base": "application/json", "type": media_type}],
    }
