"""Annotations found and painted over on a copy of one size, so that a larger or smaller file is treated alike.

What makes an annotation is measured in pixels: strokes of two pixels, letters of ten. A file saved at half its size has
other pixels, so annotations are sought on a copy whose longer side has always as many. What painting changes there is
then added to the canvas, which itself is drawn from the file: where nothing is painted, the copy leaves no trace.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.preprocessing.bitmaps import Bitmap, over
from sonoseek.preprocessing.burned_in import find_annotations
from sonoseek.preprocessing.inpaint import paint_over

WORKING_SIDE = 512
"""Pixels: longer side of the copy on which annotations are sought."""
SOFT = 0.5
"""Pixels: standard deviation of the Gaussian that makes the strokes of larger and smaller files more alike."""
USUAL_ZOOM, MOST_FAINT = 1.7, 1.6
"""A file enlarged more than 1.7 times has fainter strokes, in proportion; 1.6 times fainter at most is reckoned with:
beyond, speckle would pass."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Painted:
    """What painting over annotations changes in a crop.

    Attributes:
        annotations: uint8 (h, w), 255 where an annotation was painted over, on a copy of the crop.
        change: float32 (h, w), grey levels to add on that copy; 0 beside the annotations.
    """

    annotations: Bitmap
    change: NDArray[np.float32]


def paint_annotations(crop: Bitmap, *, inside: Bitmap | None, side: int) -> Painted | None:
    """Find annotations in a crop and work out what they hid.

    Args:
        crop: uint8 (H, W), cut to the scan area.
        inside: uint8 (H, W), 255 in the scan area where that is no rectangle.
        side: longer side of the copy on which annotations are painted over, `WORKING_SIDE` or more, pixels.

    Returns:
        The change on that copy; None where there are no annotations.
    """
    within = None if inside is None else over(_copy(inside, WORKING_SIDE), 255)
    copy = _copy(crop, WORKING_SIDE)
    faint = max(copy.shape) / max(crop.shape) / USUAL_ZOOM
    annotations = find_annotations(
        cv2.GaussianBlur(copy, (0, 0), SOFT), inside=within, faint=min(max(faint, 1.0), MOST_FAINT)
    )
    if not cv2.countNonZero(annotations):
        return None
    if side > WORKING_SIDE:
        copy = _copy(crop, side)
        annotations = over(cv2.resize(annotations, copy.shape[::-1], interpolation=cv2.INTER_LINEAR), 128)
    change = cv2.subtract(paint_over(copy, annotations), copy, dtype=cv2.CV_32F)
    return Painted(annotations=annotations, change=np.asarray(change, np.float32))


def resized(picture: Bitmap, size: tuple[int, int]) -> Bitmap:
    """A picture at another size (columns, rows): means of areas where it shrinks, else cubic."""
    shrinks = size[0] < picture.shape[1] or size[1] < picture.shape[0]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _copy(picture: Bitmap, side: int) -> Bitmap:
    """The picture with `side` pixels on its longer side, true in aspect; 8 at least on the other."""
    zoom = side / max(picture.shape)
    if zoom == 1:
        return picture
    return resized(picture, (max(round(picture.shape[1] * zoom), 8), max(round(picture.shape[0] * zoom), 8)))
