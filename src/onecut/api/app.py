"""The HTTP application: middleware, error forms, and every router in one place."""

from functools import cache
from typing import Final

from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from onecut import __version__
from onecut.api import (
    chains,
    cinder_catalog,
    cinder_snapshots,
    cinder_volumes,
    cloudsnapshots,
    document,
    faults,
    groups,
    health,
    iam,
    jobs,
    performance,
    policies,
    quotas,
    recycle_bin,
    servers,
    snapshots,
    transfers,
    versions,
    volume_batches,
    volume_tags,
    volumes,
)
from onecut.api.auth import Authentication
from onecut.api.cinder import microversion
from onecut.api.dependencies import refuse_nul
from onecut.api.metrics import RequestMetrics
from onecut.api.routing import Router

DESCRIPTION = (
    "Block storage that speaks the Huawei Cloud EVS API. Operations marked `x-onecut-extension` are our own. "
    "No text may hold the character U+0000."
)

ROUTERS: Final = [
    noun.router
    for noun in (
        groups,
        snapshots,
        jobs,
        volume_tags,
        volume_batches,
        performance,
        volumes,
        servers,
        chains,
        policies,
        recycle_bin,
        transfers,
        quotas,
        cloudsnapshots,
        iam,
        versions,
        health,
    )
]
"""Every route, in the order in which they are tried: what is asked for most comes first."""

CINDER_ROUTERS: Final = [noun.router for noun in (cinder_volumes, cinder_snapshots, cinder_catalog)]
"""Cinder's, the same under both of its versions; only the later one knows microversions."""


@cache
def _routes() -> list[BaseRoute]:
    """Put all routes together: once in a process, since FastAPI works out what each needs when it is first tried."""
    together = Router(generate_unique_id_function=document.operation_id, dependencies=[Depends(refuse_nul)])
    for router in ROUTERS:
        together.include_router(router)
    for router in CINDER_ROUTERS:
        together.include_router(router, prefix="/v2/{project_id}")
        together.include_router(router, prefix="/v3/{project_id}", dependencies=[Depends(microversion)])
    return together.routes


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
        routes=_routes(),
    )
    faults.install(app)
    app.openapi = lambda: document.describe(app)  # type: ignore[method-assign]
    app.state.registry = CollectorRegistry()
    app.add_middleware(Authentication)
    app.add_middleware(RequestMetrics, registry=app.state.registry)
    return app
