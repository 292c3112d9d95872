"""How often a prediction is right, and how well a probability ranks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def weighted_share(flags: NDArray[np.bool_] | Floats, weights: Floats) -> Floats:
    """Weighted mean of one value per row: (n,), (B, n) → (B,); NaN where no row counts."""
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: Floats = weights @ np.asarray(flags, dtype=np.float64) / total
    return shares


def accuracy(probabilities: Floats, truth: NDArray[np.int64], weights: Floats) -> Floats:
    """Share of scans whose likeliest class is the reference class: (n, C), (n,), (B, n) → (B,)."""
    return weighted_share(probabilities.argmax(axis=1) == truth, weights)


def confusion(predicted: NDArray[np.int64], truth: NDArray[np.int64], weights: Floats, *, classes: int) -> Floats:
    """Counts (B, C, C): row = reference class, column = prediction."""
    cells = np.zeros((len(truth), classes * classes))
    cells[np.arange(len(truth)), truth * classes + predicted] = 1.0
    counts: Floats = (weights @ cells).reshape(-1, classes, classes)
    return counts


def from_confusion(counts: Floats) -> dict[str, Floats]:
    """Figures of the counts, over the classes that occur among the reference labels.

    Args:
        counts: (B, C, C).

    Returns:
        sensitivity, specificity: (B, C), NaN for a class that does not occur. balanced_accuracy: their mean
        sensitivity, (B,). macro_f1: unweighted mean of F1 over the classes that occur, (B,).
    """
    hits = np.diagonal(counts, axis1=1, axis2=2)
    of_class, predicted, total = counts.sum(axis=2), counts.sum(axis=1), counts.sum(axis=(1, 2))[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        sensitivity = hits / of_class
        specificity = (total - of_class - predicted + hits) / (total - of_class)
        f1 = 2 * hits / (of_class + predicted)
    occurs = of_class > 0
    count = occurs.sum(axis=1)
    return {
        "sensitivity": np.where(occurs, sensitivity, np.nan),
        "specificity": specificity,
        "balanced_accuracy": np.where(occurs, sensitivity, 0.0).sum(axis=1) / count,
        "macro_f1": np.where(occurs, f1, 0.0).sum(axis=1) / count,
    }


def auroc(score: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Area under the ROC curve; ties count half. (n,), (n,), (B, n) → (B,); NaN where one kind is absent.

    The share of (positive, other) pairs in the right order, as one matrix product for all rows of weights.
    """
    up, down = weights[:, positive], weights[:, ~positive]
    gap = score[positive][:, None] - score[~positive][None, :]
    # whole weights and halves stay exact in single precision up to 2²³ pairs
    kind = np.dtype(np.float32 if gap.size < 2**22 else np.float64)
    won: NDArray[Any] = ((np.sign(gap) + 1) / 2).astype(kind)
    pairs = ((up.astype(kind) @ won) * down).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Floats = pairs / (up.sum(axis=1) * down.sum(axis=1))
    return area


def average_precision(score: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Area under precision over recall by steps, as scikit-learn has it: (n,), (n,), (B, n) → (B,); else NaN."""
    order = np.argsort(-score, kind="stable")
    starts = _tie_starts(score[order])
    ordered = weights[:, order]
    hits = _summed(ordered * positive[order], starts)
    called = np.cumsum(_summed(ordered, starts), axis=1)
    true_positives = np.cumsum(hits, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(called > 0, true_positives / called, 0.0)
        area: Floats = (hits * precision).sum(axis=1) / hits.sum(axis=1)
    return area


def _tie_starts(ordered: Floats) -> NDArray[np.int64]:
    """First place of each run of equal scores."""
    return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def _summed(ordered: Floats, starts: NDArray[np.int64]) -> Floats:
    """(B, n) → (B, runs): the sum over each run of ties."""
    if len(starts) == ordered.shape[1]:
        return ordered
    sums: Floats = np.add.reduceat(ordered, starts, axis=1)
    return sums
