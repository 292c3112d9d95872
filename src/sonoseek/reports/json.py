"""A report for programs: plain JSON under a published, versioned schema.

Within a schema version no key is removed and no key changes its meaning. Images of matches are left out: they belong to
the archive. The heatmaps' pixels are optional: they are the up-sampling of `evidence_map`, which has the same content.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping
from datetime import UTC
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from sonoseek.core import (
    Box,
    Contour,
    Explanation,
    InvalidValueError,
    LabelCounts,
    Match,
    Prediction,
    Report,
    Scan,
)
from sonoseek.reports import document as parts
from sonoseek.reports import phrases
from sonoseek.reports.document import HEATMAP_ENCODING, MAP_ENCODING, SCHEMA_VERSION, report_schema

Part = TypeVar("Part", bound=msgspec.Struct)


def render_json(report: Report, *, heatmaps: bool = False) -> str:
    """Write `report` as JSON, indented, ending in a newline.

    Args:
        report: of `SearchEngine.query`.
        heatmaps: add each heatmap's pixels; `decode_heatmap` turns them back into an array.

    Raises:
        InvalidValueError: a number is not finite; JSON cannot express it.
    """
    return msgspec.json.format(encode_json(report, heatmaps=heatmaps), indent=1).decode("utf-8") + "\n"


def encode_json(report: Report, *, heatmaps: bool = False) -> bytes:
    """The same as bytes, without white space; for web servers.

    Raises:
        InvalidValueError: a number is not finite.
    """
    return msgspec.json.encode(report_document(report, heatmaps=heatmaps))


def report_document(report: Report, *, heatmaps: bool = False) -> parts.ReportDocument:
    """`report` as the structure that is written, valid under `report_schema`.

    Raises:
        InvalidValueError: a number is not finite.
    """
    return _part(
        parts.ReportDocument,
        report,
        schema="sonoseek-report",
        schema_version=SCHEMA_VERSION,
        headline=phrases.headline(report.prediction),
        warnings=[_part(parts.WarningPart, each) for each in report.warnings],
        prediction=_prediction(report.prediction),
        similar_cases=_counts(parts.SimilarCasesPart, report.similar_cases, agreement=report.agreement),
        hidden_by_filter=None if report.hidden is None else _counts(parts.LabelCountsPart, report.hidden),
        left_out=None if report.left_out is None else _part(parts.LeftOutPart, report.left_out),
        matches=[_match(match, heatmaps=heatmaps) for match in report.matches],
        shared_descriptors=[_part(parts.SharedDescriptorPart, each) for each in report.shared_descriptors],
        scan=_scan(report.scan),
        views=[
            parts.ViewPart(
                scan=_scan(view.scan),
                prediction=_prediction(view.prediction),
                explanations=[_explanation(each, heatmaps=heatmaps) for each in view.explanations],
                lesion=_box(view.lesion),
            )
            for view in report.views
        ],
        explanations=[_explanation(each, heatmaps=heatmaps) for each in report.explanations],
        contour=None if report.contour is None else _contour(report.contour),
        region=_box(report.region),
        crop=_box(report.crop),
        lesion=_box(report.lesion),
        liked=list(report.liked),
        disliked=list(report.disliked),
        created=report.created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )


def decode_heatmap(heatmap: Mapping[str, Any]) -> NDArray[np.float32]:
    """Turn the `heatmap` of a JSON report back into float32 (H, W), exact to about 0.05 % of each value.

    Raises:
        InvalidValueError: it is not what `render_json(report, heatmaps=True)` writes.
    """
    what = "heatmap of a JSON report written with heatmaps=True: document['explanations'][i]['heatmap']"
    numbers = _unpacked(heatmap, "<f2", encoding=HEATMAP_ENCODING, what=what)
    scale = heatmap.get("scale")
    if not isinstance(scale, int | float) or not math.isfinite(scale):
        raise InvalidValueError(f"scale is {scale!r}; it must be a finite number. Pass a {what}.")
    return numbers * np.float32(scale)


def decode_evidence_map(evidence_map: Mapping[str, Any]) -> NDArray[np.float32]:
    """Turn the `evidence_map` of a JSON report back into float32 (h, w), exactly.

    Raises:
        InvalidValueError: it is not what `render_json` writes.
    """
    what = "evidence map of a JSON report: document['explanations'][i]['evidence_map']"
    return _unpacked(evidence_map, "<f4", encoding=MAP_ENCODING, what=what)


def _unpacked(packed: Mapping[str, Any], dtype: str, *, encoding: str, what: str) -> NDArray[np.float32]:
    try:
        written = packed["encoding"]
        height, width = (int(side) for side in packed["shape"])
        size = np.dtype(dtype).itemsize * height * width
        data = zlib.decompressobj().decompress(base64.b64decode(packed["data"], validate=True), size + 1)
        numbers = np.frombuffer(data, dtype).reshape(height, width).astype(np.float32)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise InvalidValueError(f"this does not decode ({error}). Pass a {what}.") from error
    if written != encoding:
        raise InvalidValueError(f"encoding is {written!r}; this version reads {encoding!r}. Update sonoseek.")
    return numbers


def _part(part: type[Part], source: object, /, **values: Any) -> Part:
    """A part of the document: each key is the attribute of `source` with that name, unless `values` gives it."""
    fields = {name: values[name] if name in values else getattr(source, name) for name in part.__struct_fields__}
    return part(**{name: _number(v, name) if isinstance(v, float | np.floating) else v for name, v in fields.items()})


def _number(value: float | np.floating[Any], name: str) -> float:
    """A plain finite float."""
    if not math.isfinite(value):
        raise InvalidValueError(
            f"{name} holds {value}; a report's numbers are finite. The bundle is damaged: export it again."
        )
    return float(value)


def _scan(scan: Scan) -> parts.ScanPart:
    height, width = scan.shape
    spacing = None if scan.spacing_mm is None else [_number(side, "spacing_mm") for side in scan.spacing_mm]
    return _part(parts.ScanPart, scan, height=height, width=width, spacing_mm=spacing)


def _prediction(prediction: Prediction) -> parts.PredictionPart:
    likelihood, calibration = prediction.likelihood_of_malignancy, prediction.calibration
    return _part(
        parts.PredictionPart,
        prediction,
        operating_points=[
            _part(parts.OperatingPointPart, point, reached=likelihood is not None and likelihood >= point.threshold)
            for point in prediction.operating_points
        ],
        calibration=_part(
            parts.CalibrationPart,
            calibration,
            source="bundle" if calibration.cases is None else "archive",
            fitted=None if calibration.fitted is None else calibration.fitted.isoformat(),
            bundle_points=list(calibration.bundle_points),
            text=phrases.calibration(calibration),
        ),
        probabilities={name: _number(value, "probabilities") for name, value in prediction.probabilities.items()},
        prediction_set=_part(parts.PredictionSetPart, prediction, classes=list(prediction.prediction_set)),
    )


def _counts(part: type[Part], counts: LabelCounts, /, **values: Any) -> Part:
    return _part(part, counts, labels=dict(counts.labels), **values)


def _box(box: Box | None) -> parts.BoxPart | None:
    if box is None:
        return None
    return parts.BoxPart(**{name: _number(getattr(box, name), name) for name in parts.BoxPart.__struct_fields__})


def _contour(contour: Contour) -> parts.ContourPart:
    points = [[_number(round(value, 2), "points") for value in point] for point in contour.points.tolist()]
    return _part(parts.ContourPart, contour, estimate=True, points=points)


def _match(match: Match, *, heatmaps: bool) -> parts.MatchPart:
    return _part(
        parts.MatchPart,
        match,
        pathology_proven=match.histology is not None,
        group=None if match.group == match.patient_id else match.group,
        distance=1.0 - match.similarity,
        descriptors=[parts.DescriptorPart(feature=name, descriptor=value) for name, value in match.descriptors],
        explanation=None if match.explanation is None else _explanation(match.explanation, heatmaps=heatmaps),
    )


def _explanation(explanation: Explanation, *, heatmaps: bool) -> parts.ExplanationPart:
    evidence_map = explanation.evidence_map
    return _part(
        parts.ExplanationPart,
        explanation,
        sum=float(evidence_map.sum(dtype=np.float64)),
        shape=list(explanation.shape),
        evidence_map=parts.MapPart(
            encoding=MAP_ENCODING, shape=list(evidence_map.shape), data=_packed(evidence_map.astype("<f4"))
        ),
        heatmap=_heatmap(explanation, scale=explanation.peak or 1.0) if heatmaps else msgspec.UNSET,
    )


def _heatmap(explanation: Explanation, *, scale: float) -> parts.HeatmapPart:
    """Scaled by the peak: float16 has no values below 6e-8, and a pixel's part of a logit can be smaller."""
    return parts.HeatmapPart(
        encoding=HEATMAP_ENCODING,
        shape=list(explanation.shape),
        scale=scale,
        data=_packed((explanation.heatmap / np.float32(scale)).astype("<f2")),
    )


def _packed(numbers: NDArray[np.floating]) -> str:
    return base64.b64encode(zlib.compress(numbers.tobytes(), 6)).decode("ascii")


__all__ = [
    "SCHEMA_VERSION",
    "render_json",
    "encode_json",
    "report_document",
    "report_schema",
    "decode_heatmap",
    "decode_evidence_map",
]
