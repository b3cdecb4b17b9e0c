"""Calls about many volumes at once. The words at the place of a volume's id come before the routes by id."""

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Depends, Response
from pydantic import BaseModel, Field

from onecut.api.auth import project_caller
from onecut.api.billing import BssParam
from onecut.api.dependencies import Reading, Time, Writing
from onecut.api.fields import Body, Uuid, uuid_check
from onecut.api.routing import Router
from onecut.api.volumes import JobId, SizeGib
from onecut.service import catalog, volume_batches

router = Router(tags=["volumes"], dependencies=[Depends(project_caller)])


class _Extension(Body):
    id: Annotated[str, uuid_check("EVS.1002")]
    new_size: SizeGib


class ExtendVolumes(Body):
    """The body that asks for larger sizes."""

    volumes: Annotated[list[_Extension], Field(json_schema_extra={"minItems": 1, "maxItems": catalog.BATCH_MAX})]
    bss_param: BssParam | None = None


class Unsubscribe(Body):
    """The body that gives volumes up."""

    volume_ids: Annotated[list[Uuid], Field(min_length=1, json_schema_extra={"maxItems": volume_batches.IDS_MAX})]


class ChangeChargeMode(Unsubscribe):
    """The body that lets volumes be billed with their server."""

    server_id: Annotated[str, uuid_check("EVS.2229")] | None = None
    bss_param: BssParam | None = None


class UnsubscribedVolume(BaseModel):
    """A volume that is given up."""

    volume_id: str
    result: Literal["SUCCESS"] = "SUCCESS"


class Unsubscribed(BaseModel):
    """What became of the request."""

    results: list[UnsubscribedVolume]
    job_id: Annotated[
        str, Field(description="The job that deletes them.", json_schema_extra={"x-onecut-extension": True})
    ]


@router.post(
    "/v5/{project_id}/volumes/batch-extend", status_code=HTTPStatus.ACCEPTED, summary="Extend several volumes"
)
def extend_volumes(project_id: str, body: ExtendVolumes, session: Writing, clock: Time) -> JobId:
    """Make volumes larger: all of them, or none."""
    sizes = [(wanted.id, wanted.new_size) for wanted in body.volumes]
    return JobId(job_id=volume_batches.order_extensions(session, project_id, sizes, clock.now()))


@router.post(
    "/v2/{project_id}/cloudvolumes/unsubscribe", status_code=HTTPStatus.ACCEPTED, summary="Delete several volumes"
)
def unsubscribe_volumes(project_id: str, body: Unsubscribe, session: Writing, clock: Time) -> list[Unsubscribed]:
    """Delete detached volumes: all of them, or none. EVS answers an array, of which there is one item."""
    job_id = volume_batches.order_deletions(session, project_id, body.volume_ids, clock.now())
    results = [UnsubscribedVolume(volume_id=volume_id) for volume_id in body.volume_ids]
    return [Unsubscribed(results=results, job_id=job_id)]


@router.post(
    "/v2/{project_id}/cloudvolumes/change-charge-mode",
    status_code=HTTPStatus.ACCEPTED,
    response_class=Response,
    summary="Change the charging mode",
)
def change_charge_mode(project_id: str, body: ChangeChargeMode, session: Reading) -> None:
    """Refuse to bill volumes by the month or year: nothing is billed."""
    volume_batches.refuse_charge_mode(session, project_id, body.volume_ids, server_id=body.server_id)
