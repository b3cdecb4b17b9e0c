"""The header ``X-Client-Token``, by which a client names a request so that it can be sent again."""

import re
from typing import Annotated, Final

from fastapi import Depends, Header, Request
from pydantic_core import PydanticCustomError

from onecut.api.fields import UUID, Check
from onecut.service.idempotency import ClientRequest

HEADER: Final = "X-Client-Token"

UUID_EITHER_CASE: Final = UUID.replace("a-f", "a-fA-F")


def _uuid(text: str | None) -> str | None:
    if text is None:
        return None
    if re.fullmatch(UUID_EITHER_CASE, text) is None:
        raise PydanticCustomError("uuid_invalid", "must be a UUID with dashes", {"code": "EVS.2218"})
    return text.lower()


Token = Annotated[
    str | None,
    Check(_uuid, {"pattern": UUID_EITHER_CASE}),
    Header(alias=HEADER, description="A UUID. For 8 hours the same request with it is the same creation."),
]


async def _client_request(request: Request, token: Token = None) -> ClientRequest | None:
    return None if token is None else ClientRequest(token, request.url.path, await request.body())


Named = Annotated[ClientRequest | None, Depends(_client_request)]
