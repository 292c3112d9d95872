"""What is kept of an evaluation: one value per row of its files."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """One scan of a protocol.

    Attributes:
        scan: its name, unique within the protocol.
        dataset, patient, label, birads, device: as in `CaseRecord`; "" where unknown.
        group: names the scans that must never part: a near-copy, a patient, or the scan alone.
        tested: whether it is ever asked about.
    """

    scan: str
    dataset: str
    group: str
    patient: str
    label: str
    birads: str
    device: str
    tested: bool


@dataclass(frozen=True, kw_only=True)
class PredictionRow:
    """What was said of one scan: probabilities in the order of `PATHOLOGIES`."""

    seed: int
    fold: int
    scan: str
    group: str
    label: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class RetrievalRow:
    """What a search brought for one scan.

    Attributes:
        seed, fold, scan: of the query.
        gallery: scans that may answer. relevant: those of the query's proven class.
        average_precision, r_precision: over the whole ranked gallery.
        ndcg, ndcg_chance: at 10, by BI-RADS; NaN where the query has none.
        matches: the first ten, best first.
    """

    seed: int
    fold: int
    scan: str
    gallery: int
    relevant: int
    average_precision: float
    r_precision: float
    ndcg: float
    ndcg_chance: float
    matches: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RoundRow:
    """One round: sizes of its sides, what spoke, and thresholds it brought along (NaN: fitted on its validation)."""

    seed: int
    fold: int
    train: int
    validation: int
    test: int
    gallery: tuple[int, ...]
    leaking_share: float
    dropped: int
    identity: str
    abstain_below: float = math.nan
    conformal_quantile: float = math.nan
    sensitivity_90: float = math.nan
    specificity_90: float = math.nan


@dataclass(frozen=True, kw_only=True)
class RobustnessRow:
    """What was said of one changed scan, and how many of its first five hits are relevant (−1: no gallery)."""

    condition: str
    seed: int
    fold: int
    scan: str
    probabilities: tuple[float, ...]
    relevant_of_5: int


@dataclass(frozen=True, kw_only=True)
class SystemResults:
    """All rows of one system under one protocol; `retrieval`, `robustness` and `own_archive` may be empty.

    `own_archive` holds the searches among the other groups of each query's own, tested archive.
    """

    predictions: tuple[PredictionRow, ...]
    validation: tuple[PredictionRow, ...]
    retrieval: tuple[RetrievalRow, ...]
    rounds: tuple[RoundRow, ...]
    robustness: tuple[RobustnessRow, ...] = ()
    own_archive: tuple[RetrievalRow, ...] = ()
