"""From the network's cells to its finer ones: each cell's evidence lies where the network itself weighs it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError


def place_within(cells: NDArray[np.float64], within: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Spread each cell over its finer ones.

    Args:
        cells: (h, w), any sign.
        within: (f·h, g·w), ≥ 0, weights of the places, as `Encoding.spatial_weights[i]`; None: nothing is told apart.

    Returns:
        float64 (f·h, g·w), of the same sum, cell by cell.

    Raises:
        InvalidValueError: the shapes do not fit, or a number of `within` is negative or not finite.
    """
    if within is None:
        return cells
    (height, width), (fine_height, fine_width) = cells.shape, within.shape
    low, high = float(within.min(initial=0.0)), float(within.max(initial=0.0))  # NaN carries through both
    if fine_height % height or fine_width % width or not (low >= 0.0 and high < np.inf):
        raise InvalidValueError(
            f"within is {within.shape} for cells {cells.shape}; it must be a whole multiple of the cells a side, "
            "finite and never negative. Pass Encoding.spatial_weights[i] of the same encoding."
        )
    down, across = fine_height // height, fine_width // width
    blocks = within.astype(np.float64).reshape(height, down, width, across)
    total = blocks.sum(axis=(1, 3), keepdims=True)
    empty = total <= 0
    density = cells[:, None, :, None] / (total + empty * (down * across))
    placed: NDArray[np.float64] = ((blocks + empty) * density).reshape(within.shape)
    return placed
