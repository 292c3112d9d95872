"""Every test scan as a query to the scans that were not tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sonoseek.core.arrays import unit_rows
from sonoseek.evaluate.metrics.retrieval import (
    DEPTH,
    average_precision_full,
    birads_gain,
    ndcg_at,
    r_precision,
)
from sonoseek.evaluate.rows import Search
from sonoseek.evaluate.systems.base import LabelledScan


def rank(
    queries: Sequence[LabelledScan],
    embeddings: NDArray[np.float32],
    *,
    gallery: Sequence[LabelledScan],
    gallery_embeddings: NDArray[np.float32],
    groups: Mapping[str, int] | None,
) -> list[Search]:
    """Rank the gallery for each query by cosine; equal ones in the order of the gallery.

    Args:
        queries: n scans.
        embeddings: float32 (n, D), theirs.
        gallery: N scans.
        gallery_embeddings: float32 (N, D), theirs.
        groups: scan name → number of the cases that must never part: they are not matches of each other. None: all may,
            as under a protocol that flatters.
    """
    cosines = unit_rows(embeddings) @ unit_rows(gallery_embeddings).T
    names = np.array([s.name for s in gallery])
    labels = np.array([s.record.pathology for s in gallery])
    birads = np.array([s.record.birads or "" for s in gallery])
    member = None if groups is None else np.array([groups[s.name] for s in gallery])
    rows = []
    for query, similar in zip(queries, cosines, strict=True):
        order = np.argsort(-similar, kind="stable")
        if member is not None and groups is not None:
            order = order[member[order] != groups[query.name]]
        relevant = labels[order] == query.record.pathology
        gains = birads_gain(query.record.birads, birads[order])
        ndcg, chance = (np.nan, np.nan) if gains is None or not gains.any() else ndcg_at(gains, k=DEPTH)
        rows.append(
            Search(
                gallery=len(order),
                relevant=int(relevant.sum()),
                average_precision=average_precision_full(relevant),
                r_precision=r_precision(relevant),
                ndcg=float(ndcg),
                ndcg_chance=float(chance),
                matches=tuple(str(name) for name in names[order[:DEPTH]]),
            )
        )
    return rows


def relevant_among(search: Search | None, label: str, labels: Mapping[str, str], *, k: int = 5) -> int:
    """How many of the first k matches have this class; −1 where nothing was searched."""
    return -1 if search is None else sum(labels[name] == label for name in search.matches[:k])
