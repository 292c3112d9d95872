"""Figures of predictions and of a search, by torchmetrics and plain counting."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy, multiclass_calibration_error

from sonoseek.core import PATHOLOGIES
from sonoseek.core.arrays import unit_rows
from sonoseek.evaluate.calibrate import softmax

MALIGNANT = PATHOLOGIES.index("malignant")


def prediction_figures(
    logits: NDArray[np.float32], labels: NDArray[np.int64], *, temperature: float, abstain_below: float, quantile: float
) -> dict[str, float]:
    """Figures of calibrated predictions.

    Returns:
        scans, accuracy, balanced_accuracy, auroc_malignant (against the rest), ece (15 bins), coverage and
        accuracy_when_labelled (of the scans that get a label), set_coverage and set_size (of the prediction set).
        What needs a class that is absent is left out.
    """
    p = softmax(logits / temperature)
    scores, truth = torch.from_numpy(p), torch.from_numpy(labels)
    likeliest, top = p.argmax(axis=1), p.max(axis=1)
    labelled = top >= abstain_below
    included = (1 - p <= quantile) | (np.arange(p.shape[1]) == likeliest[:, None])
    positive = truth == MALIGNANT
    both = 0 < int(positive.sum()) < len(labels)
    figures = {
        "scans": len(labels),
        "accuracy": float(multiclass_accuracy(scores, truth, num_classes=p.shape[1], average="micro")),
        "balanced_accuracy": float(np.mean([np.mean(likeliest[labels == c] == c) for c in np.unique(labels)])),
        "auroc_malignant": float(binary_auroc(scores[:, MALIGNANT], positive.long())) if both else float("nan"),
        "ece": float(multiclass_calibration_error(scores, truth, num_classes=p.shape[1], n_bins=15)),
        "coverage": float(labelled.mean()),
        "accuracy_when_labelled": float(np.mean(likeliest[labelled] == labels[labelled]))
        if labelled.any()
        else float("nan"),
        "set_coverage": float(included[np.arange(len(labels)), labels].mean()),
        "set_size": float(included.sum(axis=1).mean()),
    }
    return {name: value for name, value in figures.items() if not np.isnan(value)}


def precision_at(
    queries: NDArray[np.float32],
    query_labels: NDArray[np.int64],
    *,
    gallery: NDArray[np.float32],
    gallery_labels: NDArray[np.int64],
    k: int = 5,
) -> float:
    """Mean share of the k nearest gallery scans (cosine) that carry the query's class, 0 … 1."""
    similarity = unit_rows(queries) @ unit_rows(gallery).T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, len(gallery))]
    return float((gallery_labels[nearest] == query_labels[:, None]).mean())
