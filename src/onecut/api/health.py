"""What an operator's tools ask: is the process alive, can it serve, and what has it done."""

from functools import partial
from typing import Annotated, Literal

from fastapi import Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel
from sqlalchemy import text

from onecut.api.dependencies import Store
from onecut.api.routing import HANDLERS, Router
from onecut.db.session import Database
from onecut.db.threads import in_thread
from onecut.engine.port import Engine

router = Router(tags=["health"])
OURS = {"x-onecut-extension": True}


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """Whether requests can be served and jobs can be carried out."""

    ready: bool
    engine: str
    """A sentence about the engine."""
    unusable_volumes: int


async def _engine(request: Request) -> Engine:
    engine: Engine = request.app.state.engine
    return engine


@router.get("/healthz", openapi_extra=OURS, summary="Is the process alive?")
def healthz() -> Alive:
    """Answer whenever the process can answer at all."""
    return Alive()


@router.get("/readyz", openapi_extra=OURS, summary="Can it serve?", responses={503: {"model": Ready}})
async def readyz(engine: Annotated[Engine, Depends(_engine)], database: Store, response: Response) -> Ready:
    """Ask the database and the engine; 503 while either does not answer."""
    await in_thread(partial(_ask, database), HANDLERS)
    health = await engine.health()
    if not health.ready:
        response.status_code = 503
    return Ready(ready=health.ready, engine=health.detail, unusable_volumes=len(health.unusable))


def _ask(database: Database) -> None:
    with database.asking() as asker:
        asker.execute(text("SELECT 1"))


@router.get(
    "/metrics",
    openapi_extra=OURS,
    summary="Prometheus metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Print counters and gauges in Prometheus's text format."""
    registry: CollectorRegistry = request.app.state.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
