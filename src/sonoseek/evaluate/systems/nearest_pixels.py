"""The humblest peer: the nearest scan by its pixels alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, Scan
from sonoseek.core.arrays import unit_rows
from sonoseek.evaluate.calibrate import fit_temperature, softmax
from sonoseek.evaluate.systems.base import LabelledScan, Predictions, Progress, Task, labels_of
from sonoseek.evaluate.systems.features import FeatureStore

SIDE = 48


def describe(scan: Scan) -> NDArray[np.float32]:
    """The raw scan, 48 × 48, minus its mean: float32 (2304,). A cosine of two is a correlation."""
    small = cv2.resize(scan.pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    centred = small - small.mean()
    return centred if centred.any() else np.full_like(small, 1e-6)


class NearestPixels:
    """One nearest neighbour by correlation of 48 × 48 pixels: it recognises repeated pictures and little else."""

    name = "nearest-pixels"
    title = "1-NN on 48×48 pixels"
    description = (
        "The class of the nearest training scan by correlation of 48×48 raw pixels; its probability is a softmax "
        "over the classes' nearest scans. Knows a copy when it sees one, and little else."
    )
    identity = "nearest-pixels-1"

    def __init__(self, *, cache: Path | None = None) -> None:
        """Make one; its features cost nothing, and `cache` is not used."""
        del cache
        self._store = FeatureStore(describe)

    def prepare(self, tasks: Sequence[Task], *, on_progress: Progress | None = None) -> None:
        """Nothing takes long."""

    def fit(self, task: Task) -> _FittedNearest:
        """Remember the training side; fit the temperature on the validation side."""
        train = task.train
        fitted = _FittedNearest(self._store, self._store.of(train), labels_of(train))
        validation = task.validation
        if validation:
            logits = fitted.logits(self._store.of(validation))
            fitted.temperature = fit_temperature(logits.astype(np.float32), labels_of(validation), low=0.005)
        return fitted


class _FittedNearest:
    """A remembered training side."""

    identity = NearestPixels.identity
    thresholds = None

    def __init__(self, store: FeatureStore, learnt: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        self._store, self._labels = store, labels
        self._learnt = unit_rows(learnt)
        self.temperature = 0.05

    def logits(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, 3): the largest correlation with a training scan of each class; very low for a class that has none."""
        similarity = unit_rows(features) @ self._learnt.T
        columns = [
            similarity[:, self._labels == c].max(axis=1) if (self._labels == c).any() else np.full(len(features), -99.0)
            for c in range(len(PATHOLOGIES))
        ]
        return np.stack(columns, axis=1).astype(np.float64)

    def predict(self, samples: Sequence[LabelledScan], *, on_progress: Progress | None = None) -> Predictions:
        """Look each scan up."""
        features = self._store.of(samples, on_progress=on_progress)
        return Predictions(probabilities=softmax(self.logits(features) / self.temperature), embeddings=features)
