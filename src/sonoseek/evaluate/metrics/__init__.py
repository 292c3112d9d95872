"""Figures of predictions and searches; one weight per row, so that one code gives figure and interval.

Weights are float64 (B, n): row b counts scan i `weights[b, i]` times. All ones gives the figure; counts of a bootstrap
over groups give its spread. scikit-learn is what the tests hold these to: it has no weights for many resamples at once.
"""

from sonoseek.evaluate.metrics.classification import (
    accuracy,
    auroc,
    average_precision,
    confusion,
    from_confusion,
    weighted_share,
)
from sonoseek.evaluate.metrics.confidence import (
    ECE_BINS,
    brier,
    expected_calibration_error,
    reliability,
    risk_coverage,
    risk_coverage_area,
)
from sonoseek.evaluate.metrics.retrieval import (
    DEPTH,
    average_precision_at,
    chance_levels,
    majority_vote,
    precision_at,
)

__all__ = [
    "accuracy",
    "auroc",
    "average_precision",
    "confusion",
    "from_confusion",
    "weighted_share",
    "ECE_BINS",
    "brier",
    "expected_calibration_error",
    "reliability",
    "risk_coverage",
    "risk_coverage_area",
    "DEPTH",
    "average_precision_at",
    "chance_levels",
    "majority_vote",
    "precision_at",
]
