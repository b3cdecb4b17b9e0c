"""Links to resources, under the address that clients use."""

from urllib.parse import urlencode

from fastapi import Request
from pydantic import BaseModel

from onecut.config import Settings


class Link(BaseModel):
    """A link to a resource."""

    rel: str
    href: str


def endpoint(request: Request) -> str:
    """Return the address of this service: the one that is set, else the one that was called."""
    settings: Settings = request.app.state.settings
    return (settings.endpoint or str(request.base_url)).rstrip("/")


def of_resource(request: Request, version: str, project_id: str, collection: str, resource_id: str) -> list[Link]:
    """Build a resource's `links`, in the way of OpenStack: one with the version, one without."""
    path = f"{project_id}/{collection}/{resource_id}"
    return [
        Link(rel="self", href=f"{endpoint(request)}/{version}/{path}"),
        Link(rel="bookmark", href=f"{endpoint(request)}/{path}"),
    ]


def next_page(request: Request, last_id: str | None) -> list[Link]:
    """Build the link to the page behind the item *last_id*, with the same query; none when there is no such page."""
    if last_id is None:
        return []
    kept = [(key, value) for key, value in request.query_params.multi_items() if key not in {"offset", "marker"}]
    query = urlencode([*kept, ("marker", last_id)])
    return [Link(rel="next", href=f"{endpoint(request)}{request.url.path}?{query}")]
