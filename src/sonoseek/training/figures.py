"""Figures of a trained network on one side of a split, by torchmetrics and plain counting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchmetrics.functional.classification import binary_auroc, multiclass_accuracy, multiclass_calibration_error

from sonoseek.core import PATHOLOGIES
from sonoseek.encoder.onnx_encoder import INPUT, MARK, NO_MARK, OUTPUTS
from sonoseek.encoder.runtime import onnxruntime
from sonoseek.evaluate.calibrate import softmax
from sonoseek.training.batches import PlainBatches
from sonoseek.training.splits import Part

MALIGNANT = PATHOLOGIES.index("malignant")


AT_ONCE = 8
"""Canvases per run of an exported model."""


class ExportedModel:
    """An exported model in ONNX Runtime, as a reader of canvases: a third of the time of the network itself."""

    def __init__(self, model: bytes) -> None:
        """Open `model`, as `export.onnx_bytes` gives it; it uses as many threads as torch does in this process."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._marked = MARK in [item.name for item in self._session.get_inputs()]

    def __call__(self, canvases: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (n, C) and embeddings (n, D) of canvases (n, 1, S, S), without a mark."""
        fed = {INPUT: canvases.numpy()}
        if self._marked:
            fed[MARK] = np.full((len(canvases), 4), NO_MARK, np.float32)
        logits, embeddings = self._session.run(list(OUTPUTS[:2]), fed)
        return logits, embeddings


Reader = nn.Module | ExportedModel
"""What reads canvases: a network where it lives, or the model exported from it on the processor."""


def read_parts(
    reader: Reader, parts: Sequence[Part], *, batch: int = 32
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Logits (n, C), embeddings (n, D) and labels (n,) of every row, unaugmented, in order."""
    logits, embeddings, labels = [], [], []
    for canvases, truth in PlainBatches(parts, batch=AT_ONCE if isinstance(reader, ExportedModel) else batch):
        said, embedded = reader(canvases) if isinstance(reader, ExportedModel) else _read(reader, canvases)
        logits.append(said)
        embeddings.append(embedded)
        labels.append(truth.numpy())
    if not logits:
        return np.zeros((0, len(PATHOLOGIES)), np.float32), np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    return np.concatenate(logits), np.concatenate(embeddings), np.concatenate(labels)


def _read(network: nn.Module, canvases: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    network.eval()
    device = next(network.parameters()).device
    # a GPU's matrix units round to ten bits unless told not to: too coarse for figures
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        out = network(canvases.to(device).contiguous(memory_format=torch.channels_last))
    return out.logits.cpu().numpy(), out.embedding.cpu().numpy()


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
