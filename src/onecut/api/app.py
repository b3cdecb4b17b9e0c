"""The HTTP application: middleware, error forms, and every router in one place."""

from contextlib import AbstractAsyncContextManager
from collections.abc import Callable

from fastapi import FastAPI

from onecut import __version__
from onecut.api import faults, groups, health, iam, jobs, servers, snapshots, versions, volumes
from onecut.api.auth import Authentication

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

DESCRIPTION = (
    "Block storage that speaks the Huawei Cloud EVS API. Operations marked `x-onecut-extension` are our own."
)


def create_app(lifespan: Lifespan | None = None) -> FastAPI:
    """
    Build the application. What handlers need is put into ``app.state`` by `onecut.wiring`.

    There is no redirect to a path with or without a slash at its end: SDK clients do not follow redirects.
    """
    app = FastAPI(
        title="Onecut",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    faults.install(app)
    for room in (health, versions, iam, servers, volumes, groups, snapshots, jobs):
        app.include_router(room.router)
    app.add_middleware(Authentication)
    return app
