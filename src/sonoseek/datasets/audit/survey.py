"""The audit itself: read every case once, compare, count."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import Case, CaseRecord, Scan, SonoseekError
from sonoseek.core.patients import largest_patients
from sonoseek.datasets.audit.duplicates import Subject, find_duplicates
from sonoseek.datasets.audit.features import fingerprint
from sonoseek.datasets.audit.grouping import crossings, duplicate_groups, keep_together, unstated_pairs
from sonoseek.datasets.audit.leaks import MaskFacts, mark_leaks, mask_facts, mask_leaks
from sonoseek.datasets.audit.result import AuditResult, Unreadable
from sonoseek.datasets.base import Dataset
from sonoseek.datasets.splits import Fold
from sonoseek.preprocessing import PreprocessingRecipe, preprocess

log = logging.getLogger(__name__)
MARKS_RECIPE = PreprocessingRecipe(canvas_size=64, borders=False, marks=True, contrast="none")
"""Only the marks are wanted; the canvas is made as small as can be."""
EDGE = 0.08
"""Share of height and of width on each side: there stand the scanner's orientation mark, scales and rulers."""
MAX_THREADS = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reading:
    """What is stored of one case once its pixels are released."""

    case_id: str
    subjects: tuple[Subject, ...]
    marked: float
    marked_inside: float
    masks: MaskFacts
    patient_id: str | None
    placeholders: tuple[str, ...]


def audit(
    dataset: Dataset,
    *,
    folds: Sequence[Fold] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> AuditResult:
    """Look for what makes figures on a dataset better than they are.

    Every case is loaded once; a case that cannot be loaded is listed and passed over. Memory grows by about 130 kB a
    scan and time by about 60 ms a scan and core, up to some ten thousand scans.

    Args:
        dataset: any.
        folds: a split to check, or None.
        on_progress: called with steps done and steps in all; a case is one step to read and one to compare.

    Raises:
        SplitError: a fold names a case that the dataset does not hold, or the dataset lists a case twice.
    """
    records = dataset.records()
    crossings(records, (), folds or ())  # refuse a split of another dataset before the work, not after
    steps = 2 * len(records)

    def compared(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(len(records) + len(records) * done // total, steps)

    readings: list[_Reading] = []
    unreadable: list[Unreadable] = []
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as executor:
        for done, item in enumerate(_read_all(dataset, records, executor=executor), start=1):
            if isinstance(item, Unreadable):
                log.warning("case %r is passed over: %s", item.case_id, item.reason)
                unreadable.append(item)
            else:
                readings.append(item)
            if on_progress is not None:
                on_progress(done, steps)
        subjects = [subject for reading in readings for subject in reading.subjects]
        pairs, related = find_duplicates(subjects, executor=executor, on_progress=compared)
    if on_progress is not None:
        on_progress(steps, steps)

    labels = {record.case_id: record.pathology for record in records}
    units = keep_together(records, (*pairs, *related))
    groups = duplicate_groups(records, pairs)
    patients = {reading.case_id: reading.patient_id for reading in readings}  # a DICOM file may know the patient
    marked = {reading.case_id: reading.marked for reading in readings if reading.marked > 0}
    inside = {reading.case_id: reading.marked_inside for reading in readings if reading.marked_inside > 0}
    return AuditResult(
        dataset=dataset.name,
        records=tuple(records),
        scans=len(subjects),
        folds=len(folds or ()),
        pairs=pairs,
        related=related,
        groups=groups,
        cross_label_groups=tuple(group for group in groups if group.crosses_labels),
        unstated=unstated_pairs(records, (*pairs, *related)),
        keep_together=units,
        marked=marked,
        marked_inside=inside,
        mask_leaks=mask_leaks({reading.case_id: reading.masks for reading in readings}, labels, units),
        mark_leaks=mark_leaks(
            marked, inside, read=[reading.case_id for reading in readings], labels=labels, units=units
        ),
        crossing=crossings(records, (*pairs, *related), folds or ()),
        unreadable=tuple(unreadable),
        largest_patients=largest_patients(
            (record.dataset, patients.get(record.case_id, record.patient_id)) for record in records
        ),
        placeholders=Counter(text for reading in readings for text in reading.placeholders),
    )


def _read_all(
    dataset: Dataset, records: Sequence[CaseRecord], *, executor: ThreadPoolExecutor
) -> Iterator[_Reading | Unreadable]:
    """Every case, in the order of the records.

    Cases are loaded in this thread (a dataset need not be thread-safe), and only a few ahead of those described.
    """
    waiting: deque[Future[_Reading] | Unreadable] = deque()
    for record in records:
        try:
            case = dataset.load(record.case_id)
        except (SonoseekError, OSError) as error:
            waiting.append(Unreadable(case_id=record.case_id, reason=str(error)))
        else:
            waiting.append(executor.submit(_read, case))
        if len(waiting) > 2 * MAX_THREADS:
            yield _result(waiting.popleft())
    while waiting:
        yield _result(waiting.popleft())


def _result(item: Future[_Reading] | Unreadable) -> _Reading | Unreadable:
    return item if isinstance(item, Unreadable) else item.result()


def _read(case: Case) -> _Reading:
    marks = [_marks(scan) for scan in case.scans]
    return _Reading(
        case_id=case.case_id,
        subjects=tuple(
            Subject(case_id=case.case_id, scan=index, scan_id=scan.scan_id, fingerprint=fingerprint(scan.pixels))
            for index, scan in enumerate(case.scans)
        ),
        marked=float(np.mean([item.mean() for item in marks])),
        marked_inside=float(np.mean([_inner(item).mean() for item in marks])),
        masks=mask_facts(case),
        patient_id=case.patient_id,
        placeholders=tuple(scan.patient_placeholder for scan in case.scans if scan.patient_placeholder),
    )


def _marks(scan: Scan) -> NDArray[np.bool_]:
    marks = preprocess(scan, MARKS_RECIPE).annotations
    return np.zeros(scan.shape, np.bool_) if marks is None else marks


def _inner(marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    down, across = (int(EDGE * side) for side in marks.shape)
    return marks[down : marks.shape[0] - down, across : marks.shape[1] - across]
