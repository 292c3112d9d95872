"""The out-of-distribution score, fitted on embeddings at export."""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError, from_extra
from sonoseek.core.arrays import unit_rows
from sonoseek.encoder import OODModel
from sonoseek.encoder.ood import distances

LEVEL = 0.99
"""Share of validation scans that must count as in distribution: what abstaining on the others may cost."""
DIRECTIONS = 96
"""Directions whose variance is kept: as good as all 256 (docs/results/out-of-distribution.md), a third of the space."""
LEAST_VARIANCE = 1e-9
"""Scans that are all alike vary in no direction; dividing by 0 would put every other one infinitely far."""
FEWEST = 8
"""Fewest scans on either side."""


def fit_duplicate_threshold(
    embeddings: NDArray[np.floating],
    groups: NDArray[np.int64],
    *,
    gallery: NDArray[np.floating],
    gallery_groups: NDArray[np.int64],
) -> float:
    """The cosine from which on two scans are near-duplicates: 99 % of scans reach it with none of another group.

    Args:
        embeddings: (m, D) of scans that were not learnt from.
        groups: (m,), the number of each one's group of near-duplicates.
        gallery: (n, D) of all scans.
        gallery_groups: (n,), in the same numbers.

    Returns:
        0.8 … 0.9995: below, other scans would be taken for near-duplicates; above, half precision rounds.

    Raises:
        InvalidValueError: fewer than 8 scans.
    """
    if len(embeddings) < FEWEST:
        raise InvalidValueError(f"{len(embeddings)} scans; a border needs at least {FEWEST}. Give more of them.")
    cosines = unit_rows(embeddings) @ unit_rows(gallery).T
    cosines[groups[:, None] == gallery_groups[None, :]] = -1.0
    return float(np.clip(np.quantile(cosines.max(axis=1), LEVEL), 0.8, 0.9995))


def fit_ood(train_embeddings: NDArray[np.floating], validation_embeddings: NDArray[np.floating]) -> dict[str, Any]:
    """Fit the out-of-distribution score of a bundle; as `fit_ood_model`, as written to `bundle.json`.

    Args:
        train_embeddings: (n, D) of the scans that were learnt from, as they are, not augmented; n ≥ 8.
        validation_embeddings: (m, D) of others like them; m ≥ 8. By the network that is exported, on both sides.

    Returns:
        The key "ood" of `bundle.json`, plain values for JSON.

    Raises:
        InvalidValueError, MissingExtraError: as `fit_ood_model`.
    """
    fitted = fit_ood_model(train_embeddings, validation_embeddings)
    return {
        "mean": _packed(fitted.mean),
        "components": _packed(fitted.components),
        "variances": fitted.variances.tolist(),
        "residual_variance": fitted.residual_variance,
        "threshold": fitted.threshold,
        "level": fitted.level,
        "counts": {"training": len(train_embeddings), "validation": len(validation_embeddings)},
    }


def fit_ood_model(train_embeddings: NDArray[np.floating], validation_embeddings: NDArray[np.floating]) -> OODModel:
    """Fit one Gaussian to the training scans' embeddings, and a threshold to the validation scans'.

    The covariance is shrunk (Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4), because there are hardly more
    scans than directions. The threshold comes from scans that the network was not trained on, since embeddings of
    training scans lie closer together. Its rank has the finite-sample correction, so at most 1 % of new scans of that
    kind are refused on average. With fewer than 99 scans it is the farthest one, and more may be refused.

    Args:
        train_embeddings: as for `fit_ood`.
        validation_embeddings: as for `fit_ood`.

    Raises:
        InvalidValueError: too few scans, not finite, or of different dimensions; nothing but zeros.
        MissingExtraError: scikit-learn is not installed.
    """
    with from_extra("evaluate"):
        from sklearn.covariance import ledoit_wolf

    train, validation = (_checked(each) for each in (train_embeddings, validation_embeddings))
    if train.shape[1] != validation.shape[1]:
        raise InvalidValueError(
            f"training embeddings have {train.shape[1]} numbers, validation embeddings {validation.shape[1]}; both "
            "must come from one network. Read both with the one that is exported."
        )
    units = unit_rows(train)
    centre = units.mean(0).astype(np.float32)
    covariance, _ = ledoit_wolf(units - centre, assume_centered=True)
    variances, vectors = np.linalg.eigh(covariance)
    variances, vectors = np.maximum(variances[::-1], LEAST_VARIANCE), vectors[:, ::-1]
    count = min(DIRECTIONS, len(variances))
    fitted = OODModel(
        mean=centre,
        components=np.ascontiguousarray(vectors[:, :count].T, np.float32),
        variances=variances[:count],
        residual_variance=float(variances[count:].mean()) if count < len(variances) else float(variances[-1]),
        threshold=1.0,
        level=LEVEL,
    )
    far = np.sort(distances(fitted, validation))
    border = float(far[min(len(far), math.ceil((len(far) + 1) * LEVEL)) - 1])
    return replace(fitted, threshold=max(border, LEAST_VARIANCE))


def _checked(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """Those with a direction, float64; blank scans teach nothing."""
    values = np.asarray(embeddings, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InvalidValueError(f"embeddings are {values.shape} or not finite; they must be (n, D) finite numbers.")
    values = np.asarray(values[np.linalg.norm(values, axis=1) > 0])
    if len(values) < FEWEST:
        raise InvalidValueError(
            f"{len(values)} scans have an embedding with a direction; at least {FEWEST} are needed on either side. "
            "Leave the novelty out (None), or keep more scans for validation."
        )
    return values


def _packed(array: NDArray[np.float32]) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")
