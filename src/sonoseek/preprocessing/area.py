"""The scan area: where echoes are, as opposed to frames, panels, rulers and blank margins.

Echoes are speckled, whatever their brightness; what a user interface draws around them is flat. So the area is found by
texture, on a copy of at most 256 pixels a side, and no threshold of brightness is needed: black, grey and white
surroundings are alike. Annotations are thin, so they neither make nor move an area.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sonoseek.preprocessing.bitmaps import Bitmap, outlines, over, window

Edges = tuple[int, int, int, int]

ANALYSIS_SIDE = 256
"""Pixels: longest side of the copy on which the area is sought, whatever the size of the picture."""
FLAT = 2
"""Grey levels between the darkest and the brightest pixel of an outer line that holds nothing."""
TEXTURE_STEP = 2.5
"""Grey levels between the darkest and the brightest of 3×3 pixels of the copy beyond which they count as texture."""
THIN = 11
"""Pixels of the copy: texture narrower than this is text, a ruler or a grey wedge, no scan."""
GAP = 33
"""Pixels of the copy: a flat line of this length parts what lies on its two sides."""
MIN_AREA = 0.04
"""Share of the picture below which a textured region is not believed to be the scan."""
PARTNER = 0.25
"""Regions of at least this share of the largest belong to the scan too: a shadow may part it, a screen may show two."""
SLANT = 0.06
"""A side that leans inwards by this share of the width makes a sector; less is a rectangle with a dark corner."""
FLICKER = 0.3
"""Share of what lies beside a sector that is not flat, from which on it is a rectangle with dark corners."""
LINES = 3
"""Lines in a row that a scan begins with."""
LINE_TEXTURE = 0.4
"""Share of each one's pixels that differ from their neighbour."""
LINE_FLAT = 0.06
"""Share of them at most in any line just outside of a scan that ends sharply."""
FLAT_SPREAD = 0.25
"""Grey levels between the darkest and the brightest of 3×3 pixels of the copy up to which they count as flat."""
STRIP = 4
"""Flat lines of the copy that part a scan from what is drawn beside it."""
LINE_STEP = 6
"""Grey levels between neighbours that differ: more than what JPEG leaves beside an edge."""
REACH = 4
"""Pixels of the copy by which an edge may be moved to where the picture shows it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScanArea:
    """Where the scan lies in its picture.

    Attributes:
        found: False when no region is textured enough; then the whole picture stands in.
        box: (top, left, bottom, right), whole pixels, half-open.
        mask: uint8 (H, W), 255 inside, for a sector; None means: all of `box`.
    """

    found: bool
    box: Edges
    mask: Bitmap | None = None


def find_area(pixels: Bitmap) -> ScanArea:
    """Find the scan area of a picture, rectangular or a sector.

    Args:
        pixels: uint8 (H, W).

    Returns:
        The area. The edges of a rectangle that ends sharply are exact to the pixel. Those that fade out, and those of a
        sector, are exact to a pixel of the copy: two of the picture's up to 320, four up to 640, …
    """
    height, width = pixels.shape
    above, before, below, behind = _within_flat_lines(pixels)
    inner = pixels[above:below, before:behind]
    small = _analysis_copy(inner)
    spread = cv2.morphologyEx(small, cv2.MORPH_GRADIENT, window(3, 3))
    texture = _opened(_texture(spread))
    region = _scan_region(texture)
    if region is None:
        return ScanArea(found=False, box=(0, 0, height, width))
    down, across = inner.shape[0] / small.shape[0], inner.shape[1] / small.shape[1]
    left, top, cols, rows = cv2.boundingRect(region)
    coarse = (round(top * down), round(left * across), round((top + rows) * down), round((left + cols) * across))
    sector = _sector(region[top : top + rows, left : left + cols])
    if sector is not None and not _is_flat_beside(sector, spread[top : top + rows, left : left + cols]):
        sector = None  # a rectangle with dark corners, in which echoes still flicker
    open_sides = (False, False, False, False)
    if sector is None:
        open_sides = _open_sides(spread, (top, left, top + rows, left + cols))
    box = _sharpen(inner, coarse, step=max(down, across), open_sides=open_sides)
    placed = (box[0] + above, box[1] + before, box[2] + above, box[3] + before)
    if sector is None:
        return ScanArea(found=True, box=placed)
    whole = np.zeros_like(region)
    whole[top : top + rows, left : left + cols] = sector
    large = cv2.resize(whole, inner.shape[::-1], interpolation=cv2.INTER_LINEAR)
    mask = np.zeros_like(pixels)
    mask[placed[0] : placed[2], placed[1] : placed[3]] = over(large, 128)[box[0] : box[2], box[1] : box[3]]
    return ScanArea(found=True, box=placed, mask=mask)


def _within_flat_lines(pixels: Bitmap) -> Edges:
    """What is left when lines of one grey level are taken away from the outside; all of a blank picture."""
    top, left, (bottom, right) = 0, 0, pixels.shape
    while True:
        part = pixels[top:bottom, left:right]
        rows = np.flatnonzero(part.max(axis=1) - part.min(axis=1) > FLAT)
        columns = np.flatnonzero(part.max(axis=0) - part.min(axis=0) > FLAT)
        if not (len(rows) and len(columns)):
            return (0, 0, *pixels.shape)
        box = top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1
        if box == (top, left, bottom, right):  # a row may be flat once the columns beside it are gone
            return box
        top, left, bottom, right = box


def _analysis_copy(pixels: Bitmap) -> Bitmap:
    """The picture at `ANALYSIS_SIDE` pixels on its longer side, float32: the same from a larger or smaller copy.

    The median removes lines, small letters and the JPEG artefacts beside them, and leaves speckle.
    """
    zoom = ANALYSIS_SIDE / max(pixels.shape)
    size = (max(round(pixels.shape[1] * zoom), 1), max(round(pixels.shape[0] * zoom), 1))
    way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
    return cv2.medianBlur(cv2.resize(pixels.astype(np.float32), size, interpolation=way), 3)


def _texture(spread: Bitmap) -> Bitmap:
    """Where half or more of the neighbourhood varies: 255, else 0.

    Long flat lines are left out: they part the scan from what is written beside it, however narrow they are.
    """
    varied = cv2.threshold(spread, TEXTURE_STEP, 255, cv2.THRESH_BINARY)[1].astype(np.uint8)
    share = cv2.blur(varied, (7, 7), borderType=cv2.BORDER_REPLICATE)
    texture = cv2.threshold(share, 127, 255, cv2.THRESH_BINARY)[1]
    flat = cv2.bitwise_not(varied)
    for line in (window(1, GAP), window(GAP, 1)):
        texture[cv2.morphologyEx(flat, cv2.MORPH_OPEN, line) > 0] = 0
    return texture


def _opened(texture: Bitmap) -> Bitmap:
    """Texture without text, rulers and other thin attachments, also where they touch the edge of the picture."""
    return cv2.morphologyEx(
        texture, cv2.MORPH_OPEN, window(THIN, THIN), borderType=cv2.BORDER_CONSTANT, borderValue=(0,)
    )


def _open_sides(spread: Bitmap, box: Edges) -> tuple[bool, bool, bool, bool]:
    """Whether the scan goes on, unseen, to the end of the picture above, left of, below and right of what is textured.

    It does where no flat strip ends it: echoes that fade out still flicker by a grey level or two, a screen does not.
    """
    top, left, bottom, right = box

    def is_open(spread: Bitmap) -> bool:
        flat = (spread > FLAT_SPREAD).mean(axis=1) < LINE_FLAT
        return len(flat) < STRIP or not np.lib.stride_tricks.sliding_window_view(flat, STRIP).all(axis=1).any()

    rows, columns = np.s_[top:bottom], np.s_[left:right]
    return (
        is_open(spread[:top, columns]),
        is_open(spread[rows, :left].T),
        is_open(spread[bottom:, columns]),
        is_open(spread[rows, right:].T),
    )


def _scan_region(texture: Bitmap) -> Bitmap | None:
    """The large textured regions; None if there is none."""
    parts = outlines(texture)
    sizes = [cv2.contourArea(part) for part in parts]
    if not parts or max(sizes) < MIN_AREA * texture.size:
        return None
    region = np.zeros_like(texture)
    chosen = [part for part, size in zip(parts, sizes, strict=True) if size >= PARTNER * max(sizes)]
    cv2.drawContours(region, chosen, -1, 255, cv2.FILLED)
    return cv2.erode(region, window(3, 3))  # undo the spread of `_texture`


def _sector(region: Bitmap) -> Bitmap | None:
    """The sector that a region fills, in the region's own bounding box, or None if it is a rectangle."""
    outline = np.concatenate(outlines(region))
    hull = np.zeros_like(region)
    cv2.fillConvexPoly(hull, cv2.convexHull(outline), 255)
    hull = cv2.erode(hull, window(3, 3))  # rather lose a pixel of echo than keep one of a white screen
    rows, cols = hull.shape
    near_top = np.flatnonzero(hull[min(rows // 25 + 1, rows - 1)])
    if len(near_top) >= (1 - SLANT) * cols:
        return None
    below = _below_arc(region, hull)
    return hull if below is None else cv2.bitwise_and(hull, below)


def _is_flat_beside(sector: Bitmap, spread: Bitmap) -> bool:
    """Whether most of what lies beside a sector, in its own bounding box, is as flat as a screen."""
    beside = spread[cv2.dilate(sector, window(THIN, THIN)) == 0]
    return not beside.size or float((beside > FLAT_SPREAD).mean()) < FLICKER


def _below_arc(region: Bitmap, hull: Bitmap) -> Bitmap | None:
    """Where a curved probe's face, an arc that hangs down into the hull, leaves room for echoes; None if it is flat."""
    rows, cols = region.shape
    columns = np.arange(cols)
    first, first_of_hull = region.argmax(axis=0), hull.argmax(axis=0)
    face = (first_of_hull <= first_of_hull.min() + 0.02 * rows) & (region.max(axis=0) > 0)
    if face.sum() < 8:
        return None
    curve = np.polynomial.Polynomial.fit(columns[face], first[face], 2)
    fitted = curve(columns)
    sag = fitted[face].max() - np.median(first_of_hull[face])
    if sag < 0.03 * rows or np.median(np.abs(first[face] - fitted[face])) > 1.5:
        return None
    top = np.where(face, np.maximum(fitted, 0), 0)
    return np.where(np.arange(rows)[:, None] >= np.floor(top)[None, :], 255, 0).astype(np.uint8)


def _sharpen(pixels: Bitmap, box: Edges, *, step: float, open_sides: tuple[bool, bool, bool, bool]) -> Edges:
    """Move each edge a little, to where texture begins abruptly; frames and blank lines stay outside.

    Where echoes fade out with depth, the last visible ones depend on how the file was saved. Such an edge goes to the
    end of the picture where that side is open; else it stays. `step` is pixels of the picture per pixel of the analysis
    copy.
    """
    height, width = pixels.shape
    top, left, bottom, right = box
    above, before, below, behind = open_sides
    columns = pixels[:, left:right]
    top = _edge(columns, top, step=step, is_open=above)
    bottom = height - _edge(columns[::-1], height - bottom, step=step, is_open=below)
    rows = pixels[top:bottom].T
    left = _edge(rows, left, step=step, is_open=before)
    right = width - _edge(rows[::-1], width - right, step=step, is_open=behind)
    return (top, left, bottom, right) if top < bottom and left < right else box


def _edge(lines: Bitmap, coarse: int, *, step: float, is_open: bool) -> int:
    """Index of the line at which the scan begins, counted from the outside, near to `coarse`."""
    if is_open:
        return 0
    reach, apart = math.ceil(REACH * step), max(round(step), 1)
    outer = max(coarse - reach, 0)
    near = lines[outer : coarse + reach]
    if near.shape[0] >= LINES and near.shape[1] > apart:
        share = (cv2.absdiff(near[:, apart:], near[:, :-apart]) >= LINE_STEP).mean(axis=1)
        inside = np.lib.stride_tricks.sliding_window_view(share, LINES).min(axis=1) >= LINE_TEXTURE
        first = int(inside.argmax()) if inside.any() else 0
        if inside[first] and (outer == 0 if first == 0 else share[: max(first - 1, 1)].max() <= LINE_FLAT):
            return outer + first
    return coarse
