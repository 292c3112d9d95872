"""The picture of the evidence: Secondary Capture, RGB, with the outline, the scale and the disclaimer."""

from __future__ import annotations

import io

import numpy as np
from highdicom import CoordinateSystemNames
from highdicom.sc import SCImage
from PIL import Image

from sonoseek.core import DISCLAIMER, Explanation, Report, Upsampling
from sonoseek.reports import phrases
from sonoseek.reports.dicom import codes as ours
from sonoseek.reports.dicom.subject import Subject
from sonoseek.reports.overlay import Panel, overlay_png


def secondary_capture(subject: Subject) -> SCImage:
    """The scan with the evidence map over it, as `overlay_png` draws it.

    BurnedInAnnotation is that of the source, for its pixels are shown: what the source leaves open stays open.
    """
    report, source = subject.report, subject.source
    drawn = overlay_png(
        Panel(
            pixels=report.scan.pixels,
            explanation=_explanation(report),
            title=f"sonoseek: {phrases.short_headline(report.prediction)}",
            contour=report.contour,
            spacing_mm=report.scan.spacing_mm,
        ),
        caption=f"sonoseek {report.version}, bundle {report.bundle_id}",
    )
    with Image.open(io.BytesIO(drawn)) as picture:
        pixels = np.array(picture.convert("RGB"))
    image = SCImage.from_ref_dataset(
        ref_dataset=source,
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system=CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "F"),  # highdicom asks for one; a breast scan has none that we know
        **subject.identification("sc"),
    )
    image.PatientOrientation = []
    subject.state_side(image)
    image.copy_patient_and_study_information(source)
    image.DerivationDescription = f"Evidence map and outline over the source image; {DISCLAIMER}"
    reference = subject.reference()
    reference.PurposeOfReferenceCodeSequence = [ours.concept(ours.SOURCE_IMAGE)]
    image.SourceImageSequence = [reference]
    if source.get("BurnedInAnnotation") in ("YES", "NO"):
        image.BurnedInAnnotation = source.BurnedInAnnotation
    return image


def _explanation(report: Report) -> Explanation:
    """The first one; of a report without any an empty map."""
    if report.explanations:
        return report.explanations[0]
    rows, columns = report.scan.shape
    nothing = Upsampling(
        rows=np.full((rows, 1), 1 / rows, np.float32),
        columns=np.full((columns, 1), 1 / columns, np.float32),
        top=0,
        left=0,
        scan_shape=report.scan.shape,
    )
    return Explanation(
        evidence_map=np.zeros((1, 1), np.float32),
        upsampling=nothing,
        method="none",
        target=report.prediction.likeliest,
        value=0.0,
        bias=0.0,
    )
