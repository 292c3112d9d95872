"""Temperature and class biases fitted on an archive's own cases; thresholds carried from one calibration to another.

The model is softmax(logits / temperature + bias), vector scaling with one temperature for all classes (Guo et al. 2017,
arXiv:1706.04599), fitted by maximum a posteriori: the logarithm of the temperature has a normal prior around that of
the bundle's temperature, each bias one around 0. So few cases move little. Scans of one group are not independent: the
likelihood counts as much as there are groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sonoseek.evaluate.calibrate import softmax

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
TEMPERATURE_SD = 0.5
"""Standard deviation of the prior of log(temperature / the bundle's temperature)."""
BIAS_SD = 1.0
"""Standard deviation of the prior of each class's bias."""


def fit_scaling(
    logits: Floats, labels: NDArray[np.int64], *, temperature: float, classes: Sequence[int], weight: float
) -> tuple[float, Floats]:
    """Temperature and biases of the highest posterior.

    With two or more `classes`, only their scans are fitted on, and only against each other; the biases of these classes
    sum to 0, and the others have none: what an archive hardly holds is not talked down. With fewer, the temperature
    alone is fitted, on all scans.

    Args:
        logits: (n, C).
        labels: (n,), index into the C classes.
        temperature: of the bundle: centre of the prior.
        classes: indices of those that get a bias.
        weight: of each scan in the likelihood, above 0.

    Returns:
        Temperature; biases (C,).
    """
    count = logits.shape[1]
    chosen = np.array(classes if len(classes) > 1 else range(count))
    rows = np.isin(labels, chosen)
    scaled = logits[rows][:, chosen] / temperature
    truth = np.searchsorted(chosen, labels[rows])
    # orthonormal columns that sum to 0: the biases are basis @ x, and |biases| = |x|
    basis = np.linalg.qr(np.eye(len(chosen)) - 1 / len(chosen))[0][:, : len(chosen) - 1 if len(classes) > 1 else 0]
    prior = np.array([TEMPERATURE_SD**-2, *([BIAS_SD**-2] * basis.shape[1])])
    one_hot = np.eye(len(chosen))[truth]

    def spread(x: Floats) -> Floats:
        values: Floats = scaled * math.exp(-x[0]) + basis @ x[1:]
        return values

    def cost(x: Floats) -> float:
        p = softmax(spread(x))[np.arange(len(truth)), truth]
        return float(-weight * np.log(np.maximum(p, 1e-300)).sum() + (prior * x**2).sum() / 2)

    x = np.zeros(1 + basis.shape[1])
    for _ in range(100):  # Fisher scoring; it takes about five steps
        values = spread(x)
        p = softmax(values)
        slopes = np.concatenate(  # (n, k, m): of each class's score by each parameter
            [-(scaled * math.exp(-x[0]))[:, :, None], np.broadcast_to(basis, (len(truth), *basis.shape))], axis=2
        )
        gradient = weight * np.einsum("nk,nkm->m", p - one_hot, slopes) + prior * x
        mean = np.einsum("nk,nkm->nm", p, slopes)
        information = weight * (np.einsum("nk,nkm,nkl->ml", p, slopes, slopes) - mean.T @ mean) + np.diag(prior)
        step = np.linalg.solve(information, gradient)
        share, before = 1.0, cost(x)
        while cost(x - share * step) > before and share > 1e-6:
            share /= 2
        x = x - share * step
        if np.abs(share * step).max() < 1e-9:
            break
    bias = np.zeros(count)
    bias[chosen] = basis @ x[1:]
    return temperature * math.exp(x[0]), bias


def carried_threshold(before: Floats, after: Floats, positive: Flags, *, threshold: float) -> float:
    """A threshold of one calibration, on the scale of another.

    The highest at or above which as many scans, and as many malignant ones, lie as with the first.

    Args:
        before: (n,), likelihood of malignancy with the calibration that the threshold is of.
        after: (n,), of the same scans with the other.
        positive: (n,), which scans are malignant.
        threshold: on `before`.
    """
    thresholds = [1.0]
    for which in (np.ones(len(before), np.bool_), positive):
        count = int((before[which] >= threshold).sum())
        if count:
            thresholds.append(float(np.sort(after[which])[-count]))
    return min(thresholds)
