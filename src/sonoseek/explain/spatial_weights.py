"""From the network's grid to its finer one: each cell's evidence is distributed by the network's spatial weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError


def apply_spatial_weights(
    evidence_map: NDArray[np.float64], spatial_weights: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    """Distribute each cell's evidence over the finer cells within it, in proportion to their weights.

    Args:
        evidence_map: (h, w), any sign.
        spatial_weights: (f·h, g·w), ≥ 0, as `Encoding.spatial_weights[i]`; None: the map is returned as it is.

    Returns:
        float64 (f·h, g·w), of the same sum, cell by cell.

    Raises:
        InvalidValueError: the shapes do not fit, or a weight is negative or not finite.
    """
    if spatial_weights is None:
        return evidence_map
    (height, width), (fine_height, fine_width) = evidence_map.shape, spatial_weights.shape
    # NaN carries through both
    low, high = float(spatial_weights.min(initial=0.0)), float(spatial_weights.max(initial=0.0))
    if fine_height % height or fine_width % width or not (low >= 0.0 and high < np.inf):
        raise InvalidValueError(
            f"spatial_weights are {spatial_weights.shape} for a grid {evidence_map.shape}; they must be a whole "
            "multiple of the grid a side, finite and never negative. Pass those of the same Encoding."
        )
    down, across = fine_height // height, fine_width // width
    blocks = spatial_weights.astype(np.float64).reshape(height, down, width, across)
    total = blocks.sum(axis=(1, 3), keepdims=True)
    empty = total <= 0
    density = evidence_map[:, None, :, None] / (total + empty * (down * across))
    fine: NDArray[np.float64] = ((blocks + empty) * density).reshape(spatial_weights.shape)
    return fine
