"""Systems against each other on the same scans: paired intervals and tests."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np

from sonoseek.evaluate.bootstrap import mcnemar, paired_difference
from sonoseek.evaluate.score import Scored

COMPARED = ("accuracy", "auroc_malignant", "precision@5", "map_full")
"""Figures of which differences are tested by drawing groups; accuracy by McNemar's test on the first seed as well."""


def comparisons(scored: Mapping[str, Scored]) -> list[dict[str, Any]]:
    """Every pair of systems of one protocol, the better ranking one (AUROC) first.

    Only systems scored on the same seeds are compared: their resamples must be of the same predictions' folds.

    Returns:
        One dict per pair: one, other, seeds; figure → difference (one − other), low, high, p; mcnemar_p.
    """
    rows = []
    ordered = sorted(scored, key=lambda name: (-_auroc(scored[name]), name))
    for one, other in combinations(ordered, 2):
        a, b = scored[one], scored[other]
        if a.seeds != b.seeds:
            a, b = a.first_seed(), b.first_seed()
        row: dict[str, Any] = {"one": one, "other": other, "seeds": list(a.seeds), "figures": {}}
        for name in COMPARED:
            if name in a.resampled and name in b.resampled and np.isfinite(a.pooled[name] - b.pooled[name]):
                difference = paired_difference(
                    a.resampled[name], b.resampled[name], value=a.pooled[name] - b.pooled[name]
                )
                row["figures"][name] = {key: round(value, 6) for key, value in vars(difference).items()}
        row["mcnemar_p"] = round(mcnemar(a.right, b.right), 6)
        rows.append(row)
    return rows


def _auroc(scored: Scored) -> float:
    value = scored.pooled.get("auroc_malignant", 0.0)
    return value if np.isfinite(value) else 0.0
