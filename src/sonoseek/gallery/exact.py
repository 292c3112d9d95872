"""Exact search: one matrix product, and how unusual a query is among the gallery's own distances."""

from __future__ import annotations

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
_COMPARED = 8_000_000
"""Products that are held at once while rows are compared with all others: 32 MB."""


def normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1, float32 (N, D); norms are taken in float64, so that no float32 can overflow them."""
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.sqrt((wide * wide).sum(axis=-1, keepdims=True)), np.float32)


def best_rows(
    unit: NDArray[np.float32],
    query: NDArray[np.float32],
    *,
    k: int,
    rows: NDArray[np.intp] | None,
    excluded: NDArray[np.intp],
    products: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The `k` rows most similar to a query, and their cosines, best first, equal ones by row.

    Args:
        unit: float32 (N, D), rows of length 1.
        query: float32 (D,), of length 1.
        k: at most this many.
        rows: the only rows that may answer, ascending; None for all.
        excluded: rows that must not answer.
        products: float32 (N,), `unit @ query` if it is known already, −inf in excluded rows.
    """
    total = unit.shape[0] if rows is None else rows.size
    if k == 0 or total == 0:
        return np.empty(0, np.intp), np.empty(0, np.float64)
    if rows is not None and products is None and rows.size * GATHER < unit.shape[0]:
        found = unit[rows] @ query
        at = np.searchsorted(rows, excluded)
        inside = at < rows.size
        inside[inside] = rows[at[inside]] == excluded[inside]
        found[at[inside]] = -np.inf
    else:
        products = masked_products(unit, query, excluded=excluded) if products is None else products
        found = products if rows is None else products[rows]
    if k < total:
        last = np.partition(found, total - k)[total - k]
        near = np.flatnonzero(found >= last - MARGIN)
    else:
        near = np.arange(total)
    near = near[found[near] > -np.inf]
    candidates = near if rows is None else rows[near]
    # Product sums depend on how BLAS cuts the matrix; these do not, so equal vectors are equally similar, everywhere.
    cosines = np.concatenate(
        [
            (unit[candidates[start : start + _BLOCK]].astype(np.float64) * query.astype(np.float64)).sum(axis=1)
            for start in range(0, max(1, candidates.size), _BLOCK)
        ]
    )
    order = np.lexsort((candidates, -cosines))[:k]
    return candidates[order], np.clip(cosines[order], -1.0, 1.0)


def masked_products(
    unit: NDArray[np.float32], query: NDArray[np.float32], *, excluded: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Cosine of the query with every row, float32 (N,); −inf for excluded rows."""
    products: NDArray[np.float32] = unit @ query
    products[excluded] = -np.inf
    return products


def nearest_distance(products: NDArray[np.float32]) -> float | None:
    """Distance, 1 − cosine, 0 … 2, of the nearest row that is not excluded; None without one."""
    if products.size == 0 or (best := float(products.max())) == -np.inf:
        return None
    return min(2.0, max(0.0, 1.0 - best))


def percentile(nearest: float | None, *, own: NDArray[np.float32]) -> float | None:
    """Share in percent of `own` (ascending) that is smaller than `nearest`; None without either."""
    if nearest is None or own.size == 0:
        return None
    return 100.0 * float(np.searchsorted(own, np.float32(nearest), side="left")) / own.size


def own_distances(unit: NDArray[np.float32], same: NDArray[np.int64], *, most: int = 1_000) -> NDArray[np.float32]:
    """Distances, ascending, of a sample of rows to their nearest stranger.

    Args:
        unit: float32 (N, D), rows of length 1.
        same: int64 (N, S): two rows that share a number ≥ 0 in any column (scan, case, patient, group)
            are no strangers.
        most: size of the sample; smaller in galleries so large that the comparison would take more than seconds.

    Returns:
        float32 (≤ most,); empty for fewer than `FEWEST` rows.
    """
    total = unit.shape[0]
    if total < FEWEST:
        return np.empty(0, np.float32)
    size = min(total, most, max(100, 100_000_000 // total))
    sample = np.sort(np.random.default_rng(0).choice(total, size, replace=False))
    nearest = np.empty(size, np.float32)
    orders = [np.argsort(column, kind="stable") for column in same.T]
    step = max(1, _COMPARED // total)
    for start in range(0, size, step):
        block = sample[start : start + step]
        products = unit[block] @ unit.T
        for column, order in zip(same.T, orders, strict=True):
            codes = column[block]
            firsts = np.searchsorted(column, codes, side="left", sorter=order)
            lasts = np.searchsorted(column, codes, side="right", sorter=order)
            for row in np.flatnonzero(codes >= 0):
                products[row, order[firsts[row] : lasts[row]]] = -np.inf
        nearest[start : start + step] = products.max(axis=1)
    distances = np.clip(1.0 - nearest[nearest > -np.inf], 0.0, 2.0)
    return np.sort(distances).astype(np.float32)
