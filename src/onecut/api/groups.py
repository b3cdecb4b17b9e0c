"""``/v5/{project_id}/snapshot-groups``: one cut across many volumes, and the way back."""

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from onecut.api.auth import project_caller
from onecut.api.dependencies import Reading, Time, Writing
from onecut.api.fields import (
    Body,
    EnterpriseProjectFilter,
    EnterpriseProjectId,
    Filters,
    Limit,
    Offset,
    OwnMarker,
    SortDir,
    TagFilter,
    Tags,
    Text255,
    Uuid,
)
from onecut.api.routing import Router
from onecut.api.snapshots import JobOrdered
from onecut.api.tags import add_routes
from onecut.clock import time_text
from onecut.db.snapshots import SnapshotGroup
from onecut.service import groups, tags
from onecut.service.groups import MEMBERS_MAX, GroupFilter, NewGroup
from onecut.service.listing import Page

router = Router(
    prefix="/v5/{project_id}/snapshot-groups", tags=["snapshot groups"], dependencies=[Depends(project_caller)]
)
add_routes(router, groups.TAGGED, "snapshot_group_id")

EXTENSION = {"x-onecut-extension": True}
"""Marks an operation that EVS does not have."""


class GroupWanted(Body):
    """A group that is asked for: the volumes of a server, or those named."""

    server_id: Uuid | None = None
    volume_ids: (
        Annotated[list[Uuid], Field(json_schema_extra={"maxItems": MEMBERS_MAX, "uniqueItems": True})] | None
    ) = None
    instant_access: bool | None = None
    name: Text255 | None = None
    description: Text255 | None = None
    tags: Tags | None = None
    enterprise_project_id: EnterpriseProjectId | None = None
    incremental: bool | None = None


class CreateGroup(Body):
    """The body of a creation."""

    snapshot_group: GroupWanted


class GroupChange(Body):
    """What of a group may change; a field that is left out stays."""

    name: Text255 | None = None
    description: Text255 | None = None


class UpdateGroup(Body):
    """The body of an update."""

    snapshot_group: GroupChange


class RollbackWanted(Body):
    """How the members are given back."""

    undo: Annotated[bool | None, Field(description="Cut the volumes once more before; true unless given.")] = None


class RollBackGroup(Body):
    """The body of a rollback."""

    rollback: RollbackWanted


class VolumesWanted(Body):
    """How the new volumes are made."""

    name: Annotated[Text255 | None, Field(description="With -0001 and so on behind; else as the snapshots.")] = None
    availability_zone: str | None = None
    volume_type: str | None = None
    server_id: Annotated[Uuid | None, Field(description="Server to attach them to.")] = None


class CreateVolumes(Body):
    """The body of the creation of volumes."""

    volumes: VolumesWanted


class GroupCountQuery(Filters):
    """Filters of the count."""

    id: str | None = None
    name: Text255 | None = None
    status: str | None = None
    enterprise_project_id: EnterpriseProjectFilter | None = None
    tag_key: str | None = None
    tags: TagFilter | None = None


class GroupListQuery(GroupCountQuery):
    """Filters, sorting and paging of the list."""

    server_id: str | None = None
    marker: OwnMarker | None = None
    limit: Limit = 1000
    offset: Offset = 0
    sort_key: Literal["id", "status", "created_at"] = "created_at"
    sort_dir: SortDir = "desc"


class GroupDetail(BaseModel):
    """A group as EVS shows it (`SnapshotGroupDetail`)."""

    id: str
    project_id: str
    name: str
    description: str
    status: str
    server_id: str | None
    enterprise_project_id: str
    tags: dict[str, str]
    created_at: str
    updated_at: str


class CutMember(BaseModel):
    """One volume of a cut."""

    volume_id: str
    snapshot_id: str
    pause_ms: Annotated[float, Field(description="Longest time a write to it can have waited for the cut.")]


class CutDetail(BaseModel):
    """The instant at which all members froze."""

    taken_at: Annotated[str, Field(description="UTC.")]
    prepare_ms: Annotated[float, Field(description="Time spent before, while writes went on.")]
    pause_ms: Annotated[float, Field(description="The longest pause of any member.")]
    members: Annotated[list[CutMember], Field(description="Those that were not deleted since.")]


class GroupExtension(BaseModel):
    """What Onecut tells of a group beyond EVS."""

    cut: Annotated[CutDetail | None, Field(description="None until it is done.")]
    digest: Annotated[
        str | None,
        Field(description="Binds the members' content and the cut; None until all members are in the repository."),
    ]


class GroupShown(GroupDetail):
    """A group as EVS shows it, and one key of our own."""

    onecut: GroupExtension


class ShownGroup(BaseModel):
    """One group with its cut."""

    snapshot_group: GroupShown


class OneGroup(BaseModel):
    """One group."""

    snapshot_group: GroupDetail


class GroupPage(BaseModel):
    """One page of groups."""

    snapshot_groups: list[GroupDetail]


class GroupCount(BaseModel):
    """How many groups there are."""

    count: int


class GroupOrdered(BaseModel):
    """A group that is being created."""

    job_id: str
    snapshot_group_id: str


class RollbackOrdered(BaseModel):
    """A rollback that is under way."""

    job_id: str
    undo_snapshot_group_id: Annotated[str | None, Field(description="The group that undoes it; None if declined.")]


class VolumeMade(BaseModel):
    """A volume that is being made from a snapshot."""

    volume_id: str
    snapshot_id: str


class VolumesOrdered(BaseModel):
    """Volumes that are being made."""

    job_id: str
    volume_ids: list[str]
    volumes: list[VolumeMade]


@router.post("", status_code=202)
def create_group(project_id: str, body: CreateGroup, session: Writing, clock: Time) -> GroupOrdered:
    """Take one cut across several volumes while they are written to."""
    wanted = NewGroup(**body.snapshot_group.model_dump(exclude_none=True))
    job_id, group_id = groups.create(session, project_id, wanted, clock.now())
    return GroupOrdered(job_id=job_id, snapshot_group_id=group_id)


@router.get("/detail")
def list_groups(project_id: str, query: Annotated[GroupListQuery, Query()], session: Reading) -> GroupPage:
    """List groups, the newest first unless sorted otherwise."""
    page = Page(query.sort_key, query.sort_dir, query.limit, query.offset, query.marker)
    found = groups.list_page(session, project_id, _filter(query), page)
    tags_of = tags.of(session, [group.id for group in found])
    return GroupPage(snapshot_groups=[_detail(group, tags_of[group.id]) for group in found])


@router.get("/count")
def count_groups(project_id: str, query: Annotated[GroupCountQuery, Query()], session: Reading) -> GroupCount:
    """Count groups."""
    return GroupCount(count=groups.count(session, project_id, _filter(query)))


@router.get("/{snapshot_group_id}")
def show_group(project_id: str, snapshot_group_id: str, session: Reading) -> ShownGroup:
    """Show one group, and when and how it was cut."""
    group = groups.find(session, project_id, snapshot_group_id)
    detail = _detail(group, tags.of(session, [group.id])[group.id])
    extension = GroupExtension(cut=_cut(session, group), digest=group.digest)
    return ShownGroup(snapshot_group=GroupShown(**detail.model_dump(), onecut=extension))


@router.put("/{snapshot_group_id}")
def update_group(
    project_id: str, snapshot_group_id: str, body: UpdateGroup, session: Writing, clock: Time
) -> OneGroup:
    """Change name or description."""
    change = body.snapshot_group
    group = groups.update(
        session, project_id, snapshot_group_id, clock.now(), name=change.name, description=change.description
    )
    return OneGroup(snapshot_group=_detail(group, tags.of(session, [group.id])[group.id]))


@router.delete("/{snapshot_group_id}", status_code=202)
def delete_group(project_id: str, snapshot_group_id: str, session: Writing, clock: Time) -> JobOrdered:
    """Delete a group and its members."""
    return JobOrdered(job_id=groups.order_deletion(session, project_id, snapshot_group_id, clock.now()))


@router.post("/{snapshot_group_id}/rollback", status_code=202, openapi_extra=EXTENSION)
def roll_back_group(
    project_id: str, snapshot_group_id: str, body: RollBackGroup, session: Writing, clock: Time
) -> RollbackOrdered:
    """Give all volumes of a group its content again, or none; all must be detached."""
    undo = body.rollback.undo is not False
    job_id, undo_group_id = groups.order_rollback(session, project_id, snapshot_group_id, clock.now(), undo=undo)
    return RollbackOrdered(job_id=job_id, undo_snapshot_group_id=undo_group_id)


@router.post("/{snapshot_group_id}/volumes", status_code=202, openapi_extra=EXTENSION)
def create_group_volumes(
    project_id: str, snapshot_group_id: str, body: CreateVolumes, session: Writing, clock: Time
) -> VolumesOrdered:
    """Make a new volume from each member of a group."""
    wanted = body.volumes
    job_id, made = groups.order_volumes(
        session,
        project_id,
        snapshot_group_id,
        clock.now(),
        name=wanted.name,
        availability_zone=wanted.availability_zone,
        volume_type=wanted.volume_type,
        server_id=wanted.server_id,
    )
    pairs = [VolumeMade(volume_id=volume_id, snapshot_id=snapshot_id) for snapshot_id, volume_id in made.items()]
    return VolumesOrdered(job_id=job_id, volume_ids=list(made.values()), volumes=pairs)


def _filter(query: GroupCountQuery) -> GroupFilter:
    return GroupFilter(**query.model_dump(include=set(GroupFilter.__dataclass_fields__)))


def _detail(group: SnapshotGroup, its_tags: Mapping[str, str]) -> GroupDetail:
    return GroupDetail(
        id=group.id,
        project_id=group.project_id,
        name=group.name,
        description=group.description,
        status=group.status,
        server_id=group.server_id,
        enterprise_project_id=group.enterprise_project_id,
        tags=dict(its_tags),
        created_at=time_text(group.created_at),
        updated_at=time_text(group.updated_at),
    )


def _cut(session: Reading, group: SnapshotGroup) -> CutDetail | None:
    if group.cut is None:
        return None
    members = [
        CutMember(volume_id=member.volume_id, snapshot_id=member.id, pause_ms=member.cut["pause_ms"])
        for member in groups.members(session, group.id)
        if member.cut is not None
    ]
    return CutDetail(**group.cut, members=members)
