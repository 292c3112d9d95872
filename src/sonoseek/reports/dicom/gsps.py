"""The outline as a softcopy presentation state: grayscale, or of a colour source colour (PS3.3 A.33)."""

from __future__ import annotations

import pkgutil
from typing import Any

from highdicom.pr import (
    AnnotationUnitsValues,
    ColorSoftcopyPresentationState,
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GraphicTypeValues,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)

from sonoseek.core import DISCLAIMER, Contour, InvalidValueError
from sonoseek.reports import phrases
from sonoseek.reports.dicom.subject import Subject, plain, polygon


def presentation_state(subject: Subject) -> GrayscaleSoftcopyPresentationState | ColorSoftcopyPresentationState:
    """A presentation state with the outline, the result in words and the disclaimer on the frame that was queried.

    Raises:
        InvalidValueError: the source states no SamplesPerPixel, or the report has no outline.
    """
    report, source = subject.report, subject.single_frame()
    if report.contour is None or source.get("SamplesPerPixel") not in (1, 3):
        raise InvalidValueError(
            f"the report has {'no' if report.contour is None else 'an'} outline and SamplesPerPixel of the source is "
            f"{source.get('SamplesPerPixel')}; a presentation state shows an outline on 1 or 3 samples. Ask for "
            "another kind of result."
        )
    layer = GraphicLayer("SONOSEEK", order=1, description=f"Outline of the evidence; {DISCLAIMER}")
    annotation = GraphicAnnotation(
        referenced_images=[source],
        graphic_layer=layer,
        graphic_objects=[
            GraphicObject(
                graphic_type=GraphicTypeValues.POLYLINE,
                graphic_data=polygon(report.contour),
                units=AnnotationUnitsValues.PIXEL,
                tracking_id="sonoseek: outline of the evidence",
                tracking_uid=subject.uid("tracking"),
            )
        ],
        text_objects=[_words(subject, report.contour)],
    )
    values: dict[str, Any] = {
        **subject.identification("gsps"),
        "referenced_images": [source],
        "content_label": "SONOSEEK",
        "content_description": "sonoseek outline, research use only",
        "graphic_annotations": [annotation],
        "graphic_layers": [layer],
    }
    state: GrayscaleSoftcopyPresentationState | ColorSoftcopyPresentationState
    if source.SamplesPerPixel == 1:
        state = GrayscaleSoftcopyPresentationState(**values)
    else:
        profile = pkgutil.get_data("highdicom", "_icc_profiles/sRGB_v4_ICC_preference.icc")
        state = ColorSoftcopyPresentationState(icc_profile=profile, **values)
    subject.state_side(state)
    subject.restored(state, on_frame=())
    for item in state.GraphicAnnotationSequence:  # the state is of the whole image, the outline of one frame
        item.ReferencedImageSequence[0] = subject.reference()
    return state


def _words(subject: Subject, contour: Contour) -> TextObject:
    """Below the outline, or above it where there is no room."""
    report = subject.report
    height, width = report.scan.shape
    rows, columns = contour.points[:, 0], contour.points[:, 1]
    left, below = float(columns.min()), float(rows.max())
    top = below if below < 0.8 * height else max(0.0, float(rows.min()) - 0.15 * height)
    words = f"{phrases.short_headline(report.prediction)}; {report.disclaimer}"
    return TextObject(
        text_value=plain(words)[:1024],
        units=AnnotationUnitsValues.PIXEL,
        bounding_box=(left, top, min(width, left + 0.5 * width), min(height, top + 0.15 * height)),
    )
