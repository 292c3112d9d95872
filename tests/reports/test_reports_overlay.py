"""Overlays: the scan, the evidence in proportion, a numbered colour scale."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from sonoseek.core import Explanation
from sonoseek.reports.overlay import MARGIN, Panel, overlay_png


def drawn(*panels: Panel) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(overlay_png(*panels))).convert("RGB")).astype(int)


def colourful(picture: np.ndarray) -> np.ndarray:
    return np.asarray(picture.max(axis=2) - picture.min(axis=2))


GREY = np.full((120, 160), 90, np.uint8)


def test_warm_is_evidence_for_and_cool_against(build_explanation: Callable[..., Explanation]) -> None:
    picture = drawn(Panel(pixels=GREY, explanation=build_explanation(), title="malignant"))
    scale = 420 / 160
    top, left = MARGIN + 20, MARGIN
    warm = picture[top + int(50 * scale), left + int(90 * scale)]
    cool = picture[top + int(90 * scale), left + int(30 * scale)]
    assert warm[0] > warm[2] + 60
    assert cool[2] > cool[0]
    corner = picture[top + 6, left + 6]
    assert np.ptp(corner) < 6  # no evidence, no colour


def test_hardly_any_evidence_looks_empty(build_explanation: Callable[..., Explanation]) -> None:
    explanation = build_explanation(size=0.01)
    picture = drawn(Panel(pixels=GREY, explanation=explanation, title="benign"))
    inside = picture[MARGIN + 24 : MARGIN + 300, MARGIN + 4 : MARGIN + 400]
    assert colourful(inside).max() < 25


def test_two_panels_share_one_scale(build_explanation: Callable[..., Explanation]) -> None:
    strong, weak = (
        Panel(pixels=GREY, explanation=build_explanation("match:x", method="pair_evidence", size=size), title="t")
        for size in (1.0, 0.2)
    )
    both = drawn(strong, weak)
    half = both.shape[1] // 2
    rows = slice(MARGIN + 24, MARGIN + 310)
    assert colourful(both[rows, half:]).max() < 0.6 * colourful(both[rows, :half]).max()


@pytest.mark.parametrize("shape", [(40, 40), (3000, 4000), (20, 900)])
def test_any_size_becomes_a_readable_picture(
    shape: tuple[int, int], build_on_pixels: Callable[..., Explanation]
) -> None:
    explanation = build_on_pixels(np.ones((8, 8)) / 64)
    rows, columns = (np.full((side, 8), 1 / side, np.float32) for side in shape)
    spread = type(explanation.upsampling)(rows=rows, columns=columns, top=0, left=0, scan_shape=shape)
    explanation = Explanation(
        evidence_map=explanation.evidence_map,
        upsampling=spread,
        method="class_evidence",
        target="benign",
        value=1.0,
        bias=0.0,
    )
    picture = drawn(
        Panel(pixels=np.zeros(shape, np.uint8), explanation=explanation, title="a title " * 40, spacing_mm=(0.1, 0.1))
    )
    assert 300 < max(picture.shape) < 1800


def test_a_millimetre_is_as_long_down_as_across(build_explanation: Callable[..., Explanation]) -> None:
    flat, tall = (
        drawn(Panel(pixels=GREY, explanation=build_explanation(), title="t", spacing_mm=spacing)).shape
        for spacing in ((0.1, 0.1), (0.2, 0.1))
    )
    assert tall[0] / tall[1] > flat[0] / flat[1]
