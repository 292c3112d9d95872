"""From logits to a prediction: temperature, abstention, conformal set, out-of-distribution score."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError, OperatingPoint, Prediction
from sonoseek.encoder.ood import ood_score
from sonoseek.encoder.values import Bundle


def predict(bundle: Bundle, logits: NDArray[np.float32], *, embedding: NDArray[np.float32] | None = None) -> Prediction:
    """Turn logits into a prediction.

    The prediction set is the split-conformal one of Sadinle et al. 2019 (doi:10.1080/01621459.2017.1395341), score
    1 − p, with the likeliest class always in it, so that it is never empty. Its coverage, and the calibration of the
    probabilities, hold for scans like those that they were fitted on: an out-of-distribution scan gets no label, and
    the prediction set holds every class.

    Args:
        bundle: of the network.
        logits: (C,), finite.
        embedding: (D,), of the same scan; None: no out-of-distribution score.

    Raises:
        InvalidValueError: another shape, or not finite.
    """
    values = np.asarray(logits, dtype=np.float64)
    if values.shape != (len(bundle.classes),) or not np.isfinite(values).all():
        raise InvalidValueError(
            f"logits are {values.dtype} {values.shape}: {values}; the bundle has {len(bundle.classes)} classes and "
            "gives one finite number each. Pass one row of Encoding.logits."
        )
    values = values / bundle.temperature
    if bundle.class_bias:
        values = values + np.array(bundle.class_bias)
    exponents = np.exp(values - values.max())
    probabilities = exponents / exponents.sum()
    order = np.argsort(-probabilities, kind="stable")
    top = int(order[0])
    score = None if embedding is None else ood_score(bundle, embedding)
    out_of_distribution = score is not None and score > 1
    included = [
        int(i) for i in order if out_of_distribution or i == top or 1.0 - probabilities[i] <= bundle.conformal_quantile
    ]
    return Prediction(
        probabilities={name: float(p) for name, p in zip(bundle.classes, probabilities, strict=True)},
        label=bundle.classes[top] if probabilities[top] >= bundle.abstain_below and not out_of_distribution else None,
        prediction_set=tuple(bundle.classes[i] for i in included),
        coverage=bundle.conformal_level,
        entropy=float(-np.sum(probabilities * np.log(np.maximum(probabilities, 1e-300)))),
        ood_score=score,
        operating_points=tuple(
            sorted((OperatingPoint(name=n, **p) for n, p in bundle.operating_points.items()), key=lambda p: p.threshold)
        ),
        fitted_on=bundle.fitted_on,
        calibration=bundle.calibration,
    )
