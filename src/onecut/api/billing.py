"""How volumes are paid for: Onecut bills nothing, and takes what says no more than that."""

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from onecut.api.fields import Body, Check

INVALID: Final = "EVS.2147"

YesOrNo = Literal["true", "false"] | bool
"""EVS writes it as text in some bodies and as a boolean in others."""


def _post_paid(mode: str) -> str:
    if mode != "postPaid":
        raise PydanticCustomError("charging", "must be postPaid: Onecut bills nothing", {"code": INVALID})
    return mode


class BssParam(Body):
    """What EVS asks of who pays (API reference, creating disks); but for the mode nothing of it has an effect."""

    charging_mode: Annotated[str, Check(_post_paid, {"enum": ["postPaid"]})] | None = None
    is_auto_pay: YesOrNo | None = None
    is_auto_renew: YesOrNo | None = None
    period_num: Annotated[int, Field(ge=1, le=9, description="Months, up to 9; or 1 year.")] | None = None
    period_type: Literal["month", "year"] | None = None

    @model_validator(mode="after")
    def _of_one_year(self) -> Self:
        if self.period_type == "year" and self.period_num not in {None, 1}:
            raise PydanticCustomError("period", "may be for 1 year, not for several", {"code": INVALID})
        return self


class CamelBssParam(BssParam):
    """The same, as the older calls spell it: ``chargingMode``."""

    model_config = ConfigDict(alias_generator=to_camel)
