"""The prediction of a scan: calibrated probabilities and operating points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from sonoseek.core.errors import InvalidValueError


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold on the likelihood of malignancy, with its sensitivity and specificity on the scans it was fitted on.

    Attributes:
        name: "sensitivity_98", "specificity_90" …: the rate that the threshold was fitted to, in percent.
        threshold: probability, 0 … 1; a scan at or above it counts as malignant.
        sensitivity, specificity: on those scans, 0 … 1.
    """

    name: str
    threshold: float
    sensitivity: float
    specificity: float

    def __post_init__(self) -> None:
        for name in ("threshold", "sensitivity", "specificity"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0 + 1e-9:  # a threshold may lie just above the largest score
                raise InvalidValueError(f"operating point {self.name!r}: {name} is {value}; it must lie in 0 … 1.")


@dataclass(frozen=True, kw_only=True)
class CalibrationSource:
    """The cases that temperature, biases and thresholds were fitted on: the bundle's own, or those of an archive.

    Attributes:
        cases: of the archive, 1 or more; None: the calibration is the bundle's own.
        fitted: the day of the fit, UTC; None exactly where `cases` is.
        bundle_points: operating points of the bundle that stay, as the archive had too few cases to fit them.
    """

    cases: int | None = None
    fitted: date | None = None
    bundle_points: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.cases is None) != (self.fitted is None) or (self.cases is not None and self.cases < 1):
            raise InvalidValueError(
                f"cases is {self.cases} and fitted is {self.fitted}; pass 1 or more cases and the day of the fit, or "
                "neither for the bundle's own."
            )


BUNDLE_CALIBRATION = CalibrationSource()
"""The bundle's own."""
MALIGNANT = "malignant"
RULE_OUT = "sensitivity_98"
"""Name of the operating point with the highest sensitivity."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Calibrated probabilities of one scan, or of several views of one lesion.

    Attributes:
        probabilities: calibrated, one per class of the bundle, sum 1 within 1e-6.
        label: the class, or None: the system abstains.
        prediction_set: conformal prediction set at `coverage`, likeliest first (Sadinle et al. 2019,
            doi:10.1080/01621459.2017.1395341): this share of such sets contains the true class, over new scans like
            those of the calibration. A class outside of the set is not ruled out.
        coverage: of `prediction_set`, 0 … 1.
        entropy: of `probabilities`, in nats, 0 (certain) … log(classes).
        ood_score: out-of-distribution score: distance of the scan from the training scans, relative to the threshold:
            above 1 no label is given, however high the probabilities. None: the bundle has no such score. Unlike
            `Report.novelty`, which is about the gallery.
        operating_points: thresholds on the likelihood of malignancy, lowest first; empty where the bundle has none.
        fitted_on: a description of the scans that temperature and operating points were fitted on.
        calibration: the bundle's, or an archive's.
    """

    probabilities: Mapping[str, float]
    label: str | None
    prediction_set: tuple[str, ...]
    coverage: float = 0.9
    entropy: float
    ood_score: float | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    fitted_on: str = ""
    calibration: CalibrationSource = BUNDLE_CALIBRATION

    def __post_init__(self) -> None:
        object.__setattr__(self, "probabilities", MappingProxyType(dict(self.probabilities)))
        total = sum(self.probabilities.values())
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise InvalidValueError(f"probabilities sum to {total:.8f}; they must sum to 1. Pass a softmax.")
        unknown = {self.label, *self.prediction_set} - {None, *self.probabilities}
        if unknown:
            raise InvalidValueError(
                f"{sorted(map(str, unknown))} are no classes of {sorted(self.probabilities)}. Pass only these."
            )
        if self.ood_score is not None and not 0 <= self.ood_score < math.inf:
            raise InvalidValueError(
                f"ood_score is {self.ood_score}; it is a distance, 0 or more and finite. Pass None if unknown."
            )
        if self.out_of_distribution and self.label is not None:
            raise InvalidValueError(
                f"ood_score is {self.ood_score} and the label {self.label!r}; above 1 no label is given. "
                "Pass label=None."
            )
        thresholds = [point.threshold for point in self.operating_points]
        if thresholds != sorted(thresholds):
            raise InvalidValueError(f"operating points have thresholds {thresholds}; pass the lowest first.")

    @property
    def out_of_distribution(self) -> bool:
        """Whether `ood_score` is above 1."""
        return self.ood_score is not None and self.ood_score > 1

    @property
    def likeliest(self) -> str:
        """The class with the highest probability, also where the system abstains; the first of equals."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def likelihood_of_malignancy(self) -> float | None:
        """Calibrated probability of the class "malignant", 0 … 1; None where the bundle has no such class."""
        return self.probabilities.get(MALIGNANT)

    @property
    def rule_out(self) -> OperatingPoint | None:
        """The operating point of 98 % sensitivity; None where the bundle has none."""
        return next((point for point in self.operating_points if point.name == RULE_OUT), None)

    @property
    def not_ruled_out(self) -> bool:
        """Whether malignancy is at or above the threshold of 98 % sensitivity, or no such threshold is known."""
        likelihood, point = self.likelihood_of_malignancy, self.rule_out
        return likelihood is not None and (point is None or likelihood >= point.threshold)
