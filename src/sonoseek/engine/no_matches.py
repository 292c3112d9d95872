"""Why a search found nothing, in one sentence.

A search may find no match because the filter is too narrow, because the archive lacks what the filter asks for, or
because all of it is of the same patient. `explain_no_matches` searches the gallery and names the cause.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import DESCRIPTORS
from sonoseek.gallery import Exclusion, Gallery
from sonoseek.gallery.filter.grammar import All, Any, Condition, Node, Not, parse_where

FIELDS = {
    "pathology": "a diagnosis",
    "birads": "a BI-RADS category",
    "device": "a device",
    "age_years": "an age",
    "dataset": "a dataset",
    "acquired": "a date",
    "histology": "a histology",
    "laterality": "a laterality",
    "patient_id": "a patient",
    "group": "a group",
    "case_id": "a case",
    **{feature: f"a BI-RADS descriptor for {feature}" for feature in DESCRIPTORS},
}
"""Field of a filter → its name in the sentence."""
_COLUMN = {"pathology": "label", "age_years": "age", "acquired": "date", "patient_id": "patient", "case_id": "case"}
"""Field → column of the filter language, where they differ."""
COUNTED = 1_000
"""Scans up to which a sentence gives their number; counting more would read each of them."""


def explain_no_matches(
    gallery: Gallery, *, where: str | None = None, exclusion: Exclusion | None = None, k: int = 10
) -> str | None:
    """Explain why a search of a gallery finds no scan.

    Args:
        gallery: that was searched.
        where: filter of the search, or None.
        exclusion: scans that were left out, or None.
        k: number of matches of the search, 0 or more.

    Returns:
        One sentence with its full stop; None where the search finds a scan.

    Raises:
        WhereError: a filter that does not parse.
    """
    if k == 0:
        return "No matches were asked for (k = 0)."
    if gallery.count() == 0:
        return "The archive is empty: it holds no scan to compare with."
    if _holds(gallery, where=where, exclusion=exclusion):
        return None
    if where is not None and not _holds(gallery, where=where):
        return _of_the_filter(gallery, where)
    passing = count_passing(gallery, where)
    if passing == 1:
        whose = "the scan that is asked about, or of its patient or group, and was left out"
        return f"The only scan {_that_passes(where, one=True)} is {whose}."
    number = f"{passing:,} scans" if passing < COUNTED else "scans"
    whose = "the scan that is asked about, or of its patient or group, and were left out"
    return f"All {number} {_that_passes(where)} are {whose}."


def count_passing(gallery: Gallery, where: str | None) -> int:
    """How many scans pass a filter, whoever they belong to, up to `COUNTED`; all of them without one.

    Raises:
        WhereError: a filter that does not parse.
    """
    if where is None:
        return gallery.count()
    result = gallery.search(_anywhere(gallery), k=COUNTED, where=where, novelty=False, pictures=False)
    return len(result.matches)


def _that_passes(where: str | None, *, one: bool = False) -> str:
    if where is None:
        return "of the archive"
    return f"that {'passes' if one else 'pass'} the filter {where}"


def _of_the_filter(gallery: Gallery, where: str) -> str:
    """Which field the archive lacks, or that there is no such scan."""
    lacking = [field for field in _compared_fields(parse_where(where)) if not _knows(gallery, field)]
    if lacking:
        named = " or ".join(FIELDS[field] for field in lacking)
        return f"No scan of this archive has {named}: the filter {where} passes none of its {gallery.count():,} scans."
    return f"None of the archive's {gallery.count():,} scans passes the filter {where}."


def _compared_fields(node: Node) -> list[str]:
    """Fields whose value a filter compares, each once; those that are only asked whether they are known, left out."""
    return list(dict.fromkeys(c.column for c in _conditions(node) if c.operator not in ("is null", "is not null")))


def _conditions(node: Node) -> Iterator[Condition]:
    if isinstance(node, All | Any):
        for part in node.parts:
            yield from _conditions(part)
    elif isinstance(node, Not):
        yield from _conditions(node.part)
    else:
        yield node


def _knows(gallery: Gallery, field: str) -> bool:
    """Whether any scan has a value for it."""
    return _holds(gallery, where=f"{_COLUMN.get(field, field)} is not null")


def _holds(gallery: Gallery, *, where: str | None, exclusion: Exclusion | None = None) -> bool:
    """Whether a search with these would find a scan; where it points does not matter."""
    result = gallery.search(
        _anywhere(gallery), k=1, where=where, exclude=exclusion or None, novelty=False, pictures=False
    )
    return bool(result.matches)


def _anywhere(gallery: Gallery) -> NDArray[np.float32]:
    """A direction; a search along it is a way to count."""
    direction = np.zeros(gallery.dimension, np.float32)
    direction[0] = 1.0
    return direction
