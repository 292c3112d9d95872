"""Class evidence: the exact split of a class's logit over the scan's pixels.

The embedding is the mean of the evidence E over the cells of its grid and the logit is linear in the embedding, so

    logit = bias + Σ_cells (weight · E[:, h, w]) / cells

holds to rounding: no gradient, no approximation, no second forward pass.
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


def class_evidence(
    evidence: NDArray[np.float32],
    *,
    weight: NDArray[np.float32],
    bias: float,
    mapping: CanvasMapping,
    target: str,
    spatial_weights: NDArray[np.float32] | None = None,
) -> Explanation:
    """Split one class's logit.

    Args:
        evidence: float32 (D, h, w), the network's evidence of the scan.
        weight: (D,), the row of the bundle's head for the class.
        bias: the head's bias for the class; no pixel contributes to it.
        mapping: between scan and canvas coordinates.
        target: the class's name.
        spatial_weights: (f·h, g·w), how the evidence is distributed within each cell
            (`Encoding.spatial_weights[i]`); None: evenly.

    Returns:
        Signed heatmap on the scan's own grid: positive pixels are evidence for the class; in logits per pixel. Its sum
        plus `bias` is the logit (`value`), to 1e-4. 0 outside the crop that the network saw.

    Raises:
        InvalidValueError: the shapes do not fit, or a number is not finite.
    """
    evidence_map = apply_spatial_weights(project(evidence, weight), spatial_weights)
    return Explanation(
        method="class_evidence",
        target=target,
        value=float(evidence_map.sum()) + float(bias),
        bias=float(bias),
        evidence_map=evidence_map.astype(np.float32),
        upsampling=plan(mapping, evidence_map.shape),
    )
