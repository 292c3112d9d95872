"""Figures of a trained network on one side of a split, by torchmetrics and plain counting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy, multiclass_calibration_error

from sonoseek.core import PATHOLOGIES
from sonoseek.evaluate.calibrate import softmax
from sonoseek.training.batches import PlainBatches
from sonoseek.training.splits import Part

MALIGNANT = PATHOLOGIES.index("malignant")


def read_parts(
    network: nn.Module, parts: Sequence[Part], *, batch: int = 32
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Logits (n, C), embeddings (n, D) and labels (n,) of every row, unaugmented, in order."""
    logits, embeddings, labels = [], [], []
    network.eval()
    device = next(network.parameters()).device
    # a GPU's matrix units round to ten bits unless told not to: too coarse for figures
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for canvases, truth in PlainBatches(parts, batch=batch):
            out = network(canvases.to(device).contiguous(memory_format=torch.channels_last))
            logits.append(out.logits.cpu().numpy())
            embeddings.append(out.embedding.cpu().numpy())
            labels.append(truth.numpy())
    if not logits:
        return np.zeros((0, len(PATHOLOGIES)), np.float32), np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    return np.concatenate(logits), np.concatenate(embeddings), np.concatenate(labels)


def verdict_figures(
    logits: NDArray[np.float32], labels: NDArray[np.int64], *, temperature: float, abstain_below: float, quantile: float
) -> dict[str, float]:
    """Of the calibrated verdict.

    Returns:
        scans, accuracy, balanced_accuracy, auroc_malignant (against the rest), ece (15 bins), coverage and
        accuracy_when_labelled (of the scans that get a label), set_coverage and set_size (of the prediction set).
        What needs a class that is absent is left out.
    """
    p = softmax(logits / temperature)
    scores, truth = torch.from_numpy(p), torch.from_numpy(labels)
    said, top = p.argmax(axis=1), p.max(axis=1)
    labelled = top >= abstain_below
    included = (1 - p <= quantile) | (np.arange(p.shape[1]) == said[:, None])
    positive = truth == MALIGNANT
    both = 0 < int(positive.sum()) < len(labels)
    figures = {
        "scans": len(labels),
        "accuracy": float(multiclass_accuracy(scores, truth, num_classes=p.shape[1], average="micro")),
        "balanced_accuracy": float(np.mean([np.mean(said[labels == c] == c) for c in np.unique(labels)])),
        "auroc_malignant": float(binary_auroc(scores[:, MALIGNANT], positive.long())) if both else float("nan"),
        "ece": float(multiclass_calibration_error(scores, truth, num_classes=p.shape[1], n_bins=15)),
        "coverage": float(labelled.mean()),
        "accuracy_when_labelled": float(np.mean(said[labelled] == labels[labelled]))
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
    similarity = _unit(queries) @ _unit(gallery).T
    nearest = np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, len(gallery))]
    return float((gallery_labels[nearest] == query_labels[:, None]).mean())


def _unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    result: NDArray[np.float32] = embeddings / np.maximum(length, 1e-12)
    return result
