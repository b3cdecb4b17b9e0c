"""What Cinder's clients ask about the service itself: one volume type, extensions, limits."""

from typing import Any, Final

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from onecut.api.auth import project_caller
from onecut.api.dependencies import Configured, Reading
from onecut.api.versions import UPDATED
from onecut.api.volumes import TypeView, type_view
from onecut.service import catalog, quotas

router = APIRouter(tags=["Cinder"], dependencies=[Depends(project_caller)])

EXTENSIONS: Final = {
    "os-availability-zone": "Availability zones.",
    "os-extended-snapshot-attributes": "Project and progress of a snapshot.",
    "os-vol-tenant-attr": "Project of a volume.",
    "os-volume-actions": "Actions on volumes.",
}
"""What Cinder called extensions once: each with what it adds."""

ABSOLUTE: Final = {
    "volumes": ("maxTotalVolumes", "totalVolumesUsed"),
    "gigabytes": ("maxTotalVolumeGigabytes", "totalGigabytesUsed"),
    "snapshots": ("maxTotalSnapshots", "totalSnapshotsUsed"),
    "backups": ("maxTotalBackups", "totalBackupsUsed"),
    "backup_gigabytes": ("maxTotalBackupGigabytes", "totalBackupGigabytesUsed"),
}
"""What Cinder's limits call the quota of a resource, and what is in use of it."""


class OneType(BaseModel):
    """One volume type."""

    volume_type: TypeView


@router.get("/types/{type_id}")
def show_type(project_id: str, type_id: str, settings: Configured) -> OneType:  # noqa: ARG001 - named in the path
    """Show a volume type; `default` is that of a volume that is asked for without one."""
    return OneType(volume_type=type_view(catalog.find_type(type_id), settings.availability_zones))


@router.get("/extensions")
def list_extensions(project_id: str) -> dict[str, list[dict[str, Any]]]:  # noqa: ARG001 - named in the path
    """Name the extensions of Cinder that there are."""
    return {
        "extensions": [
            {"alias": alias, "name": alias, "description": adds, "updated": UPDATED, "links": []}
            for alias, adds in EXTENSIONS.items()
        ]
    }


@router.get("/limits")
def show_limits(project_id: str, session: Reading) -> dict[str, dict[str, Any]]:
    """Tell what the project may have, and has; -1 stands for no limit."""
    known = quotas.show(session, project_id)
    absolute: dict[str, int] = {}
    for resource, (most, used) in ABSOLUTE.items():
        absolute |= {most: known[resource].limit, used: known[resource].in_use}
    return {"limits": {"rate": [], "absolute": absolute}}
