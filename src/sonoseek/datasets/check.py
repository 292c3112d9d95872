"""Load every case of a dataset once and say what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sonoseek.core import SonoseekError
from sonoseek.core.patients import PatientShare, largest_patients
from sonoseek.datasets.base import Dataset


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What loading every case showed.

    Attributes:
        cases: how many there are.
        classes: cases per pathology.
        refused: case_id → why it does not load.
        repeated: scan_id → case_ids, where more than one case holds the very same pixels.
        without_mask: case_ids of lesions that no mask shows.
        largest_patients: the patient with the most cases of each dataset that names any.
        placeholders: patient id that names nobody, and was taken as unknown → scans that carry it.
        left_out: what looks like scans and is not listed → why.
        known: case_id → defect that the dataset's release is known for, of cases that are here.
    """

    cases: int
    classes: Mapping[str, int]
    refused: Mapping[str, str]
    repeated: Mapping[str, tuple[str, ...]]
    without_mask: tuple[str, ...]
    largest_patients: tuple[PatientShare, ...]
    placeholders: Mapping[str, int]
    left_out: Mapping[str, str]
    known: Mapping[str, str]


def check_dataset(dataset: Dataset, *, on_progress: Callable[[int, int], None] | None = None) -> CheckResult:
    """Load every case; one bad file stops nothing.

    Raises:
        DatasetError: the dataset's tables do not read.
    """
    records = dataset.records()
    refused: dict[str, str] = {}
    scans: dict[str, list[str]] = {}
    without_mask: list[str] = []
    patients: list[tuple[str, str | None]] = []
    placeholders: Counter[str] = Counter()
    for number, record in enumerate(records, start=1):
        try:
            case = dataset.load(record.case_id)
        except SonoseekError as error:
            refused[record.case_id] = str(error)
            patients.append((record.dataset, record.patient_id))
        else:
            patients.append((record.dataset, case.patient_id))
            placeholders.update(scan.patient_placeholder for scan in case.scans if scan.patient_placeholder)
            for scan in case.scans:
                scans.setdefault(scan.scan_id, []).append(record.case_id)
            shown = any(mask is not None and mask.any() for mask in case.lesion_masks)
            if record.pathology != "normal" and not shown:
                without_mask.append(record.case_id)
        if on_progress:
            on_progress(number, len(records))
    defects: Mapping[str, str] = getattr(dataset, "known_defects", {})
    here = {record.case_id for record in records}
    return CheckResult(
        cases=len(records),
        classes=dict(Counter(record.pathology for record in records)),
        refused=refused,
        repeated={scan_id: tuple(ids) for scan_id, ids in scans.items() if len(ids) > 1},
        without_mask=tuple(without_mask),
        largest_patients=largest_patients(patients),
        placeholders=dict(placeholders),
        left_out=dict(getattr(dataset, "left_out", {})),
        known={case_id: reason for case_id, reason in defects.items() if case_id in here},
    )
