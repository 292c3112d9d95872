"""Figures of each search, and what chance gives for the same query and gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import PATHOLOGIES
from sonoseek.evaluate.metrics.retrieval import (
    DEFINITIONS,
    VOTERS,
    average_precision_at,
    chance_levels,
    majority_vote,
    precision_at,
)
from sonoseek.evaluate.rows import CaseRow, RoundRow, ScanRow

Floats = NDArray[np.float64]
KS = (1, 5, 10)
CURVE = tuple(range(1, 11))
"""Depths of precision@k; the other figures are given at `KS`."""


def search_figures(rows: Sequence[ScanRow], cases: Mapping[str, CaseRow]) -> dict[str, Floats]:
    """Figure → one value per query, (n,); NaN where a figure is not defined for a query; {} without searches.

    precision@k, hit_rate@k, map@k_found, map@k_possible (see `metrics.retrieval`), majority_vote@5, map_full and
    r_precision over the whole gallery, ndcg@10_birads. Those deeper than any ranking are left out.
    """
    searches = [row.search for row in rows if row.search is not None]
    if not searches:
        return {}
    own = np.array([PATHOLOGIES.index(cases[row.scan].label) for row in rows])
    depth = max(len(search.matches) for search in searches)
    labels = np.full((len(rows), depth), -1, dtype=np.int64)
    for i, search in enumerate(searches):
        labels[i, : len(search.matches)] = [PATHOLOGIES.index(cases[name].label) for name in search.matches]
    hits, total = labels == own[:, None], np.array([search.relevant for search in searches])
    figures = {
        "map_full": np.array([search.average_precision for search in searches]),
        "r_precision": np.array([search.r_precision for search in searches]),
        "ndcg@10_birads": np.array([search.ndcg for search in searches]),
    }
    for k in (k for k in CURVE if k <= depth):
        figures[f"precision@{k}"] = precision_at(hits, k=k)
    for k in (k for k in KS if k <= depth):
        figures[f"hit_rate@{k}"] = hits[:, :k].any(axis=1).astype(np.float64)
        for kind in DEFINITIONS:
            figures[f"map@{k}_{kind}"] = average_precision_at(hits, total, k=k, divide_by=kind)
    if depth >= VOTERS:
        voted = majority_vote(labels[:, :VOTERS], classes=len(PATHOLOGIES))
        figures[f"majority_vote@{VOTERS}"] = (voted == own).astype(np.float64)
    return figures


def search_chance(
    rows: Sequence[ScanRow], cases: Mapping[str, CaseRow], rounds: Sequence[RoundRow]
) -> dict[str, Floats]:
    """The same figures for a random order of the same gallery, (n,) each."""
    gallery = {(r.seed, r.fold): r.gallery for r in rounds}
    levels_of_row = [_levels(gallery[row.seed, row.fold], PATHOLOGIES.index(cases[row.scan].label)) for row in rows]
    names = dict.fromkeys(name for levels in levels_of_row for name in levels)
    figures = {name: np.array([levels.get(name, np.nan) for levels in levels_of_row]) for name in names}
    figures["ndcg@10_birads"] = np.array([row.search.ndcg_chance for row in rows if row.search is not None])
    return figures


@lru_cache(maxsize=4_096)
def _levels(gallery: tuple[int, ...], label: int) -> dict[str, float]:
    """A query's own group is missing from the gallery that it sees: a few cases in hundreds, not worth a level each."""
    return chance_levels({c: n for c, n in enumerate(gallery) if n}, label, ks=KS, curve=CURVE)
