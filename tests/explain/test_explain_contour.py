"""Outlines, on shapes whose measures are known."""

import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from sonoseek.core import Explanation, InvalidValueError, Upsampling
from sonoseek.explain import draw_contour
from sonoseek.explain.contour import outline_of


def ellipse(
    shape: tuple[int, int], centre: tuple[float, float], axes: tuple[float, float], turn: float = 0
) -> np.ndarray:
    rows, columns = np.indices(shape) + 0.5
    down, across = rows - centre[0], columns - centre[1]
    angle = np.deg2rad(turn)
    along, beside = across * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - across * np.sin(angle)
    return np.asarray(np.square(along / axes[0]) + np.square(beside / axes[1]) <= 1)


def explained(heatmap: np.ndarray) -> Explanation:
    eyes = [np.eye(side, dtype=np.float32) for side in heatmap.shape]
    spread = Upsampling(rows=eyes[0], columns=eyes[1], top=0, left=0, scan_shape=heatmap.shape)
    return Explanation(
        evidence_map=heatmap.astype(np.float32), upsampling=spread, method="m", target="t", value=0.0, bias=0.0
    )


@pytest.mark.parametrize("turn", [0, 30, 90])
def test_an_ellipse_has_its_diameters(turn: float) -> None:
    contour = outline_of(ellipse((300, 400), (140, 210), (80, 35), turn), spacing_mm=(0.1, 0.1))
    assert contour is not None
    assert contour.longest_mm == pytest.approx(16.0, rel=0.02)
    assert contour.shortest_mm == pytest.approx(7.0, rel=0.03)
    assert contour.area_mm2 == pytest.approx(np.pi * 8 * 3.5, rel=0.01)
    assert contour.taller_than_wide is (turn == 90)


def test_spacing_counts_per_axis() -> None:
    contour = outline_of(ellipse((300, 400), (150, 200), (50, 50)), spacing_mm=(0.2, 0.1))
    assert contour is not None
    assert (contour.height_mm, contour.width_mm) == (pytest.approx(20, rel=0.02), pytest.approx(10, rel=0.02))
    assert contour.taller_than_wide is True
    assert contour.depth_mm == pytest.approx(20.0, abs=0.3)
    assert contour.area_mm2 == pytest.approx(np.pi * 10 * 5, rel=0.01)


def test_without_spacing_there_are_no_millimetres() -> None:
    contour = outline_of(ellipse((100, 100), (50, 50), (20, 10)), spacing_mm=None)
    assert contour is not None
    assert (contour.longest_mm, contour.area_mm2, contour.depth_mm, contour.taller_than_wide) == (None,) * 4
    assert contour.area_pixels == pytest.approx(np.pi * 200, rel=0.02)


def test_the_largest_of_several_is_outlined() -> None:
    both = ellipse((200, 200), (50, 50), (30, 20)) | ellipse((200, 200), (150, 150), (10, 10))
    contour = outline_of(both, spacing_mm=(1.0, 1.0))
    assert contour is not None
    assert contour.longest_mm == pytest.approx(60, rel=0.03)


def test_at_the_edge_of_the_scan() -> None:
    contour = outline_of(ellipse((100, 120), (0, 0), (40, 40)), spacing_mm=(1.0, 1.0))
    assert contour is not None
    assert contour.depth_mm == 0.0
    assert (contour.height_mm, contour.width_mm) == (pytest.approx(40, abs=1), pytest.approx(40, abs=1))
    assert contour.points.min() >= 0
    whole = outline_of(np.ones((100, 120), bool), spacing_mm=(1.0, 1.0))
    assert whole is not None
    assert (whole.height_mm, whole.width_mm, whole.area_mm2) == (100, 120, 12000)


def test_the_level_is_a_share_of_the_peak_and_the_rest_is_left_out() -> None:
    bump = cv2.GaussianBlur(ellipse((200, 200), (100, 100), (40, 40)).astype(np.float32), (0, 0), 8)
    low, high = (draw_contour(explained(bump - 0.05), spacing_mm=(1.0, 1.0), level=level) for level in (0.2, 0.8))
    assert low is not None
    assert high is not None
    assert low.area_pixels > high.area_pixels
    assert low.level == 0.2


def test_nothing_to_outline() -> None:
    speck = np.zeros((50, 50))
    speck[3, 3] = 1
    for heatmap in (np.zeros((50, 50)), np.full((50, 50), -1.0), speck):
        assert draw_contour(explained(heatmap), spacing_mm=(1.0, 1.0)) is None
    assert draw_contour(replace(explained(np.ones((50, 50))), target="normal"), spacing_mm=None) is None
    everything = draw_contour(explained(np.ones((50, 50))), spacing_mm=(1.0, 1.0))
    assert everything is not None
    assert everything.area_pixels == 2500


def test_invalid_levels_and_spacings_are_refused() -> None:
    for level in (0.0, -0.1, 1.1):
        with pytest.raises(InvalidValueError, match="level"):
            draw_contour(explained(np.ones((5, 5))), spacing_mm=None, level=level)
    for spacing in ((0.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(InvalidValueError, match="spacing"):
            draw_contour(explained(np.ones((5, 5))), spacing_mm=spacing)


def test_it_is_quick() -> None:
    explanation = explained(cv2.GaussianBlur(ellipse((600, 800), (300, 400), (150, 90)).astype(np.float32), (0, 0), 15))
    heatmap = explanation.heatmap
    times = []
    for _ in range(5):
        started = time.perf_counter()
        outline_of(heatmap >= 0.2 * heatmap.max(), spacing_mm=(0.1, 0.1))
        times.append(time.perf_counter() - started)
    assert min(times) < 0.05
