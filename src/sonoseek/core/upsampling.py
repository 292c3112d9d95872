"""How a map on a network's cells lies on a scan's own pixels: a value that conserves sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 32
"""Rows."""
_ROUNDING = 1.0 + 1e-5
"""A bound in single precision may fall short by less than this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Upsampling:
    """How one scan's cells spread over its pixels.

    Attributes:
        rows: float32 (crop height, h), columns sum to 1.
        columns: float32 (crop width, w), columns sum to 1.
        top, left: where the crop begins, in scan pixels.
        scan_shape: (H, W) of the scan.
    """

    rows: NDArray[np.float32]
    columns: NDArray[np.float32]
    top: int
    left: int
    scan_shape: tuple[int, int]

    @property
    def cells(self) -> tuple[int, int]:
        """(h, w) of the cells that it spreads."""
        return self.rows.shape[1], self.columns.shape[1]

    def spread(self, cells: NDArray[np.floating]) -> NDArray[np.float32]:
        """Spread `cells` over the scan.

        Args:
            cells: (h, w), any sign, in units of the explained number per cell.

        Returns:
            float32 (H, W), in units of the explained number per pixel; sums, in float64, to `cells.sum()`.
        """
        heatmap = np.zeros(self.scan_shape, np.float32)
        bottom, right = self.top + self.rows.shape[0], self.left + self.columns.shape[0]
        wide = cells.astype(np.float32) @ self.columns.T
        np.matmul(self.rows, wide, out=heatmap[self.top : bottom, self.left : right])
        return heatmap

    def peak(self, cells: NDArray[np.floating]) -> float:
        """Largest absolute value of `spread(cells)`, found without working all of it out.

        The weights are never negative, so no row of the result exceeds its weighted sum of the largest values of the
        rows that it is made of: rows are computed in the order of that bound, until no other can exceed the largest.
        """
        wide = cells.astype(np.float32) @ self.columns.T
        bound = self.rows @ np.abs(wide).max(axis=1, initial=0.0)
        order = np.argsort(-bound)
        peak = 0.0
        for start in range(0, order.size, _AT_ONCE):
            picked = order[start : start + _AT_ONCE]
            if bound[picked[0]] * _ROUNDING <= peak:
                break
            peak = max(peak, float(np.abs(self.rows[picked] @ wide).max(initial=0.0)))
        return peak
