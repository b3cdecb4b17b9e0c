"""``os-quota-sets``: how much a project may have, and has, in Cinder's words. Both versions answer alike."""

from dataclasses import asdict
from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from onecut.api.auth import ProjectCaller, project_caller, role_in
from onecut.api.dependencies import Reading
from onecut.api.fields import Filters
from onecut.api.routing import Router
from onecut.service import quotas

router = Router(tags=["quotas"], dependencies=[Depends(project_caller)])


class QuotaView(BaseModel):
    """One resource."""

    limit: int = Field(description="-1 for none.")
    in_use: int
    reserved: int = Field(description="In the recycle bin, or about to be added by an extension; it counts too.")


class QuotaEnvelope(BaseModel):
    """The quotas of a project."""

    quota_set: dict[str, str | int | QuotaView] = Field(
        description="`id`, then by resource its limit; with `usage` also what is in use and reserved of it."
    )


class ShowQuotas(Filters):
    """What is to be shown."""

    usage: bool = Field(default=False, description="`True` shows usage beside the limits.")


@router.get("/v2/{project_id}/os-quota-sets/{target_project_id}", summary="Show the quotas")
@router.get("/v3/{project_id}/os-quota-sets/{target_project_id}", summary="Show the quotas")
def show_quotas(
    project_id: str,  # noqa: ARG001 - named in the path
    target_project_id: str,
    query: Annotated[ShowQuotas, Query()],
    session: Reading,
    caller: ProjectCaller,
) -> QuotaEnvelope:
    """Show the quotas of a project that the caller may use."""
    role_in(caller, target_project_id, field="target_project_id")
    found = quotas.show(session, target_project_id)
    shown = {name: QuotaView(**asdict(quota)) if query.usage else quota.limit for name, quota in found.items()}
    return QuotaEnvelope(quota_set={"id": target_project_id, **shown})
