"""The way from a scan's pixels to the canvas, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sonoseek.core import Box, InvalidValueError

Coordinates = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class CanvasMapping:
    """Where a pixel of the scan lies on the canvas: a crop, a scale, an offset.

    Coordinates are those of edges, as in `Box`: pixel (r, c) covers [r, r+1) × [c, c+1), its centre is (r+½, c+½).

    Attributes:
        scan_shape: (H, W) of the scan.
        crop: the part used, in scan pixels; its edges are whole numbers.
        scale: (row, column) canvas pixels per scan pixel. The two are equal, up to the rounding of `content` to whole
            canvas pixels, unless the scan's spacing differs by axis: then a millimetre is as long down as across.
        offset: (row, column) of the crop's top left corner, in canvas pixels.
        canvas_size: side of the canvas, pixels.
        content: where the crop lies on the canvas; edges are whole numbers; the rest is padding.
    """

    scan_shape: tuple[int, int]
    crop: Box
    scale: tuple[float, float]
    offset: tuple[float, float]
    canvas_size: int
    content: Box

    def __post_init__(self) -> None:
        if not (min(self.scale) > 0.0 and np.isfinite(self.scale).all()):
            raise InvalidValueError(f"scale is {self.scale}; both must be positive and finite.")

    def to_canvas(self, rows: ArrayLike, cols: ArrayLike) -> tuple[Coordinates, Coordinates]:
        """Scan coordinates → canvas coordinates, any shape; outside of the crop they fall into padding or beyond."""
        return (
            (np.asarray(rows, dtype=np.float64) - self.crop.top) * self.scale[0] + self.offset[0],
            (np.asarray(cols, dtype=np.float64) - self.crop.left) * self.scale[1] + self.offset[1],
        )

    def to_scan(self, rows: ArrayLike, cols: ArrayLike) -> tuple[Coordinates, Coordinates]:
        """Canvas coordinates → scan coordinates, any shape; the inverse of `to_canvas`."""
        return (
            (np.asarray(rows, dtype=np.float64) - self.offset[0]) / self.scale[0] + self.crop.top,
            (np.asarray(cols, dtype=np.float64) - self.offset[1]) / self.scale[1] + self.crop.left,
        )

    def box_to_canvas(self, box: Box) -> Box:
        """A box on the scan → the same box on the canvas."""
        rows, cols = self.to_canvas((box.top, box.bottom), (box.left, box.right))
        return Box(top=float(rows[0]), left=float(cols[0]), bottom=float(rows[1]), right=float(cols[1]))

    def box_to_scan(self, box: Box) -> Box:
        """A box on the canvas → the same box on the scan."""
        rows, cols = self.to_scan((box.top, box.bottom), (box.left, box.right))
        return Box(top=float(rows[0]), left=float(cols[0]), bottom=float(rows[1]), right=float(cols[1]))


def fit_to_canvas(
    scan_shape: tuple[int, int], crop: Box, *, canvas_size: int, spacing_mm: tuple[float, float] | None = None
) -> CanvasMapping:
    """The mapping that shows `crop` as large as the canvas allows, true in aspect, centred.

    Args:
        scan_shape: (H, W) of the scan, pixels.
        crop: what to show, in scan pixels, whole edges.
        canvas_size: side of the canvas, pixels.
        spacing_mm: (row, column) distance of pixel centres, or None for square pixels.

    Returns:
        The mapping; its content touches two opposite edges of the canvas. The short side is rounded to whole pixels,
        one at least, and `scale` is what the pixels then really have, so that the way back is exact.
    """
    row_mm, col_mm = spacing_mm or (1.0, 1.0)
    slimness = min(max(crop.height / crop.width * (row_mm / col_mm), 1e-6), 1e6)  # beyond it a pixel is a pixel
    rows = round(canvas_size * min(1.0, slimness))
    cols = round(canvas_size * min(1.0, 1.0 / slimness))
    rows, cols = max(rows, 1), max(cols, 1)
    top, left = (canvas_size - rows) // 2, (canvas_size - cols) // 2
    return CanvasMapping(
        scan_shape=scan_shape,
        crop=crop,
        scale=(rows / crop.height, cols / crop.width),
        offset=(float(top), float(left)),
        canvas_size=canvas_size,
        content=Box(top=top, left=left, bottom=top + rows, right=left + cols),
    )
