"""A small site: the IAM calls and one project call, behind real authentication and a real HTTP server."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

from onecut.api import faults, iam
from onecut.api.auth import BODY_TIMEOUT_S, Authentication, ProjectCaller
from onecut.clock import JumpingClock
from onecut.db.identity import Domain, Project, User
from onecut.db.session import Database
from onecut.service import identity, roles
from onecut.service.identity import Credentials
from onecut.service.passwords import Passwords
from onecut.service.secrets import ServiceKey

START_DEADLINE_S = 60.0


@dataclass
class Site:
    """All that one service needs to know who calls, after its first start."""

    database: Database
    clock: JumpingClock
    service_key: ServiceKey
    passwords: Passwords
    admin: Credentials

    def add_tenant(self, name: str) -> tuple[str, str, str]:
        """Make another domain with a project and a user of that name; return the user's id, key and secret."""
        with self.database.writing() as session:
            session.add(Domain(id=identity.new_id(), name=name))
            session.flush()
            domain = session.query(Domain).filter_by(name=name).one()
            user = User(id=identity.new_id(), domain_id=domain.id, name=name, password_hash=self.passwords.hash(name))
            session.add_all((user, Project(id=identity.new_id(), domain_id=domain.id, name=name)))
            session.flush()
            roles.grant(session, user, "admin", None)
            caller = identity.Caller(user.id, domain.id, None, {}, "token")
            key, secret = identity.create_access_key(
                session,
                self.service_key,
                caller,
                user_id=user.id,
                description="",
                now=self.clock.now(),
            )
            return user.id, key.access, secret

    def add_project(self, name: str, *, enabled: bool = True) -> str:
        """Add a project to the admin's domain, and return its id."""
        with self.database.writing() as session:
            domain = session.query(Domain).filter_by(name=self.admin.domain_name).one()
            project = Project(id=identity.new_id(), domain_id=domain.id, name=name, enabled=enabled)
            session.add(project)
            return project.id

    def project_of(self, name: str) -> str:
        """Return the id of the project of that name."""
        with self.database.reading() as session:
            return session.query(Project).filter_by(name=name).one().id

    def app(self, *, body_timeout_s: float = BODY_TIMEOUT_S) -> FastAPI:
        """Build the application; its project call says who called it and with what."""
        app = FastAPI(redirect_slashes=False)
        faults.install(app)
        app.include_router(iam.router)

        @app.api_route("/v5/{project_id}/snapshot-policies", methods=["GET", "POST"], include_in_schema=False)
        async def echo(request: Request, caller: ProjectCaller) -> dict[str, Any]:
            return {
                "how": caller.how,
                "project_id": caller.project_id,
                "length": len(await request.body()),
                "query": request.query_params.multi_items(),
            }

        @app.get("/v2/{project_id}/cloudvolumes/detail")
        async def list_volumes(project_id: str, caller: ProjectCaller) -> dict[str, Any]:
            return {"count": 0, "volumes": [], "asked": [project_id, caller.how]}

        @app.get("/healthz")
        async def health() -> dict[str, Any]:
            return {}

        app.add_middleware(Authentication, body_timeout_s=body_timeout_s)
        app.state.database = self.database
        app.state.clock = self.clock
        app.state.secrets = self.service_key
        app.state.passwords = self.passwords
        return app


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve *app* by uvicorn on a free port of 127.0.0.1, and yield its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    deadline = time.monotonic() + START_DEADLINE_S
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(START_DEADLINE_S)
        listener.close()
