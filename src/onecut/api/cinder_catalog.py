"""What Cinder's clients ask about the service itself: one volume type, extensions, limits."""

from typing import Final

from fastapi import Depends
from pydantic import BaseModel, Field

from onecut.api.auth import project_caller
from onecut.api.dependencies import Configured, Reading
from onecut.api.links import Link
from onecut.api.routing import Router
from onecut.api.versions import UPDATED
from onecut.api.volumes import TypeView, type_view
from onecut.service import catalog, quotas

router = Router(tags=["Cinder"], dependencies=[Depends(project_caller)])

EXTENSIONS: Final = {
    "os-availability-zone": "Availability zones.",
    "os-extended-snapshot-attributes": "Project and progress of a snapshot.",
    "os-vol-tenant-attr": "Project of a volume.",
    "os-volume-actions": "Actions on volumes.",
}
"""What Cinder called extensions once: each with what it adds."""

LIMITS: Final = {
    "volumes": ("Volumes", "Volumes"),
    "gigabytes": ("VolumeGigabytes", "Gigabytes"),
    "snapshots": ("Snapshots", "Snapshots"),
    "backups": ("Backups", "Backups"),
    "backup_gigabytes": ("BackupGigabytes", "BackupGigabytes"),
}
"""The word for each quota in the names of its limit and of its use."""


class OneType(BaseModel):
    """One volume type."""

    volume_type: TypeView


class ExtensionView(BaseModel):
    """An extension of Cinder."""

    alias: str
    name: str
    description: str
    updated: str = UPDATED
    links: list[Link] = Field(default_factory=list)


class ExtensionList(BaseModel):
    """The extensions of Cinder that there are."""

    extensions: list[ExtensionView]


class LimitsView(BaseModel):
    """Limits, and what is in use of them."""

    rate: list[dict[str, str]] = Field(default_factory=list, description="Empty: no number of requests is limited.")
    absolute: dict[str, int] = Field(description="`maxTotal...` for each limit, -1 for none, and `total...Used`.")


class LimitsEnvelope(BaseModel):
    """The limits of a project."""

    limits: LimitsView


@router.get("/types/{type_id}")
def show_type(project_id: str, type_id: str, settings: Configured) -> OneType:  # noqa: ARG001 - named in the path
    """Show a volume type; `default` is that of a volume that is asked for without one."""
    return OneType(volume_type=type_view(catalog.find_type(type_id), settings.availability_zones))


@router.get("/extensions")
def list_extensions(project_id: str) -> ExtensionList:  # noqa: ARG001 - named in the path
    """Name the extensions of Cinder that there are."""
    found = [ExtensionView(alias=alias, name=alias, description=adds) for alias, adds in EXTENSIONS.items()]
    return ExtensionList(extensions=found)


@router.get("/limits")
def show_limits(project_id: str, session: Reading) -> LimitsEnvelope:
    """Tell the project's quotas, -1 for none, and what is in use of them."""
    found = quotas.show(session, project_id)
    most = {f"maxTotal{word}": found[resource].limit for resource, (word, _) in LIMITS.items()}
    used = {f"total{word}Used": found[resource].in_use for resource, (_, word) in LIMITS.items()}
    return LimitsEnvelope(limits=LimitsView(absolute=most | used))
