"""The step that all exact methods share: evidence projected on a direction, one signed number per cell of the grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError


def project(evidence: NDArray[np.float32], direction: NDArray[np.floating]) -> NDArray[np.float64]:
    """Project each cell's evidence on a direction.

    Args:
        evidence: (D, h, w).
        direction: (D,).

    Returns:
        float64 (h, w), summing to `direction` · the mean of `evidence` over its cells. Accumulated in double precision,
        so that hundreds of large terms of both signs still add up to the network's own output within 1e-5.

    Raises:
        InvalidValueError: shapes do not fit, or a number is not finite.
    """
    if evidence.ndim != 3 or evidence.size == 0 or direction.shape != evidence.shape[:1]:
        raise InvalidValueError(
            f"evidence is {evidence.shape} and the direction {direction.shape}; they must be (D, h, w) and (D,) with "
            "the same D. Pass Encoding.evidence[i] and a row of the same bundle's head, or one of its embeddings."
        )
    depth, height, width = evidence.shape
    flat = evidence.reshape(depth, height * width).astype(np.float64)
    evidence_map: NDArray[np.float64] = (direction.astype(np.float64) @ flat).reshape(height, width) / (height * width)
    if not np.isfinite(evidence_map).all():
        raise InvalidValueError(
            "the evidence or the direction holds numbers that are not finite; a bundle must give finite numbers. "
            "Export the bundle again."
        )
    return evidence_map
