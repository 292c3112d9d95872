"""Exact search: a matrix product, and the percentile of a distance among the reference nearest-neighbour distances."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MARGIN = 1e-5
"""Above the rounding of a float32 product of unit vectors (about 1e-6 at 1,000 numbers): rows this close to the last
winner are computed again in float64 before the winners are chosen."""
GATHER = 8
"""Rows are copied out of the matrix before the product when a filter leaves fewer than one in this many."""
FEWEST = 20
"""Scans. Below this a percentile of distances says nothing."""
_BLOCK = 4_096
"""Rows that are computed again at once."""
AT_ONCE = 8_000_000
"""Products that are computed at once: 32 MB."""


class Nearest(NamedTuple):
    """The largest cosine of a query with any scan, and with any that is no near-duplicate of it; −inf without one."""

    any: float = -np.inf
    distinct: float = -np.inf


@dataclass(eq=False)
class Selection:
    """Rows that pass a filter.

    Attributes:
        rows: int32 (n,), ascending.
        total: rows that there are.
        unit: float32 (n, D), their unit vectors, where they are so few that they are cached; else None.
    """

    rows: NDArray[np.int32]
    total: int
    unit: NDArray[np.float32] | None = None
    _per_list: NDArray[np.int64] | None = field(default=None, init=False, repr=False)

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """A bit per row, lowest first."""
        passing = np.zeros(self.total, bool)
        passing[self.rows] = True
        return np.packbits(passing, bitorder="little")

    def per_list(self, list_of: NDArray[np.int32], lists: int) -> NDArray[np.int64]:
        """How many of the rows each list of an inverted file holds: int64 (lists,)."""
        if self._per_list is None:
            self._per_list = np.bincount(list_of[self.rows], minlength=lists).astype(np.int64)
        return self._per_list


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1, float32 (N, D); norms are taken in float64, so that no float32 can overflow them."""
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.sqrt(np.einsum("...d,...d->...", wide, wide)[..., None]), np.float32)


def products(
    unit: NDArray[np.float32], queries: NDArray[np.float32], *, without: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Cosine of each query with every row, float32 (Q, N); −inf for rows that must not answer."""
    scores: NDArray[np.float32] = (
        (unit @ queries[0])[np.newaxis] if len(queries) == 1 else queries @ unit.T  # a vector product is the faster
    )
    if without.size:
        scores[:, without] = -np.inf
    return scores


def gathered(
    unit: NDArray[np.float32], query: NDArray[np.float32], *, rows: NDArray[np.int32], without: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Cosine of one query with some rows alone, float32 (n,); −inf for those that must not answer.

    Args:
        unit: float32 (n, D), vectors of these rows.
        query: float32 (D,).
        rows: int32 (n,), ascending.
        without: rows that must not answer.
    """
    scores: NDArray[np.float32] = unit @ query
    at = np.searchsorted(rows, without)
    inside = at < rows.size
    inside[inside] = rows[at[inside]] == without[inside]
    scores[at[inside]] = -np.inf
    return scores


def contenders(scores: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Places of `scores` that may be among the k best once they are computed exactly; none of −inf."""
    if k < scores.size:
        last = np.partition(scores, scores.size - k)[scores.size - k]
        near = np.flatnonzero(scores >= last - MARGIN)
    else:
        near = np.arange(scores.size)
    return near[scores[near] > -np.inf]


def exact_cosines(unit: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of a query with each row, float64 (n,), −1 … 1.

    Sums of a matrix product depend on how BLAS cuts the matrix; these do not: equal vectors are equally similar,
    however they were found.
    """
    wide = query.astype(np.float64)
    scores = [
        (unit[start : start + _BLOCK].astype(np.float64) * wide).sum(axis=1)
        for start in range(0, max(1, len(unit)), _BLOCK)
    ]
    cosines: NDArray[np.float64] = np.clip(np.concatenate(scores), -1.0, 1.0)
    return cosines


def best_cosine(unit: NDArray[np.float32], query: NDArray[np.float32], scores: NDArray[np.float32]) -> float:
    """The largest cosine of a query with any row, exactly, from the products of `products`; −inf without one."""
    near = contenders(scores, 1) if scores.size else np.empty(0, np.intp)
    return float(exact_cosines(unit[near], query).max(initial=-np.inf))


def nearest_cosines(
    unit: NDArray[np.float32], query: NDArray[np.float32], scores: NDArray[np.float32], *, lowest: float
) -> Nearest:
    """The largest cosines of a query with any row, exactly, from the products of `products`.

    Args:
        unit: float32 (N, D), of length 1.
        query: float32 (D,), of length 1.
        scores: float32 (N,), their products; −inf for rows that must not answer.
        lowest: cosine from which on a row is a near-duplicate of the query.
    """
    best = best_cosine(unit, query, scores)
    if best < lowest:
        return Nearest(best, best)
    return Nearest(best, best_cosine(unit, query, np.where(scores < lowest, scores, np.float32(-np.inf))))


def nearest_distance(best: float) -> float | None:
    """Distance, 1 − cosine, 0 … 2, of the best cosine; None for −inf."""
    return None if best == -np.inf else min(2.0, max(0.0, 1.0 - best))


def percentile(nearest: float | None, distances: NDArray[np.float32]) -> float | None:
    """Share in percent of `distances` (ascending) that is smaller than `nearest`; None without either."""
    if nearest is None or distances.size == 0:
        return None
    return 100.0 * float(np.searchsorted(distances, np.float32(nearest), side="left")) / distances.size
