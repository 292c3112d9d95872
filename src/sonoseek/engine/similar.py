"""The similar cases that are counted: independent ones, near the whole scan, however the list is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import LabelCounts, Match, Scan, SearchOptions
from sonoseek.core.patients import PatientShare
from sonoseek.engine.encoded_scan import EncodedScan
from sonoseek.engine.near_duplicates import find_copy
from sonoseek.engine.query_vector import QueryVector, build_query
from sonoseek.gallery import Exclusion, Gallery
from sonoseek.preprocessing.blanking import without_annotations
from sonoseek.reports.warnings import owner

COUNTED = 10
"""Similar cases that are counted at most, so that a longer list changes no count."""
CROWDED = 2
"""Where more scans than so many per similar case stand behind one of them, its patient may hold most of the archive."""
NOTHING = LabelCounts(labels={})


@dataclass(frozen=True, kw_only=True)
class SimilarCases:
    """Reference labels of the most similar independent cases.

    Attributes:
        labels: of all of them.
        hidden: of those that the filter hides; None without a filter.
        copy: the case that shows the scan itself, which is not counted; None where none is found.
        dominant: the patient who holds more than half of a dataset and stands among them as one case, or None.
    """

    labels: LabelCounts
    hidden: LabelCounts | None
    copy: Match | None = None
    dominant: PatientShare | None = None


def count_similar(
    gallery: Gallery | None,
    query: QueryVector,
    matches: Sequence[Match],
    *,
    options: SearchOptions,
    own: Exclusion,
    exclude: Exclusion,
    duplicate_threshold: float,
) -> SimilarCases:
    """Count the labels of the `k` cases most similar to the whole scan: one per patient or group, copies counted once.

    A filter, a region, liked and disliked scans change the list of matches and not this count. The scan itself, its
    patient and group, and a copy of it under another name are never counted.

    Args:
        gallery: that was searched, or None.
        query: that it was searched with.
        matches: that were found under `options`, with their pictures.
        options: of the search. At most `COUNTED` of its k are counted; its filter hides cases from the list, not from
            the count.
        own: the scan itself, its patient and its group.
        exclude: what was kept from the list.
        duplicate_threshold: cosine from which on two scans count as near-duplicates where the gallery keeps no picture.
    """
    views = query.views
    moved = query.moved
    whole = build_query(views) if moved else query
    wanted = min(options.k, COUNTED)
    if gallery is None or not wanted or not whole.embedding.any():
        return SimilarCases(labels=NOTHING, hidden=None if options.where is None else NOTHING)

    def search(embedding: NDArray[np.float32], excluded: Exclusion, where: str | None = None) -> tuple[Match, ...]:
        return gallery.search(
            embedding,
            k=wanted,
            where=where,
            exclude=excluded or None,
            novelty=False,
            per_patient=True,
            duplicate_threshold=duplicate_threshold,
        ).matches

    as_listed = options.where is None and options.independent and not moved and exclude == own
    nearest = tuple(matches)[:wanted] if as_listed else search(whole.embedding, own)
    # a picture decides; in another hospital different lesions reach the cosine as well
    unseen = [match for match in nearest if match.picture is None]
    copies = [match for match in unseen if match.similarity >= duplicate_threshold] if len(views) == 1 else []
    if len(views) == 1 and (rank := find_copy(_as_kept(views[0]), nearest)) is not None:
        copies.insert(0, nearest[rank - 1])
    same = {owner(match) for match in copies}
    hidden = None
    if options.where is not None:
        # a list of copies is full before it shows all that the filter lets pass
        passing = matches if options.independent else search(query.embedding, exclude, options.where)
        shown = {owner(match) for match in passing}
        listed = search(query.embedding, exclude) if moved else nearest
        hidden = _labels([match for match in listed if owner(match) not in shown | same])
    labels = _labels([match for match in nearest if owner(match) not in same])
    return SimilarCases(
        labels=labels, hidden=hidden, copy=copies[0] if copies else None, dominant=_dominant(gallery, nearest)
    )


def _as_kept(view: EncodedScan) -> Scan:
    """The scan as a gallery keeps the pictures that it is compared with: without annotations and surroundings."""
    preprocessed = view.preprocessed
    if preprocessed is None or preprocessed.annotations is None or view.crop is not None:
        return view.scan
    pixels = without_annotations(view.scan.pixels, area=preprocessed.area, annotations=preprocessed.annotations)
    return Scan(pixels=pixels)


def _dominant(gallery: Gallery, nearest: Sequence[Match]) -> PatientShare | None:
    """The patient of a similar case who holds most of its dataset; the gallery is queried only where that seems so."""
    behind = max((match.same_patient for match in nearest), default=0)
    if behind <= CROWDED * len(nearest):
        return None
    named = {(match.dataset, match.patient_id) for match in nearest}
    return next(
        (each for each in gallery.largest_patients() if each.dominant and (each.dataset, each.patient_id) in named),
        None,
    )


def _labels(matches: Sequence[Match]) -> LabelCounts:
    labels = [match.label for match in matches]
    return LabelCounts(labels={name: labels.count(name) for name in labels})
