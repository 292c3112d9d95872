"""A report for programs: plain JSON under a published, versioned schema.

Within a schema version keys neither vanish nor change their meaning. Pictures of matches are left out: they belong to
the archive. So are the heatmaps' pixels unless asked for: `evidence_map`, of which they are the up-sampling, has the
same content.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from datetime import UTC
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import (
    Box,
    CalibrationSource,
    Contour,
    Explanation,
    InvalidValueError,
    LabelCounts,
    Match,
    Prediction,
    Report,
    Scan,
    SharedDescriptor,
)
from sonoseek.reports import document as parts
from sonoseek.reports import phrases
from sonoseek.reports.document import HEATMAP_ENCODING, MAP_ENCODING, SCHEMA_VERSION, document_schema


def render_json(report: Report, *, heatmaps: bool = False) -> str:
    """Write `report` as JSON, indented, ending in a newline.

    Args:
        report: of `SearchEngine.query`.
        heatmaps: also give each heatmap's pixels; `decode_heatmap` turns them back into an array.

    Raises:
        InvalidValueError: a number is not finite; JSON has no word for it.
    """
    return msgspec.json.format(encode_json(report, heatmaps=heatmaps), indent=1).decode("utf-8") + "\n"


def encode_json(report: Report, *, heatmaps: bool = False) -> bytes:
    """The same without white space; for web servers.

    Raises:
        InvalidValueError: a number is not finite.
    """
    return msgspec.json.encode(report_document(report, heatmaps=heatmaps))


def report_document(report: Report, *, heatmaps: bool = False) -> parts.ReportDocument:
    """`report` as the structure that is written, valid under `report_schema`.

    Raises:
        InvalidValueError: a number is not finite.
    """
    similar, out = report.similar_cases, report.left_out
    return parts.ReportDocument(
        schema="sonoseek-report",
        schema_version="3",
        disclaimer=report.disclaimer,
        headline=phrases.headline(report.prediction),
        warnings=[parts.WarningPart(severity=w.severity, code=w.code, text=w.text) for w in report.warnings],
        prediction=_prediction(report.prediction),
        similar_cases=parts.SimilarCasesPart(
            labels=dict(similar.labels), total=similar.total, agreement=_optional(report.agreement, "agreement")
        ),
        hidden_by_filter=None if report.hidden is None else _counts(report.hidden),
        left_out=None
        if out is None
        else parts.LeftOutPart(
            scans=out.scans, same_scan=out.same_scan, same_patient=out.same_patient, same_group=out.same_group
        ),
        novelty=_optional(report.novelty, "novelty"),
        matches=[_match(match, pixels=heatmaps) for match in report.matches],
        shared_descriptors=[_shared(each) for each in report.shared_descriptors],
        scan=_scan(report.scan),
        views=[
            parts.ViewPart(
                scan=_scan(view.scan),
                prediction=_prediction(view.prediction),
                explanations=[_explanation(each, pixels=heatmaps) for each in view.explanations],
                lesion=None if view.lesion is None else _box(view.lesion),
            )
            for view in report.views
        ],
        explanations=[_explanation(each, pixels=heatmaps) for each in report.explanations],
        contour=None if report.contour is None else _contour(report.contour),
        where=report.where,
        region=None if report.region is None else _box(report.region),
        crop=None if report.crop is None else _box(report.crop),
        lesion=None if report.lesion is None else _box(report.lesion),
        liked=list(report.liked),
        disliked=list(report.disliked),
        bundle_id=report.bundle_id,
        gallery_id=report.gallery_id,
        gallery_state=report.gallery_state,
        version=report.version,
        created=report.created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )


def report_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) that every JSON report satisfies."""
    return document_schema()


def decode_heatmap(heatmap: Mapping[str, Any]) -> NDArray[np.float32]:
    """Turn the `heatmap` of a JSON report back into float32 (H, W), exact to about 0.05 % of each value.

    Raises:
        InvalidValueError: it is not what `render_json(report, heatmaps=True)` writes.
    """
    what = "heatmap of a JSON report written with heatmaps=True: pass document['explanations'][i]['heatmap']"
    numbers = _unpacked(heatmap, "<f2", encoding=HEATMAP_ENCODING, what=what)
    scale = heatmap.get("scale")
    if not isinstance(scale, int | float) or not math.isfinite(scale):
        raise InvalidValueError(f"scale is {scale!r}; it is a finite number. This is no {what}.")
    return numbers * np.float32(scale)


def decode_evidence_map(evidence_map: Mapping[str, Any]) -> NDArray[np.float32]:
    """Turn the `evidence_map` of a JSON report back into float32 (h, w), exactly.

    Raises:
        InvalidValueError: it is not what `render_json` writes.
    """
    what = "evidence map of a JSON report: pass document['explanations'][i]['evidence_map']"
    return _unpacked(evidence_map, "<f4", encoding=MAP_ENCODING, what=what)


def _unpacked(packed: Mapping[str, Any], dtype: str, *, encoding: str, what: str) -> NDArray[np.float32]:
    try:
        found = packed["encoding"]
        height, width = (int(side) for side in packed["shape"])
        size = np.dtype(dtype).itemsize * height * width
        data = zlib.decompressobj().decompress(base64.b64decode(packed["data"], validate=True), size + 1)
        numbers = np.frombuffer(data, dtype).reshape(height, width).astype(np.float32)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise InvalidValueError(f"this does not decode ({error}); it is no {what}.") from error
    if found != encoding:
        raise InvalidValueError(f"encoding is {found!r}; this version reads {encoding!r}. Update sonoseek.")
    return numbers


def _scan(scan: Scan) -> parts.ScanPart:
    height, width = scan.shape
    spacing = scan.spacing_mm
    return parts.ScanPart(
        scan_id=scan.scan_id,
        height=height,
        width=width,
        spacing_mm=None if spacing is None else [_number(side, "spacing_mm") for side in spacing],
        laterality=scan.laterality,
        view=scan.view,
        frame=scan.frame,
        frames=scan.frames,
        patient_id=scan.patient_id,
        source=scan.source,
    )


def _prediction(prediction: Prediction) -> parts.PredictionPart:
    likelihood = prediction.likelihood_of_malignancy
    return parts.PredictionPart(
        likelihood_of_malignancy=_optional(likelihood, "likelihood_of_malignancy"),
        operating_points=[
            parts.OperatingPointPart(
                name=point.name,
                threshold=point.threshold,
                sensitivity=point.sensitivity,
                specificity=point.specificity,
                reached=likelihood is not None and likelihood >= point.threshold,
            )
            for point in prediction.operating_points
        ],
        fitted_on=prediction.fitted_on,
        calibration=_calibration(prediction.calibration),
        likeliest=prediction.likeliest,
        label=prediction.label,
        probabilities={name: _number(value, "probabilities") for name, value in prediction.probabilities.items()},
        prediction_set=parts.PredictionSetPart(
            coverage=_number(prediction.coverage, "coverage"), classes=list(prediction.prediction_set)
        ),
        entropy=_number(prediction.entropy, "entropy"),
        ood_score=_optional(prediction.ood_score, "ood_score"),
    )


def _calibration(source: CalibrationSource) -> parts.CalibrationPart:
    return parts.CalibrationPart(
        source="bundle" if source.cases is None else "archive",
        cases=source.cases,
        fitted=None if source.fitted is None else source.fitted.isoformat(),
        bundle_points=list(source.bundle_points),
        text=phrases.calibration(source),
    )


def _counts(counts: LabelCounts) -> parts.LabelCountsPart:
    return parts.LabelCountsPart(labels=dict(counts.labels), total=counts.total)


def _box(box: Box) -> parts.BoxPart:
    return parts.BoxPart(**{name: _number(getattr(box, name), name) for name in ("top", "left", "bottom", "right")})


def _shared(shared: SharedDescriptor) -> parts.SharedDescriptorPart:
    return parts.SharedDescriptorPart(
        feature=shared.feature,
        descriptor=shared.descriptor,
        matches=shared.matches,
        described=shared.described,
        share=_number(shared.share, "share"),
    )


def _contour(contour: Contour) -> parts.ContourPart:
    measures = ("longest_mm", "shortest_mm", "area_mm2", "depth_mm", "height_mm", "width_mm")
    return parts.ContourPart(
        estimate=True,
        **{name: _optional(getattr(contour, name), name) for name in measures},
        area_pixels=_number(contour.area_pixels, "area_pixels"),
        taller_than_wide=contour.taller_than_wide,
        level=_number(contour.level, "level"),
        points=[
            [_number(round(row, 2), "points"), _number(round(column, 2), "points")]
            for row, column in contour.points.tolist()
        ],
    )


def _match(match: Match, *, pixels: bool) -> parts.MatchPart:
    similarity = _number(match.similarity, "similarity")
    birads: Any = match.birads
    return parts.MatchPart(
        rank=match.rank,
        case_id=match.case_id,
        scan_id=match.scan_id,
        dataset=match.dataset,
        label=match.label,
        pathology_proven=match.histology is not None,
        similarity=similarity,
        distance=1.0 - similarity,
        birads=birads,
        histology=match.histology,
        device=match.device,
        patient_id=match.patient_id,
        group=match.group,
        near_duplicates=match.near_duplicates,
        same_patient=match.same_patient,
        descriptors=[parts.DescriptorPart(feature=feature, descriptor=word) for feature, word in match.descriptors],
        explanation=None if match.explanation is None else _explanation(match.explanation, pixels=pixels),
    )


def _explanation(explanation: Explanation, *, pixels: bool) -> parts.ExplanationPart:
    height, width = explanation.shape
    peak = explanation.peak
    rows, columns = explanation.evidence_map.shape
    return parts.ExplanationPart(
        target=explanation.target,
        method=explanation.method,
        exact=explanation.exact,
        value=_number(explanation.value, "value"),
        bias=_number(explanation.bias, "bias"),
        sum=_number(float(explanation.evidence_map.sum(dtype=np.float64)), "heatmap"),
        peak=_number(peak, "heatmap"),
        shape=[height, width],
        evidence_map=parts.MapPart(
            encoding=MAP_ENCODING, shape=[rows, columns], data=_packed(explanation.evidence_map.astype("<f4"))
        ),
        heatmap=_heatmap(explanation, scale=peak or 1.0) if pixels else msgspec.UNSET,
    )


def _heatmap(explanation: Explanation, *, scale: float) -> parts.HeatmapPart:
    """Relative to the peak: float16 holds nothing below 6e-8, and a pixel's share of a logit can be smaller."""
    height, width = explanation.shape
    return parts.HeatmapPart(
        encoding=HEATMAP_ENCODING,
        shape=[height, width],
        scale=scale,
        data=_packed((explanation.heatmap / np.float32(scale)).astype("<f2")),
    )


def _packed(numbers: NDArray[np.floating]) -> str:
    return base64.b64encode(zlib.compress(numbers.tobytes(), 6)).decode("ascii")


def _number(value: float, name: str) -> float:
    """A plain finite float."""
    if not math.isfinite(value):
        raise InvalidValueError(
            f"{name} holds {value}; a report's numbers are finite. The bundle is damaged: export it again."
        )
    return float(value)


def _optional(value: float | None, name: str) -> float | None:
    return None if value is None else _number(value, name)


__all__ = [
    "SCHEMA_VERSION",
    "render_json",
    "encode_json",
    "report_document",
    "report_schema",
    "decode_heatmap",
    "decode_evidence_map",
]
