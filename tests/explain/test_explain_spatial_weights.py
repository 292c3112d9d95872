"""Spatial weights within the cells of the grid: each cell keeps its sum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonoseek.core import InvalidValueError
from sonoseek.explain.spatial_weights import apply_spatial_weights


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side=st.integers(1, 12), fine=st.integers(1, 5))
def test_every_sum_stays(seed: int, side: int, fine: int) -> None:
    rng = np.random.default_rng(seed)
    evidence_map = rng.normal(size=(side, side))
    weights = rng.random((fine * side, fine * side)).astype(np.float32) * (rng.random((fine * side,) * 2) > 0.3)
    fine_map = apply_spatial_weights(evidence_map, weights.astype(np.float32))
    assert fine_map.shape == weights.shape
    assert fine_map.sum() == pytest.approx(evidence_map.sum(), abs=1e-9)
    assert np.isfinite(fine_map).all()


def test_evidence_lies_where_the_weight_is() -> None:
    evidence_map = np.array([[4.0, -2.0]])
    weights = np.array([[3, 1, 0, 0], [0, 0, 1, 1]], np.float32)
    fine_map = apply_spatial_weights(evidence_map, weights)
    assert fine_map[:, :2].sum() == pytest.approx(4.0)
    assert fine_map[0, 0] == pytest.approx(3 * fine_map[0, 1])
    assert fine_map[1, 2] == fine_map[1, 3] < 0
    assert fine_map[0, 2] == 0


def test_without_weights_nothing_changes() -> None:
    evidence_map = np.arange(6.0).reshape(2, 3)
    assert apply_spatial_weights(evidence_map, None) is evidence_map
    assert apply_spatial_weights(evidence_map, np.ones((2, 3), np.float32)) == pytest.approx(evidence_map)


def test_weights_that_do_not_fit_are_refused() -> None:
    for weights in (np.ones((3, 4)), np.full((4, 4), -1.0), np.full((4, 4), np.nan)):
        with pytest.raises(InvalidValueError, match="spatial_weights"):
            apply_spatial_weights(np.ones((2, 2)), weights.astype(np.float32))
