"""A case with a reference standard: what is known about it, and its scans."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from sonoseek.core.errors import InvalidValueError
from sonoseek.core.scan import Scan

PATHOLOGIES = ("normal", "benign", "malignant")
"""The classes of the reference standard, in the order in which every bundle, table and figure lists them."""
BIRADS_CATEGORIES = ("0", "1", "2", "3", "4", "4A", "4B", "4C", "5", "6")
"""BI-RADS assessment categories, ACR BI-RADS Atlas, 5th edition; 4 where the archive does not subdivide."""

DESCRIPTORS = ("shape", "orientation", "margin", "echogenicity", "posterior", "halo", "calcifications")
"""Features of a mass that BI-RADS has words for (ACR BI-RADS Atlas, 5th edition, ultrasound), and the older halo."""


@dataclass(frozen=True, kw_only=True)
class CaseRecord:
    """What is known about a case, without its pixels: cheap to list by the hundred thousand.

    Attributes:
        case_id: unique within its dataset.
        dataset: name of the dataset or archive.
        pathology: one of `PATHOLOGIES`: the reference standard (histology or follow-up), never guessed.
        patient_id: pseudonym or None.
        group: cases of one dataset that share a group must never part in a split, nor answer for each other.
        birads: one of `BIRADS_CATEGORIES` or None.
        histology: free text of the archive, or None.
        device: scanner, or None.
        age_years: at the exam, or None.
        acquired: date of the exam, or None.
        licence: of the scans, as the dataset states it.
        descriptors: (feature, word) as a reader described the lesion: ("margin", "spiculated"); features are of
            `DESCRIPTORS`; one feature may have several words. Empty where nobody described it.
    """

    case_id: str
    dataset: str
    pathology: str
    patient_id: str | None = None
    group: str | None = None
    birads: str | None = None
    histology: str | None = None
    device: str | None = None
    age_years: float | None = None
    acquired: date | None = None
    licence: str = ""
    descriptors: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.case_id or not self.dataset:
            raise InvalidValueError(
                f"case_id={self.case_id!r}, dataset={self.dataset!r}; both must be non-empty. Name case and archive."
            )
        if self.pathology not in PATHOLOGIES:
            raise InvalidValueError(
                f"pathology is {self.pathology!r}; it must be one of {', '.join(PATHOLOGIES)}. "
                "Leave cases without a reference standard out of the archive."
            )
        for feature, word in self.descriptors:
            if feature not in DESCRIPTORS or not word:
                raise InvalidValueError(
                    f"descriptors hold {(feature, word)}; a feature is one of {', '.join(DESCRIPTORS)}, with a word."
                )
        if self.birads is not None and self.birads not in BIRADS_CATEGORIES:
            raise InvalidValueError(
                f"birads is {self.birads!r}; it must be one of {', '.join(BIRADS_CATEGORIES)} or None."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Case(CaseRecord):
    """A case with its pixels.

    Attributes:
        scans: at least one.
        lesion_masks: one per scan, in order: bool (H, W) on the scan's own grid, or None where not drawn. For training
            losses and for scoring only: never an input, nor a crop, when a scan is read. The protocol "reader-marked"
            alone makes a reader's mark from them.
    """

    scans: tuple[Scan, ...]
    lesion_masks: tuple[NDArray[np.bool_] | None, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scans:
            raise InvalidValueError(f"case {self.case_id!r} has no scans; a case holds at least one.")
        if not self.lesion_masks:
            object.__setattr__(self, "lesion_masks", (None,) * len(self.scans))
        if len(self.lesion_masks) != len(self.scans):
            raise InvalidValueError(
                f"case {self.case_id!r} has {len(self.scans)} scans and {len(self.lesion_masks)} masks; "
                "give one mask, or None, per scan."
            )
        for scan, mask in zip(self.scans, self.lesion_masks, strict=True):
            if mask is not None and (mask.dtype != np.bool_ or mask.shape != scan.shape):
                raise InvalidValueError(
                    f"case {self.case_id!r}: a mask is {mask.dtype} {mask.shape} on a scan {scan.shape}; "
                    "masks are bool on the scan's own grid."
                )
