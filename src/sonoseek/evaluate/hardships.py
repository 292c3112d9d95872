"""What each change of the scan costs a system, on the same test folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES
from sonoseek.evaluate import metrics
from sonoseek.evaluate.arrays import MALIGNANT, group_numbers, learnt_classes
from sonoseek.evaluate.bootstrap import group_weights, paired_difference
from sonoseek.evaluate.corruptions import CONDITIONS, UNCHANGED
from sonoseek.evaluate.rows import CaseRow, RobustnessRow, SystemResults

Floats = NDArray[np.float64]


def robustness_figures(results: SystemResults, cases: Mapping[str, CaseRow]) -> dict[str, Any]:
    """Condition → figure → value, and its difference to the unchanged scans with interval and p.

    accuracy, auroc_malignant, and precision@5 where there was a gallery.
    """
    learnt = learnt_classes(results.rounds)
    groups = group_numbers(cases)
    by_condition: dict[str, dict[tuple[int, str], RobustnessRow]] = {}
    for row in results.robustness:
        if learnt[PATHOLOGIES.index(cases[row.scan].label)]:
            by_condition.setdefault(row.condition, {})[row.seed, row.scan] = row
    keys = sorted(by_condition.get(UNCHANGED, {}))
    weights = group_weights(len(groups))[:, [groups[cases[scan].group] for _, scan in keys]]
    ones = np.ones((1, len(keys)))
    truth = np.array([PATHOLOGIES.index(cases[scan].label) for _, scan in keys])
    base: tuple[dict[str, Floats], dict[str, Floats]] | None = None
    found: dict[str, Any] = {}
    for name in (UNCHANGED, *(c.name for c in CONDITIONS)):
        rows = [by_condition[name][key] for key in keys] if name in by_condition else []
        if not rows:
            continue
        value, drawn = _figures(rows, truth, ones), _figures(rows, truth, weights)
        base = base or (value, drawn)
        found[name] = {}
        for figure in value:
            change = paired_difference(
                drawn[figure], base[1][figure], value=float(value[figure][0] - base[0][figure][0])
            )
            found[name][figure] = {"value": round(float(value[figure][0]), 6)}
            if name != UNCHANGED:
                found[name][figure] |= {
                    f"change_{key}" if key != "value" else "change": round(item, 6)
                    for key, item in vars(change).items()
                }
    return found


def _figures(rows: list[RobustnessRow], truth: NDArray[np.int64], weights: Floats) -> dict[str, Floats]:
    p = np.array([row.probabilities for row in rows])
    figures = {
        "accuracy": metrics.accuracy(p, truth, weights),
        "auroc_malignant": metrics.auroc(p[:, MALIGNANT], truth == MALIGNANT, weights),
    }
    if rows[0].relevant_of_5 >= 0:
        figures["precision@5"] = metrics.weighted_share(np.array([row.relevant_of_5 / 5 for row in rows]), weights)
    return figures
