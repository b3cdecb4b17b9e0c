"""
After a crash: find out what became of planned cuts and merges, and make the daemon's graph what the ledger says.

A planned cut is settled before anything else, by the one who knows:

* The daemon, if it has lived since: the transaction put all overlays on top, or none.
* The files, if the daemon is gone. A client's write goes into an overlay only after the transaction, so one overlay
  with data proves that the cut was made, and all overlays are adopted. If all files are there and none holds data,
  they are adopted as well: an empty layer over its base is the same disk, and as nothing wrote since the crash, the
  points show one instant whether the transaction ran or not. Nothing says, though, that the making of an empty file
  had reached the disk when the power failed, so it is made anew. Only if a file is missing and none holds data, the
  overlays are removed: the transaction comes after the last file.

A daemon that was started again and died half-way through its recovery is told by its having none of the cut's layers
open: plans are settled before layers are opened.

A layer whose source does not answer can't be opened, nor can those above it. They are `reopen`ed when it does.

A merge copies a layer into the one below. Until its end is written down the ledger names both, and over both any
reader sees the same: where the upper one has data it hides the lower, wherever the copying stopped.
"""

import asyncio
from collections.abc import Collection
from typing import Final

import structlog

from onecut.engine.files import LayerFiles, LayerState
from onecut.engine.forest import bottom_up, needless
from onecut.engine.ledger import CutPlan, Holdings, Ledger
from onecut.engine.monitor import DaemonRefused
from onecut.engine.nodes import Nodes
from onecut.engine.port import Cut

UNMEASURED_MS: Final = 0.0
"""The pause of a cut whose service did not live to measure it."""

log = structlog.get_logger(__name__)


async def recover(nodes: Nodes, ledger: Ledger, files: LayerFiles) -> None:
    """Settle what is half done, then open the layers and make the exports that the ledger names."""
    for layer_id, merged in (await nodes.end_merges()).items():
        if merged:
            await _write_down_merge(nodes, ledger, layer_id)
        await nodes.forget_merge(layer_id)
    for plan in (await asyncio.to_thread(ledger.holdings)).plans:
        await settle(plan, nodes, ledger, files)
    holdings = await asyncio.to_thread(ledger.holdings)
    await _drop_exports(nodes, holdings)
    await nodes.sweep_throttles()
    await _open_layers(nodes, holdings, holdings.layers)
    await _grow_tops(nodes, holdings)
    await _make_exports(nodes, holdings, holdings.tops)


async def reopen(nodes: Nodes, ledger: Ledger) -> None:
    """Try once more to open what can't be opened, and make the exports of the volumes that can be used again."""
    holdings = await asyncio.to_thread(ledger.holdings)
    volumes = [volume_id for volume_id, top in holdings.tops.items() if top in nodes.broken]
    await _open_layers(nodes, holdings, set(nodes.broken))
    await _grow_tops(nodes, holdings)
    await _make_exports(nodes, holdings, volumes)


async def settle(plan: CutPlan, nodes: Nodes, ledger: Ledger, files: LayerFiles) -> Cut | None:
    """Find out what became of a planned cut, and write it down: the cut, or None when it was not made."""
    layers = await nodes.layers()
    if any(member.layer.id in layers for member in plan.members):
        made, adopted = all(layers.get(member.overlay_id, False) for member in plan.members), False
    else:
        made = adopted = await _adopt(plan, nodes, files)
    log.warning("cut_settled", cut_id=plan.id, made=made)
    if not made:
        await asyncio.to_thread(ledger.drop_cut, plan.id)
        return None
    return await asyncio.to_thread(
        ledger.finish_cut,
        plan.id,
        taken_at=plan.planned_at,
        prepare_ms=UNMEASURED_MS,
        pause_ms=UNMEASURED_MS,
        adopted=adopted,
    )


async def _adopt(plan: CutPlan, nodes: Nodes, files: LayerFiles) -> bool:
    states = {member: await asyncio.to_thread(files.state, member.overlay) for member in plan.members}
    if LayerState.ABSENT in states.values() and LayerState.WRITTEN not in states.values():
        return False
    for member, state in states.items():
        if state is LayerState.EMPTY:
            files.remove(member.overlay_id)
            await nodes.create(member.overlay)
    await asyncio.to_thread(files.sync)
    return True


async def _write_down_merge(nodes: Nodes, ledger: Ledger, layer_id: str) -> None:
    layers = (await asyncio.to_thread(ledger.holdings)).layers
    layer = layers.get(layer_id)
    if layer is None or layer.parent_id is None:
        return
    try:
        await nodes.seal(layers[layer.parent_id])
    except DaemonRefused as problem:  # both stay, which is as good
        log.warning("merge_failed", layer_id=layer_id, problem=str(problem))
    else:
        await asyncio.to_thread(ledger.absorb, layer_id)


async def _drop_exports(nodes: Nodes, holdings: Holdings) -> None:
    for export_id, layer_id in (await nodes.exports()).items():
        if holdings.tops.get(holdings.exports.get(export_id, "")) != layer_id:
            await nodes.unexport(export_id)


async def _open_layers(nodes: Nodes, holdings: Holdings, among: Collection[str]) -> None:
    opened = await nodes.layers()
    unneeded, tops = {layer.id for layer in needless(holdings)}, set(holdings.tops.values())
    for layer in bottom_up(holdings.layers):
        below = nodes.broken.get(layer.parent_id or "")
        if below is not None:
            nodes.broken[layer.id] = below
        elif layer.id in among and layer.id not in opened and layer.id not in unneeded:
            try:
                await nodes.open(layer, frozen=layer.id not in tops)
                nodes.broken.pop(layer.id, None)
            except DaemonRefused as problem:
                nodes.broken[layer.id] = str(problem)
                log.warning("layer_unusable", layer_id=layer.id, problem=str(problem))


async def _grow_tops(nodes: Nodes, holdings: Holdings) -> None:
    """Finish extensions: the size is written down before the daemon is asked."""
    served = set((await nodes.exports()).values())
    for top in holdings.tops.values():
        wanted = holdings.layers[top].size_bytes
        if top not in nodes.broken and top not in served and nodes.files.size(top) < wanted:
            await nodes.resize(top, wanted)


async def _make_exports(nodes: Nodes, holdings: Holdings, of: Collection[str]) -> None:
    made = await nodes.exports()
    for export_id, volume_id in holdings.exports.items():
        top, limits = holdings.tops[volume_id], holdings.limits[volume_id]
        if volume_id not in of or top in nodes.broken:
            continue
        if export_id in made:
            await nodes.throttles.tune(volume_id, limits)
        else:
            await nodes.export(export_id, top, volume_id=volume_id, limits=limits)
