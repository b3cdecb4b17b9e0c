"""Tags of any resource: set, remove, list, and the filters by tag. A noun that has tags says so by a `Tagged`."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from sqlalchemy import ColumnElement, bindparam, delete, exists, false, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from onecut.db.policies import SnapshotPolicy
from onecut.db.session import Asker
from onecut.db.snapshots import Snapshot, SnapshotGroup
from onecut.db.tags import Tag
from onecut.db.volumes import Volume
from onecut.errors import BadRequest, WrongState

ResourceType = Literal["volume", "snapshot", "snapshot_group", "snapshot_policy"]

Resource = TypeVar("Resource", Volume, Snapshot, SnapshotGroup, SnapshotPolicy)
Stateful = TypeVar("Stateful", Volume, Snapshot, SnapshotGroup)

TAGS_MAX = 20
"""Tags of one resource (the sources name 10 and 20; Onecut allows 20)."""


@dataclass(frozen=True)
class Tagged(Generic[Resource]):
    """A noun that has tags, and how one of its resources is found."""

    resource_type: ResourceType
    find: Callable[..., Resource]
    """Return a resource by session, project and id, locked with ``lock=True``, or raise `NotFound`."""

    def changeable(self, session: Session, project_id: str, resource_id: str) -> Resource:
        """
        Return a resource that nobody else changes before the transaction ends.

        Raises:
            NotFound: There is none of that id in this project.
        """
        return self.find(session, project_id, resource_id, lock=True)

    def of(self, session: Session, project_id: str, resource_id: str) -> dict[str, str]:
        """Return the tags of a resource of the project; raises `NotFound`."""
        return of(session, [self.find(session, project_id, resource_id).id])[resource_id]

    def put(self, session: Session, project_id: str, resource_id: str, wanted: Mapping[str, str]) -> None:
        """Add tags to a resource, or give those it has new values; raises as `changeable` and `put` do."""
        resource = self.changeable(session, project_id, resource_id)
        put(session, project_id, self.resource_type, resource.id, wanted)

    def remove(self, session: Session, project_id: str, resource_id: str, keys: Collection[str]) -> None:
        """Remove tags from a resource, whatever their values; a key it does not have is no error."""
        remove(session, self.changeable(session, project_id, resource_id).id, keys)

    def in_use(self, session: Session, project_id: str) -> dict[str, list[str]]:
        """Return each key in use by the project's resources, with its distinct values; none in the recycle bin."""
        values: dict[str, list[str]] = {}
        binned = select(Volume.id).where(Volume.project_id == project_id, Volume.pre_deleted_at.is_not(None))
        rows = session.execute(
            select(Tag.key, Tag.value)
            .where(
                Tag.project_id == project_id,
                Tag.resource_type == self.resource_type,
                Tag.resource_id.not_in(binned),
            )
            .distinct()
            .order_by(Tag.key, Tag.value)
        )
        for key, value in rows:
            values.setdefault(key, []).append(value)
        return values


@dataclass(frozen=True)
class TaggedInStates(Tagged[Stateful]):
    """The same for a noun with states, in some of which nothing may be changed."""

    changeable_in: frozenset[str]
    """States in which what its owner may write on it, tags among it, may change."""

    def changeable(self, session: Session, project_id: str, resource_id: str) -> Stateful:
        """
        Return a resource that nobody else changes before the transaction ends.

        Raises:
            NotFound: There is none of that id in this project.
            WrongState: It is in none of the states in `changeable_in`.
        """
        resource = self.find(session, project_id, resource_id, lock=True)
        if resource.status not in self.changeable_in:
            noun = self.resource_type.replace("_", " ")
            raise WrongState(noun, resource.id, resource.status, self.changeable_in)
        return resource


_TAGS: Final = (
    select(Tag.resource_id, Tag.key, Tag.value)
    .where(Tag.resource_id.in_(bindparam("resource_ids", expanding=True)))
    .order_by(Tag.key)
)


def of(asker: Asker, resource_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the tags of several resources, by resource id; a resource without tags has an empty table."""
    found: dict[str, dict[str, str]] = {resource_id: {} for resource_id in resource_ids}
    if found:
        for resource_id, key, value in asker.execute(_TAGS, {"resource_ids": list(found)}):
            found[resource_id][key] = value
    return found


def put(
    session: Session, project_id: str, resource_type: ResourceType, resource_id: str, tags: Mapping[str, str]
) -> None:
    """Add tags; an existing key gets the new value. More than `TAGS_MAX` in all are refused with EVS.1061."""
    if not tags:
        return
    together = of(session, [resource_id])[resource_id] | dict(tags)
    if len(together) > TAGS_MAX:
        raise BadRequest(f"tags: a resource has at most {TAGS_MAX} tags, not {len(together)}", code="EVS.1061")
    for key, value in tags.items():
        session.merge(
            Tag(resource_id=resource_id, key=key, value=value, resource_type=resource_type, project_id=project_id)
        )


def remove(session: Session, resource_id: str, keys: Iterable[str]) -> None:
    """Remove tags by key; a key that is not there is no error."""
    session.execute(delete(Tag).where(Tag.resource_id == resource_id, Tag.key.in_(list(keys))))


def having(
    resource_id: InstrumentedAttribute[str], *, tag_key: str | None = None, tags: Mapping[str, str] | None = None
) -> list[ColumnElement[bool]]:
    """Build the filters "has this key" and "has all these tags" for a list of the resources of *resource_id*."""
    if len(tags or {}) > TAGS_MAX:
        return [false()]  # no resource has so many, and no database takes a question of any length
    wanted = {key: [value] for key, value in (tags or {}).items()}
    with_key = [] if tag_key is None else [_having(resource_id, tag_key, ())]
    return with_key + having_among(resource_id, wanted)


def having_among(
    resource_id: InstrumentedAttribute[str], wanted: Mapping[str, Collection[str]]
) -> list[ColumnElement[bool]]:
    """Build the filter "has all these keys, each with one of its values"; no values are any value."""
    return [_having(resource_id, key, values) for key, values in wanted.items()]


def _having(resource_id: InstrumentedAttribute[str], key: str, values: Collection[str]) -> ColumnElement[bool]:
    with_key = exists().where(Tag.resource_id == resource_id, Tag.key == key)
    return with_key.where(Tag.value.in_(values)) if values else with_key
