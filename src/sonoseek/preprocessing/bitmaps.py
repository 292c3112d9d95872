"""Bitmaps, uint8 (H, W) of 0 and 255, and the few steps that every search for annotations takes on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Bitmap = NDArray[np.integer[Any] | np.floating[Any]]
"""What OpenCV's stubs say that it returns; here always uint8 (H, W)."""
Points = tuple[NDArray[np.int32], NDArray[np.int32]]
"""Rows and columns, each (N,)."""


def window(rows: int, cols: int) -> NDArray[np.uint8]:
    """A full structuring element."""
    return np.ones((rows, cols), np.uint8)


def over(picture: Bitmap, least: int) -> Bitmap:
    """255 where a picture reaches `least`, else 0."""
    return cv2.threshold(picture, least - 1, 255, cv2.THRESH_BINARY)[1]


def tophat(pixels: Bitmap, rows: int, cols: int) -> Bitmap:
    """By how much each pixel stands above what is left when everything smaller than the window is taken away."""
    return cv2.morphologyEx(pixels, cv2.MORPH_TOPHAT, window(rows, cols))


def outlines(bitmap: Bitmap) -> Sequence[Bitmap]:
    """The outer outlines of the connected parts, every pixel of them; far cheaper than labels where parts are few."""
    return cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]


def around(box: Sequence[int], margin: int) -> tuple[slice, slice]:
    """Slices for a box (left, top, columns, rows) with a margin, cut at the upper and left edge of the picture."""
    left, top, cols, rows = box
    return slice(max(top - margin, 0), top + rows + margin), slice(max(left - margin, 0), left + cols + margin)


def set_pixels(bitmap: Bitmap) -> Points:
    """Rows and columns of the non-zero pixels, row by row; about ten times faster than numpy's."""
    found = cv2.findNonZero(bitmap)  # None, (N, 1, 2) or (N, 2), by version of OpenCV
    if found is None:
        return np.empty(0, np.int32), np.empty(0, np.int32)
    columns_rows = np.asarray(found, np.int32).reshape(-1, 2)
    return columns_rows[:, 1], columns_rows[:, 0]
