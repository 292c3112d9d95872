"""The outline of what a heatmap rests on, measured: for the reader's eye, and an estimate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.core.errors import InvalidValueError


@dataclass(frozen=True, kw_only=True, eq=False)
class Contour:
    """An outline on a scan, with what can be measured in it; an estimate from the network, drawn by no reader.

    Lengths and areas are in millimetres where the scan's spacing is known; else None, never a guess.

    Attributes:
        points: float32 (n, 2), closed polygon as (row, column) in scan pixels (edges: 0 … H, 0 … W); n ≥ 3.
        area_pixels: within the outline.
        longest_mm: longest diameter between two points of the outline.
        shortest_mm: width of the outline at its narrowest, between two parallel lines (smallest Feret diameter).
        area_mm2: within the outline.
        depth_mm: from the scan's top edge to the outline's uppermost point.
        height_mm, width_mm: extent down and across.
        taller_than_wide: whether it extends further down than across ("not parallel" in BI-RADS); None without spacing.
        level: share of the map's largest value at which the outline was drawn, 0 … 1.
    """

    points: NDArray[np.float32]
    area_pixels: float
    longest_mm: float | None
    shortest_mm: float | None
    area_mm2: float | None
    depth_mm: float | None
    height_mm: float | None
    width_mm: float | None
    level: float

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 2 or len(self.points) < 3:
            raise InvalidValueError(f"points are {self.points.shape}; an outline has (n, 2) of them, three or more.")

    @property
    def taller_than_wide(self) -> bool | None:
        """Whether it extends further down than across; None where the spacing is not known."""
        if self.height_mm is None or self.width_mm is None:
            return None
        return self.height_mm > self.width_mm
