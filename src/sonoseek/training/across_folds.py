"""The runs of all folds together: their figures, and the predictions on scans that were not trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from sonoseek.core import InvalidValueError
from sonoseek.training.provenance import write_json
from sonoseek.training.run_folder import METRICS_FILE, PREDICTIONS_FILE, stored_recipe


def summarise(run_dir: Path, *, folds: int) -> dict[str, Any]:
    """Gather the test figures of finished folds into `summary.json`.

    Returns:
        dataset → figure → mean, deviation over folds (n − 1), values.
    """
    per_fold = [json.loads((run_dir / f"fold-{f}" / METRICS_FILE).read_text())["figures"]["test"] for f in range(folds)]
    summary: dict[str, Any] = {}
    for dataset in per_fold[0]:
        for name in per_fold[0][dataset]:
            values = [float(figures[dataset][name]) for figures in per_fold if name in figures[dataset]]
            summary.setdefault(dataset, {})[name] = {
                "mean": float(np.mean(values)),
                "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
                "values": values,
            }
    write_json(run_dir / "summary.json", summary)
    return summary


def out_of_fold(run_dir: Path, *, folds: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Logits (n, C) and labels (n,) of every scan, each from the fold that did not learn from it.

    Raises:
        InvalidValueError: fewer finished folds there than `folds`.
    """
    files = sorted(run_dir.glob(f"fold-*/{PREDICTIONS_FILE}"))
    if len(files) < folds:
        raise InvalidValueError(
            f"{len(files)} finished folds in {run_dir}, {folds} are wanted; run the folds there to the end first, "
            "or leave it out."
        )
    logits, labels = [], []
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            logits.append(arrays["logits"])
            labels.append(arrays["labels"])
    return np.concatenate(logits), np.concatenate(labels)


def summary_of(cross_validation: Path | None) -> dict[str, Any]:
    """`summary.json` of a run of all folds, with their recipe beside it; empty for None."""
    if cross_validation is None:
        return {}
    summary: dict[str, Any] = json.loads((cross_validation / "summary.json").read_text())
    summary["recipe"] = stored_recipe(cross_validation / "fold-0")
    return summary
