"""
How a request gets to its handler.

Handlers are plain functions that may wait for the database, so each runs in a thread. All of a request that may wait
happens there in one go: its transaction is opened, the handler runs, the transaction ends. A turn in the thread pool
for each of these would take longer than most handlers.
"""

from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, Final

from fastapi import APIRouter
from fastapi.routing import APIRoute
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from onecut.db.threads import in_thread

HANDLERS: Final = ThreadPoolExecutor(40, "handler")
"""
Who handles requests. As many as FastAPI has by default; its own pool takes twice as long to hand a call over.
"""


class Opening:
    """A transaction that a handler asks for by type, until the handler's thread opens it."""

    def __init__(self, begin: Callable[[], AbstractContextManager[Connection | Session]]) -> None:
        self.begin = begin


class Route(APIRoute):
    """A route whose handler, unless it is a coroutine, runs in a thread with its transactions open around it."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:  # noqa: ANN401 - FastAPI's
        super().__init__(path, endpoint if iscoroutinefunction(endpoint) else _in_a_thread(endpoint), **options)


class Router(APIRouter):
    """FastAPI's router, with `Route` for its routes."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - FastAPI's
        super().__init__(route_class=Route, **options)


def _in_a_thread(handler: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    @wraps(handler)
    async def in_a_thread(**arguments: Any) -> Any:  # noqa: ANN401 - any handler's
        return await in_thread(partial(_handle, handler, arguments), HANDLERS)

    return in_a_thread


def _handle(handler: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:  # noqa: ANN401 - any handler's
    # The transaction ends before the answer is sent, so a commit that fails is never answered with 202.
    with ExitStack() as opened:
        values = {
            name: opened.enter_context(value.begin()) if isinstance(value, Opening) else value
            for name, value in arguments.items()
        }
        return handler(**values)
