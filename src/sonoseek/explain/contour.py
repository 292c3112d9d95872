"""The outline of a heatmap's evidence, and its size in millimetres: an estimate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Contour, Explanation, InvalidValueError

LEVEL = 0.2
"""Share of the largest value at which the outline is drawn.

Chosen on the validation scans of two folds of BUSI (130 lesions). It has the highest Dice with the masks (0.67) and the
smallest median errors (longest diameter 15 %, area 28 %). Compared were 0.15 … 0.5 of the peak, and areas that hold 60
… 90 % of the evidence.
"""
FEWEST = 3
"""Corners that an outline has at least."""
TOLERANCE = 0.75
"""Pixels by which the simplified outline may differ from the measured one."""


def draw_contour(
    explanation: Explanation, *, spacing_mm: tuple[float, float] | None, level: float = LEVEL
) -> Contour | None:
    """Outline where a heatmap's positive evidence is strong.

    Where it is strong in several places, the largest of them is outlined: one lesion, not the span of two.

    Args:
        explanation: of a class, or of a match.
        spacing_mm: (row, column) of the scan whose grid the heatmap lies on; None: no size in millimetres.
        level: share of the largest value, above 0, at most 1, at which it is drawn.

    Returns:
        None where there is no positive evidence, or only specks of it; and of the class "normal", which
        has no lesion.

    Raises:
        InvalidValueError: no such level or spacing.
    """
    if not 0 < level <= 1:
        raise InvalidValueError(f"level is {level}; it is a share of the largest value, above 0, at most 1.")
    if explanation.target == "normal":
        return None
    heatmap = explanation.heatmap
    peak = float(heatmap.max(initial=0.0))
    if peak <= 0.0:
        return None
    return outline_of(heatmap >= level * peak, spacing_mm=spacing_mm, level=level)


def outline_of(
    inside: NDArray[np.bool_], *, spacing_mm: tuple[float, float] | None, level: float = 1.0
) -> Contour | None:
    """Outline and measure the largest connected part of a region; also for masks, to compare with.

    The outline runs through the centres of the border's pixels; diameters and extents are those of the pixels' outer
    edges. Holes count as inside for the outline, not for the area.

    Args:
        inside: bool (H, W).
        spacing_mm: (row, column); None: no size in millimetres.
        level: stored in the result.

    Returns:
        None for an empty region and for specks of one or two pixels.
    """
    import cv2  # loaded on first use

    if spacing_mm is not None and not (min(spacing_mm) > 0 and np.isfinite(spacing_mm).all()):
        raise InvalidValueError(f"spacing_mm is {spacing_mm}; both must be positive and finite, or None.")
    count, parts, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=4)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    outlines, _ = cv2.findContours((parts == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    corners = max(outlines, key=len)[:, 0, ::-1].astype(np.float32)
    if len(corners) < FEWEST:
        return None
    area = float(stats[largest, cv2.CC_STAT_AREA])
    measures = _measures(corners + np.float32(0.5), area=area, spacing_mm=spacing_mm)
    fewer = cv2.approxPolyDP(corners, TOLERANCE, closed=True)[:, 0]
    points: NDArray[np.float32] = (fewer if len(fewer) >= FEWEST else corners) + np.float32(0.5)
    return Contour(points=points, area_pixels=area, level=level, **measures)


def _measures(
    points: NDArray[np.float32], *, area: float, spacing_mm: tuple[float, float] | None
) -> dict[str, float | None]:
    """Everything in millimetres, or None for each."""
    names = ("longest_mm", "shortest_mm", "area_mm2", "depth_mm", "height_mm", "width_mm")
    if spacing_mm is None:
        return dict.fromkeys(names)
    import cv2

    around = np.array([(-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5)], np.float32)
    edges = (points[:, None] + around[None]).reshape(-1, 2)
    in_mm = edges.astype(np.float64) * np.asarray(spacing_mm)
    hull = cv2.convexHull(in_mm.astype(np.float32))[:, 0].astype(np.float64)
    longest = float(np.sqrt(np.square(hull[:, None] - hull[None]).sum(2).max()))
    sides = np.roll(hull, -1, axis=0) - hull
    lengths = np.hypot(sides[:, 0], sides[:, 1])
    normals = np.stack([-sides[:, 1], sides[:, 0]], axis=1)[lengths > 0] / lengths[lengths > 0, None]
    across = hull @ normals.T  # the narrowest pair of parallel lines lies along a side of the hull
    shortest = float((across.max(axis=0) - across.min(axis=0)).min())
    height, width = in_mm.max(axis=0) - in_mm.min(axis=0)
    area_mm2, depth = area * spacing_mm[0] * spacing_mm[1], float(in_mm[:, 0].min())
    return dict(zip(names, (longest, shortest, area_mm2, depth, float(height), float(width)), strict=True))
