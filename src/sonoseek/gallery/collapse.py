"""One match per patient, and near-copies folded into the better one: shared by every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import InvalidValueError

MORE = 4
"""Times as many hits are fetched, when those at hand do not suffice."""
Owner = tuple[str, str, str]
"""(kind, dataset, name) of whom a scan belongs to; see `owner`."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What is needed of a hit to tell whether it stands behind another.

    Attributes:
        key: the engine's own for the scan.
        similarity: cosine with the query.
        owner: of `owner`.
    """

    key: int | str
    similarity: float
    owner: Owner


def owner(dataset: str, *, patient_id: str | None, group: str | None, case_id: str) -> Owner:
    """Whom a scan belongs to: its patient; where none is named its group, else its case."""
    if patient_id is not None:
        return "patient", dataset, patient_id
    return ("group", dataset, group) if group is not None else ("case", dataset, case_id)


def check_fold(fold: float | None) -> None:
    """Refuse what is no cosine to fold at.

    Raises:
        InvalidValueError: not within 0 … 1.
    """
    if fold is not None and not 0.0 < fold <= 1.0:
        raise InvalidValueError(
            f"fold is {fold}; it is the cosine from which on a scan counts as a near-copy, above 0 and at most 1. "
            "Pass None to fold nothing."
        )


Kept = TypeVar("Kept", bound=Hit)


def collapse(
    fetch: Callable[[int], Sequence[Kept]],
    *,
    k: int,
    per_patient: bool,
    fold: float | None,
    vectors: Callable[[Sequence[Kept]], NDArray[np.float32]],
) -> list[tuple[Kept, int]]:
    """The `k` best hits that do not stand behind a better one, each with how many stand behind it.

    Never short: when the hits at hand do not give `k`, more are fetched until they do or there are no more. What stands
    behind is counted among the hits that were looked at, down to the last that is kept.

    Args:
        fetch: the n best hits, best first; fewer only when there are no more.
        k: how many are wanted.
        per_patient: of one owner only the best.
        fold: cosine from which on a hit is a near-copy of a better one; None: none is.
        vectors: unit vectors float32 (n, D) of hits.
    """
    wanted = k if not per_patient and fold is None else 2 * k + 8
    while True:
        hits = fetch(wanted)
        kept = _kept(hits, k=k, per_patient=per_patient, fold=fold, vectors=vectors)
        if len(kept) == k or len(hits) < wanted:
            return kept
        wanted *= MORE


def _kept(
    hits: Sequence[Kept],
    *,
    k: int,
    per_patient: bool,
    fold: float | None,
    vectors: Callable[[Sequence[Kept]], NDArray[np.float32]],
) -> list[tuple[Kept, int]]:
    unit = None if fold is None or not hits else vectors(hits)
    places: list[int] = []
    behind: list[int] = []
    owners: dict[Owner, int] = {}
    for place, hit in enumerate(hits):
        at = owners.get(hit.owner) if per_patient else None
        if at is None and fold is not None and unit is not None and places:
            alike = unit[places] @ unit[place]
            best = int(alike.argmax())
            at = best if alike[best] >= fold else None
        if at is not None:
            behind[at] += 1
            continue
        if len(places) == k:
            break
        owners[hit.owner] = len(places)
        places.append(place)
        behind.append(0)
    return [(hits[place], count) for place, count in zip(places, behind, strict=True)]
