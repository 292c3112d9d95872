"""The structured report: Comprehensive 3D SR, template TID 1500 (PS3.16), one measurement group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    Comprehensive3DSR,
    ContentItem,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurement,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DT

from sonoseek.core import Match, Report
from sonoseek.reports import phrases
from sonoseek.reports.dicom import codes as ours
from sonoseek.reports.dicom.subject import NAME, Subject, plain, polygon, whole_image
from sonoseek.reports.dicom.values import QueriedFrame, Verification
from sonoseek.reports.dicom.writing import local_time


def structured_report(
    subject: Subject, *, queried: Sequence[QueriedFrame], verification: Verification | None
) -> Comprehensive3DSR:
    """The report as a Comprehensive 3D SR, complete; verified where a reader accepted or corrected it."""
    report, source = subject.report, subject.source
    group = _group(subject)
    group[0].ContentSequence.extend(_items(report, queried=queried, verification=verification))
    content = MeasurementReport(
        observation_context=_observers(subject, verification),
        procedure_reported=ours.ULTRASONOGRAPHY_OF_BREAST,
        imaging_measurements=[group],
        title=ours.IMAGING_MEASUREMENT_REPORT,
        referenced_images=[source],
    )
    verified = verification is not None and verification.verifies
    document = Comprehensive3DSR(
        evidence=[source],
        content=content[0],
        is_complete=True,
        is_final=verified,
        is_verified=verified,
        verifying_observer_name=verification.observer_name if verification and verified else None,
        verifying_organization=verification.organisation if verification and verified else None,
        requested_procedures=None,
        previous_versions=[subject.unverified()] if verification is not None and subject.predecessor else None,
        performed_procedure_codes=[ours.ULTRASONOGRAPHY_OF_BREAST],
        coding_schemes=[ours.scheme_item()],
        **subject.identification("sr"),
    )
    if verification is not None and verified:
        when = local_time(verification.when, source)
        document.VerifyingObserverSequence[0].VerificationDateTime = DT(when.strftime("%Y%m%d%H%M%S"))
    return document


def _group(subject: Subject) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """The one measurement group, TID 1410: of the outline, or of the whole image where there is none.

    Never without a region: OHIF 3.13 shows nothing of a report with a group that has no coordinates.
    """
    report, frames = subject.report, subject.referenced_frames
    prediction = report.prediction
    finding = ours.WHOLE_IMAGE if report.contour is None else ours.EVIDENCE
    tracking = TrackingIdentifier(uid=subject.uid("tracking"), identifier=f"{NAME}: {finding.meaning}")
    image = SourceImageForMeasurement.from_source_image(subject.source, referenced_frame_numbers=frames)
    likelihood = prediction.likelihood_of_malignancy
    measurements = []
    if likelihood is not None and not prediction.out_of_distribution:
        percent = round(100 * likelihood, 2)
        measurements.append(
            Measurement(
                name=ours.PROBABILITY_OF_CANCER,
                value=percent,
                unit=ours.PERCENT,
                referenced_images=[image],
            )
        )
    label = ours.UNDETERMINED if prediction.label is None else ours.class_code(prediction.label)
    side = report.scan.laterality
    region = ImageRegion(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=whole_image(report) if report.contour is None else polygon(report.contour),
        source_image=SourceImageForRegion.from_source_image(subject.source, referenced_frame_numbers=frames),
    )
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        finding_type=finding,
        algorithm_id=_algorithm(report),
        finding_sites=[FindingSite(ours.BREAST, laterality=None if side is None else ours.SIDES[side])],
        measurements=measurements,
        qualitative_evaluations=[QualitativeEvaluation(name=ours.PREDICTED_CLASS, value=label)],
        referenced_region=region,
    )


def _items(
    report: Report, *, queried: Sequence[QueriedFrame], verification: Verification | None
) -> Iterator[ContentItem]:
    """The further items of the group, in reading order."""
    yield _text(ours.DISCLAIMER, report.disclaimer)
    yield _text(ours.HEADLINE, phrases.headline(report.prediction))
    for warning in report.warnings:
        if warning.severity == "high":
            yield _text(ours.WARNING, warning.text)
    for frame in queried:
        value = phrases.percent(frame.malignant)
        yield _text(ours.ASKED_FRAME, f"frame {frame.frame} of image {frame.sop_instance_uid}: {value}")
    for match in report.matches:
        yield _text(ours.SIMILAR_CASE, _similar(match))
    if verification is not None:
        yield from _decision(verification)


def _similar(match: Match) -> str:
    """Rank, similarity and reference label, without any identifier of the archive's patient."""
    standard = "pathology-proven" if match.histology is not None else "as the archive states"
    return f"{match.rank}. {match.label} ({standard}), similarity {match.similarity:.3f}, archive {match.dataset}"


def _decision(verification: Verification) -> Iterator[ContentItem]:
    corrected = verification.corrected_class
    if corrected is not None:
        yield CodeContentItem(
            name=ours.READER_CLASS,
            value=ours.class_code(corrected),
            relationship_type=RelationshipTypeValues.CONTAINS,
        )
    decision = "accepted" if verification.accepted else "corrected" if corrected is not None else "not accepted"
    yield _text(ours.READER_DECISION, f"The reader has {decision} this result.")


def _observers(subject: Subject, verification: Verification | None) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=subject.device_uid,
        name=NAME,
        manufacturer_name=NAME,
        model_name=f"{NAME} {subject.report.version}",
    )
    person = None
    if verification is not None:
        person = ObserverContext(
            observer_type=codes.DCM.Person,
            observer_identifying_attributes=PersonObserverIdentifyingAttributes(
                name=verification.observer_name, organization_name=verification.organisation
            ),
        )
    return ObservationContext(
        observer_person_context=person,
        observer_device_context=ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device),
    )


def _algorithm(report: Report) -> AlgorithmIdentification:
    parameters = [f"bundle: {report.bundle_id}", f"gallery: {report.gallery_id or 'none'}"]
    if report.gallery_state is not None:
        parameters.append(f"gallery state: {report.gallery_state}")
    parameters.append(f"calibration: {phrases.calibration(report.prediction.calibration)}")
    return AlgorithmIdentification(
        name=NAME, version=report.version, manufacturer=NAME, parameters=[plain(text) for text in parameters]
    )


def _text(name: Code, value: str) -> TextContentItem:
    return TextContentItem(name=name, value=plain(value), relationship_type=RelationshipTypeValues.CONTAINS)
