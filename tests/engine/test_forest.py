"""What follows from the layers' family tree."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecut.engine.forest import bottom_up, mergeable, needless
from onecut.engine.ledger import CutPlan, Holdings, Layer, PlannedMember
from onecut.engine.port import ImageSource

SIZE = 1 << 20


def forest(*parents: int | None) -> dict[str, Layer]:
    """Make layers "0", "1", ... of which each stands on the one whose number is given."""
    return {
        str(number): Layer(str(number), None if parent is None else str(parent), SIZE)
        for number, parent in enumerate(parents)
    }


def holdings(layers: dict[str, Layer], *, tops: str = "", points: str = "") -> Holdings:
    """Let each letter of *tops* be the top of a volume, and each of *points* have a point."""
    return Holdings(
        layers=layers,
        tops={f"volume-{layer_id}": layer_id for layer_id in tops},
        points={f"point-{layer_id}": layer_id for layer_id in points},
        exports={},
        limits={},
        plans=[],
    )


@given(st.data())
def test_each_layer_comes_after_the_one_below(data: st.DataObject) -> None:
    """Whatever the order of the rows, layers can be opened in the order that comes out."""
    count = data.draw(st.integers(1, 12))
    parents = [data.draw(st.none() | st.integers(0, number - 1)) if number else None for number in range(count)]
    shuffled = dict(data.draw(st.permutations(list(forest(*parents).items()))))

    order = [layer.id for layer in bottom_up(shuffled)]

    assert sorted(order) == sorted(shuffled)
    for layer in shuffled.values():
        assert layer.parent_id is None or order.index(layer.parent_id) < order.index(layer.id)


def test_what_a_top_or_a_point_stands_on_is_needed() -> None:
    """Only branches without a top and without a point are needless, the outermost layer first."""
    layers = forest(None, 0, 1, 0, 3, 3)

    unneeded = needless(holdings(layers, tops="2"))

    assert {layer.id for layer in unneeded} == {"3", "4", "5"}
    assert unneeded[-1].id == "3"
    assert [layer.id for layer in needless(holdings(layers, tops="2", points="4"))] == ["5"]


def test_nothing_above_a_source_is_merged() -> None:
    """A merge stops I/O for a moment, and a read through these layers may be waiting for the source."""
    layers = forest(None, 0, 1, 2)
    assert [layer.id for layer, _ in mergeable(holdings(layers, tops="3"))] == ["1", "2"]

    layers["0"] = Layer("0", None, SIZE, ImageSource("nbd://localhost", SIZE))

    assert list(mergeable(holdings(layers, tops="3"))) == []


def test_a_layer_that_an_act_builds_on_is_needed() -> None:
    """It is kept until the act has written down what stands on it."""
    assert not needless(holdings(forest(None, 0)), held={"1"})


@pytest.mark.parametrize(
    ("parents", "tops", "points", "expected"),
    [
        pytest.param((None, 0, 1), "2", "1", [("1", "0")], id="frozen over pointless"),
        pytest.param((None, 0, 1), "2", "01", [], id="the lower has a point"),
        pytest.param((None, 0), "1", "", [], id="the upper is a top"),
        pytest.param((None, 0, 0, 1), "23", "1", [], id="another layer stands on the lower"),
        pytest.param((None, 0, 1, 1), "23", "", [("1", "0")], id="several stand on the upper"),
    ],
)
def test_only_a_frozen_layer_over_a_pointless_one_is_merged(
    parents: tuple[int | None, ...], tops: str, points: str, expected: list[tuple[str, str]]
) -> None:
    """Merging changes no volume and no point that anybody can name."""
    found = mergeable(holdings(forest(*parents), tops=tops, points=points))

    assert [(layer.id, lower.id) for layer, lower in found] == expected


def test_a_planned_overlay_is_as_large_as_its_layer() -> None:
    """A cut changes no volume's size."""
    layer = Layer("a", None, SIZE)
    plan = CutPlan("cut", datetime.now(UTC), [PlannedMember("volume", "point", layer, "b")])

    assert plan.members[0].overlay == Layer("b", "a", SIZE)
