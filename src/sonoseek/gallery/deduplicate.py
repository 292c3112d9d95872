"""Independent matches: one per patient, with near-duplicates counted behind the better one. Shared by every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError
from sonoseek.gallery.exact import MARGIN

MORE = 4
"""Times as many hits are fetched where those fetched are not enough."""
Name = tuple[str, str, str]
"""Kind ("case", "patient" or "group"), dataset and name."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What is needed of a hit to tell whether it is independent of a better one.

    Attributes:
        key: the engine's own for the scan.
        similarity: cosine with the query.
        dataset, case_id: of the scan.
        patient_id, group: of its case, or None.
    """

    key: int | str
    similarity: float
    dataset: str
    case_id: str
    patient_id: str | None
    group: str | None


H = TypeVar("H", bound=Hit)


@dataclass(frozen=True, slots=True)
class Independent(Generic[H]):
    """A hit that depends on no better one, and how many depend on it; see `Match` for the two counts."""

    hit: H
    near_duplicates: int = 0
    same_patient: int = 0


def check_duplicate_threshold(duplicate_threshold: float | None) -> None:
    """Refuse what is no cosine from which on two scans are near-duplicates.

    Raises:
        InvalidValueError: not within 0 … 1.
    """
    if duplicate_threshold is not None and not 0.0 < duplicate_threshold <= 1.0:
        raise InvalidValueError(
            f"duplicate_threshold is {duplicate_threshold}; it is the cosine from which on two scans count as "
            "near-duplicates, above 0 and at most 1. Pass None to list all of them."
        )


def lowest_cosine(duplicate_threshold: float | None) -> float:
    """The cosine from which on vectors are near-duplicates, less the rounding of a float32 product; None: infinity."""
    return np.inf if duplicate_threshold is None else duplicate_threshold - MARGIN


def first_fetch(k: int) -> int:
    """How many hits are fetched at first for `k` independent ones."""
    return 2 * k + 8 if k else 0


def deduplicate(
    fetch: Callable[[int], Sequence[H]],
    *,
    k: int,
    per_patient: bool,
    duplicate_threshold: float | None,
    vectors: Callable[[Sequence[H]], NDArray[np.float32]],
) -> list[Independent[H]]:
    """The `k` best independent hits, each with how many depend on it.

    A hit depends on a better one when, with `per_patient`, the two share their case, their patient or their group, or
    when their cosine reaches `duplicate_threshold`. It is counted behind the match that the better one is, or is
    counted behind. By cosine a hit is compared with hits that are themselves no near-duplicates of a better one, so
    that no chain of small differences joins two unlike scans.

    Counted are the hits better than the next independent one after the `k`; without a next one, all hits. Never short:
    more hits are fetched until that one is found or there are no more.

    Args:
        fetch: the n best hits, best first; fewer only when there are no more. Asked for `first_fetch(k)` first.
        k: how many are wanted, 1 or more.
        per_patient: of one case, patient or group only the best.
        duplicate_threshold: cosine from which on two scans are near-duplicates; None: none are.
        vectors: unit vectors float32 (n, D) of hits.
    """
    wanted = first_fetch(k)
    while True:
        hits = fetch(wanted)
        unit = None if duplicate_threshold is None or not hits else vectors(hits)
        matches, complete = _independent(
            hits, unit, k=k, per_patient=per_patient, lowest=lowest_cosine(duplicate_threshold)
        )
        if complete or len(hits) < wanted:
            return matches
        wanted *= MORE


def _independent(
    hits: Sequence[H], unit: NDArray[np.float32] | None, *, k: int, per_patient: bool, lowest: float
) -> tuple[list[Independent[H]], bool]:
    """The `k` best independent hits; and whether one more was seen, so that all that depends on them is counted."""
    places: list[int] = []  # of the matches among the hits
    counts: list[list[int]] = []  # of each match: near-duplicates, others of its patient
    match_of: dict[Name, int] = {}
    distinct: list[int] = []  # places of hits that are near-duplicates of no better one
    match_of_distinct: list[int] = []
    complete = False
    for place, hit in enumerate(hits):
        names = _names(hit) if per_patient else []
        match = min((match_of[name] for name in names if name in match_of), default=None)
        if match is None and unit is not None and distinct:
            cosines = unit[distinct] @ unit[place]
            best = int(cosines.argmax())
            match = match_of_distinct[best] if cosines[best] >= lowest else None
        near = False
        if match is not None:
            better = places[match]
            near = _in_one_group(hit, hits[better]) or (unit is not None and bool(unit[better] @ unit[place] >= lowest))
            counts[match][0 if near else 1] += 1
        elif len(places) == k:
            complete = True
            break
        else:
            match = len(places)
            places.append(place)
            counts.append([0, 0])
        if not near:
            distinct.append(place)
            match_of_distinct.append(match)
        for name in names:
            match_of.setdefault(name, match)
    matches = [Independent(hits[place], *count) for place, count in zip(places, counts, strict=True)]
    return matches, complete


def _names(hit: Hit) -> list[Name]:
    """What a dependent hit shares one of."""
    named = (("case", hit.case_id), ("patient", hit.patient_id), ("group", hit.group))
    return [(kind, hit.dataset, name) for kind, name in named if name is not None]


def _in_one_group(one: Hit, other: Hit) -> bool:
    """Whether a group alone ties two scans: where no patient is named, groups mark near-identical scans."""
    if one.group is None or (one.dataset, one.group) != (other.dataset, other.group):
        return False
    return one.patient_id is None and other.patient_id is None
