"""Painting over annotations so that neither the annotation nor its absence shows.

A hole is filled with the mean of what lies around it, and with speckle borrowed from a little further off, scaled to
the hole's brightness. Without the speckle a smooth patch in the shape of the annotation would tell where it was.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.preprocessing.bitmaps import Bitmap, Points, around, outlines, over, set_pixels, window

Values = NDArray[np.float32]

WINDOWS = ((5, 1.0), (13, 0.2), (35, 0.02))
"""(side in pixels, weight) of the windows whose sum makes the mean around a hole: peaked, yet wide enough."""
GRAIN = 0.8
"""Weight of the borrowed speckle that is added to the mean."""
DONORS = ((0, 13), (0, -13), (9, 0), (-9, 0), (0, 27), (0, -27), (18, 0), (-18, 0), (0, 48), (0, -48))
"""Offsets (rows, columns) from where speckle is borrowed, first that fits; sideways first, as speckle lies."""
JOIN = 9
"""Pixels: annotations nearer than this are painted together."""
MARGIN = 32
"""Pixels around an annotation that take part in painting it."""


def paint_over(pixels: Bitmap, annotations: Bitmap) -> Bitmap:
    """Replace marked pixels by what surrounds them.

    Args:
        pixels: uint8 (H, W).
        annotations: uint8 (H, W), non-zero where to paint.

    Returns:
        A copy, uint8 (H, W); pixels outside the annotations are untouched. The same input gives the same pixels.
    """
    painted = pixels.copy()
    for outline in outlines(cv2.dilate(annotations, window(JOIN, JOIN))):
        box = cv2.boundingRect(outline)
        core, part = around(box, 0), around(box, MARGIN)
        rows, cols = set_pixels(annotations[core])
        holes = rows + (core[0].start - part[0].start), cols + (core[1].start - part[1].start)
        painted[part][holes] = _fill(pixels[part], annotations[part], holes)
        painted[part][holes] = cv2.blur(painted[part], (3, 3))[holes]  # speckle borrowed from two places joins
    return painted


def _fill(pixels: Bitmap, annotations: Bitmap, holes: Points) -> Bitmap:
    """Values for the holes (rows, columns) of one part of the picture, uint8 (N,)."""
    known = cv2.bitwise_not(over(annotations, 1))
    mean = _surroundings(cv2.bitwise_and(pixels, known), known)
    rows, cols = holes
    level = mean[holes]
    grain = np.zeros(len(rows), np.float32)
    without = np.ones(len(rows), np.bool_)
    height, width = pixels.shape
    for down, right in DONORS:
        row, col = rows + down, cols + right
        fits = without & (row >= 0) & (row < height) & (col >= 0) & (col < width)
        fits[fits] = known[row[fits], col[fits]] > 0
        donor = row[fits], col[fits]
        scale = np.clip((level[fits] + 4.0) / (mean[donor] + 4.0), 0.0, 1.5) * GRAIN
        grain[fits] = (pixels[donor] - mean[donor]) * scale
        without &= ~fits
        if not without.any():
            break
    return np.asarray(np.clip(level + grain + 0.5, 0, 255), np.uint8)


def _surroundings(seen: Bitmap, known: Bitmap) -> Values:
    """Mean of the known pixels around each pixel, float32, the nearer the weightier; `seen` is 0 where not known."""
    total: Bitmap = np.full(seen.shape, 1e-6 * float(cv2.mean(seen, known)[0]), np.float32)
    share: Bitmap = np.full(seen.shape, 1e-6 * 255.0, np.float32)
    for side, weight in WINDOWS:
        total = cv2.scaleAdd(cv2.boxFilter(seen, cv2.CV_32F, (side, side)), weight, total)
        share = cv2.scaleAdd(cv2.boxFilter(known, cv2.CV_32F, (side, side)), weight, share)
    return np.asarray(cv2.divide(total, share, scale=255.0), np.float32)
