"""Pixels without what is no part of the scan: what lies outside of the scan area, and burned-in annotations.

For pictures that are kept or passed on. The strokes of an annotation alone are not enough: a letter whose strokes are
replaced can still be read by the shape of the change. So letters of one line are joined, and the whole box counts.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.preprocessing.bitmaps import Bitmap, around, outlines, window
from sonoseek.preprocessing.inpaint import paint_over
from sonoseek.preprocessing.painting import WORKING_SIDE

LETTER_GAP = 18
"""Pixels of a picture of `WORKING_SIDE`: strokes nearer than this sideways belong to one line of text."""
LINE_GAP = 4
"""Pixels of such a picture: the same downwards, such as the dots of an umlaut."""
TALLEST = 64
"""Pixels of such a picture: what is taller, such as a dotted line across a lesion, is no line of text."""
FULL = 0.55
"""Share of its box that a line of text fills once its letters are joined. A measured line across a lesion fills less:
its box would take the lesion with it."""
MARGIN = 3
"""Pixels of such a picture around a line."""


def text_boxes(annotations: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Join the letters of annotations, and grow lines of text to their whole boxes.

    Args:
        annotations: bool (H, W), as `PreprocessedScan.annotations`.

    Returns:
        bool (H, W), all of `annotations`, what lies between neighbouring strokes, and boxes around lines of text.
    """
    strokes = annotations.astype(np.uint8) * 255
    if not strokes.any():
        return annotations
    scale = max(annotations.shape) / WORKING_SIDE
    gap, rows = (max(2 * round(scale * pixels / 2) + 1, 3) for pixels in (LETTER_GAP, LINE_GAP))
    padded = cv2.copyMakeBorder(strokes, rows, rows, gap, gap, cv2.BORDER_CONSTANT, value=(0,))
    joined = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, window(rows, gap))[rows:-rows, gap:-gap]
    margin = max(round(scale * MARGIN), 1)
    grown: Bitmap = joined.copy()
    for outline in outlines(np.ascontiguousarray(joined)):
        box = cv2.boundingRect(outline)
        _, _, columns, tall = box
        if tall <= TALLEST * scale and cv2.countNonZero(joined[around(box, 0)]) >= FULL * columns * tall:
            grown[around(box, margin)] = 255
    return grown > 0


def without_annotations(
    pixels: NDArray[np.uint8], *, area: NDArray[np.bool_], annotations: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """A scan as it may be kept: 0 outside of the scan area; annotations, as whole lines, painted over.

    Painted over, as the network sees it, and not black: black boxes would give the picture another embedding.

    Args:
        pixels: uint8 (H, W).
        area: bool (H, W), the scan area.
        annotations: bool (H, W), burned-in annotations.

    Returns:
        uint8 (H, W), a copy on the scan's own grid.
    """
    inside: Bitmap = area.astype(np.uint8) * 255
    cleaned: Bitmap = cv2.bitwise_and(pixels, inside)
    holes = text_boxes(annotations & area) & area
    if holes.any():
        cleaned = cv2.bitwise_and(paint_over(cleaned, holes.astype(np.uint8) * 255), inside)
    return np.asarray(cleaned, np.uint8)
