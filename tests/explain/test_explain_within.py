"""Cells told apart: sums stay, cell by cell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoseek.core import InvalidValueError
from sonoseek.explain.spatial_weights import place_within


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side=st.integers(1, 12), fine=st.integers(1, 5))
def test_every_sum_stays(seed: int, side: int, fine: int) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.normal(size=(side, side))
    within = rng.random((fine * side, fine * side)).astype(np.float32) * (rng.random((fine * side,) * 2) > 0.3)
    placed = place_within(cells, within.astype(np.float32))
    assert placed.shape == within.shape
    assert placed.sum() == pytest.approx(cells.sum(), abs=1e-9)
    assert np.isfinite(placed).all()


def test_evidence_lies_where_the_weight_is() -> None:
    cells = np.array([[4.0, -2.0]])
    within = np.array([[3, 1, 0, 0], [0, 0, 1, 1]], np.float32)
    placed = place_within(cells, within)
    assert placed[:, :2].sum() == pytest.approx(4.0)
    assert placed[0, 0] == pytest.approx(3 * placed[0, 1])
    assert placed[1, 2] == placed[1, 3] < 0
    assert placed[0, 2] == 0


def test_nothing_told_apart_changes_nothing() -> None:
    cells = np.arange(6.0).reshape(2, 3)
    assert place_within(cells, None) is cells
    assert place_within(cells, np.ones((2, 3), np.float32)) == pytest.approx(cells)


def test_what_does_not_fit_is_refused() -> None:
    for within in (np.ones((3, 4)), np.full((4, 4), -1.0), np.full((4, 4), np.nan)):
        with pytest.raises(InvalidValueError, match="within"):
            place_within(np.ones((2, 2)), within.astype(np.float32))
