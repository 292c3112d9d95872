"""The third step of a run: the network runs on every part once; calibration, borders and figures come from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from sonoseek.core import PATHOLOGIES
from sonoseek.encoder.onnx_encoder import INPUT, MARK, NO_MARK, OUTPUTS
from sonoseek.encoder.runtime import open_session
from sonoseek.evaluate.calibrate import Calibration, calibrate
from sonoseek.evaluate.ood import FEWEST, fit_duplicate_threshold, fit_ood
from sonoseek.training.batches import PlainBatches
from sonoseek.training.figures import precision_at, prediction_figures
from sonoseek.training.splits import Part, Split

Figures = dict[str, dict[str, dict[str, float]]]
"""Side → dataset → figure → value."""
BATCH = 8
"""Canvases per run of an exported model."""


class ExportedModel:
    """An exported model in ONNX Runtime: it takes a third of the time of the network itself."""

    def __init__(self, model: bytes) -> None:
        """Open `model`, as `export.onnx_bytes` gives it; it uses as many threads as torch does in this process."""
        self._session = open_session(model, threads=torch.get_num_threads())
        self._reads_marks = MARK in [item.name for item in self._session.get_inputs()]

    def __call__(self, canvases: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits (n, C) and embeddings (n, D) of canvases (n, 1, S, S), without a mark."""
        inputs = {INPUT: canvases.numpy()}
        if self._reads_marks:
            inputs[MARK] = np.full((len(canvases), 4), NO_MARK, np.float32)
        logits, embeddings = self._session.run(list(OUTPUTS[:2]), inputs)
        return logits, embeddings


Model = nn.Module | ExportedModel
"""A network, on its device, or the model exported from it, on the CPU."""


def read_parts(
    model: Model, parts: Sequence[Part], *, batch: int = 32
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Logits (n, C), embeddings (n, D) and labels (n,) of every row of `parts`, unaugmented, in order."""
    logits, embeddings, labels = [], [], []
    for canvases, truth in PlainBatches(parts, batch=BATCH if isinstance(model, ExportedModel) else batch):
        outputs = model(canvases) if isinstance(model, ExportedModel) else _run_network(model, canvases)
        logits.append(outputs[0])
        embeddings.append(outputs[1])
        labels.append(truth.numpy())
    if not logits:
        return np.zeros((0, len(PATHOLOGIES)), np.float32), np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    return np.concatenate(logits), np.concatenate(embeddings), np.concatenate(labels)


def _run_network(network: nn.Module, canvases: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    network.eval()
    device = next(network.parameters()).device
    # a GPU's matrix units round to ten bits by default: too coarse for figures
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        out = network(canvases.to(device).contiguous(memory_format=torch.channels_last))
    return out.logits.cpu().numpy(), out.embedding.cpu().numpy()


@dataclass(frozen=True, kw_only=True, eq=False)
class PartOutputs:
    """The network's outputs on one part: logits float32 (n, C), embeddings float32 (n, D), in the order of its rows."""

    part: Part
    logits: NDArray[np.float32]
    embeddings: NDArray[np.float32]

    @property
    def groups(self) -> NDArray[np.int64]:
        """(n,) of the rows."""
        return self.part.groups[self.part.rows]


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitOutputs:
    """The outputs on every part of a split, in its order."""

    train: tuple[PartOutputs, ...]
    validation: tuple[PartOutputs, ...]
    test: tuple[PartOutputs, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """What is fitted on the outputs of a trained network.

    Attributes:
        calibration: temperature and thresholds.
        figures: of the validation parts, and of the test parts.
        ood, duplicate_threshold: as in `encoder.manifest.Manifest`; None for too few scans.
    """

    calibration: Calibration
    figures: Figures
    ood: dict[str, Any] | None
    duplicate_threshold: float | None


def read_split(model: Model, split: Split) -> SplitOutputs:
    """Run the network on every part of a split, once each."""
    sides = {}
    for side in ("train", "validation", "test"):
        outputs = [(part, *read_parts(model, [part])[:2]) for part in getattr(split, side)]
        sides[side] = tuple(PartOutputs(part=part, logits=x, embeddings=e) for part, x, e in outputs)
    return SplitOutputs(**sides)


def fit_calibration(
    outputs: SplitOutputs, *, out_of_fold: tuple[NDArray[np.float32], NDArray[np.int64]] | None = None
) -> Fitted:
    """Calibrate, measure, and fit the out-of-distribution model and the duplicate threshold.

    Args:
        outputs: of `read_split`.
        out_of_fold: (logits, labels) to calibrate on; None: those of the validation parts in the cross-validation.
    """
    folded = [each for each in outputs.validation if each.part.choice.folded]
    logits, labels = out_of_fold or (_joined([each.logits for each in folded]), _labels(folded))
    calibration = calibrate(logits, labels)
    return Fitted(calibration=calibration, figures=_figures(outputs, calibration), **_fit_borders(outputs))


def write_predictions(path: Path, outputs: SplitOutputs) -> None:
    """The predictions on the test parts, where there are any: no pixels, so they may be kept."""
    tested = [each for each in outputs.test if len(each.part)]
    if not tested:
        return
    np.savez(
        path,
        case_ids=np.concatenate([each.part.source.case_ids[each.part.rows] for each in tested]),
        datasets=np.concatenate([np.full(len(each.part), each.part.source.name) for each in tested]),
        labels=_labels(tested),
        logits=_joined([each.logits for each in tested]),
        embeddings=_joined([each.embeddings for each in tested]),
    )


def _figures(outputs: SplitOutputs, calibration: Calibration) -> Figures:
    figures: Figures = {"validation": {}, "test": {}}
    for train, validation, test in zip(outputs.train, outputs.validation, outputs.test, strict=True):
        for side, queries, gallery in (("validation", validation, [train]), ("test", test, [train, validation])):
            if not len(queries.part):
                continue
            gallery = [each for each in gallery if len(each.part)]
            figures[side][queries.part.source.name] = {
                **prediction_figures(
                    queries.logits,
                    queries.part.labels,
                    temperature=calibration.temperature,
                    abstain_below=calibration.abstain_below,
                    quantile=calibration.conformal["quantile"],
                ),
                "precision_at_5": precision_at(
                    queries.embeddings,
                    queries.part.labels,
                    gallery=_joined([each.embeddings for each in gallery]),
                    gallery_labels=_labels(gallery),
                ),
            }
    return figures


def _fit_borders(outputs: SplitOutputs) -> dict[str, Any]:
    """The keys "ood" and "duplicate_threshold" of a bundle; None for too few scans."""
    train = _joined([each.embeddings for each in outputs.train if len(each.part)])
    validation = _joined([each.embeddings for each in outputs.validation if len(each.part)])
    if min(len(train), len(validation)) < FEWEST:
        return {"ood": None, "duplicate_threshold": None}
    groups = _numbered_groups(outputs.validation)
    return {
        "ood": fit_ood(train, validation),
        "duplicate_threshold": fit_duplicate_threshold(
            validation,
            groups,
            gallery=np.concatenate([train, validation]),
            gallery_groups=np.concatenate([_numbered_groups(outputs.train), groups]),
        ),
    }


def _numbered_groups(outputs: Sequence[PartOutputs]) -> NDArray[np.int64]:
    """Group of each row, no two datasets sharing a number."""
    return np.concatenate([each.groups * len(outputs) + number for number, each in enumerate(outputs)])


def _labels(outputs: Sequence[PartOutputs]) -> NDArray[np.int64]:
    return np.concatenate([each.part.labels for each in outputs])


def _joined(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.concatenate(arrays) if arrays else np.zeros((0, 0), np.float32)
