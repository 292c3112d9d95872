"""Burned-in annotations: text, calipers, dotted lines, boxes, pictograms.

What a scanner draws is unlike what it hears. A drawn stroke is a few pixels thin, rises and falls within a pixel or
two, also sideways, and runs straight down over several rows. Echoes, however bright, are spread sideways by the width
of the beam, so a stroke that is sharp to both sides and several rows tall is hardly ever an echo. From such strokes
the rest of an annotation is grown: what is thin, as bright, and hangs together with them. Dots and the level sides of
boxes, which tissue can imitate, are sought only where a grown annotation says that they must be.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sonoseek.preprocessing.bitmaps import Bitmap, around, outlines, over, tophat, window
from sonoseek.preprocessing.boxes import box_sides
from sonoseek.preprocessing.dots import dotted_lines

STROKE = 9
"""Pixels: strokes are thinner than this."""
TALL = 5
"""Pixels: rows that a sharp stroke runs at least."""
GAP = 5
"""Pixels: smaller gaps in a stroke are bridged; a cross' bar parts its upright."""
REACH = 9
"""Pixels: how far from a sharp stroke its annotation is grown."""
MIN_RISE = 26
"""Grey levels by which a usual stroke stands above both its sides, at the least."""
DOT_RISE = 0.6
"""Dots of a line rise at least this many times as much as strokes do: they are smaller, and soften sooner."""
SHARPER = 3
"""A stroke stands out this many times more than 95 % of the picture's pixels: sharp scanners have sharp speckle."""
ALIKE = 45
"""Grey levels by which the rest of an annotation may be darker than its sharp strokes."""
OUTLINE = 12
"""Grey levels: what is no brighter, beside an annotation and in brighter surroundings, is an outline drawn around it."""
CROWDED = 0.05
"""Share of the picture beyond which "annotations" are the texture of something that is no scan: none are believed."""
EDGE = 7
"""Pixels: this near to a sector's edge, which is not known better, no annotation is sought."""
MAX_PARTS = 40
"""Beyond so many separate annotations it is quicker to grow them all at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Strokes:
    """Sharp strokes of one picture.

    Attributes:
        seeds: uint8 (H, W), 255 where the picture is sharp sideways.
        tall: uint8 (H, W), 255 on those seeds that make up strokes of `TALL` rows or more.
        rise: required grey levels; it follows the picture's own sharpness.
    """

    seeds: Bitmap
    tall: Bitmap
    rise: int


def find_annotations(pixels: Bitmap, *, inside: Bitmap | None = None, faint: float = 1.0) -> Bitmap:
    """Find burned-in annotations.

    Args:
        pixels: uint8 (H, W), cut to the scan area: against a black screen the very edge of the scan looks drawn.
        inside: uint8 (H, W), 255 in the scan area where that is no rectangle; annotations are sought only there.
        faint: 1, or by how many times the strokes are fainter than usual because a small file was enlarged.

    Returns:
        uint8 (H, W), 255 where an annotation lies, grown by a pixel or two so that its soft rim is covered.
    """
    if inside is not None:  # white makes no bright stroke of what lies beside it
        pixels = cv2.max(pixels, cv2.bitwise_not(cv2.erode(inside, window(EDGE, EDGE))))
    nothing = np.zeros_like(pixels)
    strokes = _sharp_strokes(pixels, faint=faint)
    if strokes is None:
        return nothing
    bodies = _grow(pixels, strokes)
    annotations = bodies
    for more in (dotted_lines(pixels, bodies, rise=round(DOT_RISE * strokes.rise)), box_sides(pixels, bodies)):
        if more is not None:
            annotations = cv2.bitwise_or(annotations, more)
    if cv2.countNonZero(annotations) > CROWDED * annotations.size:
        return nothing
    return _with_rim(pixels, annotations, rise=strokes.rise)


def _sharp_strokes(pixels: Bitmap, *, faint: float) -> Strokes | None:
    """Find strokes that step up and down again sideways, or None where there are none."""
    step = np.zeros_like(pixels)
    step[:, 1:] = cv2.subtract(pixels[:, 1:], pixels[:, :-1])
    step[:, :-1] = cv2.max(step[:, :-1], cv2.subtract(pixels[:, :-1], pixels[:, 1:]))
    sharp = cv2.min(tophat(pixels, 1, STROKE), step)
    sample = np.ascontiguousarray(sharp[::2])
    counts = cv2.calcHist([sample], [0], None, [256], [0, 256]).ravel()
    rise = max(round(MIN_RISE / faint), int(SHARPER * np.searchsorted(np.cumsum(counts), 0.95 * sample.size)))
    if rise > 255:
        return None
    seeds = over(sharp, rise)
    joined = cv2.morphologyEx(seeds, cv2.MORPH_CLOSE, window(GAP, 1))
    chosen = [outline for outline in outlines(joined) if len(outline) >= TALL and _is_tall(outline, seeds)]
    if not chosen:
        return None
    tall = np.zeros_like(pixels)
    cv2.drawContours(tall, chosen, -1, 255, cv2.FILLED)
    return Strokes(seeds=seeds, tall=cv2.bitwise_and(tall, seeds), rise=rise)


def _is_tall(outline: Bitmap, seeds: Bitmap) -> bool:
    """Whether a stroke runs down far enough, and is more than two specks one above the other."""
    left, top, cols, rows = cv2.boundingRect(outline)
    return rows >= TALL and cv2.countNonZero(seeds[top : top + rows, left : left + cols]) >= TALL


def _grow(pixels: Bitmap, strokes: Strokes) -> Bitmap:
    """From sharp strokes to whole annotations."""
    reach = window(2 * REACH + 1, 2 * REACH + 1)
    boxes = [cv2.boundingRect(outline) for outline in outlines(cv2.dilate(strokes.tall, reach))]
    if len(boxes) > MAX_PARTS:
        boxes = [(0, 0, pixels.shape[1], pixels.shape[0])]
    annotations = np.zeros_like(pixels)
    for box in boxes:
        part = around(box, STROKE)
        body = _body(pixels[part], strokes.tall[part], rise=strokes.rise)
        annotations[part] = cv2.bitwise_or(annotations[part], _touched(body, strokes.seeds[part]))
    return annotations


def _body(pixels: Bitmap, tall: Bitmap, *, rise: int) -> Bitmap:
    """What is thin, nearly as bright, and about half as raised as the sharp stroke nearby."""
    reach = window(2 * REACH + 1, 2 * REACH + 1)
    thin = tophat(pixels, STROKE + 2, STROKE + 2)
    ink = cv2.dilate(cv2.bitwise_and(pixels, tall), reach)
    raised = cv2.dilate(cv2.bitwise_and(thin, tall), reach)
    least = np.maximum(np.arange(256) * 0.45, rise // 2).astype(np.uint8)
    body = cv2.compare(thin, cv2.LUT(raised, least), cv2.CMP_GE)
    body = cv2.bitwise_and(body, over(ink, 1))
    body = cv2.bitwise_and(body, cv2.bitwise_not(over(cv2.subtract(ink, pixels), ALIKE + 1)))
    return cv2.bitwise_or(body, tall)


def _touched(parts: Bitmap, seeds: Bitmap) -> Bitmap:
    """Those connected parts that hold a seed."""
    seeded = cv2.bitwise_and(parts, seeds)
    chosen = []
    for outline in outlines(parts):
        left, top, cols, rows = cv2.boundingRect(outline)
        if cv2.countNonZero(seeded[top : top + rows, left : left + cols]):
            chosen.append(outline)
    found = np.zeros_like(parts)
    cv2.drawContours(found, chosen, -1, 255, cv2.FILLED)
    return cv2.bitwise_and(found, parts)


def _with_rim(pixels: Bitmap, annotations: Bitmap, *, rise: int) -> Bitmap:
    """Add the soft rim of strokes, and the black outline that some scanners draw around them."""
    part = around(cv2.boundingRect(annotations), REACH)
    here, core = pixels[part], annotations[part]
    light = cv2.bitwise_and(over(tophat(here, STROKE, STROKE), rise // 3), cv2.dilate(core, window(5, 5)))
    rim = cv2.bitwise_or(light, cv2.dilate(core, window(3, 3)))
    black = cv2.bitwise_and(cv2.bitwise_not(over(here, OUTLINE + 1)), cv2.dilate(core, window(7, 7)))
    if cv2.countNonZero(black):
        filled = cv2.morphologyEx(here, cv2.MORPH_CLOSE, window(2 * REACH + 1, 2 * REACH + 1))
        rim = cv2.bitwise_or(rim, cv2.bitwise_and(black, over(filled, 5 * OUTLINE)))
    grown = np.zeros_like(annotations)
    grown[part] = rim
    return grown
