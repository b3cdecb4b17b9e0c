"""How fast volumes may be: their IOPS and throughput, and their types."""

from http import HTTPStatus

from fastapi import Depends
from pydantic import Field

from onecut.api.auth import project_caller
from onecut.api.billing import CamelBssParam
from onecut.api.dependencies import Time, Writing
from onecut.api.fields import Body, Text64, Uuid
from onecut.api.routing import Router
from onecut.api.volumes import JobId, Performance
from onecut.service import performance

router = Router(tags=["volumes"], dependencies=[Depends(project_caller)])


class _Qos(Body):
    iops: Performance
    throughput: Performance | None = Field(default=None, description="MiB/s; needed by GPSSD2, and by it only.")


class ModifyQos(Body):
    """The body that changes a volume's performance."""

    qos_modify: _Qos


class _Retype(Body):
    new_type: Text64
    iops: Performance | None = Field(default=None, description="Needed by GPSSD2 and ESSD2, and by them only.")
    throughput: Performance | None = Field(default=None, description="MiB/s; needed by GPSSD2, and by it only.")


class RetypeVolume(Body):
    """The body that changes a volume's type."""

    os_retype: _Retype = Field(alias="os-retype")
    bss_param: CamelBssParam | None = Field(default=None, alias="bssParam")


@router.put(
    "/v5/{project_id}/cloudvolumes/{volume_id}/qos",
    status_code=HTTPStatus.ACCEPTED,
    summary="Change a volume's performance",
)
def modify_qos(project_id: str, volume_id: Uuid, body: ModifyQos, session: Writing, clock: Time) -> JobId:
    """Choose other IOPS, and with GPSSD2 another throughput; clients of an attached volume feel it at once."""
    asked = body.qos_modify
    job_id = performance.order_change(
        session, project_id, volume_id, clock.now(), iops=asked.iops, throughput_mib=asked.throughput
    )
    return JobId(job_id=job_id)


@router.post(
    "/v2/{project_id}/volumes/{volume_id}/retype", status_code=HTTPStatus.ACCEPTED, summary="Change a volume's type"
)
def retype(project_id: str, volume_id: Uuid, body: RetypeVolume, session: Writing, clock: Time) -> JobId:
    """Give a volume another type; the data stays where it is, and what the type limits is limited at once."""
    asked = body.os_retype
    job_id = performance.order_retype(
        session,
        project_id,
        volume_id,
        asked.new_type,
        clock.now(),
        iops=asked.iops,
        throughput_mib=asked.throughput,
    )
    return JobId(job_id=job_id)
