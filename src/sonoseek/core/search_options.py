"""The options of a search, checked once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypedDict

from sonoseek.core.errors import InvalidValueError
from sonoseek.core.geometry import Box


class SearchKeywords(TypedDict, total=False):
    """`SearchOptions` as keyword arguments; each replaces the field of its name."""

    k: int
    where: str | None
    include_same: bool
    explain_matches: bool
    per_patient: bool
    deduplicate: bool
    region: Box | None
    liked: Iterable[str]
    disliked: Iterable[str]


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How a gallery is searched for a scan, and what is explained.

    Attributes:
        k: number of matches at most, 0 or more; 0 for none. More than the gallery holds gives all of it.
        where: filter on the matches, "birads >= '4A' and device = 'GE Logiq 7'"; None for all. The language is
            described in `sonoseek.gallery.filter.grammar`.
        include_same: also search the scan itself, its patient and its group. By default they are left out: if the
            scan's pixels are in the gallery, they, their patient and their group; if the scan names a patient, that
            patient in every dataset.
        explain_matches: explain each match's cosine, on the pixels of the scan and on those of the match. The heatmap
            of the prediction is always computed.
        per_patient: one match per patient or group (where none is named, per case), its best scan. False: every scan
            may be a match. The similar cases are counted over independent ones in any case.
        deduplicate: near-duplicates are counted behind the better match. False: they are matches of their own.
        region: search with the evidence inside this box alone, in scan pixels; the prediction stays that of the whole
            scan. None: the whole scan.
        liked: matches to move the search towards: scan_ids, or "dataset/case_id".
        disliked: matches to move the search away from; they are left out of the matches.

    Raises:
        InvalidValueError: k below 0.
    """

    k: int = 10
    where: str | None = None
    include_same: bool = False
    explain_matches: bool = True
    per_patient: bool = True
    deduplicate: bool = True
    region: Box | None = None
    liked: tuple[str, ...] = ()
    disliked: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.k < 0:
            raise InvalidValueError(f"k is {self.k}; it is the number of matches wanted, 0 or more.")
        object.__setattr__(self, "liked", tuple(self.liked))
        object.__setattr__(self, "disliked", tuple(self.disliked))

    @property
    def independent(self) -> bool:
        """Whether the matches are one per patient, without near-duplicates."""
        return self.per_patient and self.deduplicate

    @classmethod
    def of(cls, options: SearchOptions | None, keywords: SearchKeywords) -> SearchOptions:
        """`options`, or the defaults for None, with `keywords` in place of its fields.

        Raises:
            InvalidValueError: a value that breaks its rule.
            TypeError: a keyword that is no option.
        """
        return replace(options or cls(), **keywords)  # type: ignore[arg-type]  # made tuples by __post_init__
