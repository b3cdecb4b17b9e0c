"""Bodies of the tag calls, the same for snapshot groups and snapshots."""

from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from onecut.api.fields import Body, TagKey, TagValue
from onecut.service.tags import TAGS_MAX


class Tag(Body):
    """A tag to be added."""

    key: TagKey
    value: TagValue


def _unique(tags: list[Tag]) -> list[Tag]:
    seen: set[str] = set()
    for tag in tags:
        if tag.key in seen:
            raise PydanticCustomError("tag_twice", "names the key {key} twice", {"code": "EVS.1062", "key": tag.key})
        seen.add(tag.key)
    return tags


class TagsToAdd(Body):
    """Tags to be added; a key the resource has already gets the new value."""

    tags: Annotated[list[Tag], AfterValidator(_unique)]

    def table(self) -> dict[str, str]:
        """Return the tags by key."""
        return {tag.key: tag.value for tag in self.tags}


class TagToRemove(Body):
    """A tag to be removed, whatever its value; EVS does not say that a given value must match."""

    key: TagKey
    value: TagValue | None = None


class TagsToRemove(Body):
    """Tags to be removed; a key the resource does not have is no error."""

    tags: Annotated[list[TagToRemove], Field(max_length=TAGS_MAX)]

    def keys(self) -> list[str]:
        """Return the keys."""
        return [tag.key for tag in self.tags]


class TagValues(BaseModel):
    """A key in use, with all its values."""

    key: str
    value: list[str]


class TagsInUse(BaseModel):
    """All tags of all resources of one type."""

    tags: list[TagValues]


def tags_in_use(found: Mapping[str, Sequence[str]]) -> TagsInUse:
    """Print the tags of a project's resources as the SDK reads them: an array, not an object."""
    return TagsInUse(tags=[TagValues(key=key, value=list(values)) for key, values in found.items()])
