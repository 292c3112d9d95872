"""The similar cases that are counted: independent ones, whatever a filter hides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import LabelCounts, Match
from sonoseek.gallery import Exclusion, Gallery
from sonoseek.reports.warnings import owner

NOTHING = LabelCounts(labels={})


@dataclass(frozen=True, kw_only=True)
class SimilarCases:
    """Reference labels of the most similar independent cases.

    Attributes:
        labels: of all of them.
        hidden: of those that the filter hides; None without a filter.
    """

    labels: LabelCounts
    hidden: LabelCounts | None


def count_similar(
    gallery: Gallery | None,
    embedding: NDArray[np.float32],
    matches: Sequence[Match],
    *,
    k: int,
    where: str | None,
    exclude: Exclusion,
    independent: bool,
    duplicate_threshold: float,
) -> SimilarCases:
    """Count the labels of the `k` most similar independent cases: one per patient or group, copies counted once.

    Args:
        gallery: that was searched, or None.
        embedding: float32 (D,), what was searched with.
        matches: that were found under the reader's own options.
        k: how many cases at most.
        where: the reader's filter; it hides cases from the list, not from the count.
        exclude: what must not answer.
        independent: whether `matches` are one per patient, without near-duplicates.
        duplicate_threshold: cosine from which on two scans are near-duplicates.
    """
    if gallery is None or not k or not embedding.any():
        return SimilarCases(labels=NOTHING, hidden=None if where is None else NOTHING)

    def cases(where: str | None) -> Sequence[Match]:
        return gallery.search(
            embedding,
            k=k,
            where=where,
            exclude=exclude or None,
            novelty=False,
            pictures=False,
            per_patient=True,
            duplicate_threshold=duplicate_threshold,
        ).matches

    passing = matches if independent else None  # a list of copies is full before it shows all that the filter lets pass
    if where is None:
        return SimilarCases(labels=_labels(cases(None) if passing is None else passing), hidden=None)
    nearest = cases(None)
    shown = {owner(match) for match in (cases(where) if passing is None else passing)}
    return SimilarCases(labels=_labels(nearest), hidden=_labels([m for m in nearest if owner(m) not in shown]))


def _labels(matches: Sequence[Match]) -> LabelCounts:
    labels = [match.label for match in matches]
    return LabelCounts(labels={name: labels.count(name) for name in labels})
