"""From logits to a verdict: temperature, abstention, conformal set; none for a scan unlike the training scans."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError, Prediction
from sonoseek.encoder.unfamiliarity import unfamiliarity
from sonoseek.encoder.values import Bundle


def predict(bundle: Bundle, logits: NDArray[np.float32], *, embedding: NDArray[np.float32] | None = None) -> Prediction:
    """Say what the logits mean.

    The prediction set is the split-conformal one of Sadinle et al. 2019 (doi:10.1080/01621459.2017.1395341), score
    1 − p, with the likeliest class always in it, so that it is never empty. Its promise, and that of the probabilities,
    holds for scans like those of the calibration: on one that is unlike them no label is given and no class excluded.

    Args:
        bundle: whose network spoke.
        logits: (C,), finite.
        embedding: (D,), of the same scan; None: whether it is like the training scans is not asked.

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
    exponents = np.exp(values - values.max())
    probabilities = exponents / exponents.sum()
    order = np.argsort(-probabilities, kind="stable")
    top = int(order[0])
    score = None if embedding is None else unfamiliarity(bundle, embedding)
    strange = score is not None and score > 1
    included = [int(i) for i in order if strange or i == top or 1.0 - probabilities[i] <= bundle.conformal_quantile]
    return Prediction(
        probabilities={name: float(p) for name, p in zip(bundle.classes, probabilities, strict=True)},
        label=bundle.classes[top] if probabilities[top] >= bundle.abstain_below and not strange else None,
        prediction_set=tuple(bundle.classes[i] for i in included),
        entropy=float(-np.sum(probabilities * np.log(np.maximum(probabilities, 1e-300)))),
        unfamiliarity=score,
    )
