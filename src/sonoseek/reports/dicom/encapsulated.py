"""The printed report as a DICOM object: Encapsulated PDF (PS3.3 A.45.1). highdicom has none, so it is built here."""

from __future__ import annotations

from dataclasses import replace

from highdicom import SOPClass
from pydicom.uid import EncapsulatedPDFStorage, ExplicitVRLittleEndian

from sonoseek.core import Match, Report
from sonoseek.reports.dicom import codes as ours
from sonoseek.reports.dicom.subject import Subject


def encapsulated_pdf(subject: Subject) -> SOPClass:
    """The pages of `render_pdf`. Similar cases have neither case id nor patient id: those are the archive's."""
    from sonoseek.reports import render_pdf

    source = subject.source
    document = SOPClass(
        study_instance_uid=source.StudyInstanceUID,
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_date=subject.report.created.date(),
        content_time=subject.report.created.time(),
        **subject.identification("pdf"),
    )
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        document[keyword] = source[keyword]
    document.copy_patient_and_study_information(source)
    content = render_pdf(_without_identifiers(subject.report))
    document.ConversionType = "SYN"
    document.AcquisitionDateTime = ""
    document.BurnedInAnnotation = "NO" if source.get("BurnedInAnnotation") == "NO" else "YES"  # it shows the scan
    document.DocumentTitle = "sonoseek report, research use only"
    document.ConceptNameCodeSequence = [ours.concept(ours.IMAGING_MEASUREMENT_REPORT)]
    document.SourceInstanceSequence = [subject.reference()]
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocumentLength = len(content)
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return document


def _without_identifiers(report: Report) -> Report:
    matches = tuple(_plain(match) for match in report.matches)
    return replace(report, matches=matches, scan=replace(report.scan, source="", patient_id=None))


def _plain(match: Match) -> Match:
    return replace(match, case_id=f"similar case {match.rank}", patient_id=None, group=None)
