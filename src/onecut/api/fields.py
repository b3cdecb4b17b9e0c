"""
Field types of the EVS API, with their documented limits: what a value must look like, not what it means.

Texts are limited in bytes of UTF-8 where EVS says bytes, in characters where it says characters.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import CoreSchema, PydanticCustomError

from onecut.service.tags import TAGS_MAX

TAG_KEY: Final = r"^[A-Za-z0-9_\-\u4e00-\u9fff]{1,36}$"
TAG_VALUE: Final = r"^[A-Za-z0-9._\-\u4e00-\u9fff]{0,43}$"

UUID: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

PAGE_MAX: Final = 1000
OFFSET_MAX: Final = 2**31 - 1


class Filters(BaseModel):
    """The query of a list: an empty value counts as absent, unknown keys are ignored as EVS ignores them."""

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: Any) -> Any:  # noqa: ANN401 - pydantic's signature
        return {key: value for key, value in values.items() if value != ""}


class Body(BaseModel):
    """A request body: JSON types are not converted, unknown keys are ignored as EVS ignores them."""

    model_config = ConfigDict(strict=True)


class OneKey(Body):
    """A body with codes of its own for what is wrong with its one key, or with all of it."""

    key: ClassVar[str]
    absent_code: ClassVar[str]
    """There is no such key."""
    malformed_code: ClassVar[str]
    """It, or the body, is no object."""

    @model_validator(mode="before")
    @classmethod
    def _has_its_key(cls, body: Any) -> Any:  # noqa: ANN401 - a validator sees what came
        found = body.get(cls.key) if isinstance(body, dict) else body
        if isinstance(found, dict):
            return body
        code = cls.absent_code if found is None else cls.malformed_code
        raise PydanticCustomError("no_object", "must have {key}, an object", {"code": code, "key": cls.key})


def absent(value: Any) -> bool:  # noqa: ANN401 - pydantic asks for any field
    """Say whether a field of an answer is left out, for ``exclude_if``."""
    return value is None


@dataclass(frozen=True, slots=True)
class Check(AfterValidator):
    """A check of our own, and what it means in the words of the OpenAPI document, which can't be read off it."""

    schema: Mapping[str, Any] = field(hash=False)

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add it to what the document says of the field."""
        return handler(core) | dict(self.schema)


def between(allowed: range) -> JsonDict:
    """Say to the document which numbers the service will take."""
    return {"minimum": allowed[0], "maximum": allowed[-1]}


def bytes_limit(limit: int, *, code: str = "EVS.5400") -> Check:
    """Make the check that a text has at most *limit* bytes of UTF-8; *code* is the EVS error code otherwise."""

    def check(value: str) -> str:
        _no_nul(value)
        if (length := len(value.encode())) > limit:
            raise PydanticCustomError(
                "text_too_long",
                "must be at most {limit} bytes of UTF-8, is {length}",
                {"code": code, "limit": limit, "length": length},
            )
        return value

    words = f"At most {limit} bytes of UTF-8."
    return Check(check, {"maxLength": limit, "description": words})


def _no_nul(value: str) -> str:
    # No database stores it, and no client means it.
    if "\0" in value:
        raise PydanticCustomError("text_nul", "must not contain the character U+0000")
    return value


def uuid_check(code: str) -> Check:
    """Make the check that a text is a UUID as EVS prints them; *code* is the EVS error code otherwise."""

    def check(value: str) -> str:
        if re.fullmatch(UUID, value) is None:
            raise PydanticCustomError("uuid_invalid", "must be a UUID in lower case, with dashes", {"code": code})
        return value

    return Check(check, {"pattern": UUID})


SnapshotId = Annotated[str, uuid_check("EVS.2045")]
Text255 = Annotated[str, bytes_limit(255)]
Text64 = Annotated[str, Field(max_length=64), AfterValidator(_no_nul)]
Text85 = Annotated[str, Field(max_length=85), AfterValidator(_no_nul)]
Uuid = Annotated[str, Field(pattern=UUID)]
EnterpriseProjectId = Annotated[str, Field(pattern=f"^0$|{UUID}", description="`0` is the default one.")]
EnterpriseProjectFilter = Annotated[
    str, Field(pattern=f"^0$|^all_granted_eps$|{UUID}", description="`all_granted_eps` stands for every one.")
]

MARKER: Final = "Id of the last item of the page before; that item may have been deleted meanwhile."
Marker = Annotated[Uuid, Field(description=MARKER)]
OwnMarker = Annotated[Marker, Field(json_schema_extra={"x-onecut-extension": True})]
"""In lists that EVS pages by offset only, where rows that come meanwhile let a page repeat what the last one had."""
Limit = Annotated[int, Field(ge=1, le=PAGE_MAX, description="Most results of one page.")]
Offset = Annotated[int, Field(ge=0, le=OFFSET_MAX, description="Results to skip.")]
SortDir = Literal["asc", "desc"]


def _tag_error(message: str, **facts: Any) -> PydanticCustomError:  # noqa: ANN401 - shown in the message
    return PydanticCustomError("tag_invalid", message, {"code": "EVS.1062", **facts})


def check_tag_key(key: str) -> str:
    """Return *key* when it is a tag key: 1 to 36 of A-Z a-z 0-9 ``-`` ``_`` and U+4E00 to U+9FFF."""
    if re.fullmatch(TAG_KEY, key) is None:
        raise _tag_error(
            "a tag key has 1 to 36 characters of A-Z a-z 0-9 - _ and U+4E00 to U+9FFF, unlike {key}",
            key=repr(key[:60]),
        )
    return key


def check_tag_value(value: str) -> str:
    """Return *value* when it is a tag value: 0 to 43 of A-Z a-z 0-9 ``.`` ``-`` ``_`` and U+4E00 to U+9FFF."""
    if re.fullmatch(TAG_VALUE, value) is None:
        raise _tag_error(
            "a tag value has at most 43 characters of A-Z a-z 0-9 . - _ and U+4E00 to U+9FFF, unlike {value}",
            value=repr(value[:60]),
        )
    return value


def _few_tags(tags: dict[str, str]) -> dict[str, str]:
    if len(tags) > TAGS_MAX:
        raise PydanticCustomError(
            "too_many_tags",
            "a resource has at most {limit} tags, not {length}",
            {"code": "EVS.1061", "limit": TAGS_MAX, "length": len(tags)},
        )
    return tags


TagKey = Annotated[str, Check(check_tag_key, {"pattern": TAG_KEY})]
TagValue = Annotated[str, Check(check_tag_value, {"pattern": TAG_VALUE})]
Tags = Annotated[dict[TagKey, TagValue], Check(_few_tags, {"maxProperties": TAGS_MAX})]


def _parse_tag_filter(text: Any) -> Any:  # noqa: ANN401 - a validator sees what came
    """Read the three forms in use: ``[{"key":k,"value":v}]``, ``[{k:v}]`` and ``{k:v}``."""
    try:
        parsed = json.loads(text, object_pairs_hook=tuple)
        items = [parsed] if isinstance(parsed, tuple) else parsed
        pairs = [pair for item in items for pair in _pairs(item)]
        wanted = {check_tag_key(key): check_tag_value(value) for key, value in pairs}
    except (ValueError, TypeError, RecursionError):
        raise _tag_error('the filter is JSON text like [{{"key":"k","value":"v"}}]') from None
    for key in wanted:
        if [each for each, _ in pairs].count(key) > 1:
            raise _tag_error("the filter names the key {key} twice", key=repr(key))
    return wanted


def _pairs(item: object) -> Sequence[tuple[str, str]]:
    """Read one object of a filter, which comes as its pairs; the words key and value are no tags of their own."""
    if not isinstance(item, tuple):
        raise TypeError
    named = dict(item)
    if named.keys().isdisjoint({"key", "value"}):
        return item
    if len(item) != len(named) or set(named) != {"key", "value"}:
        raise ValueError
    return [(named["key"], named["value"])]


TagFilter = Annotated[
    dict[str, str],
    BeforeValidator(_parse_tag_filter),
    WithJsonSchema(
        {
            "type": "string",
            "contentMediaType": "application/json",
            "description": '`[{"key": "env", "value": "prod"}]`, `[{"env": "prod"}]` or `{"env": "prod"}`.',
        }
    ),
]
