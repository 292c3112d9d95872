"""Features that learn nothing, and a logistic regression on them: the usual strong baseline on small data."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, from_extra
from sonoseek.evaluate.calibrate import fit_temperature, log_loss, softmax
from sonoseek.evaluate.systems.base import LabelledScan, Predictions, Progress, Task, labels_of
from sonoseek.evaluate.systems.features import Describe, FeatureStore

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the penalty that are tried; the validation side chooses by log-loss."""


class LinearSystem:
    """Standardised features → logistic regression; neighbours by the cosine of the features."""

    def __init__(
        self,
        describe: Describe,
        *,
        name: str,
        title: str,
        description: str,
        identity: str,
        standardise: bool,
        cache: Path | None = None,
    ) -> None:
        """Make one.

        Args:
            describe: scan → float32 (D,).
            name: as in `System`.
            title: as in `System`.
            description: as in `System`.
            identity: as in `System`.
            standardise: take the cosine between standardised features, for numbers of unlike units; otherwise between
                the features as they are.
            cache: folder in which features of training scans are cached; None: memory alone.
        """
        self.name, self.title, self.description, self.identity = name, title, description, identity
        self._store = FeatureStore(describe, cache=None if cache is None else cache / f"{name}-{identity}.npz")
        self._standardise = standardise

    def prepare(self, tasks: Sequence[Task], *, on_progress: Progress | None = None) -> None:
        """Describe every training scan once, and keep it."""
        scans = {s.scan.scan_id: s for task in tasks for s in (*task.train, *task.validation)}
        if scans:
            self._store.of(list(scans.values()), keep=True, on_progress=on_progress)

    def fit(self, task: Task) -> _FittedLinear:
        """Fit on the training side; penalty and temperature come from the validation side.

        Raises:
            MissingExtraError: scikit-learn is not installed.
        """
        with from_extra("evaluate"):
            from sklearn.linear_model import LogisticRegression
            from sklearn.preprocessing import StandardScaler
        train, validation = task.train, task.validation
        scaler = StandardScaler()
        features = scaler.fit_transform(self._store.of(train).astype(np.float64))
        labels, truth = labels_of(train), labels_of(validation)
        validation_features = scaler.transform(self._store.of(validation).astype(np.float64)) if validation else None
        best: tuple[float, Any] | None = None
        for strength in STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=500)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # weak penalties do not converge fully; the validation side judges
                model.fit(features, labels)
            cost = 0.0 if validation_features is None else log_loss(_logits(model, validation_features), truth)
            if best is None or cost < best[0]:
                best = (cost, model)
        model = best[1] if best else None
        fitted = _FittedLinear(self._store, scaler, model, identity=self.identity, standardise=self._standardise)
        if validation_features is not None:
            fitted.temperature = fit_temperature(_logits(model, validation_features).astype(np.float32), truth)
        return fitted


class _FittedLinear:
    """A fitted regression."""

    thresholds = None

    def __init__(self, store: FeatureStore, scaler: Any, model: Any, *, identity: str, standardise: bool) -> None:
        self._store, self._scaler, self._model = store, scaler, model
        self._standardise = standardise
        self.identity = identity
        self.temperature = 1.0

    def predict(self, samples: Sequence[LabelledScan], *, on_progress: Progress | None = None) -> Predictions:
        """Predict by the regression."""
        features = self._store.of(samples, on_progress=on_progress)
        scaled = self._scaler.transform(features.astype(np.float64))
        embeddings = scaled.astype(np.float32) if self._standardise else features
        return Predictions(
            probabilities=softmax(_logits(self._model, scaled) / self.temperature), embeddings=embeddings
        )


def _logits(model: Any, features: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3); −99 for a class that was not there to learn."""
    scores = model.decision_function(features)
    if scores.ndim == 1:
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    logits = np.full((len(features), len(PATHOLOGIES)), -99.0)
    logits[:, model.classes_] = scores
    return logits
