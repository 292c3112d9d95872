"""The way to the canvas and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonoseek.core import Box, InvalidValueError
from sonoseek.preprocessing import CanvasMapping
from sonoseek.preprocessing.mapping import fit_to_canvas


@st.composite
def mappings(draw: st.DrawFn) -> tuple[CanvasMapping, tuple[float, float] | None]:
    height, width = draw(st.integers(8, 3000)), draw(st.integers(8, 3000))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
    millimetres = st.floats(0.01, 1.0)
    spacing = draw(st.none() | st.tuples(millimetres, millimetres))
    size = draw(st.integers(16, 1024))
    crop = Box(top=top, left=left, bottom=bottom, right=right)
    return fit_to_canvas((height, width), crop, canvas_size=size, spacing_mm=spacing), spacing


unit = st.floats(0.0, 1.0)


@given(mappings(), unit, unit, unit, unit)
def test_a_box_goes_to_the_canvas_and_back_within_a_pixel(made, a, b, c, d):
    mapping, _ = made
    height, width = mapping.scan_shape
    top, bottom = sorted((a * height, b * height))
    left, right = sorted((c * width, d * width))
    box = Box(top=top, left=left, bottom=bottom + 1e-3, right=right + 1e-3)
    back = mapping.box_to_scan(mapping.box_to_canvas(box))
    for edge in ("top", "left", "bottom", "right"):
        assert getattr(back, edge) == pytest.approx(getattr(box, edge), abs=1e-6)


@given(mappings(), unit, unit, unit, unit)
def test_a_box_of_canvas_pixels_comes_back_within_a_scan_pixel(made, a, b, c, d):
    """Rounded to whole canvas pixels on the way, as a drawn rectangle is, it moves by half a canvas pixel at most."""
    mapping, _ = made
    size = mapping.canvas_size
    rows, cols = mapping.to_scan(np.array([a, b]) * size, np.array([c, d]) * size)
    again_rows, again_cols = mapping.to_canvas(rows, cols)
    rounded_rows, rounded_cols = mapping.to_scan(np.rint(again_rows), np.rint(again_cols))
    assert np.all(np.abs(rounded_rows - rows) <= 0.5 / mapping.scale[0] + 1e-6)
    assert np.all(np.abs(rounded_cols - cols) <= 0.5 / mapping.scale[1] + 1e-6)


@given(mappings())
def test_content_touches_two_opposite_edges_and_is_centred(made):
    mapping, _ = made
    content, size = mapping.content, mapping.canvas_size
    assert all(float(edge).is_integer() for edge in (content.top, content.left, content.bottom, content.right))
    assert 0 <= content.top < content.bottom <= size
    assert 0 <= content.left < content.right <= size
    assert max(content.height, content.width) == size
    assert abs(content.top - (size - content.bottom)) <= 1
    assert abs(content.left - (size - content.right)) <= 1
    there = mapping.box_to_canvas(mapping.crop)
    assert (there.top, there.left) == (content.top, content.left)
    assert (there.bottom, there.right) == (pytest.approx(content.bottom), pytest.approx(content.right))


@given(mappings())
def test_the_canvas_is_true_in_aspect_to_half_a_pixel(made):
    mapping, spacing = made
    row_mm, col_mm = spacing or (1.0, 1.0)
    height, width = mapping.crop.height * row_mm, mapping.crop.width * col_mm
    if height >= width:
        assert mapping.content.width == pytest.approx(max(mapping.canvas_size * width / height, 1), abs=0.51)
    else:
        assert mapping.content.height == pytest.approx(max(mapping.canvas_size * height / width, 1), abs=0.51)


@given(mappings(), st.lists(unit, min_size=2, max_size=8, unique=True))
def test_the_mapping_is_monotone(made, parts):
    mapping, _ = made
    rows = np.sort(np.array(parts)) * mapping.scan_shape[0]
    cols = np.sort(np.array(parts)) * mapping.scan_shape[1]
    there = mapping.to_canvas(rows, cols)
    assert np.all(np.diff(there[0]) >= 0)
    assert np.all(np.diff(there[1]) >= 0)


def test_anisotropic_spacing_makes_a_millimetre_as_long_down_as_across():
    crop = Box(top=0, left=0, bottom=200, right=400)
    mapping = fit_to_canvas((200, 400), crop, canvas_size=200, spacing_mm=(0.2, 0.1))
    assert mapping.content == Box(top=0, left=0, bottom=200, right=200)
    assert mapping.scale[0] / 0.2 == pytest.approx(mapping.scale[1] / 0.1)


def test_scalars_and_arrays_of_any_shape_map_alike():
    crop = Box(top=10, left=20, bottom=110, right=220)
    mapping = fit_to_canvas((300, 300), crop, canvas_size=100)
    rows, cols = mapping.to_canvas(np.full((2, 3), 60.0), np.full((2, 3), 120.0))
    assert rows.shape == cols.shape == (2, 3)
    row, col = mapping.to_canvas(60.0, 120.0)
    assert (float(row), float(col)) == (rows[0, 0], cols[0, 0]) == (50.0, 50.0)


def test_a_scale_that_is_not_positive_is_refused():
    box = Box(top=0, left=0, bottom=8, right=8)
    with pytest.raises(InvalidValueError, match="scale"):
        CanvasMapping(scan_shape=(8, 8), crop=box, scale=(0.0, 1.0), offset=(0, 0), canvas_size=16, content=box)
