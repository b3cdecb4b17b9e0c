"""Tags of any resource: set, remove, list, and the filters by tag."""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from sqlalchemy import ColumnElement, delete, exists, false, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from onecut.db.tags import Tag
from onecut.db.volumes import Volume
from onecut.errors import BadRequest

ResourceType = Literal["volume", "snapshot", "snapshot_group"]

TAGS_MAX = 20
"""Tags of one resource (the sources name 10 and 20; Onecut allows 20)."""


def of(session: Session, resource_ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Return the tags of several resources, by resource id; a resource without tags has an empty table."""
    found: dict[str, dict[str, str]] = {resource_id: {} for resource_id in resource_ids}
    for tag in session.scalars(select(Tag).where(Tag.resource_id.in_(found)).order_by(Tag.key)):
        found[tag.resource_id][tag.key] = tag.value
    return found


def put(
    session: Session, project_id: str, resource_type: ResourceType, resource_id: str, tags: Mapping[str, str]
) -> None:
    """Add tags; an existing key gets the new value. More than `TAGS_MAX` in all are refused with EVS.1061."""
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


def remove_all(session: Session, resource_ids: Collection[str]) -> None:
    """Remove every tag of resources that end."""
    session.execute(delete(Tag).where(Tag.resource_id.in_(resource_ids)))


def list_all(session: Session, project_id: str, resource_type: ResourceType) -> dict[str, list[str]]:
    """Return each key in use by a project's resources of one type, with its distinct values; none in the bin."""
    values: dict[str, list[str]] = {}
    binned = select(Volume.id).where(Volume.project_id == project_id, Volume.pre_deleted_at.is_not(None))
    rows = session.execute(
        select(Tag.key, Tag.value)
        .where(
            Tag.project_id == project_id,
            Tag.resource_type == resource_type,
            Tag.resource_id.not_in(binned),
        )
        .distinct()
        .order_by(Tag.key, Tag.value)
    )
    for key, value in rows:
        values.setdefault(key, []).append(value)
    return values


def having(
    resource_id: InstrumentedAttribute[str], *, tag_key: str | None = None, tags: Mapping[str, str] | None = None
) -> list[ColumnElement[bool]]:
    """Build the filters "has this key" and "has all these tags" for a list of the resources of *resource_id*."""
    filters: list[ColumnElement[bool]] = []
    if len(tags or {}) > TAGS_MAX:
        return [false()]  # no resource has so many, and no database takes a question of any length
    if tag_key is not None:
        filters.append(exists().where(Tag.resource_id == resource_id, Tag.key == tag_key))
    for key, value in (tags or {}).items():
        filters.append(exists().where(Tag.resource_id == resource_id, Tag.key == key, Tag.value == value))
    return filters
