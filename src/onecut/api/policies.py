"""``/v5/{project_id}/snapshot-policies``: snapshots that are taken by themselves."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError

from onecut.api.auth import project_caller
from onecut.api.dependencies import Reading, Time, Writing
from onecut.api.fields import (
    PAGE_MAX,
    Body,
    Check,
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
    uuid_check,
)
from onecut.api.routing import Router
from onecut.api.tags import add_routes
from onecut.clock import time_text
from onecut.db.policies import PolicyRun, SnapshotPolicy
from onecut.service import policies, tags
from onecut.service.listing import Page
from onecut.service.policies import FOR_EVER, NewPolicy, PolicyChange, PolicyFilter, ShareStatus

router = Router(
    prefix="/v5/{project_id}/snapshot-policies", tags=["snapshot policies"], dependencies=[Depends(project_caller)]
)

add_routes(router, policies.TAGGED, "snapshot_policy_id")

RETENTION_DAYS_MAX: Final = 65536

Item = TypeVar("Item")


def _unique(items: list[Item]) -> list[Item]:
    for number, item in enumerate(items):
        if item in items[:number]:
            raise PydanticCustomError("item_twice", "names {item} twice", {"item": item})
    return items


def _retention(days: int) -> int:
    if days != FOR_EVER and not 1 <= days <= RETENTION_DAYS_MAX:
        raise PydanticCustomError(
            "retention_invalid",
            "must be 1 to {limit} days, or {for_ever} for snapshots that stay",
            {"limit": RETENTION_DAYS_MAX, "for_ever": FOR_EVER},
        )
    return days


Hour = Annotated[str, Field(pattern=r"^([0-9]|1[0-9]|2[0-3])$")]
Weekday = Annotated[str, Field(pattern=r"^[1-7]$")]
TimePoints = Annotated[
    list[Hour],
    Field(min_length=1, max_length=24, description="Hours of the day in UTC+8, `0` to `23`."),
    Check(_unique, {"uniqueItems": True}),
]
RepeatWeekdays = Annotated[
    list[Weekday],
    Field(min_length=1, max_length=7, description="`1` is Monday. Not together with `repeat_interval_days`."),
    Check(_unique, {"uniqueItems": True}),
]
RepeatIntervalDays = Annotated[int, Field(ge=1, le=30, description="`1` is every day, beginning with this one.")]
RetentionDays = Annotated[
    int,
    Check(_retention, {"minimum": FOR_EVER, "maximum": RETENTION_DAYS_MAX, "not": {"const": 0}}),
    Field(description="Days until a snapshot is deleted by itself; -1 for snapshots that stay."),
]

VolumeIds = Annotated[
    list[Annotated[str, uuid_check("EVS.1002")]],
    Field(min_length=1, max_length=PAGE_MAX, description="The body is the array itself."),
]


class PolicyWanted(Body):
    """A policy that is asked for: when, how long, and nothing of volumes yet."""

    name: Text255
    repeat_weekdays: RepeatWeekdays | None = None
    repeat_interval_days: RepeatIntervalDays | None = None
    time_points: TimePoints
    retention_days: RetentionDays
    tags: Tags | None = None
    enterprise_project_id: EnterpriseProjectId | None = None


class CreatePolicy(Body):
    """The body of a creation."""

    snapshot_policy: PolicyWanted


class PolicyChangeWanted(Body):
    """What of a policy may change; a field that is left out stays."""

    name: Text255 | None = None
    repeat_weekdays: RepeatWeekdays | None = None
    repeat_interval_days: RepeatIntervalDays | None = None
    time_points: TimePoints | None = None
    retention_days: RetentionDays | None = None


class UpdatePolicy(Body):
    """The body of an update."""

    snapshot_policy: PolicyChangeWanted


class PolicyCountQuery(Filters):
    """Filters of the count."""

    id: str | None = None
    name: Text255 | None = None
    enterprise_project_id: EnterpriseProjectFilter | None = None
    tag_key: str | None = None
    tags: TagFilter | None = None


class PolicyListQuery(PolicyCountQuery):
    """Filters, sorting and paging of the list."""

    marker: OwnMarker | None = None
    limit: Limit = 1000
    offset: Offset = 0
    sort_key: Literal["id", "name", "created_at", "updated_at"] = "created_at"
    sort_dir: SortDir = "desc"


class PolicyDetail(BaseModel):
    """A policy as EVS shows it (`GetSnapshotPolicy`)."""

    id: str
    name: str
    repeat_weekdays: Annotated[list[str] | None, Field(description="None for a policy that counts days.")]
    repeat_interval_days: int | None
    time_points: list[str]
    retention_days: int
    tags: dict[str, str]
    enterprise_project_id: str
    created_at: str
    updated_at: str


class VolumeShare(BaseModel):
    """What became of one volume at a time point."""

    volume_id: str
    status: Annotated[
        ShareStatus,
        Field(description="`waiting` is tried again until an hour after the run has begun."),
    ]
    snapshot_id: Annotated[str | None, Field(description="The snapshot that was ordered.")]
    reason: Annotated[str | None, Field(description="Why there is none.")]


class Run(BaseModel):
    """What a policy did at one time point."""

    due_at: Annotated[str, Field(description="The time point, in UTC.")]
    begun_at: Annotated[str, Field(description="In UTC; later when the service was down.")]
    volumes: list[VolumeShare]


class PolicyExtension(BaseModel):
    """What Onecut tells of a policy beyond EVS."""

    volume_ids: list[str]
    next_at: Annotated[str, Field(description="The next time point, in UTC.")]
    runs: Annotated[list[Run], Field(description="The latest ones, the newest first.")]


class PolicyShown(PolicyDetail):
    """A policy as EVS shows it, and one key of our own."""

    onecut: PolicyExtension


class ShownPolicy(BaseModel):
    """One policy with what it did."""

    snapshot_policy: PolicyShown


class OnePolicy(BaseModel):
    """One policy."""

    snapshot_policy: PolicyDetail


class PolicyPage(BaseModel):
    """One page of policies."""

    snapshot_policies: list[PolicyDetail]


class PolicyCount(BaseModel):
    """How many policies there are."""

    count: int


@router.post("", status_code=201)
def create_policy(project_id: str, body: CreatePolicy, session: Writing, clock: Time) -> OnePolicy:
    """Make a policy; `associate` gives it volumes."""
    wanted = body.snapshot_policy
    new = NewPolicy(
        name=wanted.name,
        hours=_numbers(wanted.time_points),
        retention_days=wanted.retention_days,
        weekdays=None if wanted.repeat_weekdays is None else _numbers(wanted.repeat_weekdays),
        interval_days=wanted.repeat_interval_days,
        enterprise_project_id=wanted.enterprise_project_id or "0",
        tags=wanted.tags or {},
    )
    policy = policies.create(session, project_id, new, clock.now())
    return OnePolicy(snapshot_policy=_detail(policy, new.tags))


@router.get("")
def list_policies(project_id: str, query: Annotated[PolicyListQuery, Query()], session: Reading) -> PolicyPage:
    """List policies, the newest first unless sorted otherwise."""
    page = Page(query.sort_key, query.sort_dir, query.limit, query.offset, query.marker)
    found = policies.list_page(session, project_id, _filter(query), page)
    tags_of = tags.of(session, [policy.id for policy in found])
    return PolicyPage(snapshot_policies=[_detail(policy, tags_of[policy.id]) for policy in found])


@router.get("/count")
def count_policies(project_id: str, query: Annotated[PolicyCountQuery, Query()], session: Reading) -> PolicyCount:
    """Count policies."""
    return PolicyCount(count=policies.count(session, project_id, _filter(query)))


@router.get("/{snapshot_policy_id}")
def show_policy(project_id: str, snapshot_policy_id: str, session: Reading) -> ShownPolicy:
    """Show one policy, its volumes, and what became of them at its latest time points."""
    policy = policies.find(session, project_id, snapshot_policy_id)
    detail = _detail(policy, tags.of(session, [policy.id])[policy.id])
    extension = PolicyExtension(
        volume_ids=list(policies.volume_ids(session, policy.id)),
        next_at=time_text(policy.next_at),
        runs=[_run(run) for run in policies.runs(session, policy.id)],
    )
    return ShownPolicy(snapshot_policy=PolicyShown(**detail.model_dump(), onecut=extension))


@router.put("/{snapshot_policy_id}")
def update_policy(
    project_id: str, snapshot_policy_id: str, body: UpdatePolicy, session: Writing, clock: Time
) -> OnePolicy:
    """Change name, days, hours or retention. Weekdays take the place of an interval, and the reverse."""
    wanted = body.snapshot_policy
    change = PolicyChange(
        name=wanted.name,
        hours=None if wanted.time_points is None else _numbers(wanted.time_points),
        retention_days=wanted.retention_days,
        weekdays=None if wanted.repeat_weekdays is None else _numbers(wanted.repeat_weekdays),
        interval_days=wanted.repeat_interval_days,
    )
    policy = policies.update(session, project_id, snapshot_policy_id, change, clock.now())
    return OnePolicy(snapshot_policy=_detail(policy, tags.of(session, [policy.id])[policy.id]))


@router.delete("/{snapshot_policy_id}", status_code=204)
def delete_policy(project_id: str, snapshot_policy_id: str, session: Writing, clock: Time) -> None:
    """Delete a policy. Its snapshots stay, until their retention has passed."""
    policies.delete_policy(session, project_id, snapshot_policy_id, clock.now())


@router.post("/{snapshot_policy_id}/associate", status_code=204)
def associate_policy(project_id: str, snapshot_policy_id: str, body: VolumeIds, session: Writing) -> None:
    """Let the policy take snapshots of these volumes too."""
    policies.associate(session, project_id, snapshot_policy_id, body)


@router.post("/{snapshot_policy_id}/disassociate", status_code=204)
def disassociate_policy(project_id: str, snapshot_policy_id: str, body: VolumeIds, session: Writing) -> None:
    """Let the policy take no more snapshots of these volumes."""
    policies.disassociate(session, project_id, snapshot_policy_id, body)


def _numbers(texts: Sequence[str]) -> list[int]:
    return [int(text) for text in texts]


def _filter(query: PolicyCountQuery) -> PolicyFilter:
    return PolicyFilter(**query.model_dump(include=set(PolicyFilter.__dataclass_fields__)))


def _detail(policy: SnapshotPolicy, its_tags: Mapping[str, str]) -> PolicyDetail:
    return PolicyDetail(
        id=policy.id,
        name=policy.name,
        repeat_weekdays=None if policy.weekdays is None else [str(day) for day in policy.weekdays],
        repeat_interval_days=policy.interval_days,
        time_points=[str(hour) for hour in policy.hours],
        retention_days=policy.retention_days,
        tags=dict(its_tags),
        enterprise_project_id=policy.enterprise_project_id,
        created_at=time_text(policy.created_at),
        updated_at=time_text(policy.updated_at),
    )


def _run(run: PolicyRun) -> Run:
    shares = [
        VolumeShare(
            volume_id=share.volume_id,
            status=policies.share_status(share, run),
            snapshot_id=share.snapshot_id,
            reason=share.obstacle,
        )
        for share in run.shares
    ]
    return Run(due_at=time_text(run.due_at), begun_at=time_text(run.begun_at), volumes=shares)
