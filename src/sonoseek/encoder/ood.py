"""The out-of-distribution score of a scan, from its embedding alone.

The score is the Mahalanobis distance to one Gaussian over the training scans' embeddings, each scaled to length 1. One
Gaussian detects out-of-distribution scans better than nearest neighbours or prototypes do, and as well as a Gaussian
per class (`docs/results/out-of-distribution.md`). After Lee et al. 2018, arXiv:1807.03888, without its layers and its
noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError
from sonoseek.encoder.values import Bundle, OODModel

FARTHEST = 1000.0
"""What a scan without any evidence gets: its embedding has no direction, and is like no training scan."""


def distances(model: OODModel, embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mahalanobis distances to the training scans.

    Args:
        model: of a bundle.
        embeddings: (N, D), not normalised, finite.

    Returns:
        float64 (N,), ≥ 0; infinite for an embedding of zeros.
    """
    values = np.asarray(embeddings, np.float64)
    lengths = np.linalg.norm(values, axis=1)
    away = values / np.where(lengths > 0, lengths, 1)[:, None] - model.mean
    along = away @ model.components.astype(np.float64).T
    beside = np.maximum((away**2).sum(1) - (along**2).sum(1), 0)
    squared = (along**2 / model.variances).sum(1) + beside / model.residual_variance
    result: NDArray[np.float64] = np.where(lengths > 0, np.sqrt(squared), np.inf)
    return result


def ood_score(bundle: Bundle, embedding: NDArray[np.floating]) -> float | None:
    """How far a scan lies from those that the bundle was trained on, in units of the threshold.

    For an ensemble: the mean over the members with an out-of-distribution model.

    Args:
        bundle: that made the embedding.
        embedding: (D,), not normalised, as in `Encoding`.

    Returns:
        0 … `FARTHEST`; above 1: out-of-distribution. None: the bundle has no such model.

    Raises:
        InvalidValueError: another shape, or not finite.
    """
    values = np.asarray(embedding)
    if values.shape != (bundle.embedding_dim,) or not np.isfinite(values).all():
        raise InvalidValueError(
            f"the embedding is {values.dtype} {values.shape}; bundle {bundle.bundle_id!r} gives "
            f"({bundle.embedding_dim},) finite numbers. Pass one row of Encoding.embedding."
        )
    if bundle.ood is not None:
        score = float(distances(bundle.ood, values[np.newaxis])[0]) / bundle.ood.threshold
        return min(score, FARTHEST)
    scores, start = [], 0
    for member in bundle.members:
        end = start + member.bundle.embedding_dim
        score_or_none = ood_score(member.bundle, values[start:end])
        scores += [] if score_or_none is None else [score_or_none]
        start = end
    return float(np.mean(scores)) if scores else None
