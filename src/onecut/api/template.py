"""The route that a request has taken, as a template: what may be called is decided and counted by it, not by ids."""

from starlette.types import Scope


def path_template(scope: Scope) -> str | None:
    """
    Return a path such as ``/v2/{project_id}/types``; None for a request that no route has taken.

    ``scope["route"]`` knows the path within its own router only, and Cinder's are included under two versions.
    FastAPI leaves the whole one beside it.
    """
    context = scope.get("fastapi", {}).get("effective_route_context")
    path: str | None = getattr(context or scope.get("route"), "path", None)
    return path
