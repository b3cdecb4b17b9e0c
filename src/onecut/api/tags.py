"""Bodies of the tag calls, the same for every noun that has tags, and the routes of those under ``/v5``."""

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, Field
from pydantic_core import PydanticCustomError

from onecut.api.dependencies import Reading, Writing
from onecut.api.fields import Body, Check, TagKey, TagValue
from onecut.api.routing import Router
from onecut.service.tags import TAGS_MAX, Tagged


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

    tags: Annotated[list[Tag], Check(_unique, {"uniqueItems": True, "maxItems": TAGS_MAX})]

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


def add_routes(router: Router, tagged: Tagged[Any], id_name: str, id_pattern: str | None = None) -> None:
    """
    Add the tag calls of a noun of ``/v5`` to its router, where they must come before the routes by id.

    Args:
        router: The noun's, with its prefix.
        tagged: The noun.
        id_name: What EVS calls a resource's id in the path.
        id_pattern: What it must look like, where EVS has a code for one that does not.
    """
    resource_id_in_path = Path(alias=id_name, pattern=id_pattern)
    noun = tagged.resource_type

    @router.get("/tags", name=f"list_{noun}_tags")
    def list_tags(project_id: str, session: Reading) -> TagsInUse:
        """List all tags of the project's resources, as the SDK reads them here: an array, not an object."""
        found = tagged.in_use(session, project_id)
        return TagsInUse(tags=[TagValues(key=key, value=values) for key, values in found.items()])

    @router.post(f"/{{{id_name}}}/tags/create", status_code=204, name=f"create_{noun}_tags")
    def create_tags(
        project_id: str, resource_id: Annotated[str, resource_id_in_path], body: TagsToAdd, session: Writing
    ) -> None:
        """Add tags; a key that is there already gets the new value."""
        tagged.put(session, project_id, resource_id, body.table())

    @router.post(f"/{{{id_name}}}/tags/delete", status_code=204, name=f"delete_{noun}_tags")
    def delete_tags(
        project_id: str, resource_id: Annotated[str, resource_id_in_path], body: TagsToRemove, session: Writing
    ) -> None:
        """Remove tags by key."""
        tagged.remove(session, project_id, resource_id, body.keys())
