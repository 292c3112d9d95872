"""Predictions of three classes with their operating points."""

from __future__ import annotations

from sonoseek.core import OperatingPoint, Prediction

POINTS = (
    OperatingPoint(name="sensitivity_98", threshold=0.11, sensitivity=0.98, specificity=0.57),
    OperatingPoint(name="sensitivity_90", threshold=0.20, sensitivity=0.90, specificity=0.72),
    OperatingPoint(name="specificity_90", threshold=0.55, sensitivity=0.70, specificity=0.90),
)
FITTED_ON = "the validation part of busi and busbra: 332 scans, 102 malignant"


NAMES = ("normal", "benign", "malignant")


def predicted(*shares: float, label: str | None = "benign", points: tuple[OperatingPoint, ...] = POINTS) -> Prediction:
    return Prediction(
        probabilities=dict(zip(NAMES, shares, strict=True)),
        label=label,
        prediction_set=("benign",),
        entropy=0.5,
        operating_points=points,
        fitted_on=FITTED_ON,
    )
