"""The level sides of boxes, such as that of a Doppler window.

A level line is what tissue draws too, so none is believed on its own: only one that starts where a drawn upright ends.
"""

from __future__ import annotations

import cv2
import numpy as np

from sonoseek.preprocessing.bitmaps import Bitmap, outlines, over, tophat, window

UPRIGHT = 31
"""An unbroken run down of this many pixels is the side of a box: no letter is that tall."""
THICK = 5
"""Pixels: sides are thinner than this."""
NEAR = 4
"""Pixels between the end of an upright and the level side."""
ALIKE = 30
"""Grey levels between an upright and a level side of one box."""
RAISED = 8
"""Grey levels by which a level side stands above what is over and under it."""
SHORTEST = 24
"""Pixels: a level side has at least this length."""


def box_sides(pixels: Bitmap, annotations: Bitmap) -> Bitmap | None:
    """Find level lines that start at the ends of drawn uprights.

    Args:
        pixels: uint8 (H, W).
        annotations: uint8 (H, W), 255 on the annotations found so far, among them the uprights.

    Returns:
        uint8 (H, W), 255 on the lines; None where there is no box.
    """
    uprights = cv2.morphologyEx(annotations, cv2.MORPH_OPEN, window(UPRIGHT, 1))
    if not cv2.countNonZero(uprights):
        return None
    sides = np.zeros_like(pixels)
    for outline in outlines(uprights):
        left, top, cols, rows = cv2.boundingRect(outline)
        if cols <= THICK:
            column = left + cols // 2
            ink = int(np.median(pixels[top : top + rows, column]))
            for end in (top, top + rows - 1):
                _trace(pixels, sides, at=(end, column), ink=ink)
    return sides


def _trace(pixels: Bitmap, sides: Bitmap, *, at: tuple[int, int], ink: int) -> None:
    """Draw into `sides` the longest level line that passes `at` (row, column), if it is long enough."""
    row, column = at
    first, last = max(row - NEAR - THICK, 0), min(row + NEAR + THICK + 1, pixels.shape[0])
    strip = np.ascontiguousarray(pixels[first:last])
    drawn = over(tophat(strip, THICK, 1), RAISED)
    drawn = cv2.bitwise_and(drawn, cv2.inRange(strip, max(ink - ALIKE, 0), min(ink + ALIKE, 255)))
    drawn = cv2.morphologyEx(drawn, cv2.MORPH_CLOSE, window(1, THICK))
    for line in range(max(row - NEAR, 0), min(row + NEAR + 1, pixels.shape[0])):
        gaps = np.flatnonzero(drawn[line - first] == 0)
        place = int(np.searchsorted(gaps, column))
        start = int(gaps[place - 1]) + 1 if place else 0
        stop = int(gaps[place]) if place < len(gaps) else pixels.shape[1]
        if stop - start >= SHORTEST:
            sides[line, start:stop] = 255
