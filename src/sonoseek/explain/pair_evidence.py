"""Pair evidence: the exact split, over the query's pixels, of the cosine between the query and a match.

With q the query's embedding, the mean of its evidence map E over its cells, and m the match's embedding,

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
from sonoseek.explain.spatial_weights import place_within
from sonoseek.explain.upsample import plan

if TYPE_CHECKING:  # only its numbers are needed here: explaining loads nothing but numpy
    from sonoseek.preprocessing import CanvasMapping


def pair_evidence(
    evidence: NDArray[np.float32],
    other_embedding: NDArray[np.floating],
    *,
    mapping: CanvasMapping,
    target: str,
    within: NDArray[np.float32] | None = None,
    embedding: NDArray[np.floating] | None = None,
) -> Explanation:
    """Split the cosine between a scan and another one.

    Args:
        evidence: float32 (D, h, w), the evidence map of the scan on whose pixels the cosine is split.
        other_embedding: (D,) of the other scan, of any length.
        mapping: the first scan's way to the canvas and back.
        target: the other scan: "match:<scan_id>", or "query:<scan_id>" on a match's pixels.
        embedding: (D,) of the scan itself, the mean of `evidence`, where it is at hand; None: it is worked out.
        within: (f·h, g·w), how the evidence lies within each cell (`Encoding.spatial_weights[i]`); None: evenly.

    Returns:
        Signed heatmap on the scan's own grid: positive pixels make the two alike; it sums to the cosine (`value`)
        to 1e-4; its bias is 0. All 0 where either embedding has length 0: their cosine is taken as 0.

    Raises:
        InvalidValueError: the shapes do not fit, or a number is not finite.
    """
    cells = project(evidence, other_embedding)
    own = evidence.mean(axis=(1, 2), dtype=np.float64) if embedding is None else embedding.astype(np.float64)
    lengths = float(np.linalg.norm(own)) * float(np.linalg.norm(other_embedding.astype(np.float64)))
    cells = cells / lengths if lengths > 1e-30 else np.zeros_like(cells)
    cells = place_within(cells, within)
    return Explanation(
        method="pair_evidence",
        target=target,
        value=float(cells.sum()),
        bias=0.0,
        cells=cells.astype(np.float32),
        upsampling=plan(mapping, cells.shape),
    )
