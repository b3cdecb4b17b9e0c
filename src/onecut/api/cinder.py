"""What all Cinder paths share: the microversion, sorting, paging and actions. Errors: `cinder_faults`."""

import re
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

from fastapi import Header, HTTPException, Request, Response
from pydantic import ConfigDict, Field, model_validator

from onecut.api.fields import Body, Filters, Limit, Marker, Offset, SortDir
from onecut.api.versions import MICROVERSION
from onecut.service.listing import Page

MICROVERSION_HEADER: Final = "OpenStack-API-Version"

SUPPORTED: Final = frozenset({MICROVERSION, "latest"})

_OTHER_SERVICE: Final = r"[a-z-]+ [\w.]+"
_OURS: Final = rf"volume ({'|'.join(map(re.escape, sorted(SUPPORTED)))})"
MICROVERSION_ASKED: Final[Any] = Header(
    alias=MICROVERSION_HEADER,
    description="One of `volume` is heeded, and those of other services are not; another one of ours is 406.",
    json_schema_extra={"pattern": rf"^({_OTHER_SERVICE}, *)*{_OURS}(, *{_OTHER_SERVICE})*$"},
)


async def microversion(
    response: Response, asked: Annotated[str, MICROVERSION_ASKED] = f"volume {MICROVERSION}"
) -> None:
    """
    Tell which microversion answers, and refuse any other with 406 as Cinder does.

    One header may name several services with commas between; only ``volume`` is ours.
    """
    wanted = [version for version in re.findall(r"volume\s+([^\s,]+)", asked) if version not in SUPPORTED]
    if wanted:
        reason = f"version {wanted[0]} is not supported by the API: minimum and maximum are {MICROVERSION}"
        raise HTTPException(HTTPStatus.NOT_ACCEPTABLE, reason)
    response.headers[MICROVERSION_HEADER] = f"volume {MICROVERSION}"
    response.headers["Vary"] = MICROVERSION_HEADER


def version(request: Request) -> str:
    """Return the version in the path, for links."""
    return request.url.path.split("/")[1]


class CinderPage(Filters):
    """Sorting and paging of a Cinder list. Filters that Cinder keeps for administrators have no effect."""

    marker: Marker | None = None
    limit: Limit = 1000
    offset: Offset = 0
    sort: Annotated[str, Field(pattern=r"^(id|status|size|created_at)(:(asc|desc))?$")] | None = Field(
        default=None, description="Key and direction, as `size:asc`; goes before the two below."
    )
    sort_key: Literal["id", "status", "size", "created_at"] = "created_at"
    sort_dir: SortDir = "desc"

    def page(self) -> Page:
        """Say which part is wanted."""
        key, _, direction = (self.sort or f"{self.sort_key}:{self.sort_dir}").partition(":")
        return Page(key, "asc" if direction == "asc" else "desc", self.limit, self.offset, self.marker)


class Action(Body):
    """The body of an action: one key, which names it. Those that are no fields here are refused by name."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _one_key(cls, body: Any) -> Any:  # noqa: ANN401 - a validator sees what came
        if not isinstance(body, dict) or len(body) != 1:
            raise ValueError("must be an object with one key, which names the action")
        return body

    def name(self) -> str:
        """Return the key."""
        (name,) = self.model_dump(by_alias=True, exclude_unset=True)
        return name
