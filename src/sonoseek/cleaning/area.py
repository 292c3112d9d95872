"""The scan area: where echoes are, as opposed to frames, panels, rulers and blank margins.

Echoes are speckled, whatever their brightness; what a user interface draws around them is flat. So the area is found by
texture, on a copy of at most 256 pixels a side, and no threshold of brightness is needed: black, grey and white
surroundings are alike. Marks are thin, so they neither make nor move an area.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sonoseek.cleaning.bitmaps import Bitmap, outlines, window

Edges = tuple[int, int, int, int]

ANALYSIS_SIDE = 256
"""Pixels: longest side of the copy on which the area is sought."""
TEXTURE_STEP = 3
"""Grey levels between the darkest and the brightest of 3×3 pixels from which on they count as texture."""
THIN = 11
"""Pixels of the copy: texture narrower than this is text, a ruler or a grey wedge, no scan."""
MIN_AREA = 0.04
"""Share of the picture below which a textured region is not believed to be the scan."""
PARTNER = 0.25
"""Regions of at least this share of the largest belong to the scan too: a shadow may part it, a screen may show two."""
SLANT = 0.06
"""A side that leans inwards by this share of the width makes a sector; less is a rectangle with a dark corner."""
ROW_TEXTURE = 0.2
"""Share of a row's pixels that differ from their neighbour where the row belongs to the scan."""


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
        The area. The edges of a rectangle are exact to the pixel; a sector's are to within the step of the copy (a
        pixel for pictures up to 256, two up to 512, …).
    """
    height, width = pixels.shape
    step = max(1, -(-max(height, width) // ANALYSIS_SIDE))
    region = _scan_region(_texture(np.ascontiguousarray(pixels[::step, ::step])))
    if region is None:
        return ScanArea(found=False, box=(0, 0, height, width))
    left, top, cols, rows = cv2.boundingRect(region)
    coarse = (top * step, left * step, min((top + rows) * step, height), min((left + cols) * step, width))
    box = _sharpen(pixels, coarse, reach=4 * step)
    sector = _sector(region[top : top + rows, left : left + cols])
    if sector is None:
        return ScanArea(found=True, box=box)
    small = np.zeros_like(region)
    small[top : top + rows, left : left + cols] = sector
    large = cv2.resize(small, (small.shape[1] * step, small.shape[0] * step), interpolation=cv2.INTER_NEAREST)
    mask = np.zeros_like(pixels)
    inside = np.s_[box[0] : box[2], box[1] : box[3]]
    mask[inside] = large[:height, :width][inside]
    return ScanArea(found=True, box=box, mask=mask)


def _texture(small: Bitmap) -> Bitmap:
    """Where half or more of the neighbourhood varies: 255, else 0."""
    spread = cv2.morphologyEx(small, cv2.MORPH_GRADIENT, window(3, 3))
    varied = cv2.threshold(spread, TEXTURE_STEP - 1, 255, cv2.THRESH_BINARY)[1]
    share = cv2.blur(varied, (7, 7), borderType=cv2.BORDER_REPLICATE)
    return cv2.threshold(share, 127, 255, cv2.THRESH_BINARY)[1]


def _scan_region(texture: Bitmap) -> Bitmap | None:
    """The large textured regions, without thin attachments; None if there is none."""
    opened = cv2.morphologyEx(texture, cv2.MORPH_OPEN, window(THIN, THIN))
    parts = outlines(opened)
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


def _sharpen(pixels: Bitmap, box: Edges, *, reach: int) -> Edges:
    """Move each edge, by `reach` pixels at most, to where texture begins; frames and blank lines stay outside."""
    height, width = pixels.shape
    top, left, bottom, right = box
    outer = max(top - reach, 0), max(left - reach, 0), min(bottom + reach, height), min(right + reach, width)
    upper = _first_textured(pixels[outer[0] : top + reach, left:right])
    lower = _first_textured(pixels[max(bottom - reach, 0) : outer[2], left:right][::-1])
    top, bottom = (top if upper is None else outer[0] + upper), (bottom if lower is None else outer[2] - lower)
    before = _first_textured(pixels[top:bottom, outer[1] : left + reach].T)
    after = _first_textured(pixels[top:bottom, max(right - reach, 0) : outer[3]].T[::-1])
    left, right = (left if before is None else outer[1] + before), (right if after is None else outer[3] - after)
    return (top, left, bottom, right) if top < bottom and left < right else box


def _first_textured(lines: Bitmap) -> int | None:
    """Index of the first of three lines in a row that vary along their length; None if there are none."""
    if lines.shape[0] < 3 or lines.shape[1] < 2:
        return None
    varies = (cv2.absdiff(lines[:, 1:], lines[:, :-1]) >= TEXTURE_STEP - 1).mean(axis=1) >= ROW_TEXTURE
    runs = np.flatnonzero(varies[:-2] & varies[1:-1] & varies[2:])
    return int(runs[0]) if len(runs) else None
