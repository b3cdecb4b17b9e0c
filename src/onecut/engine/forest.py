"""
What follows from the layers' forest: who needs which layer, and which two may become one. Pure functions.

A layer is needed when a volume writes to it, a point names it, or a needed layer stands on it.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from onecut.engine.ledger import Holdings, Layer


def bottom_up(layers: Mapping[str, Layer]) -> Sequence[Layer]:
    """Order layers so that each comes after the one it stands on."""
    placed: dict[str, Layer] = {}
    for layer in layers.values():
        below = []
        step: Layer | None = layer
        while step is not None and step.id not in placed:
            below.append(step)
            step = layers[step.parent_id] if step.parent_id is not None else None
        placed.update((found.id, found) for found in reversed(below))
    return list(placed.values())


def needless(holdings: Holdings, held: Collection[str] = ()) -> Sequence[Layer]:
    """List the layers that nobody needs, *held* ones aside, each before the one it stands on."""
    needed = {*holdings.tops.values(), *holdings.points.values(), *held}
    unneeded = []
    for layer in reversed(bottom_up(holdings.layers)):
        if layer.id not in needed:
            unneeded.append(layer)
        elif layer.parent_id is not None:
            needed.add(layer.parent_id)
    return unneeded


def mergeable(holdings: Holdings) -> Iterator[tuple[Layer, Layer]]:
    """
    Find the layers that can be merged into the one below, each with that one.

    The lower one must have no point and no second child, or its data would still be wanted by itself. The upper
    one must be frozen: merging a top under writes has no end of its own, and the next cut freezes it anyway. So a
    volume keeps at most one layer that is merged later than it could be: the one below its top. And none below may
    have a source: a merge stops the layers' I/O for a moment, which can't be had while a read waits for the source.
    """
    children = Counter(layer.parent_id for layer in holdings.layers.values())
    tops, pointed = set(holdings.tops.values()), set(holdings.points.values())
    gone = {layer.id for layer in needless(holdings)}
    for layer in holdings.layers.values():
        lower = layer.parent_id
        if lower is None or lower in pointed or children[lower] != 1 or source_below(holdings.layers, lower):
            continue
        if layer.id not in tops and layer.id not in gone:
            yield layer, holdings.layers[lower]


def source_below(layers: Mapping[str, Layer], layer_id: str) -> Layer | None:
    """Find the layer with a source that a layer stands on, or is; None if all its data is here."""
    layer = layers[layer_id]
    while layer.parent_id is not None:
        layer = layers[layer.parent_id]
    return layer if layer.source is not None else None
