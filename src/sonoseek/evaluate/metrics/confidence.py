"""Calibration of probabilities, and the error among the scans that get a label.

Sources: Guo et al., On Calibration of Modern Neural Networks, ICML 2017; Geifman and El-Yaniv, Selective
Classification, NeurIPS 2017 (risk–coverage).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ECE_BINS = 15
"""Equal-width bins of the top probability, closed above: (0, 1/15], (1/15, 2/15] …"""


def expected_calibration_error(confidence: Floats, correct: NDArray[np.bool_], weights: Floats) -> Floats:
    """Mean gap of confidence and accuracy over bins, weighted by their size: (n,), (n,), (B, n) → (B,), 0 … 1."""
    inside = _bins(confidence)
    gaps = np.abs(weights @ (inside * (confidence - correct)[:, None])).sum(axis=1)
    total: Floats = gaps / weights.sum(axis=1)
    return total


def brier(probabilities: Floats, truth: NDArray[np.int64], weights: Floats) -> Floats:
    """Mean over scans of the squared distance to the reference class, summed over classes: 0 … 2. → (B,)."""
    one_hot = np.eye(probabilities.shape[1])[truth]
    total: Floats = weights @ ((probabilities - one_hot) ** 2).sum(axis=1) / weights.sum(axis=1)
    return total


def reliability(confidence: Floats, correct: NDArray[np.bool_]) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Mean confidence, accuracy and number of scans of each bin; NaN in empty ones. Each (`ECE_BINS`,)."""
    inside = _bins(confidence)
    count = inside.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return confidence @ inside / count, correct.astype(np.float64) @ inside / count, count.astype(np.int64)


def risk_coverage(confidence: Floats, correct: NDArray[np.bool_], weights: Floats) -> tuple[Floats, Floats]:
    """Error among the scans that get a label, as more and more do, surest first; equally sure ones together.

    Returns:
        coverage, risk: (B, n) each, at the place of every scan in falling order of confidence.
    """
    order = np.argsort(-confidence, kind="stable")
    ordered = weights[:, order]
    wrong = ordered * ~correct[order]
    falls = np.concatenate([confidence[order][1:] != confidence[order][:-1], [True]])
    last = np.flatnonzero(falls)[np.searchsorted(np.flatnonzero(falls), np.arange(len(order)))]
    answered, errors = np.cumsum(ordered, axis=1)[:, last], np.cumsum(wrong, axis=1)[:, last]
    with np.errstate(invalid="ignore", divide="ignore"):
        risk = np.where(answered > 0, errors / answered, 0.0)
    return answered / ordered.sum(axis=1, keepdims=True), risk


def risk_coverage_area(confidence: Floats, correct: NDArray[np.bool_], weights: Floats) -> Floats:
    """Mean risk over all coverages (AURC), 0 … 1, lower is better. → (B,)."""
    _, risk = risk_coverage(confidence, correct, weights)
    ordered = weights[:, np.argsort(-confidence, kind="stable")]
    area: Floats = (risk * ordered).sum(axis=1) / ordered.sum(axis=1)
    return area


def _bins(confidence: Floats) -> Floats:
    """(n, bins), 1 where the row lies in the bin."""
    place = np.clip(np.ceil(confidence * ECE_BINS - 1e-12).astype(int) - 1, 0, ECE_BINS - 1)
    inside: Floats = np.eye(ECE_BINS)[place]
    return inside
