"""One line of the benchmarks' table."""

import dataclasses
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

_HOLDS: Final[Mapping[str, Callable[[float, float], bool]]] = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Result:
    """A figure, what it is a ratio of, and the bar it should meet."""

    what: str
    ours: str
    """The measured quantity, with unit."""
    against: str
    """What it is compared with, with unit; empty for an absolute bar."""
    figure: float
    relation: Literal["<=", ">="]
    limit: float

    @property
    def bar(self) -> str:
        """The bar in words."""
        return f"{self.relation} {self.limit:g}"

    @property
    def met(self) -> bool:
        """Whether the figure meets the bar."""
        return _HOLDS[self.relation](self.figure, self.limit)

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for the results file."""
        return dataclasses.asdict(self) | {"met": self.met}
