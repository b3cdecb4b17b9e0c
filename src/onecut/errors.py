"""
Every error that crosses a room's border, sorted by what the caller should do.

::

    OnecutError
    ├── Refused            the request is wrong, or comes at a wrong time; nothing changed
    │   ├── BadRequest       a field is wrong: names field, value and limit
    │   ├── Unauthenticated  nobody knows who asks
    │   ├── Forbidden        known, but not allowed
    │   ├── NotFound         no such resource for this caller
    │   ├── WrongState       the resource's state does not allow this act
    │   ├── QuotaExceeded    the project would have more than it may
    │   └── SnapshotInCreation  the volume has a snapshot that is still being created; ask again later
    ├── EngineError        the engine could not do it; the engine says what holds now
    │   ├── CannotCut        a member can't be frozen; nothing was touched
    │   ├── CutFailed        the cut was tried and no member has a point
    │   ├── VolumeUnusable   a volume's data can't be opened (a layer is missing or damaged)
    │   ├── EngineFull       no space left for layers
    │   ├── NoChangeList     what changed between two points is not known for certain; take all of it
    │   └── EngineDown       the daemon does not answer
    │       └── OutcomeUnknown  the line broke after sending: settle before anything else
    └── Misconfigured      an operator must act; raised at start where possible

An error has a sentence and, where EVS documents one, a code. Only `api/faults.py` maps errors to HTTP.
"""

from collections.abc import Collection


class OnecutError(Exception):
    """Anything Onecut raises on purpose."""


class Refused(OnecutError):
    """The request is wrong, or comes at a wrong time. Nothing changed."""

    code = "EVS.5400"
    """The documented EVS error code; see ``docs/reference/errors.md``."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class BadRequest(Refused):
    """A field of the request is wrong. The message names field, value and limit."""


class Unauthenticated(Refused):
    """Neither a valid token nor a valid signature came with the request."""

    code = "APIGW.0301"


class Forbidden(Refused):
    """The caller is known, but may not do this."""

    code = "EVS.5403"


class NotFound(Refused):
    """No such resource, or none that this caller may know of."""

    code = "EVS.5404"

    def __init__(self, resource: str, resource_id: str, *, code: str | None = None) -> None:
        super().__init__(f"{resource} {resource_id} does not exist", code=code)
        self.resource, self.resource_id = resource, resource_id


class WrongState(Refused):
    """The resource exists, but its state does not allow this act."""

    def __init__(
        self,
        resource: str,
        resource_id: str,
        state: str,
        allowed: Collection[str],
        *,
        code: str | None = None,
    ) -> None:
        needed = " or ".join(sorted(allowed))
        super().__init__(f"{resource} {resource_id} is {state}; this needs {needed}", code=code)
        self.resource, self.resource_id, self.state, self.allowed = (
            resource,
            resource_id,
            state,
            frozenset(allowed),
        )


class QuotaExceeded(Refused):
    """The project would have more than it may. EVS has codes of its own for volumes, and answers them with 400."""

    code = "EVS.5413"


class SnapshotInCreation(Refused):
    """A volume has a snapshot that is still being created. Clients wait and ask again on this code."""

    code = "EVS.2409"

    def __init__(self, volume_id: str, *, single: bool = False) -> None:
        super().__init__(f"volume {volume_id} has a snapshot that is still being created; try again later")
        self.volume_id = volume_id
        self.single = single
        """Whether a single snapshot was asked for: EVS answers 409 then, and 400 for a group."""


class EngineError(OnecutError):
    """The engine could not do what was asked."""


class CannotCut(EngineError):
    """A member can't be frozen together with the others. Nothing was touched."""


class CutFailed(EngineError):
    """The cut was tried; no member has a point of it."""


class VolumeUnusable(EngineError):
    """A volume's data can't be opened; the sentence says which file and why."""


class EngineFull(EngineError):
    """There is no space left where layers are kept."""


class NoChangeList(EngineError):
    """What changed between two points is not known for certain; the sentence says why. Take all of it."""


class EngineDown(EngineError):
    """The engine's daemon does not answer."""


class OutcomeUnknown(EngineDown):
    """The line to the daemon broke after sending; the act may or may not have happened. Settle first."""


class Misconfigured(OnecutError):
    """An operator must act: a setting, a program or a permission is wrong."""
