"""The HTTP application: middleware, error forms, and every router in one place."""

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from onecut import __version__
from onecut.api import (
    chains,
    cinder_catalog,
    cinder_snapshots,
    cinder_volumes,
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
from onecut.api.cinder import microversion
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
    _add_cinder(app)
    app.state.registry = CollectorRegistry()
    app.add_middleware(Authentication)
    app.add_middleware(RequestMetrics, registry=app.state.registry)
    return app


def _add_cinder(app: FastAPI) -> None:
    """Add Cinder's paths, the same under both of its versions; only the later one knows microversions."""
    for room in (cinder_volumes, cinder_snapshots, cinder_catalog):
        app.include_router(room.router, prefix="/v2/{project_id}")
        app.include_router(room.router, prefix="/v3/{project_id}", dependencies=[Depends(microversion)])
