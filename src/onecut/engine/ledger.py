"""
What the `qemu` engine must remember, and who remembers it for it.

The ledger decides what exists: the daemon's graph and the files follow it. Each method is one transaction and may
block, so the engine calls them in a thread. `db/ledger.py` fulfils the protocol.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from onecut.engine.port import Cut, ImageSource, Limits


@dataclass(frozen=True)
class Layer:
    """One qcow2 file."""

    id: str
    parent_id: str | None
    size_bytes: int
    source: ImageSource | None = None
    """What is read where the layer has no data yet; such a layer has no parent."""


@dataclass(frozen=True)
class KeptVolume:
    """What is written of one volume."""

    top: Layer
    """The layer that takes its writes."""
    limits: Limits
    exports: frozenset[str]
    """The ids of its exports."""


@dataclass(frozen=True)
class Point:
    """A frozen layer that somebody still wants."""

    id: str
    volume_id: str
    layer: Layer
    adopted: bool
    """Whether nobody saw its cut being made: it was concluded from the files, after a crash."""


@dataclass(frozen=True)
class PlannedMember:
    """What a cut does to one volume: *layer* is frozen, *overlay_id* becomes the top."""

    volume_id: str
    point_id: str
    layer: Layer
    overlay_id: str

    @property
    def overlay(self) -> Layer:
        """The layer that takes the writes from the cut on."""
        return Layer(self.overlay_id, self.layer.id, self.layer.size_bytes)


@dataclass(frozen=True)
class CutPlan:
    """A cut that was written down and has not been finished."""

    id: str
    planned_at: datetime
    members: Sequence[PlannedMember]


@dataclass(frozen=True)
class Holdings:
    """All that the ledger holds, read at one moment."""

    layers: Mapping[str, Layer]
    """By id; the overlays of planned cuts are not among them yet."""
    tops: Mapping[str, str]
    """For each volume's id, the id of the layer that takes its writes."""
    points: Mapping[str, str]
    """For each point's id, the id of its layer."""
    exports: Mapping[str, str]
    """For each export's id, the id of its volume."""
    limits: Mapping[str, Limits]
    """For each volume's id, its limits."""
    plans: Sequence[CutPlan]


class Ledger(Protocol):
    """Remembers layers, volumes, points, exports and cuts across any crash."""

    def holdings(self) -> Holdings:
        """Read everything."""
        ...

    def known_layers(self) -> frozenset[str]:
        """Read the ids of all layers, those of the overlays of planned cuts included."""
        ...

    def sources(self) -> Sequence[Layer]:
        """Read the layers that have a source."""
        ...

    def chain(self, layer_id: str) -> Sequence[Layer]:
        """Read a layer and those that it stands on, down to the lowest, as they are at one moment."""
        ...

    def volume(self, volume_id: str) -> KeptVolume | None:
        """Read what is written of a volume; None when there is no such volume."""
        ...

    def point(self, point_id: str) -> Point | None:
        """Read a point; None when there is none."""
        ...

    def points(self, point_ids: Collection[str]) -> Mapping[str, Point]:
        """Read several points as they are at one moment, by their ids; those that are not there are left out."""
        ...

    def exports_of(self, volume_ids: Collection[str]) -> Mapping[str, str]:
        """Read the exports of volumes: for each export's id, the id of its volume."""
        ...

    def exported_volume(self, export_id: str) -> str | None:
        """Read which volume an export serves; None when there is no such export."""
        ...

    def limits_of(self, volume_ids: Collection[str]) -> Mapping[str, Limits]:
        """Read the limits of volumes, by their ids; those that are not there are left out."""
        ...

    def set_limits(self, limits: Mapping[str, Limits]) -> None:
        """Write down new limits of volumes."""
        ...

    def add_volume(self, volume_id: str, layers: Sequence[Layer], limits: Limits) -> None:
        """Write down a new volume with its new layers: each stands on the one before, the last is the top."""
        ...

    def remove_volume(self, volume_id: str) -> None:
        """Forget a volume. Its top layer stays until `remove_layer`."""
        ...

    def resize_layer(self, layer_id: str, size_bytes: int) -> None:
        """Write down a layer's new size."""
        ...

    def add_export(self, export_id: str, volume_id: str) -> None:
        """
        Write down that a volume is served.

        Raises:
            EngineError: There is an export of that id already, of this volume or of another.
        """
        ...

    def remove_export(self, export_id: str) -> None:
        """Forget an export."""
        ...

    def cut(self, cut_id: str) -> Cut | CutPlan | None:
        """Read a cut, finished or planned."""
        ...

    def plans_touching(self, volume_ids: Sequence[str]) -> Sequence[str]:
        """Read the ids of planned cuts that have any of these volumes as a member."""
        ...

    def plan_cut(
        self, cut_id: str, planned_at: datetime, points: Mapping[str, str], overlays: Sequence[str]
    ) -> CutPlan:
        """
        Write down a cut before anything is touched.

        Args:
            cut_id: The cut's id.
            planned_at: Now.
            points: For each volume's id, the id its point shall have.
            overlays: The ids of the new top layers, one for each volume.

        Raises:
            CannotCut: There is no such volume, or a point of that id is there already.
        """
        ...

    def finish_cut(
        self, cut_id: str, *, taken_at: datetime, prepare_ms: float, pause_ms: float, adopted: bool = False
    ) -> Cut:
        """Turn a plan into points and new tops, all in one transaction."""
        ...

    def drop_cut(self, cut_id: str) -> None:
        """Forget a planned cut."""
        ...

    def remove_points(self, point_ids: Sequence[str]) -> None:
        """Forget points, and the cuts that have none left."""
        ...

    def switch_tops(self, layers: Mapping[str, Sequence[Layer]]) -> None:
        """Write down new layers for volumes, as `add_volume` does, all in one transaction."""
        ...

    def forget_source(self, layer_id: str) -> None:
        """Write down that a layer needs its source no more."""
        ...

    def absorb(self, layer_id: str) -> None:
        """
        Write down that a layer's data now lies in its parent too.

        Its points and children move to the parent, which takes over its size; the layer itself stays until
        `remove_layer`.
        """
        ...

    def remove_layer(self, layer_id: str) -> None:
        """Forget a layer that nothing refers to, once its file is gone."""
        ...
