"""Patient ids that name nobody, and one patient id over most of an archive."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MIN_CASES = 20
"""An archive of fewer cases may well be mostly one patient's."""
LONGEST = 64
"""Characters of a DICOM PatientID (PS3.5, VR LO); a longer text is no placeholder that is known."""

_SEPARATORS = re.compile(r"[\W_]+")
_PLACEHOLDERS = frozenset(
    (
        *("anon", "anonym", "anonymous", "anonymouspatient", "anonymized", "anonymised", "anonymisiert"),
        *("deid", "deident", "deidentified", "hidden", "redacted", "removed"),
        *("unknown", "unknownpatient", "unbekannt", "notknown", "undefined", "notavailable", "notapplicable"),
        *("na", "nan", "nil", "none", "null", "noid", "nopatientid", "patient", "patientid"),
        *("x" * length for length in range(3, 13)),
    )
)
"""In small letters, without spaces and signs."""


def is_placeholder(patient_id: str) -> bool:
    """Whether a text stands where a patient id should and names nobody: "ANONYMOUS", "N/A", "0000", "-".

    Capitals, spaces and signs make no difference. An empty text is no placeholder: there is no patient id at all.
    """
    text = patient_id.strip()
    if not text or len(text) > LONGEST or not text.isprintable():
        return False
    letters = _SEPARATORS.sub("", text).casefold()
    return not letters.strip("0") or letters in _PLACEHOLDERS


@dataclass(frozen=True, kw_only=True)
class PatientShare:
    """How much of a dataset is of one patient.

    Attributes:
        dataset: its name.
        patient_id: of the patient.
        cases: of the patient.
        total: cases of the dataset.
    """

    dataset: str
    patient_id: str
    cases: int
    total: int

    @property
    def dominant(self) -> bool:
        """Whether the patient holds more than half of a dataset of `MIN_CASES` cases or more."""
        return self.total >= MIN_CASES and 2 * self.cases > self.total


def largest_patients(cases: Iterable[tuple[str, str | None]]) -> tuple[PatientShare, ...]:
    """The patient with the most cases of each dataset, largest first; datasets that name no patient are left out.

    Args:
        cases: (dataset, patient_id) of each case.
    """
    counts: dict[str, Counter[str | None]] = {}
    for dataset, patient_id in cases:
        counts.setdefault(dataset, Counter())[patient_id] += 1
    shares = []
    for dataset, tally in counts.items():
        total = tally.total()
        del tally[None]
        if tally:
            ((patient_id, most),) = tally.most_common(1)
            shares.append(PatientShare(dataset=dataset, patient_id=str(patient_id), cases=most, total=total))
    return tuple(sorted(shares, key=lambda share: -share.cases))


def patient_warnings(shares: Iterable[PatientShare], placeholders: Mapping[str, int] | None = None) -> tuple[str, ...]:
    """Warnings about an archive's patient ids, as sentences; () when there is nothing to warn of.

    Args:
        shares: of `largest_patients`, or of a gallery's.
        placeholders: patient ids that were taken as unknown → scans that have them.
    """
    sentences = [
        f"patient {share.patient_id!r} holds {share.cases} of the {share.total} cases of {share.dataset!r} "
        f"({100 * share.cases / share.total:.0f} %), more than half: a placeholder, not a patient? Scans of one "
        "patient never answer for one another: a search with any of them leaves the others out. Give real pseudonyms, "
        "or leave the patient id empty."
        for share in shares
        if share.dominant
    ]
    sentences += [
        f"{scans} scan{'s carry' if scans > 1 else ' carries'} the placeholder patient id {text!r}; taken as unknown, "
        "so scans of one patient may answer for one another. Give real pseudonyms where they are known."
        for text, scans in (placeholders or {}).items()
    ]
    return tuple(sentences)
