"""Pair evidence: the exact split, over the query's pixels, of the cosine between the query and a match.

With q the query's embedding, the mean of its evidence E over the cells of its grid, and m the match's embedding,

    cos(q, m) = Σ_cells (E[:, h, w] · m) / (|q| |m| cells)

so the stored embedding of the match is all that is needed. The same function with the roles exchanged splits the
cosine over the match's pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Explanation
from sonoseek.explain.grid import project
from sonoseek.explain.spatial_weights import apply_spatial_weights
from sonoseek.explain.upsample import plan

if TYPE_CHECKING:  # for annotations alone: this package imports nothing but numpy
    from sonoseek.preprocessing import CanvasMapping


def pair_evidence(
    evidence: NDArray[np.float32],
    other_embedding: NDArray[np.floating],
    *,
    mapping: CanvasMapping,
    target: str,
    spatial_weights: NDArray[np.float32] | None = None,
    embedding: NDArray[np.floating] | None = None,
) -> Explanation:
    """Split the cosine between a scan and another one.

    Args:
        evidence: float32 (D, h, w), of the scan on whose pixels the cosine is split.
        other_embedding: (D,) of the other scan, of any length.
        mapping: between that scan's and the canvas' coordinates.
        target: the other scan: "match:<scan_id>", or "query:<scan_id>" on a match's pixels.
        spatial_weights: (f·h, g·w), how the evidence is distributed within each cell
            (`Encoding.spatial_weights[i]`); None: evenly.
        embedding: (D,) of the scan itself, the mean of `evidence`; None: it is computed.

    Returns:
        Signed heatmap on the scan's own grid: positive pixels make the two similar; it sums to the cosine (`value`)
        to 1e-4; its bias is 0. All 0 where either embedding has length 0: their cosine is taken as 0.

    Raises:
        InvalidValueError: the shapes do not fit, or a number is not finite.
    """
    evidence_map = project(evidence, other_embedding)
    own = evidence.mean(axis=(1, 2), dtype=np.float64) if embedding is None else embedding.astype(np.float64)
    lengths = float(np.linalg.norm(own)) * float(np.linalg.norm(other_embedding.astype(np.float64)))
    evidence_map = evidence_map / lengths if lengths > 1e-30 else np.zeros_like(evidence_map)
    evidence_map = apply_spatial_weights(evidence_map, spatial_weights)
    return Explanation(
        method="pair_evidence",
        target=target,
        value=float(evidence_map.sum()),
        bias=0.0,
        evidence_map=evidence_map.astype(np.float32),
        upsampling=plan(mapping, evidence_map.shape),
    )
