"""From a scan to the canvas a network reads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Box, InvalidValueError, Scan
from sonoseek.core.scan import MIN_SIDE
from sonoseek.preprocessing.area import ScanArea, find_area
from sonoseek.preprocessing.bitmaps import Bitmap
from sonoseek.preprocessing.mapping import CanvasMapping, fit_to_canvas
from sonoseek.preprocessing.painting import WORKING_SIDE, Painted, paint_annotations, resized
from sonoseek.preprocessing.recipe import PreprocessingRecipe

MAX_GAIN = 3.0
"""The stretch never multiplies more than this, so that the noise of a blank stays dark."""
NO_AREA = "no scan area found; the whole picture is used"


@dataclass(frozen=True, kw_only=True, eq=False)
class PreprocessedScan:
    """A scan as a network reads it, and the way back.

    Attributes:
        canvas: uint8 (S, S), 0 in padding and outside of the scan area.
        content: where scan pixels lie on the canvas, whole edges; it touches two opposite edges of the canvas and is
            centred between the others.
        mapping: from scan pixels to canvas pixels and back.
        annotations: bool (H, W) on the scan's grid, True where a burned-in annotation was painted over; None if not
            sought.
        area: bool (H, W) on the scan's grid, the scan area.
        warnings: for people; empty when all went well.
    """

    canvas: NDArray[np.uint8]
    content: Box
    mapping: CanvasMapping
    annotations: NDArray[np.bool_] | None
    area: NDArray[np.bool_]
    warnings: tuple[str, ...] = ()


DEFAULT_RECIPE = PreprocessingRecipe()


def preprocess(
    scan: Scan, recipe: PreprocessingRecipe = DEFAULT_RECIPE, *, crop: Box | None = None
) -> PreprocessedScan:
    """Preprocess a scan: area, annotations, crop, canvas, contrast.

    Args:
        scan: any picture; one without a scan area is used whole, with a warning.
        recipe: what to do.
        crop: the scan area as a reader drew it, in scan pixels, where what preprocessing finds is wrong; it is rounded
            outwards to whole pixels and cut at the scan's edges. Never a crop around a lesion. None: find it.

    Returns:
        The canvas, the mapping, and what was found. The same scan, recipe and crop give the same pixels.

    Raises:
        InvalidValueError: a crop that lies outside the scan, or has fewer than 8 pixels a side.
    """
    height, width = scan.shape
    pixels = scan.pixels
    warnings: list[str] = []
    area = ScanArea(found=True, box=(0, 0, height, width))
    if crop is not None:
        area = ScanArea(found=True, box=_whole(crop, scan.shape))
    elif recipe.borders:
        area = find_area(pixels)
        if not area.found:
            warnings.append(NO_AREA)
    top, left, bottom, right = area.box
    part = np.s_[top:bottom, left:right]
    cropped: Bitmap = pixels[part]
    inside = None if area.mask is None else area.mask[part]
    annotations: NDArray[np.bool_] | None = None
    painted: Painted | None = None
    if recipe.marks:
        painted = paint_annotations(cropped, inside=inside, side=max(WORKING_SIDE, recipe.canvas_size))
        annotations = np.zeros(scan.shape, np.bool_)
        if painted is not None:
            annotations[part] = (
                cv2.resize(painted.annotations, cropped.shape[::-1], interpolation=cv2.INTER_LINEAR) >= 128
            )
    if inside is not None:
        cropped = cv2.bitwise_and(cropped, inside)
    mapping = fit_to_canvas(
        scan.shape,
        Box(top=top, left=left, bottom=bottom, right=right),
        canvas_size=recipe.canvas_size,
        spacing_mm=scan.spacing_mm,
    )
    canvas = _draw(cropped, painted, inside, mapping, contrast=recipe.contrast)
    return PreprocessedScan(
        canvas=canvas,
        content=mapping.content,
        mapping=mapping,
        annotations=annotations,
        area=_area_map(area, scan.shape),
        warnings=tuple(warnings),
    )


def _whole(crop: Box, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """A reader's crop on whole pixels inside the scan: top, left, bottom, right."""
    height, width = shape
    top, left = max(math.floor(crop.top), 0), max(math.floor(crop.left), 0)
    bottom, right = min(math.ceil(crop.bottom), height), min(math.ceil(crop.right), width)
    if bottom - top < MIN_SIDE or right - left < MIN_SIDE:
        raise InvalidValueError(
            f"the crop (top {crop.top:g}, left {crop.left:g}, bottom {crop.bottom:g}, right {crop.right:g}) leaves "
            f"{max(bottom - top, 0)} × {max(right - left, 0)} pixels of a scan of {height} × {width}; it must leave "
            f"{MIN_SIDE} a side. Draw it around the ultrasound picture, in the scan's own pixels."
        )
    return top, left, bottom, right


def _draw(
    crop: Bitmap, painted: Painted | None, inside: Bitmap | None, mapping: CanvasMapping, *, contrast: str
) -> NDArray[np.uint8]:
    """Resize the crop onto the canvas and set its contrast; `inside` is 255 in the scan area, or None for all."""
    place = mapping.content
    size = (int(place.width), int(place.height))
    content: Bitmap = resized(crop, size)
    if painted is not None:
        content = np.asarray(np.clip(np.rint(content + resized(painted.change, size)), 0, 255), np.uint8)
    if contrast != "none":
        where = None
        if inside is not None:
            where = cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST)
        content = cv2.LUT(content, _stretch(content, where))
        if contrast == "clahe":
            content = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(content)
        if where is not None:
            content = cv2.bitwise_and(content, where)
    canvas = np.zeros((mapping.canvas_size, mapping.canvas_size), np.uint8)
    canvas[int(place.top) : int(place.bottom), int(place.left) : int(place.right)] = content
    return canvas


def _stretch(content: Bitmap, where: Bitmap | None) -> Bitmap:
    """Look-up table that takes the 1st percentile to black and the 99.5th to white, with a limited gain."""
    counts = cv2.calcHist([content], [0], where, [256], [0, 256]).ravel()
    reached = np.cumsum(counts) / max(float(counts.sum()), 1.0)
    low, high = np.searchsorted(reached, (0.01, 0.995))
    gain = min(255.0 / max(int(high) - int(low), 1), MAX_GAIN)
    return np.asarray(np.clip((np.arange(256) - low) * gain + 0.5, 0, 255), np.uint8)


def _area_map(area: ScanArea, shape: tuple[int, int]) -> NDArray[np.bool_]:
    if area.mask is not None:
        return area.mask > 0
    flags = np.zeros(shape, np.bool_)
    top, left, bottom, right = area.box
    flags[top:bottom, left:right] = True
    return flags
