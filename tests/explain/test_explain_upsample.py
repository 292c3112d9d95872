"""The up-sampling: it conserves, it is bilinear, and it stays inside the crop."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from sonoseek.core import Box, InvalidValueError
from sonoseek.explain.upsample import axis_weights, plan
from sonoseek.preprocessing import CanvasMapping
from sonoseek.preprocessing.mapping import fit_to_canvas


@st.composite
def mappings(draw: st.DrawFn, *, longest: int = 1300) -> CanvasMapping:
    """Any crop of any scan on a canvas, square pixels or not."""
    height, width = draw(st.integers(8, longest)), draw(st.integers(8, longest))
    top, left = draw(st.integers(0, height - 4)), draw(st.integers(0, width - 4))
    bottom, right = draw(st.integers(top + 2, height)), draw(st.integers(left + 2, width))
    spacing = draw(st.none() | st.tuples(st.floats(0.02, 0.5), st.floats(0.02, 0.5)))
    return fit_to_canvas(
        (height, width),
        Box(top=top, left=left, bottom=bottom, right=right),
        canvas_size=draw(st.sampled_from([64, 128, 224, 256])),
        spacing_mm=spacing,
    )


def whole(height: int, width: int, *, canvas: int = 224) -> CanvasMapping:
    return fit_to_canvas((height, width), Box(top=0, left=0, bottom=height, right=width), canvas_size=canvas)


@settings(max_examples=60, deadline=None)
@given(
    mapping=mappings(),
    cells=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    size=st.floats(0.01, 40.0),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_sum_is_kept_for_any_mapping(
    mapping: CanvasMapping, cells: tuple[int, int], size: float, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=cells)
    values *= size / np.abs(values).sum() * 10  # logits of ±20 and more, made of far larger terms of both signs
    heatmap = plan(mapping, cells).spread(values)
    assert heatmap.shape == mapping.scan_shape
    assert heatmap.dtype == np.float32
    assert np.isfinite(heatmap).all()
    assert heatmap.sum(dtype=np.float64) == pytest.approx(values.sum(), abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(mapping=mappings(longest=300), seed=st.integers(0, 2**32 - 1))
def test_outside_the_crop_it_is_exactly_zero_and_positive_cells_stay_positive(
    mapping: CanvasMapping, seed: int
) -> None:
    heatmap = plan(mapping, (14, 14)).spread(np.random.default_rng(seed).uniform(0.5, 2.0, (14, 14)))
    crop = mapping.crop
    seen = np.zeros(mapping.scan_shape, bool)
    seen[int(crop.top) : int(crop.bottom), int(crop.left) : int(crop.right)] = True
    assert not heatmap[~seen].any()
    assert heatmap.min() >= 0.0


@pytest.mark.parametrize(("height", "width"), [(1000, 1300), (500, 600), (8, 8), (8, 4000), (4000, 40), (17, 1)])
def test_odd_sizes_conserve_logits_of_twenty(height: int, width: int) -> None:
    if width < 8:
        mapping = fit_to_canvas((height, 64), Box(top=0, left=3, bottom=height, right=4), canvas_size=224)
    else:
        mapping = whole(height, width)
    rng = np.random.default_rng(0)
    for total in (20.0, -20.0, 0.0):
        values = rng.normal(scale=5.0, size=(14, 14))
        values += (total - values.sum()) / values.size
        heatmap = plan(mapping, (14, 14)).spread(values)
        assert heatmap.sum(dtype=np.float64) == pytest.approx(total, abs=1e-4)


def test_equal_cells_give_an_even_map() -> None:
    heatmap = plan(whole(448, 448), (14, 14)).spread(np.ones((14, 14)))
    assert heatmap == pytest.approx(np.full((448, 448), 196 / 448**2), rel=1e-5)


def test_it_is_bilinear_interpolation_between_cell_centres() -> None:
    """Against SciPy's: where every cell lies on the scan whole, no column needs to be corrected."""
    values = np.random.default_rng(1).normal(size=(7, 7))
    heatmap = plan(whole(448, 448), (7, 7)).spread(values)
    centres = (np.arange(448) + 0.5) * 7 / 448 - 0.5
    expected = map_coordinates(values, np.meshgrid(centres, centres, indexing="ij"), order=1, mode="nearest")
    assert heatmap * (448 * 448 / 49) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(("row", "column"), [(3, 3), (6, 9), (10, 4)])
def test_a_hot_cell_lands_where_it_lies_on_the_scan(row: int, column: int) -> None:
    mapping = fit_to_canvas((500, 640), Box(top=40, left=100, bottom=480, right=600), canvas_size=224)
    values = np.zeros((14, 14))
    values[row, column] = 1.0
    heatmap = plan(mapping, (14, 14)).spread(values).astype(np.float64)
    rows, columns = np.indices(heatmap.shape) + 0.5
    there = mapping.to_scan([(row + 0.5) * 16], [(column + 0.5) * 16])
    assert (heatmap * rows).sum() == pytest.approx(float(there[0][0]), abs=0.5)
    assert (heatmap * columns).sum() == pytest.approx(float(there[1][0]), abs=0.5)


def test_cells_in_padding_go_to_the_nearest_cell_inside() -> None:
    mapping = whole(100, 200)  # the content is rows 56 … 168 of the canvas: cells 0 … 2 and 11 … 13 see padding alone
    assert (mapping.content.top, mapping.content.bottom) == (56, 168)
    values = np.zeros((14, 14))
    values[0, 5] = 3.0
    moved = plan(mapping, (14, 14)).spread(values)
    values[:] = 0.0
    values[3, 5] = 3.0
    assert (moved == plan(mapping, (14, 14)).spread(values)).all()
    assert not moved[30:].any()


def test_weights_of_an_axis_are_shares() -> None:
    weights = axis_weights(np.linspace(2.0, 11.5, 300), 14)
    assert weights.shape == (299, 14)
    assert weights.min() >= 0.0
    assert weights.sum(axis=0, dtype=np.float64) == pytest.approx(np.ones(14), abs=1e-6)


def test_no_cells_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="at least one cell"):
        plan(whole(64, 64), (0, 14))
