"""
Errors in Cinder's form: ``{"badRequest": {"message", "code"}}``, where the key says what kind of error it is.

The code is that of EVS, as its API reference has it for these paths; Cinder itself puts the HTTP status there.
"""

import re
from collections.abc import Mapping
from typing import Final

from fastapi.responses import JSONResponse

PATHS: Final = re.compile(
    r"/v[23]/[^/]+/(?!volumes/[^/]+/retype$)"
    r"(volumes|snapshots|types|os-availability-zone|extensions|limits|os-vendor-snapshots|os-volume-transfer|os-quota-sets)"
    r"(/|$)"
)
"""The paths that EVS has from Cinder. What EVS put under `/v2` and `/v3` itself answers in its own form."""

KINDS: Final[Mapping[int, str]] = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    501: "notImplemented",
    503: "serviceUnavailable",
}
"""What Cinder calls an error of each status."""

OTHER_KIND: Final = "computeFault"
"""What Cinder calls every other; the name is Nova's."""


def is_cinder(path: str) -> bool:
    """Say whether errors of this path are Cinder's."""
    return PATHS.match(path) is not None


def kind_of(status: int) -> str:
    """Return what Cinder calls an error of a status."""
    return KINDS.get(status, OTHER_KIND)


def cinder_error(status: int, code: str, message: str) -> JSONResponse:
    """Build an error in Cinder's form."""
    return JSONResponse({kind_of(status): {"code": code, "message": message}}, status)
