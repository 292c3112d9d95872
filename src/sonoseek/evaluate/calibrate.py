"""Calibration fitted on validation scans: temperature, abstention, conformal quantile, thresholds.

Training calibrates bundles with it, the benchmark every system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES

Floats = NDArray[np.float64]
LEVEL = 0.9
"""Share of cases whose class is to lie in the prediction set."""
WANTED_ACCURACY = 0.9
"""Among the scans that get a label."""
MIN_COVERAGE = 0.7
"""Share of scans that get a label at least: fewer labels would be ignored."""
SENSITIVITIES = (0.90, 0.95, 0.98)
SPECIFICITIES = (0.90,)
RATES = {f"sensitivity_{100 * rate:.0f}": rate for rate in SENSITIVITIES} | {
    f"specificity_{100 * rate:.0f}": rate for rate in SPECIFICITIES
}
"""Name of an operating point → the rate that it is fitted to."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Fields as in `BundleMetadata`; `class_bias` as in `encoder.Bundle`."""

    temperature: float
    abstain_below: float
    conformal: dict[str, float]
    operating_points: dict[str, dict[str, float]]
    class_bias: tuple[float, ...] = ()


def calibrate(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> Calibration:
    """Fit on n ≥ 1 scans that were not learnt from.

    Args:
        logits: (n, C), before any temperature.
        labels: (n,), index into the classes.
    """
    temperature = fit_temperature(logits, labels)
    p = softmax(logits / temperature)
    return Calibration(
        temperature=temperature,
        abstain_below=fit_abstention(p, labels),
        conformal={"level": LEVEL, "quantile": conformal_quantile(p, labels)},
        operating_points=operating_points(p[:, PATHOLOGIES.index("malignant")], labels),
    )


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Along the last axis, in float64."""
    values = np.asarray(logits, dtype=np.float64)
    exponents = np.exp(values - values.max(axis=-1, keepdims=True))
    result: Floats = exponents / exponents.sum(axis=-1, keepdims=True)
    return result


def log_loss(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Mean negative log-likelihood of the labels (n,) under logits (n, C)."""
    p = softmax(logits)[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(p, 1e-300)).mean())


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64], *, low: float = 0.2) -> float:
    """The temperature of the least negative log-likelihood, `low` … 5 (Guo et al. 2017, arXiv:1706.04599).

    Golden section over its logarithm: the function has one minimum.
    """

    def cost(log_t: float) -> float:
        return log_loss(logits / math.exp(log_t), labels)

    left_end, right_end = math.log(low), math.log(5.0)
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = right_end - ratio * (right_end - left_end), left_end + ratio * (right_end - left_end)
        if cost(left) <= cost(right):
            right_end = right
        else:
            left_end = left
    return math.exp((left_end + right_end) / 2)


def conformal_quantile(p: Floats, labels: NDArray[np.int64], *, level: float = LEVEL) -> float:
    """Quantile of 1 − p(true class), with the finite-sample correction; 1 with too few scans."""
    scores = np.sort(1.0 - p[np.arange(len(labels)), labels])
    rank = math.ceil((len(scores) + 1) * level)
    return float(min(1.0, scores[rank - 1])) if rank <= len(scores) else 1.0


def fit_abstention(p: Floats, labels: NDArray[np.int64]) -> float:
    """The lowest threshold on the largest probability that makes the labelled scans 90 % right, or that labels 70 %."""
    top = p.max(axis=1)
    right = p.argmax(axis=1) == labels
    thresholds = np.concatenate([[1.0 / p.shape[1]], np.sort(top)])
    allowed = thresholds[[np.mean(top >= t) >= MIN_COVERAGE for t in thresholds]]
    for threshold in allowed:
        if np.mean(right[top >= threshold]) >= WANTED_ACCURACY:
            return float(threshold)
    return float(allowed[-1])


def operating_points(p_malignant: Floats, labels: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Thresholds on the calibrated probability of malignancy, and what they gave on these scans.

    Returns:
        "sensitivity_90" …, "specificity_90" → threshold (malignant at or above it), sensitivity, specificity; none
        without both kinds.
    """
    positive = labels == PATHOLOGIES.index("malignant")
    if not 0 < positive.sum() < len(labels):
        return {}
    return {name: operating_point(name, p_malignant, positive) for name in RATES}


def operating_point(name: str, p_malignant: Floats, positive: NDArray[np.bool_]) -> dict[str, float]:
    """One of `RATES` on scans of both kinds, as in `operating_points`."""
    threshold = threshold_for(p_malignant, positive, **{kind_of(name): RATES[name]})
    called = p_malignant >= threshold
    return {
        "threshold": threshold,
        "sensitivity": float(called[positive].mean()),
        "specificity": float((~called[~positive]).mean()),
    }


def kind_of(point: str) -> str:
    """Of an operating point's name: "sensitivity" or "specificity"."""
    return point.partition("_")[0]


def threshold_for(
    score: Floats,
    positive: NDArray[np.bool_],
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
) -> float:
    """The threshold (positive at or above it) that just reaches a sensitivity, or a specificity, on these scans.

    Args:
        score: (n,).
        positive: (n,).
        sensitivity: 0 … 1; the largest threshold that reaches it. Give this or the next.
        specificity: 0 … 1; the smallest threshold that reaches it.

    Returns:
        NaN where the kind that is counted is absent.
    """
    if sensitivity is not None:
        scores = np.sort(score[positive])[::-1]
        return float(scores[max(1, math.ceil(sensitivity * len(scores))) - 1]) if len(scores) else math.nan
    wanted = 1.0 if specificity is None else specificity
    scores = np.sort(score[~positive])
    if not len(scores):
        return math.nan
    place = math.ceil(wanted * len(scores)) - 1
    return float(np.nextafter(scores[max(0, place)], np.inf))
