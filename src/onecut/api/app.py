"""The HTTP application: middleware, error forms, and every router in one place."""

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from onecut import __version__
from onecut.api import (
    chains,
    cloudsnapshots,
    faults,
    groups,
    health,
    iam,
    jobs,
    servers,
    snapshots,
    versions,
    volumes,
)
from onecut.api.auth import Authentication
from onecut.api.metrics import RequestMetrics

DESCRIPTION = (
    "Block storage that speaks the Huawei Cloud EVS API. Operations marked `x-onecut-extension` are our own."
)


def create_app() -> FastAPI:
    """
    Build the application. What handlers need is put into ``app.state`` by `onecut.wiring`.

    There is no redirect to a path with or without a slash at its end: SDK clients do not follow redirects.
    """
    app = FastAPI(
        title="Onecut",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    faults.install(app)
    for room in (health, versions, iam, servers, volumes, groups, snapshots, chains, cloudsnapshots, jobs):
        app.include_router(room.router)
    app.state.registry = CollectorRegistry()
    app.add_middleware(Authentication)
    app.add_middleware(RequestMetrics, registry=app.state.registry)
    return app
