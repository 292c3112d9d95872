"""Part evidence: the exact split, over one scan's pixels, of a cosine that several scans and examples carry together.

A search may be asked with several views of a lesion, with a region of a scan, or be moved by liked and disliked
matches. Its direction q, of length 1, is then a sum in which one scan's part is `gain` times the mean of its evidence E
over the cells, each weighted by the share of it that was asked with. With m the match's embedding,

    cos(q, m) = Σ_cells gain · share (E[:, h, w] · m) / (|m| cells) + what the other parts add

The cells say what this scan carries; the rest is the explanation's bias.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Explanation, InvalidValueError
from sonoseek.explain.grid import project
from sonoseek.explain.spatial_weights import place_within
from sonoseek.explain.upsample import plan

if TYPE_CHECKING:  # only its numbers are needed here: explaining loads nothing but numpy
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
    within: NDArray[np.float32],
) -> Explanation:
    """Split a scan's part of the cosine between a question and a match.

    Args:
        evidence: float32 (D, h, w), the evidence map of the scan on whose pixels the cosine is split.
        other_embedding: (D,) of the match, of any length.
        direction: (D,), what was searched with, of length 1.
        gain: the scan's (weighted) mean evidence times this is its part of `direction`.
        share: (f·h, g·w), 0 … 1, how much of each place was asked with; None: all.
        mapping: the scan's way to the canvas and back.
        target: the match: "match:<scan_id>".
        within: (f·h, g·w), how the evidence lies within each cell (`Encoding.spatial_weights[i]`).

    Returns:
        Signed heatmap on the scan's own grid; its sum plus `bias` is the cosine (`value`), to 1e-4. All 0 where the
        match has length 0.

    Raises:
        InvalidValueError: the shapes do not fit, or a number is not finite.
    """
    length = float(np.linalg.norm(other_embedding.astype(np.float64)))
    scale = gain / length if length > 1e-30 else 0.0
    cells = place_within(project(evidence, other_embedding) * scale, within)
    if share is not None:
        cells = cells * _checked(share, within.shape)
    value = float(direction.astype(np.float64) @ other_embedding.astype(np.float64)) / (length or 1.0)
    return Explanation(
        method="pair_evidence",
        target=target,
        value=value,
        bias=value - float(cells.sum()),
        cells=cells.astype(np.float32),
        upsampling=plan(mapping, cells.shape),
    )


def weight_cells(
    share: NDArray[np.float64], within: NDArray[np.float32], *, cells: tuple[int, int]
) -> NDArray[np.float64]:
    """How much of each cell's evidence a share of its finer ones carries: float64 (h, w), 0 … 1.

    Args:
        share: (f·h, g·w), 0 … 1, how much of each place counts.
        within: as in `query_evidence`.
        cells: (h, w).

    Raises:
        InvalidValueError: the shapes do not fit.
    """
    placed = place_within(np.ones(cells), within) * _checked(share, within.shape)
    height, width = cells
    down, across = placed.shape[0] // height, placed.shape[1] // width
    weights: NDArray[np.float64] = placed.reshape(height, down, width, across).sum(axis=(1, 3))
    return weights


def _checked(share: NDArray[np.float64], places: tuple[int, ...]) -> NDArray[np.float64]:
    if share.shape != places or not (share.min() >= 0.0 and share.max() <= 1.0):
        raise InvalidValueError(
            f"share is {share.shape}, {share.min()} … {share.max()}, for places {places}; it must be one number, "
            "0 … 1, for each place of `within`."
        )
    return share
