"""A scan area that the reader draws takes the place of the one that preprocessing finds."""

from __future__ import annotations

import numpy as np
import pytest

from sonoseek.core import Box, InvalidValueError, Scan
from sonoseek.preprocessing import PreprocessingRecipe, preprocess


@pytest.fixture
def scan() -> Scan:
    pixels = np.random.default_rng(0).integers(30, 220, (200, 300)).astype(np.uint8)
    pixels[:, :100] = 0
    return Scan(pixels=pixels, spacing_mm=(0.2, 0.1))


def test_it_is_what_the_network_sees_and_nothing_else(scan: Scan) -> None:
    crop = Box(top=20, left=120, bottom=180, right=280)
    preprocessed = preprocess(scan, crop=crop)
    assert preprocessed.mapping.crop == crop
    assert preprocessed.warnings == ()
    outside = preprocessed.area.copy()
    outside[20:180, 120:280] = False
    assert preprocessed.area[20:180, 120:280].all()
    assert not outside.any()
    again = preprocess(scan, PreprocessingRecipe(), crop=crop)
    assert (again.canvas == preprocessed.canvas).all()
    changed = scan.pixels.copy()
    changed[:20] = 255
    other = preprocess(Scan(pixels=changed, spacing_mm=scan.spacing_mm), crop=crop)
    assert (other.canvas == preprocessed.canvas).all()


def test_the_way_back_is_exact(scan: Scan) -> None:
    crop = Box(top=20, left=120, bottom=180, right=280)
    mapping = preprocess(scan, crop=crop).mapping
    back = mapping.box_to_scan(mapping.content)
    assert [back.top, back.left, back.bottom, back.right] == pytest.approx([20, 120, 180, 280])


def test_it_is_rounded_outwards_and_held_within_the_scan(scan: Scan) -> None:
    preprocessed = preprocess(scan, crop=Box(top=-40, left=119.6, bottom=180.2, right=1e5))
    assert preprocessed.mapping.crop == Box(top=0, left=119, bottom=181, right=300)


@pytest.mark.parametrize(
    "crop",
    [
        Box(top=300, left=0, bottom=400, right=100),
        Box(top=0, left=-50, bottom=100, right=-10),
        Box(top=10, left=10, bottom=14, right=200),
    ],
)
def test_one_that_leaves_nothing_is_refused(scan: Scan, crop: Box) -> None:
    with pytest.raises(InvalidValueError, match=r"the crop .* Draw it around the ultrasound picture"):
        preprocess(scan, crop=crop)
