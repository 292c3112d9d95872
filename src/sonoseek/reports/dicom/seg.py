"""The outline's inside as a binary segmentation of the frame that was queried (PS3.3 A.51)."""

from __future__ import annotations

import cv2
import numpy as np
from highdicom import AlgorithmIdentificationSequence, PixelMeasuresSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from sonoseek.core import Contour, InvalidValueError
from sonoseek.reports.dicom import codes as ours
from sonoseek.reports.dicom.subject import NAME, Subject, plain


def segmentation(subject: Subject, *, kind: str = "seg") -> Segmentation:
    """One segment, "Evidence for the likeliest class": a region of tissue, not a diagnosis.

    Raises:
        InvalidValueError: the report has no outline.
    """
    report, contour = subject.report, subject.report.contour
    if contour is None:
        raise InvalidValueError("the report has no outline, and a segmentation shows one. Ask for another kind.")
    spacing = report.scan.spacing_mm
    made = Segmentation(
        source_images=[subject.single_frame()],
        pixel_array=inside(contour, report.scan.shape)[None],
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            SegmentDescription(
                segment_number=1,
                segment_label="sonoseek evidence",
                segmented_property_category=ours.TISSUE,
                segmented_property_type=ours.EVIDENCE,
                algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=AlgorithmIdentificationSequence(
                    name=NAME,
                    family=ours.ARTIFICIAL_INTELLIGENCE,
                    version=report.version,
                    source=NAME,
                    parameters={"bundle": plain(report.bundle_id), "gallery": plain(report.gallery_id or "none")},
                ),
                tracking_uid=subject.uid("tracking"),
                tracking_id=f"{NAME}: {ours.EVIDENCE.meaning}",
                anatomic_regions=[ours.BREAST],
                display_color=CIELabColor(70.0, 45.0, 60.0),  # orange, as the strongest evidence in a heatmap
            )
        ],
        pixel_measures=None if spacing is None else PixelMeasuresSequence(spacing, slice_thickness=None),
        content_label="SONOSEEK",
        content_description="sonoseek segmentation, research use only",
        coding_schemes=[ours.scheme_item()],
        **subject.identification(kind),
    )
    made.PatientOrientation = ""
    for element in made.iterall():  # highdicom takes a random one
        if element.keyword == "DimensionOrganizationUID":
            element.value = subject.uid(kind, "dimensions")
    return subject.restored(made, on_frame=("SourceImageSequence",))


def segmentation_for_ohif(subject: Subject) -> Segmentation:
    """The same with a nominal plane at the origin of the patient's axes, without which OHIF 3.13 opens no segmentation.

    A scan by hand has no known position: this object says more than is known, and is for OHIF alone.

    Raises:
        InvalidValueError: as `segmentation`.
    """
    made = segmentation(subject, kind="seg-ohif")
    plane, place = Dataset(), Dataset()
    plane.ImageOrientationPatient, place.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    shared = made.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence = [plane]
    for group in made.PerFrameFunctionalGroupsSequence:
        group.PlanePositionSequence = [place]
    if "PixelMeasuresSequence" not in shared:
        measures = Dataset()
        measures.SliceThickness = 1  # OHIF asks for the item, not for a spacing; empty it does not arrive
        shared.PixelMeasuresSequence = [measures]
    return made


def inside(contour: Contour, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels that the outline surrounds, and those that it crosses: bool (H, W)."""
    mask = np.zeros(shape, np.uint8)
    points = np.rint(contour.points[:, ::-1] - 0.5).astype(np.int32)  # pixel centres lie at half numbers
    cv2.fillPoly(mask, [points], 1)
    return mask.astype(np.bool_)
