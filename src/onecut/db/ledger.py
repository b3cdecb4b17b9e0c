"""The `qemu` engine's ledger, kept in the database's engine tables."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, bindparam, delete, exists, literal, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from onecut.db.layers import EngineCut, EngineCutMember, EngineExport, EngineLayer, EnginePoint, EngineVolume
from onecut.db.rows import write_rows
from onecut.db.session import Database
from onecut.engine.ledger import CutPlan, Holdings, KeptVolume, Layer, PlannedMember, Point
from onecut.engine.port import Cut, CutMember, ImageSource, Limits
from onecut.errors import CannotCut, EngineError


class DatabaseLedger:
    """Fulfils `onecut.engine.ledger.Ledger`; each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def holdings(self) -> Holdings:
        """Read everything."""
        with self._database.reading() as session:
            planned = session.scalars(
                select(EngineCut).where(EngineCut.taken_at.is_(None)).order_by(EngineCut.planned_at)
            )
            return Holdings(
                layers={row.id: _layer(row) for row in session.scalars(select(EngineLayer))},
                tops=_pairs(session, EngineVolume.id, EngineVolume.top_layer_id),
                points=_pairs(session, EnginePoint.id, EnginePoint.layer_id),
                exports=_pairs(session, EngineExport.id, EngineExport.volume_id),
                limits={row.id: _limits(row) for row in session.scalars(select(EngineVolume))},
                plans=[_plan(session, row) for row in planned],
            )

    def known_layers(self) -> frozenset[str]:
        """Read the ids of all layers, those of the overlays of planned cuts included."""
        planned = (
            select(EngineCutMember.overlay_id)
            .join(EngineCut, EngineCut.id == EngineCutMember.cut_id)
            .where(EngineCut.taken_at.is_(None))
        )
        with self._database.reading() as session:
            return frozenset(session.scalars(select(EngineLayer.id).union(planned)))

    def sources(self) -> Sequence[Layer]:
        """Read the layers that have a source."""
        with self._database.asking_once() as asker:
            return [_layer(row) for row in asker.execute(_SOURCES)]

    def chain(self, layer_id: str) -> Sequence[Layer]:
        """Read a layer and those that it stands on, down to the lowest, as they are at one moment."""
        with self._database.asking_once() as asker:
            return [_layer(row) for row in asker.execute(_CHAIN, {"layer_id": layer_id})]

    def volume(self, volume_id: str) -> KeptVolume | None:
        """Read what is written of a volume; None when there is no such volume."""
        with self._database.asking_once() as asker:
            rows = asker.execute(_VOLUME, {"volume_id": volume_id}).all()
        if not rows:
            return None
        exports = frozenset(row.export_id for row in rows if row.export_id is not None)
        return KeptVolume(_layer(rows[0]), _limits(rows[0]), exports)

    def point(self, point_id: str) -> Point | None:
        """Read a point; None when there is none."""
        with self._database.reading() as session:
            row = session.get(EnginePoint, point_id)
            if row is None:
                return None
            return Point(row.id, row.volume_id, _layer(session.get_one(EngineLayer, row.layer_id)), row.adopted)

    def points(self, point_ids: Collection[str]) -> Mapping[str, Point]:
        """Read several points as they are at one moment, by their ids; those that are not there are left out."""
        found = select(EnginePoint, EngineLayer).join(EngineLayer, EngineLayer.id == EnginePoint.layer_id)
        with self._database.reading() as session:
            return {
                point.id: Point(point.id, point.volume_id, _layer(layer), point.adopted)
                for point, layer in session.execute(found.where(EnginePoint.id.in_(point_ids)))
            }

    def exports_of(self, volume_ids: Collection[str]) -> Mapping[str, str]:
        """Read the exports of volumes: for each export's id, the id of its volume."""
        with self._database.reading() as session:
            return _pairs(session, EngineExport.id, EngineExport.volume_id, EngineExport.volume_id.in_(volume_ids))

    def exported_volume(self, export_id: str) -> str | None:
        """Read which volume an export serves; None when there is no such export."""
        with self._database.reading() as session:
            return session.scalar(select(EngineExport.volume_id).where(EngineExport.id == export_id))

    def limits_of(self, volume_ids: Collection[str]) -> Mapping[str, Limits]:
        """Read the limits of volumes, by their ids; those that are not there are left out."""
        with self._database.reading() as session:
            found = session.scalars(select(EngineVolume).where(EngineVolume.id.in_(volume_ids)))
            return {row.id: _limits(row) for row in found}

    def set_limits(self, limits: Mapping[str, Limits]) -> None:
        """Write down new limits of volumes."""
        with self._database.writing() as session:
            for volume in _locked_volumes(session, limits):
                volume.iops, volume.bytes_per_s = limits[volume.id].iops, limits[volume.id].bytes_per_s

    def add_volume(self, volume_id: str, layers: Sequence[Layer], limits: Limits) -> None:
        """Write down a new volume with its new layers: each stands on the one before, the last is the top."""
        with self._database.writing() as session:
            _add_layers(session, layers)
            row = {"id": volume_id, "top_layer_id": layers[-1].id}
            write_rows(session, EngineVolume, [row | {"iops": limits.iops, "bytes_per_s": limits.bytes_per_s}])

    def remove_volume(self, volume_id: str) -> None:
        """Forget a volume. Its top layer stays until `remove_layer`."""
        with self._database.writing() as session:
            session.execute(delete(EngineVolume).where(EngineVolume.id == volume_id))

    def resize_layer(self, layer_id: str, size_bytes: int) -> None:
        """Write down a layer's new size."""
        with self._database.writing() as session:
            session.execute(update(EngineLayer).where(EngineLayer.id == layer_id).values(size_bytes=size_bytes))

    def add_export(self, export_id: str, volume_id: str) -> None:
        """
        Write down that a volume is served.

        Raises:
            EngineError: There is an export of that id already, of this volume or of another.
        """
        with self._database.writing() as session:
            served = session.scalar(select(EngineExport.volume_id).where(EngineExport.id == export_id))
            if served is not None:
                raise EngineError(f"export {export_id} serves volume {served} already")
            write_rows(session, EngineExport, [{"id": export_id, "volume_id": volume_id}])

    def remove_export(self, export_id: str) -> None:
        """Forget an export."""
        with self._database.writing() as session:
            session.execute(delete(EngineExport).where(EngineExport.id == export_id))

    def cut(self, cut_id: str) -> Cut | CutPlan | None:
        """Read a cut, finished or planned."""
        with self._database.reading() as session:
            row = session.get(EngineCut, cut_id)
            if row is None:
                return None
            return _plan(session, row) if row.taken_at is None else _finished(session, row)

    def plans_touching(self, volume_ids: Sequence[str]) -> Sequence[str]:
        """Read the ids of planned cuts that have any of these volumes as a member."""
        with self._database.asking_once() as asker:
            return asker.execute(_PLANS_TOUCHING, {"volume_ids": list(volume_ids)}).scalars().all()

    def plan_cut(
        self, cut_id: str, planned_at: datetime, points: Mapping[str, str], overlays: Sequence[str]
    ) -> CutPlan:
        """
        Write down a cut before anything is touched.

        Raises:
            CannotCut: There is no such volume, or a point of that id is there already.
        """
        with self._database.writing() as session:
            taken = session.scalar(select(EnginePoint.id).where(EnginePoint.id.in_(points.values())).limit(1))
            if taken is not None:
                raise CannotCut(f"there is a point {taken} already")
            cut = EngineCut(id=cut_id, planned_at=planned_at)
            session.add(cut)
            session.flush()
            tops = {row.id: row.top_layer_id for row in _locked_volumes(session, points)}
            for (volume_id, point_id), overlay_id in zip(points.items(), overlays, strict=True):
                if volume_id not in tops:
                    raise CannotCut(f"there is no volume {volume_id}")
                session.add(
                    EngineCutMember(
                        cut_id=cut_id,
                        volume_id=volume_id,
                        point_id=point_id,
                        layer_id=tops[volume_id],
                        overlay_id=overlay_id,
                    )
                )
            session.flush()
            return _plan(session, cut)

    def finish_cut(
        self, cut_id: str, *, taken_at: datetime, prepare_ms: float, pause_ms: float, adopted: bool = False
    ) -> Cut:
        """Turn a plan into points and new tops, all in one transaction."""
        with self._database.writing() as session:
            cut = session.get_one(EngineCut, cut_id)
            members = _plan(session, cut).members
            for member in members:
                session.add(
                    EnginePoint(
                        id=member.point_id, volume_id=member.volume_id, layer_id=member.layer.id, adopted=adopted
                    )
                )
            _switch(session, {member.volume_id: [member.overlay] for member in members})
            cut.taken_at, cut.prepare_ms, cut.pause_ms = taken_at, prepare_ms, pause_ms
            return _finished(session, cut)

    def drop_cut(self, cut_id: str) -> None:
        """Forget a planned cut."""
        with self._database.writing() as session:
            session.execute(delete(EngineCutMember).where(EngineCutMember.cut_id == cut_id))
            session.execute(delete(EngineCut).where(EngineCut.id == cut_id, EngineCut.taken_at.is_(None)))

    def remove_points(self, point_ids: Sequence[str]) -> None:
        """Forget points, and the cuts that have none left."""
        with self._database.writing() as session:
            affected = session.scalars(
                select(EngineCutMember.cut_id)
                .join(EngineCut, EngineCut.id == EngineCutMember.cut_id)
                .where(EngineCutMember.point_id.in_(point_ids), EngineCut.taken_at.is_not(None))
                .distinct()
            ).all()
            session.execute(delete(EnginePoint).where(EnginePoint.id.in_(point_ids)))
            wanted = exists().where(
                EngineCutMember.cut_id == EngineCut.id, EngineCutMember.point_id == EnginePoint.id
            )
            over = session.scalars(select(EngineCut.id).where(EngineCut.id.in_(affected), ~wanted)).all()
            session.execute(delete(EngineCutMember).where(EngineCutMember.cut_id.in_(over)))
            session.execute(delete(EngineCut).where(EngineCut.id.in_(over)))

    def switch_tops(self, layers: Mapping[str, Sequence[Layer]]) -> None:
        """Write down new layers for volumes, as `add_volume` does, all in one transaction."""
        with self._database.writing() as session:
            _switch(session, layers)

    def forget_source(self, layer_id: str) -> None:
        """Write down that a layer needs its source no more."""
        with self._database.writing() as session:
            session.execute(
                update(EngineLayer).where(EngineLayer.id == layer_id).values(source_uri=None, source_size_bytes=None)
            )

    def absorb(self, layer_id: str) -> None:
        """Write down that a layer's data now lies in its parent too: points and children move there."""
        with self._database.writing() as session:
            layer = session.get_one(EngineLayer, layer_id)
            session.execute(
                update(EnginePoint).where(EnginePoint.layer_id == layer_id).values(layer_id=layer.parent_id)
            )
            session.execute(
                update(EngineLayer).where(EngineLayer.parent_id == layer_id).values(parent_id=layer.parent_id)
            )
            session.get_one(EngineLayer, layer.parent_id).size_bytes = layer.size_bytes

    def remove_layer(self, layer_id: str) -> None:
        """Forget a layer that nothing refers to, once its file is gone."""
        with self._database.writing() as session:
            session.execute(delete(EngineLayer).where(EngineLayer.id == layer_id))


_LAYER: Final = (
    EngineLayer.id,
    EngineLayer.parent_id,
    EngineLayer.size_bytes,
    EngineLayer.source_uri,
    EngineLayer.source_size_bytes,
)

_VOLUME: Final = (
    select(*_LAYER, EngineVolume.iops, EngineVolume.bytes_per_s, EngineExport.id.label("export_id"))
    .join(EngineVolume, EngineVolume.top_layer_id == EngineLayer.id)
    .outerjoin(EngineExport, EngineExport.volume_id == EngineVolume.id)
    .where(EngineVolume.id == bindparam("volume_id"))
)
_BELOW = select(*_LAYER, literal(0).label("depth")).where(EngineLayer.id == bindparam("layer_id")).cte(recursive=True)
_CHAIN: Final = select(
    _BELOW.union_all(select(*_LAYER, _BELOW.c.depth + 1).join(_BELOW, EngineLayer.id == _BELOW.c.parent_id))
).order_by("depth")
_SOURCES: Final = select(*_LAYER).where(EngineLayer.source_uri.is_not(None))
_PLANS_TOUCHING: Final = (
    select(EngineCut.id)
    .join(EngineCutMember, EngineCutMember.cut_id == EngineCut.id)
    .where(EngineCut.taken_at.is_(None), EngineCutMember.volume_id.in_(bindparam("volume_ids", expanding=True)))
    .distinct()
)
"""Asked before each act of the engine."""


def _layer(row: EngineLayer | Row[*tuple[Any, ...]]) -> Layer:
    source = None
    if row.source_uri is not None and row.source_size_bytes is not None:
        source = ImageSource(row.source_uri, row.source_size_bytes)
    return Layer(row.id, row.parent_id, row.size_bytes, source)


def _limits(row: EngineVolume | Row[*tuple[Any, ...]]) -> Limits:
    return Limits(row.iops, row.bytes_per_s)


def _add_layers(session: Session, layers: Iterable[Layer]) -> None:
    write_rows(session, EngineLayer, [_row(layer) for layer in layers])


def _row(layer: Layer) -> dict[str, Any]:
    uri, size_bytes = (None, None) if layer.source is None else (layer.source.uri, layer.source.size_bytes)
    own = {"id": layer.id, "parent_id": layer.parent_id, "size_bytes": layer.size_bytes}
    return own | {"source_uri": uri, "source_size_bytes": size_bytes}


def _locked_volumes(session: Session, volume_ids: Collection[str]) -> Sequence[EngineVolume]:
    return session.scalars(
        select(EngineVolume).where(EngineVolume.id.in_(volume_ids)).order_by(EngineVolume.id).with_for_update()
    ).all()


def _switch(session: Session, layers: Mapping[str, Sequence[Layer]]) -> None:
    _add_layers(session, chain.from_iterable(layers.values()))
    for volume in _locked_volumes(session, layers):
        volume.top_layer_id = layers[volume.id][-1].id


def _pairs(
    session: Session,
    key: InstrumentedAttribute[str],
    value: InstrumentedAttribute[str],
    *conditions: ColumnElement[bool],
) -> dict[str, str]:
    return {row[0]: row[1] for row in session.execute(select(key, value).where(*conditions))}


def _plan(session: Session, cut: EngineCut) -> CutPlan:
    found = session.execute(
        select(EngineCutMember, EngineLayer)
        .join(EngineLayer, EngineLayer.id == EngineCutMember.layer_id)
        .where(EngineCutMember.cut_id == cut.id)
        .order_by(EngineCutMember.volume_id)
    )
    return CutPlan(
        cut.id,
        cut.planned_at,
        [PlannedMember(row.volume_id, row.point_id, _layer(layer), row.overlay_id) for row, layer in found],
    )


def _finished(session: Session, cut: EngineCut) -> Cut:
    assert cut.taken_at is not None  # noqa: S101 - what distinguishes a finished cut
    prepare_ms, pause_ms = cut.prepare_ms or 0.0, cut.pause_ms or 0.0
    members = session.execute(
        select(EngineCutMember.volume_id, EngineCutMember.point_id, EngineLayer.size_bytes)
        .outerjoin(EnginePoint, EnginePoint.id == EngineCutMember.point_id)
        .outerjoin(EngineLayer, EngineLayer.id == EnginePoint.layer_id)
        .where(EngineCutMember.cut_id == cut.id)
        .order_by(EngineCutMember.volume_id)
    )
    return Cut(
        id=cut.id,
        taken_at=cut.taken_at,
        prepare_ms=prepare_ms,
        pause_ms=pause_ms,
        members=[CutMember(volume_id, point_id, pause_ms, size or 0) for volume_id, point_id, size in members],
    )
