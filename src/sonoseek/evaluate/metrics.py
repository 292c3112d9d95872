"""Figures from what an engine said, by scikit-learn where it has them.

Sources: Guo et al., On Calibration of Modern Neural Networks, ICML 2017 (expected calibration error).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError, MissingExtraError

ECE_BINS = 15
"""Equal-width bins of the top probability."""


def classification_figures(
    labels: Sequence[str], probabilities: NDArray[np.floating], *, classes: Sequence[str]
) -> dict[str, float]:
    """Score verdicts.

    Args:
        labels: N proven classes.
        probabilities: (N, C), rows sum to 1, columns in the order of `classes`.
        classes: C names.

    Returns:
        accuracy, balanced_accuracy, macro_f1, auroc_malignant (malignant against the rest), auroc_macro (one against
        rest, unweighted), ece (15 equal-width bins of the top probability), brier (sum over classes, 0 … 2). All but
        the last two: 0 … 1, higher is better. NaN where a class needed for a figure is absent.

    Raises:
        InvalidValueError: shapes or names that do not fit.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        from sklearn import metrics
    except ModuleNotFoundError as error:
        raise MissingExtraError.for_package("scikit-learn", extra="evaluate") from error
    if probabilities.shape != (len(labels), len(classes)) or not len(labels):
        raise InvalidValueError(
            f"probabilities have shape {probabilities.shape} for {len(labels)} labels and {len(classes)} classes; "
            "give one row per label and one column per class."
        )
    order = {name: i for i, name in enumerate(classes)}
    if unknown := set(labels) - set(order):
        raise InvalidValueError(f"labels {sorted(unknown)} are not among the classes {list(classes)}.")
    truth = np.array([order[label] for label in labels])
    said = probabilities.argmax(axis=1)
    one_hot = np.eye(len(classes))[truth]
    aurocs = [_auroc(one_hot[:, i], probabilities[:, i]) for i in range(len(classes))]
    return {
        "accuracy": float(np.mean(truth == said)),
        "balanced_accuracy": float(np.mean([np.mean(said[truth == c] == c) for c in np.unique(truth)])),
        "macro_f1": float(metrics.f1_score(truth, said, average="macro", labels=np.unique(truth), zero_division=0)),
        "auroc_malignant": aurocs[order["malignant"]] if "malignant" in order else float("nan"),
        "auroc_macro": float(np.mean(aurocs)),
        "ece": expected_calibration_error(probabilities.max(axis=1), truth == said),
        "brier": float(np.mean(np.sum((probabilities - one_hot) ** 2, axis=1))),
    }


def _auroc(positive: NDArray[np.floating], score: NDArray[np.floating]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, score)) if 0 < positive.sum() < len(positive) else float("nan")


def expected_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], *, bins: int = ECE_BINS
) -> float:
    """Mean gap of confidence and accuracy over equal-width bins, weighted by their size; 0 … 1, lower is better."""
    place = np.clip((confidence * bins).astype(int), 0, bins - 1)
    gaps = [
        abs(confidence[place == b].mean() - correct[place == b].mean()) * np.mean(place == b) for b in np.unique(place)
    ]
    return float(np.sum(gaps))


def precision_at_k(relevant: NDArray[np.bool_], *, k: int) -> float:
    """Mean share of relevant hits among the first k.

    Args:
        relevant: (N, ≥ k), row i holds query i's hits, best first; True where the hit has the query's proven class.
        k: at least 1.

    Raises:
        InvalidValueError: fewer than k hits were ranked: a short ranking would flatter.
    """
    if relevant.ndim != 2 or relevant.shape[1] < k or k < 1:
        raise InvalidValueError(f"hits have shape {relevant.shape} for k={k}; rank at least k hits per query, k ≥ 1.")
    return float(relevant[:, :k].mean())


def majority_vote(hit_labels: Sequence[Sequence[str]]) -> list[str]:
    """The commonest class of each query's hits; ties go to the class whose first hit ranks higher."""
    return [max(dict.fromkeys(hits), key=lambda name, hits=hits: hits.count(name)) for hits in map(list, hit_labels)]  # type: ignore[misc]
