"""What is scored: anything that learns from a training side and then predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES, Box, CaseRecord, Scan
from sonoseek.datasets import Dataset
from sonoseek.evaluate.protocols.base import Round

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledScan:
    """One scan with the reference standard of its case.

    Attributes:
        name: the case_id; "#2", "#3" … is added for the further scans of a case that holds several.
        record: of the case.
        scan: its pixels.
        lesion: a reader's mark on it, under protocols that give one, or None.
    """

    name: str
    record: CaseRecord
    scan: Scan
    lesion: Box | None = None


def labels_of(samples: Sequence[LabelledScan]) -> NDArray[np.int64]:
    """(n,): index into `PATHOLOGIES`."""
    return np.array([PATHOLOGIES.index(sample.record.pathology) for sample in samples], dtype=np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Predictions and embeddings of N scans.

    Attributes:
        probabilities: float64 (N, 3), in the order of `PATHOLOGIES`, rows sum to 1; 0 for a class that the training
            side lacks.
        embeddings: float32 (N, D); similarity is their cosine.
    """

    probabilities: NDArray[np.float64]
    embeddings: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """What turns probabilities into decisions, where a system brings its own instead of having them fitted.

    Attributes:
        abstain_below: largest probability under which no label is given.
        conformal_quantile: of the score 1 − p.
        sensitivity_90, specificity_90: thresholds on the probability of malignancy, or NaN where none is known.
    """

    abstain_below: float
    conformal_quantile: float
    sensitivity_90: float
    specificity_90: float


class Fitted(Protocol):
    """A system that has learnt."""

    identity: str
    """Names the exact artefact that predicts: a bundle_id, or a hash of what was fitted."""

    @property
    def thresholds(self) -> Thresholds | None:
        """Its own, or None: they are fitted on the round's validation side."""

    def predict(self, samples: Sequence[LabelledScan], *, on_progress: Progress | None = None) -> Predictions:
        """Predict scans."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What a system gets to learn from in one round.

    Attributes:
        round_: who learns and who validates; its test side is not to be touched.
        datasets: name → dataset.
        train, validation: the samples of those sides, read at first use.
        classes: pathologies of the training side.
        folder: the round's own, for whatever the system keeps to resume.
    """

    round_: Round
    datasets: Mapping[str, Dataset]
    classes: tuple[str, ...]
    folder: Path
    read: Callable[[Mapping[str, tuple[str, ...]]], list[LabelledScan]] = field(repr=False)

    @property
    def train(self) -> list[LabelledScan]:
        """The training side's scans."""
        return self.read(self.round_.train)

    @property
    def validation(self) -> list[LabelledScan]:
        """The validation side's scans."""
        return self.read(self.round_.validation)


class System(Protocol):
    """A way to get from a training side to predictions and neighbours.

    Attributes:
        name: of its folder among the results.
        title: a few words for tables.
        description: what it is, in a sentence or two.
        identity: hash of everything that decides what it learns, beside the data: a finished round is taken up again
            only by the same system.
    """

    name: str
    title: str
    description: str
    identity: str

    def prepare(self, tasks: Sequence[Task], *, on_progress: Progress | None = None) -> None:
        """Do the long part of several rounds at once, with all cores; may do nothing."""

    def fit(self, task: Task) -> Fitted:
        """Learn from one round's training side, or open what `prepare` has learnt."""
