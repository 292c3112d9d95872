"""Query evidence: the exact split, over one scan's pixels, of a cosine that several scans and examples make up.

A query may consist of several views of a lesion, of a region of a scan, and of liked and disliked matches. Its vector
q, of length 1, is then a sum. One scan's part of it is `gain` times the mean of its evidence E over the cells of its
grid, each cell weighted by the share of it that lies in the region. With m the match's embedding,

    cos(q, m) = Σ_cells gain · share (E[:, h, w] · m) / (|m| cells) + what the other parts add

The sum is this scan's contribution; the rest is the explanation's bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Explanation, InvalidValueError
from sonoseek.explain.grid import project
from sonoseek.explain.spatial_weights import apply_spatial_weights
from sonoseek.explain.upsample import plan

if TYPE_CHECKING:  # for annotations alone: this package imports nothing but numpy
    from sonoseek.preprocessing import CanvasMapping


def query_evidence(
    evidence: NDArray[np.float32],
    other_embedding: NDArray[np.floating],
    *,
    direction: NDArray[np.floating],
    gain: float,
    share: NDArray[np.float64] | None,
    mapping: CanvasMapping,
    target: str,
    spatial_weights: NDArray[np.float32],
) -> Explanation:
    """Split a scan's part of the cosine between a query vector and a match.

    Args:
        evidence: float32 (D, h, w), of the scan on whose pixels the cosine is split.
        other_embedding: (D,) of the match, of any length.
        direction: (D,), the query vector, of length 1.
        gain: the scan's (weighted) mean evidence times this is its part of `direction`.
        share: (f·h, g·w), 0 … 1, how much of each place lies in the region; None: all.
        mapping: between scan and canvas coordinates.
        target: the match: "match:<scan_id>".
        spatial_weights: (f·h, g·w), how the evidence is distributed within each cell (`Encoding.spatial_weights[i]`).

    Returns:
        Signed heatmap on the scan's own grid; its sum plus `bias` is the cosine (`value`), to 1e-4. All 0 where the
        match has length 0.

    Raises:
        InvalidValueError: the shapes do not fit, or a number is not finite.
    """
    length = float(np.linalg.norm(other_embedding.astype(np.float64)))
    scale = gain / length if length > 1e-30 else 0.0
    evidence_map = apply_spatial_weights(project(evidence, other_embedding) * scale, spatial_weights)
    if share is not None:
        evidence_map = evidence_map * _checked(share, spatial_weights.shape)
    value = float(direction.astype(np.float64) @ other_embedding.astype(np.float64)) / (length or 1.0)
    return Explanation(
        method="pair_evidence",
        target=target,
        value=value,
        bias=value - float(evidence_map.sum()),
        evidence_map=evidence_map.astype(np.float32),
        upsampling=plan(mapping, evidence_map.shape),
    )


def cell_weights(
    share: NDArray[np.float64], spatial_weights: NDArray[np.float32], *, grid_shape: tuple[int, int]
) -> NDArray[np.float64]:
    """How much of each cell's evidence lies in a region: float64 (h, w), 0 … 1.

    Args:
        share: (f·h, g·w), 0 … 1, how much of each place lies in the region.
        spatial_weights: as in `query_evidence`.
        grid_shape: (h, w).

    Raises:
        InvalidValueError: the shapes do not fit.
    """
    fine = apply_spatial_weights(np.ones(grid_shape), spatial_weights) * _checked(share, spatial_weights.shape)
    height, width = grid_shape
    down, across = fine.shape[0] // height, fine.shape[1] // width
    weights: NDArray[np.float64] = fine.reshape(height, down, width, across).sum(axis=(1, 3))
    return weights


def _checked(share: NDArray[np.float64], places: tuple[int, ...]) -> NDArray[np.float64]:
    if share.shape != places or not (share.min() >= 0.0 and share.max() <= 1.0):
        raise InvalidValueError(
            f"share is {share.shape}, {share.min()} … {share.max()}, for places {places}; it must be one number, "
            "0 … 1, for each place of `spatial_weights`."
        )
    return share
