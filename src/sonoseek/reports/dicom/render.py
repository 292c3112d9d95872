"""`render_dicom`: one result in each requested form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sonoseek.core import InvalidValueError, LazyTable, Report, require_extra
from sonoseek.io import SourceHeader
from sonoseek.reports.dicom.values import DicomResult, QueriedFrame, Verification

if TYPE_CHECKING:
    from sonoseek.reports.dicom.subject import Subject

KINDS = LazyTable(
    "kind of DICOM result",
    {
        "sr": "sonoseek.reports.dicom.sr:structured_report",
        "sc": "sonoseek.reports.dicom.sc:secondary_capture",
        "pdf": "sonoseek.reports.dicom.encapsulated:encapsulated_pdf",
        "gsps": "sonoseek.reports.dicom.gsps:presentation_state",
        "seg": "sonoseek.reports.dicom.seg:segmentation",
        "seg-ohif": "sonoseek.reports.dicom.seg:segmentation_for_ohif",
    },
)
"""Kind → function from a `Subject` to a pydicom data set."""
OUTLINED = ("gsps", "seg", "seg-ohif")
"""Kinds that show the outline alone: a report without one has none of them."""


def render_dicom(
    report: Report,
    source: SourceHeader,
    *,
    kinds: Sequence[str] = ("sr", "sc"),
    study_key: str,
    queried: Sequence[QueriedFrame] = (),
    verification: Verification | None = None,
    predecessor: str | None = "",
) -> tuple[DicomResult, ...]:
    """Write a report as DICOM objects of its source's study, each in a series of its own.

    The objects carry the source's patient and study, and its character set where that can encode every text. UIDs are
    derived from `study_key`, bundle, gallery and its state, image and frame, the areas that the reader drew, kind and
    the reader's decision. Times are those of the query. So the same result sent again has the same bytes.

    Args:
        report: of the image that `source` is the header of; of several views the first.
        source: of `read_source_header`.
        kinds: of `KINDS`: "sr" (Comprehensive 3D SR), "sc" (Secondary Capture), "pdf" (Encapsulated PDF), "gsps"
            (presentation state), "seg" (binary segmentation), "seg-ohif" (the same with a nominal plane, for OHIF). The
            last three need an outline, and are left out where the report has none.
        study_key: identifies the study and the images of it that were queried.
        queried: frames of the study that were queried, for the SR.
        verification: a reader's decision, for the SR; then it is another object, which names the former one.
        predecessor: SOP Instance UID of that former one; "": the same report without the decision; None: there is none.

    Returns:
        In the order of `kinds`.

    Raises:
        MissingExtraError: the extra `pacs` is not installed.
        NotFoundError: no such kind.
        InvalidValueError: the source lacks its UIDs, or is another image than the report's; or no `study_key`.
    """
    require_extra("pacs")
    makers = {kind: KINDS.load(kind) for kind in dict.fromkeys(kinds)}
    if not study_key:
        raise InvalidValueError("study_key is empty; the UIDs follow from it. Give the key of the study.")
    from pydicom.dataelem import DataElement

    from sonoseek.reports.dicom.source import source_dataset, stand_in
    from sonoseek.reports.dicom.subject import Subject
    from sonoseek.reports.dicom.uids import derived_uid, identity

    dataset = source_dataset(source, report)
    patient = dataset.PatientName
    if patient and "^" not in patient:  # highdicom's warning of that would name the patient in the log
        dataset.PatientName = f"{patient}^"
    actual = str(dataset.SOPClassUID)
    dataset.SOPClassUID = stand_in(dataset)
    plain = identity(report, source, study_key=study_key, verification=None)
    former = derived_uid(*plain, "sr") if predecessor == "" else predecessor or ""
    subject = Subject(
        report=report,
        source=dataset,
        identity=plain,
        predecessor=former,
    )
    results = []
    for kind, maker in makers.items():
        if kind in OUTLINED and report.contour is None:
            continue
        about, further = subject, {}
        if kind == "sr":
            decided = identity(report, source, study_key=study_key, verification=verification, predecessor=former)
            about, further = replace(subject, identity=decided), {"queried": queried, "verification": verification}
        made = maker(about, **further)
        made["PatientName"] = DataElement("PatientName", "PN", patient)  # it may share the source's element
        results.append(_result(kind, made, about, source=source, actual=actual))
    return tuple(results)


def _result(kind: str, made: Any, subject: Subject, *, source: SourceHeader, actual: str) -> DicomResult:
    from sonoseek.reports.dicom.writing import replace_class, to_file

    replace_class(made, former=str(subject.source.SOPClassUID), actual=actual)
    content = to_file(
        made, source=subject.source, made=subject.report.created, character_set=tuple(source.character_set)
    )
    return DicomResult(
        kind=kind,
        sop_class_uid=str(made.SOPClassUID),
        sop_instance_uid=str(made.SOPInstanceUID),
        series_instance_uid=str(made.SeriesInstanceUID),
        study_instance_uid=str(made.StudyInstanceUID),
        content=content,
    )
