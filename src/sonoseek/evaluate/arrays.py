"""Rows of results as arrays, one block per seed, ready to be scored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES
from sonoseek.evaluate.calibrate import conformal_quantile, fit_abstention, threshold_for
from sonoseek.evaluate.rows import CaseRow, RoundRow, ScanRow, SystemResults
from sonoseek.evaluate.searches import search_chance, search_figures

Floats = NDArray[np.float64]
MALIGNANT = PATHOLOGIES.index("malignant")


class ScanThresholds(NamedTuple):
    """Thresholds of each row's round, each (n,); NaN where they could not be fitted."""

    abstain_below: Floats
    conformal_quantile: Floats
    sensitivity_90: Floats
    specificity_90: Floats

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> ScanThresholds:
        """Those of some rows."""
        return ScanThresholds(*(values[rows] for values in self))


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """The predictions and searches of one seed, in the order of its rows.

    Attributes:
        scans: names. probabilities: (n, 3). truth, fold, group: (n,); `group` indexes the protocol's tested groups.
        thresholds: thresholds of each row's round.
        searches, chance: figure → (n,), of each scan as a query; empty without a gallery.
    """

    scans: tuple[str, ...]
    probabilities: Floats
    truth: NDArray[np.int64]
    fold: NDArray[np.int64]
    group: NDArray[np.int64]
    thresholds: ScanThresholds
    searches: Mapping[str, Floats]
    chance: Mapping[str, Floats]

    def take(self, rows: NDArray[np.bool_]) -> Block:
        """Some rows."""
        return Block(
            scans=tuple(name for name, keep in zip(self.scans, rows, strict=True) if keep),
            probabilities=self.probabilities[rows],
            truth=self.truth[rows],
            fold=self.fold[rows],
            group=self.group[rows],
            thresholds=self.thresholds.take(rows),
            searches={name: values[rows] for name, values in self.searches.items()},
            chance={name: values[rows] for name, values in self.chance.items()},
        )


def learnt_classes(rounds: Sequence[RoundRow]) -> NDArray[np.bool_]:
    """(3,): which classes the training sides hold; all where no training side is available."""
    counts = np.array([row.gallery for row in rounds]).sum(axis=0)
    return counts > 0 if counts.any() else np.ones(len(PATHOLOGIES), dtype=np.bool_)


def group_numbers(cases: Mapping[str, CaseRow]) -> dict[str, int]:
    """Group → number, over the groups of tested scans: the same for every system of a protocol."""
    return {name: i for i, name in enumerate(sorted({case.group for case in cases.values() if case.tested}))}


def blocks(results: SystemResults, cases: Mapping[str, CaseRow]) -> dict[int, Block]:
    """Seed → its predictions and searches."""
    numbers = group_numbers(cases)
    thresholds = {(r.seed, r.fold): _thresholds_of(r, results.validation) for r in results.rounds}
    by_seed: dict[int, Block] = {}
    for seed in sorted({row.seed for row in results.predictions}):
        rows = [row for row in results.predictions if row.seed == seed]
        queries = rows if results.searched else []
        each = np.array([thresholds.get((seed, row.fold), (math.nan,) * 4) for row in rows])
        by_seed[seed] = Block(
            scans=tuple(row.scan for row in rows),
            probabilities=np.array([row.probabilities for row in rows]),
            truth=truth_of(rows),
            fold=np.array([row.fold for row in rows], dtype=np.int64),
            group=np.array([numbers[row.group] for row in rows], dtype=np.int64),
            thresholds=ScanThresholds(*each.T),
            searches=search_figures(queries, cases),
            chance=search_chance(queries, cases, results.rounds) if queries else {},
        )
    return by_seed


def truth_of(rows: Sequence[ScanRow]) -> NDArray[np.int64]:
    """(n,): index into `PATHOLOGIES`."""
    return np.array([PATHOLOGIES.index(row.label) for row in rows], dtype=np.int64)


def _thresholds_of(round_: RoundRow, validation: Sequence[ScanRow]) -> tuple[float, float, float, float]:
    """The round's own thresholds, or those fitted on its validation side."""
    if not math.isnan(round_.abstain_below):
        return (round_.abstain_below, round_.conformal_quantile, round_.sensitivity_90, round_.specificity_90)
    rows = [row for row in validation if (row.seed, row.fold) == (round_.seed, round_.fold)]
    if not rows:
        return (math.nan,) * 4
    p, truth = np.array([row.probabilities for row in rows]), truth_of(rows)
    score, positive = p[:, MALIGNANT], truth == MALIGNANT
    return (
        fit_abstention(p, truth),
        conformal_quantile(p, truth),
        threshold_for(score, positive, sensitivity=0.9),
        threshold_for(score, positive, specificity=0.9),
    )
