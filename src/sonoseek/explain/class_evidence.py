"""Class evidence: the exact split of a class's logit over the scan's pixels.

The embedding is the mean of the evidence map over its cells and the logit is linear in the embedding, so

    logit = bias + Σ_cells (weight · E[:, h, w]) / cells

holds to rounding: no gradient, no approximation, no second run of the network.
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


def class_evidence(
    evidence: NDArray[np.float32],
    *,
    weight: NDArray[np.float32],
    bias: float,
    mapping: CanvasMapping,
    target: str,
    within: NDArray[np.float32] | None = None,
) -> Explanation:
    """Split one class's logit.

    Args:
        evidence: float32 (D, h, w), the network's evidence map of the scan.
        weight: (D,), the row of the bundle's head for the class.
        bias: the head's bias for the class; no pixel carries it.
        mapping: the scan's way to the canvas and back.
        target: the class's name.
        within: (f·h, g·w), how the evidence lies within each cell (`Encoding.spatial_weights[i]`); None: evenly.

    Returns:
        Signed heatmap on the scan's own grid: positive pixels speak for the class; in logits per pixel. Its sum plus
        `bias` is the logit (`value`), to 1e-4. 0 outside the crop that the network saw.

    Raises:
        InvalidValueError: the shapes do not fit, or a number is not finite.
    """
    cells = project(evidence, weight)
    cells = place_within(cells, within)
    return Explanation(
        method="class_evidence",
        target=target,
        value=float(cells.sum()) + float(bias),
        bias=float(bias),
        cells=cells.astype(np.float32),
        upsampling=plan(mapping, cells.shape),
    )
