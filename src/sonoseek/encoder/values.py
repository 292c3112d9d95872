"""The values of a bundle: no file is read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import BundleError, CalibrationSource
from sonoseek.core.prediction import BUNDLE_CALIBRATION
from sonoseek.encoder.seen import TrainingScans
from sonoseek.preprocessing import PreprocessingRecipe

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "bundle.json"
ENSEMBLE_FILE = "ensemble.json"
CARD_FILE = "MODEL_CARD.md"

DUPLICATE_THRESHOLD = 0.93
"""Threshold of bundles that give none; measured on the first hybrid, whose cosines spread widely."""


def frozen_points(points: Mapping[str, Mapping[str, float]]) -> Mapping[str, Mapping[str, float]]:
    """Operating points that nobody changes."""
    return MappingProxyType({name: MappingProxyType(point) for name, point in points.items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """The metadata of a bundle; the network itself stays in its file until an encoder opens it.

    Attributes:
        path: the folder.
        name, version: as its maker named it.
        bundle_id: `<name>-<12 hex digits>` over model and manifest: galleries remember it.
        classes: in the order of the logits.
        recipe: the preprocessing that scans must go through.
        temperature: the logits are divided by it before the softmax.
        head_weight: float32 (C, D). head_bias: float32 (C,). logits = embedding @ head_weight.T + head_bias.
        abstain_below: largest probability under which no label is given, 0 … 1.
        conformal_quantile: of the score 1 − p; classes with 1 − p at most this are in the prediction set.
        conformal_level: coverage of the prediction sets, 0 … 1.
        operating_points: name → threshold and what it was measured to give.
        training: data names, counts, hashes, protocol and figures.
        embedding_dim: D. grid: (h, w) of the evidence map.
        fine_grid: (f·h, g·w) of `Encoding.spatial_weights`; `grid` where the network gives none.
        ood: the out-of-distribution model; None: no scan is recognised as out-of-distribution.
        duplicate_threshold: cosine from which on two scans are near-duplicates: re-saved, scaled or slightly turned.
        training_scans: shows whether a scan was in the training data; None: that is not known.
        members: of an ensemble, in the order in which their embeddings are joined; a single bundle has none.
        reads_marks: whether its network takes a reader's mark of the lesion.
        class_bias: of each class, added to logits / temperature before the softmax; () stands for zeros.
        calibration: whose cases temperature, biases and thresholds were fitted on.
    """

    path: Path
    name: str
    version: str
    bundle_id: str
    classes: tuple[str, ...]
    recipe: PreprocessingRecipe
    temperature: float
    head_weight: NDArray[np.float32]
    head_bias: NDArray[np.float32]
    abstain_below: float
    conformal_quantile: float
    conformal_level: float = 0.9
    operating_points: Mapping[str, Mapping[str, float]]
    training: Mapping[str, Any]
    embedding_dim: int
    grid: tuple[int, int]
    fine_grid: tuple[int, int]
    ood: OODModel | None = None
    duplicate_threshold: float = DUPLICATE_THRESHOLD
    training_scans: TrainingScans | None = None
    members: tuple[Member, ...] = ()
    reads_marks: bool = False
    class_bias: tuple[float, ...] = ()
    calibration: CalibrationSource = BUNDLE_CALIBRATION

    @property
    def fitted_on(self) -> str:
        """The scans that temperature, thresholds and conformal quantile were fitted on, in words; "" where not known.

        As in "the validation part of busi and busbra: 332 scans, 102 malignant".
        """
        if self.calibration.cases is not None:
            return f"{self.calibration.cases} cases of this archive ({self.calibration.fitted})"
        training = self.training
        split = {each.get("name"): each.get("folded", True) for each in training.get("recipe", {}).get("datasets", ())}
        parts = [each for each in training.get("datasets", ()) if split.get(each.get("name"), True)]
        names = [str(each["name"]) for each in parts]
        if not names:
            return ""
        listed = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
        if training.get("calibrated_on") != "validation part":
            return f"{training.get('calibrated_on', 'scans')} of {listed}"
        counts = [each.get("validation_counts", {}) for each in parts]
        scans, malignant = (sum(sum(c.values()) for c in counts), sum(c.get("malignant", 0) for c in counts))
        return f"the validation part of {listed}: {scans} scans, {malignant} malignant"

    @property
    def model_path(self) -> Path:
        """Of the ONNX file.

        Raises:
            BundleError: an ensemble has none of its own.
        """
        if self.members:
            raise BundleError(
                f"{self.bundle_id} is an ensemble of {len(self.members)} bundles and has no network file of its own. "
                "Open it with open_encoder, or use each of bundle.members."
            )
        return self.path / MODEL_FILE


@dataclass(frozen=True, kw_only=True, eq=False)
class OODModel:
    """One Gaussian over the training scans' embeddings, each scaled to length 1, by its principal components.

    Attributes:
        mean: float32 (D,).
        components: float32 (r, D), orthonormal rows, the largest variance first.
        variances: float64 (r,) along the components, positive.
        residual_variance: along every other direction, positive.
        threshold: Mahalanobis distance above which a scan is out-of-distribution, positive.
        level: share of validation scans within `threshold`, 0 … 1.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    variances: NDArray[np.float64]
    residual_variance: float
    threshold: float
    level: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One bundle within an ensemble.

    Attributes:
        bundle: the member's own.
        scale: its embedding and evidence are multiplied by it before they are joined to the others': 1 / its typical
            norm, so that each member weighs as much in the cosine.
    """

    bundle: Bundle
    scale: float
