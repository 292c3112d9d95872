"""Robustness: what each corruption costs a system, on the same test folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES
from sonoseek.evaluate import metrics
from sonoseek.evaluate.arrays import MALIGNANT, group_numbers, learnt_classes
from sonoseek.evaluate.bootstrap import group_weights, paired_difference
from sonoseek.evaluate.corruptions import CORRUPTIONS, UNCHANGED
from sonoseek.evaluate.ranking import relevant_among
from sonoseek.evaluate.rows import CaseRow, ScanRow, SystemResults

Floats = NDArray[np.float64]


def robustness_figures(results: SystemResults, cases: Mapping[str, CaseRow]) -> dict[str, Any]:
    """Corruption → figure → value, and its difference to the unchanged scans with interval and p.

    accuracy, auroc_malignant, and precision@5 where there was a gallery.
    """
    learnt = learnt_classes(results.rounds)
    groups = group_numbers(cases)
    labels = {scan: case.label for scan, case in cases.items()}
    rows_of: dict[str, dict[tuple[int, str], ScanRow]] = {}
    for row in (*results.changed, *results.predictions):
        if learnt[PATHOLOGIES.index(row.label)]:
            rows_of.setdefault(row.condition or UNCHANGED, {})[row.seed, row.scan] = row
    keys = sorted({(row.seed, row.scan) for row in results.changed} & rows_of.get(UNCHANGED, {}).keys())
    weights = group_weights(len(groups))[:, [groups[cases[scan].group] for _, scan in keys]]
    ones = np.ones((1, len(keys)))
    truth = np.array([PATHOLOGIES.index(cases[scan].label) for _, scan in keys])
    base: tuple[dict[str, Floats], dict[str, Floats]] | None = None
    by_corruption: dict[str, Any] = {}
    for name in (UNCHANGED, *(c.name for c in CORRUPTIONS)):
        rows = [rows_of[name][key] for key in keys] if name in rows_of else []
        if not rows:
            continue
        relevant_of_5 = [r.relevant_of_5 if r.condition else relevant_among(r.search, r.label, labels) for r in rows]
        value, drawn = (_figures(rows, relevant_of_5, truth, each) for each in (ones, weights))
        base = base or (value, drawn)
        by_corruption[name] = {}
        for figure in value:
            change = paired_difference(
                drawn[figure], base[1][figure], value=float(value[figure][0] - base[0][figure][0])
            )
            by_corruption[name][figure] = {"value": round(float(value[figure][0]), 6)}
            if name != UNCHANGED:
                by_corruption[name][figure] |= {
                    f"change_{key}" if key != "value" else "change": round(item, 6)
                    for key, item in vars(change).items()
                }
    return by_corruption


def _figures(
    rows: list[ScanRow], relevant_of_5: list[int], truth: NDArray[np.int64], weights: Floats
) -> dict[str, Floats]:
    p = np.array([row.probabilities for row in rows])
    figures = {
        "accuracy": metrics.accuracy(p, truth, weights),
        "auroc_malignant": metrics.auroc(p[:, MALIGNANT], truth == MALIGNANT, weights),
    }
    if relevant_of_5[0] >= 0:
        figures["precision@5"] = metrics.weighted_share(np.array([count / 5 for count in relevant_of_5]), weights)
    return figures
