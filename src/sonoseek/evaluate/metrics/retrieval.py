"""How many of the matches of a search are relevant, that is of the query's reference class.

Hits are ranked by the search and only then judged: a cosine below 0 is a rank like any other.

mAP@k has two definitions in use. For a query with hits at ranks r₁ < r₂ … ≤ k, both sum the precisions at those ranks.
"found" divides by the number of hits in the first k (0 without one), as the published BreastMNIST figures do.
"possible" divides by min(k, number of relevant cases in the gallery), so a missed hit lowers it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError

Floats = NDArray[np.float64]
DEPTH = 10
"""Ranks that are stored of every query."""
GRADES = {"1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0, "4A": 4.0, "4B": 4.0, "4C": 4.0, "5": 5.0, "6": 5.0}
"""BI-RADS as a grade of suspicion; 0 is "incomplete", no grade; 6 is biopsy-proven, as suspicious as 5; 4 undivided."""
FULL_GAIN = 3.0
SIMULATED = 4_000
VOTERS = 5
Definition = Literal["found", "possible"]
DEFINITIONS: tuple[Definition, ...] = ("found", "possible")


def precision_at(relevant: NDArray[np.bool_], *, k: int) -> Floats:
    """Share of relevant hits among the first k of each query: (n, ≥ k) → (n,).

    Raises:
        InvalidValueError: fewer than k hits were ranked: a short ranking would give too high figures.
    """
    _check(relevant, k)
    shares: Floats = relevant[:, :k].mean(axis=1)
    return shares


def average_precision_at(
    relevant: NDArray[np.bool_], total: NDArray[np.int64], *, k: int, divide_by: Definition
) -> Floats:
    """AP@k of each query by either definition (see above): (n, ≥ k) → (n,), 0 … 1.

    Args:
        relevant: hits, best first.
        total: (n,) relevant cases in the gallery; a query with none scores 0.
        k: at least 1.
        divide_by: "found" or "possible".

    Raises:
        InvalidValueError: fewer than k hits were ranked.
    """
    _check(relevant, k)
    first = relevant[:, :k].astype(np.float64)
    precision = np.cumsum(first, axis=1) / np.arange(1, k + 1)
    divisor = first.sum(axis=1) if divide_by == "found" else np.minimum(k, total)
    scores: Floats = (precision * first).sum(axis=1) / np.maximum(1, divisor)
    return scores


def average_precision_full(relevant: NDArray[np.bool_]) -> float:
    """AP of one query over the whole ranked gallery, (N,) → 0 … 1; 0 without a relevant case."""
    places = np.flatnonzero(relevant)
    return float(np.mean(np.arange(1, len(places) + 1) / (places + 1))) if len(places) else 0.0


def r_precision(relevant: NDArray[np.bool_]) -> float:
    """Share of relevant cases among the first R of one query's ranked gallery, R = how many there are."""
    count = int(relevant.sum())
    return float(relevant[:count].mean()) if count else 0.0


def birads_gain(query: str | None, others: NDArray[np.str_]) -> Floats | None:
    """How near each case's BI-RADS category is to the query's: 3 the same, 2 and 1 one and two away, else 0.

    Args:
        query: category, or None.
        others: (N,) categories, "" where unknown: gain 0.

    Returns:
        (N,), or None where the query has no grade.
    """
    if (own := GRADES.get(query or "")) is None:
        return None
    grade = np.array([GRADES.get(str(name), np.nan) for name in others])
    return np.nan_to_num(np.maximum(0.0, FULL_GAIN - np.abs(grade - own)), nan=0.0)


def ndcg_at(gains: Floats, *, k: int = DEPTH) -> tuple[float, float]:
    """nDCG@k of one ranked gallery (N,), linear gain, log₂ discount; and what a random order gives on average."""
    depth = min(k, len(gains))
    discount = 1 / np.log2(np.arange(2, depth + 2))
    ideal = float(np.sort(gains)[::-1][:depth] @ discount)
    if not ideal:
        return 0.0, 0.0
    return float(gains[:depth] @ discount) / ideal, float(gains.mean() * discount.sum()) / ideal


def majority_vote(hits: NDArray[np.int64], *, classes: int) -> NDArray[np.int64]:
    """The commonest class of each query's hits (n, k) → (n,); a tie goes to the class whose first hit ranks higher."""
    counts = (hits[:, :, None] == np.arange(classes)).sum(axis=1).astype(np.float64)
    first = np.full(counts.shape, hits.shape[1], dtype=np.float64)
    for rank in range(hits.shape[1] - 1, -1, -1):
        first[np.arange(len(hits)), hits[:, rank]] = rank
    voted: NDArray[np.int64] = (counts - first / (hits.shape[1] + 1)).argmax(axis=1)
    return voted


def chance_levels(
    composition: Mapping[int, int], label: int, *, ks: Sequence[int] = (1, 5, 10), curve: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """What a random ranking of the same gallery gives a query: by formula where there is one, else from 4,000 draws.

    Args:
        composition: class → cases of it that may be found.
        label: the query's class.
        ks: depths; those deeper than the gallery are left out.
        curve: depths of precision@k.

    Returns:
        Figure → mean; the names are those of `score`. Empty for an empty gallery. The same gallery has the same level
        in every protocol.
    """
    total = sum(composition.values())
    relevant = composition.get(label, 0)
    if not total:
        return {}
    harmonic = float(np.sum(1 / np.arange(1, total + 1)))
    share = relevant / total
    rest = (relevant - 1) / max(1, total - 1)
    levels = {
        "map_full": (harmonic + rest * (total - harmonic)) / total if relevant else 0.0,
        "r_precision": share,
        **{f"precision@{k}": share for k in curve if k <= total},
    }
    drawn = _random_rankings(composition, depth=min(max(ks), total), seed=(total, relevant, label))
    hits = drawn == label
    for k in (k for k in ks if k <= total):
        levels[f"hit_rate@{k}"] = float(hits[:, :k].any(axis=1).mean())
        for kind in DEFINITIONS:
            scores = average_precision_at(hits, np.full(SIMULATED, relevant), k=k, divide_by=kind)
            levels[f"map@{k}_{kind}"] = float(scores.mean())
    if total >= VOTERS:
        voted = majority_vote(drawn[:, :VOTERS], classes=max(composition) + 1)
        levels[f"majority_vote@{VOTERS}"] = float((voted == label).mean())
    return levels


def _random_rankings(composition: Mapping[int, int], *, depth: int, seed: tuple[int, ...]) -> NDArray[np.int64]:
    """Classes of the first `depth` of 4,000 random rankings, drawn without replacement: (4000, depth)."""
    rng = np.random.default_rng(seed)
    names = np.array(sorted(composition), dtype=np.int64)
    left = np.tile(np.array([composition[int(name)] for name in names], dtype=np.float64), (SIMULATED, 1))
    drawn = np.empty((SIMULATED, depth), dtype=np.int64)
    for rank in range(depth):
        edges = np.cumsum(left, axis=1)
        chosen = (rng.random((SIMULATED, 1)) * edges[:, -1:] >= edges).sum(axis=1)
        drawn[:, rank] = names[chosen]
        left[np.arange(SIMULATED), chosen] -= 1
    return drawn


def _check(relevant: NDArray[np.bool_], k: int) -> None:
    if relevant.ndim != 2 or k < 1 or relevant.shape[1] < k:
        raise InvalidValueError(f"hits have shape {relevant.shape} for k={k}; rank at least k hits per query, k ≥ 1.")
