"""Only replies that cover a request exactly once count."""

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onecut.nbd.chunks import Coverage
from onecut.nbd.errors import ProtocolError


@given(borders=st.sets(st.integers(101, 199), max_size=20), chance=st.randoms(use_true_random=False))
def test_pieces_in_any_order_complete_a_range(borders: set[int], chance: Random) -> None:
    """However a range is cut up and shuffled, it is complete with the last piece and not before."""
    edges = [100, *sorted(borders), 200]
    pieces = list(pairwise(edges))
    chance.shuffle(pieces)
    coverage = Coverage(100, 200)
    for start, end in pieces:
        assert not coverage.complete
        coverage.add(start, end)
    assert coverage.complete


@given(st.lists(st.tuples(st.integers(95, 205), st.integers(95, 205)), max_size=30))
def test_no_byte_is_taken_twice_or_from_outside(pieces: list[tuple[int, int]]) -> None:
    """Against a set of bytes as the model: a piece is accepted when it is new and inside, and refused otherwise."""
    coverage, missing = Coverage(100, 200), set(range(100, 200))
    for start, end in pieces:
        piece = set(range(start, end))
        if piece and piece <= missing:
            coverage.add(start, end)
            missing -= piece
        else:
            with pytest.raises(ProtocolError):
                coverage.add(start, end)
        assert coverage.complete == (not missing)
