"""A result of pathology, as a table or a message states it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

Side = Literal["left", "right", "both", ""]
"""Of a result or a picture; "" where it is not stated."""
MEANS: dict[str, Side] = {
    **dict.fromkeys(("l", "left", "links", "li", "7771000", "m-left"), "left"),
    **dict.fromkeys(("r", "right", "rechts", "re", "24028007", "m-right"), "right"),
    **dict.fromkeys(("b", "both", "bilateral", "beidseits", "51440002"), "both"),
}
"""Words and codes of a side (DICOM CS, English, German, SNOMED CT); exact, in any case of letters."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One result of pathology. It names a patient.

    Attributes:
        origin: where it stands, for the report: "row 3 of results.csv".
        accessions: numbers that may be the AccessionNumber of the study.
        patient_ids: of the patient, as each authority counts.
        day: of the biopsy, else of the result; None where not stated.
        side: of the breast.
        pathology: one of `core.PATHOLOGIES`; None where the texts are not in the table of terms.
        texts: what the pathologist wrote, as it was looked up.
        problem: why it cannot be used, "" where it can.
        histology: free text for the gallery, or "".
        birads: category, or "".
    """

    origin: str
    accessions: tuple[str, ...] = ()
    patient_ids: tuple[str, ...] = ()
    day: date | None = None
    side: Side = ""
    pathology: str | None = None
    texts: tuple[str, ...] = ()
    problem: str = ""
    histology: str = ""
    birads: str = ""


def parse_side(text: str) -> Side | None:
    """A side from a word or code; "" for an empty text, None for one that is no side."""
    plain = text.strip().casefold()
    return MEANS.get(plain) if plain else ""
