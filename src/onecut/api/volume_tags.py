"""Tags of volumes, and the search for volumes by tags. Fixed words come before the routes by id."""

from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Request
from pydantic import BaseModel, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from onecut.api.auth import project_caller
from onecut.api.dependencies import Configured, Reading, Writing
from onecut.api.fields import Body, Check, Limit, Offset, TagKey, TagValue, Uuid
from onecut.api.routing import Router
from onecut.api.tags import TagsToAdd, TagsToRemove
from onecut.api.volumes import VolumeView, view_fields
from onecut.service import tags, volumes
from onecut.service.listing import Page
from onecut.service.volumes import TAGGED, VolumeFilter

router = Router(prefix="/v2/{project_id}/cloudvolumes", tags=["volume tags"], dependencies=[Depends(project_caller)])

SEARCHED_MAX: Final = 10
"""Keys of one search, and values of one key (EVS API reference, querying disks by tag)."""


class AddTags(TagsToAdd):
    """The body that adds tags to a volume."""

    action: Literal["create"]


class RemoveTags(TagsToRemove):
    """The body that removes tags from a volume."""

    action: Literal["delete"]


def _few(values: list[Any]) -> list[Any]:
    if len(values) > SEARCHED_MAX:
        raise PydanticCustomError(
            "too_many_tags", "must be at most {limit}, are {length}",
            {"code": "EVS.1061", "limit": SEARCHED_MAX, "length": len(values)},
        )  # fmt: skip
    return values


def _different(values: list[Any]) -> list[Any]:
    named = [getattr(value, "key", value) for value in values]
    for name in named:
        if named.count(name) > 1:
            raise PydanticCustomError("twice", "names {name} twice", {"code": "EVS.1062", "name": name})
    return values


Few: Final = Check(_few, {"maxItems": SEARCHED_MAX})
Different: Final = Check(_different, {"uniqueItems": True})


def _number(value: Any) -> Any:  # noqa: ANN401 - a validator sees what came
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


class _TagWanted(Body):
    key: TagKey
    values: Annotated[list[TagValue], Few, Different] = Field(default_factory=list)


class _Match(Body):
    key: Literal["resource_name", "service_type"]
    value: Annotated[str, StringConstraints(strip_whitespace=True, max_length=255, pattern=r"^[^\x00]*$")]


class SearchVolumes(Body):
    """The body of a search: volumes that have all of these keys, each with one of its values or, without, any."""

    action: Literal["filter", "count"]
    tags: Annotated[list[_TagWanted], Few, Different] = Field(default_factory=list)
    matches: Annotated[list[_Match], Different] = Field(default_factory=list)
    limit: Annotated[Limit, BeforeValidator(_number)] = 1000
    offset: Annotated[Offset, BeforeValidator(_number)] = 0

    def wanted(self) -> VolumeFilter:
        """Say it in the service's words; a name is looked for as a part of names, an empty one is an empty name."""
        matches = {match.key: match.value for match in self.matches}
        name = matches.get("resource_name")
        return VolumeFilter(
            tags={tag.key: tag.values for tag in self.tags},
            name=name if name == "" else None,
            name_part=name or None,
            service_type=matches.get("service_type"),
        )


class TagView(BaseModel):
    """A tag."""

    key: str
    value: str


class TagsOfVolume(BaseModel):
    """The tags of one volume."""

    tags: list[TagView]


class TagsOfVolumes(BaseModel):
    """All tags of all volumes: an object here, unlike those of snapshots and groups."""

    tags: dict[str, list[str]]


class FoundVolumeView(VolumeView):
    """A volume as the search by tags shows it."""

    shareable: bool  # type: ignore[assignment] # EVS types it so in this answer, and as text in all others


class FoundVolume(BaseModel):
    """A volume that has the tags."""

    resource_id: str
    resource_name: str
    resource_detail: FoundVolumeView
    tags: list[TagView]


class VolumesFound(BaseModel):
    """How many volumes have the tags."""

    total_count: int = Field(description="On this page or not.")


class VolumesFoundPage(VolumesFound):
    """One page of the volumes that have the tags, the newest first."""

    resources: list[FoundVolume]


@router.get("/tags", summary="List the tags of all volumes")
def list_volume_tags(project_id: str, session: Reading) -> TagsOfVolumes:
    """List all tags of the project's volumes."""
    return TagsOfVolumes(tags=TAGGED.in_use(session, project_id))


@router.post("/resource_instances/action", summary="Search volumes by tags")
def search_volumes(
    project_id: str, body: SearchVolumes, session: Reading, settings: Configured, request: Request
) -> VolumesFoundPage | VolumesFound:
    """Find, or only count, the volumes that have all of some tags, by name too."""
    if body.action == "count":
        return VolumesFound(total_count=volumes.count(session, project_id, body.wanted()))
    page = Page(limit=body.limit, offset=body.offset)
    listed = volumes.list_page(session, project_id, body.wanted(), page, zones=settings.availability_zones)
    tags_of = tags.of(session, [volume.id for volume in listed.volumes])
    resources = [
        FoundVolume(
            resource_id=volume.id,
            resource_name=volume.name,
            resource_detail=FoundVolumeView(
                **view_fields(request, volume, tags_of[volume.id]) | {"shareable": volume.multiattach}
            ),
            tags=_views(tags_of[volume.id]),
        )
        for volume in listed.volumes
    ]
    return VolumesFoundPage(total_count=listed.total, resources=resources)


@router.get("/{volume_id}/tags", summary="List the tags of a volume")
def show_volume_tags(project_id: str, volume_id: Uuid, session: Reading) -> TagsOfVolume:
    """List a volume's tags."""
    return TagsOfVolume(tags=_views(TAGGED.of(session, project_id, volume_id)))


@router.post("/{volume_id}/tags/action", status_code=204, summary="Add or remove tags of a volume")
def change_volume_tags(
    project_id: str,
    volume_id: Uuid,
    body: Annotated[AddTags | RemoveTags, Field(discriminator="action")],
    session: Writing,
) -> None:
    """Add tags, or give keys that are there new values; or remove tags by key."""
    if isinstance(body, AddTags):
        TAGGED.put(session, project_id, volume_id, body.table())
    else:
        TAGGED.remove(session, project_id, volume_id, body.keys())


def _views(found: dict[str, str]) -> list[TagView]:
    return [TagView(key=key, value=value) for key, value in found.items()]
