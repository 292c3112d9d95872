"""A report for programs: plain JSON under a published, versioned schema.

Within a schema version keys neither vanish nor change their meaning. Pictures of matches are left out: they belong to
the archive. So are the heatmaps' pixels unless asked for: `cells`, of which they are the up-sampling, say the same.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from datetime import UTC
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonoseek.core import (
    Box,
    Contour,
    Explanation,
    InvalidValueError,
    Match,
    Prediction,
    Report,
    Scan,
    SharedWord,
)
from sonoseek.reports.words import likeliest

SCHEMA_VERSION = "2"
HEATMAP_ENCODING = "base64/zlib/float16-le"
"""Row-major little-endian float16 numbers, zlib, base64; times `scale` they are the heatmap."""
CELLS_ENCODING = "base64/zlib/float32-le"
"""Row-major little-endian float32 numbers, zlib, base64."""


def render_json(report: Report, *, heatmaps: bool = False) -> str:
    """Write `report` as JSON, indented, ending in a newline.

    Args:
        report: of `SearchEngine.query`.
        heatmaps: also give each heatmap's pixels; `decode_heatmap` turns them back into an array.

    Raises:
        InvalidValueError: a number is not finite; JSON has no word for it.
    """
    return json.dumps(report_document(report, heatmaps=heatmaps), ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def report_document(report: Report, *, heatmaps: bool = False) -> dict[str, Any]:
    """`report` as plain dicts, lists, strings and numbers, valid under `report_schema`; for web servers and for tests.

    Raises:
        InvalidValueError: a number is not finite.
    """
    return {
        "schema": "sonoseek-report",
        "schema_version": SCHEMA_VERSION,
        "disclaimer": report.disclaimer,
        "version": report.version,
        "created": report.created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "bundle_id": report.bundle_id,
        "gallery_id": report.gallery_id,
        "gallery_state": report.gallery_state,
        "where": report.where,
        "scan": _scan(report.scan),
        "prediction": _prediction(report.prediction),
        "views": [
            {
                "scan": _scan(view.scan),
                "prediction": _prediction(view.prediction),
                "explanations": [_explanation(each, pixels=heatmaps) for each in view.explanations],
            }
            for view in report.views
        ],
        "region": None if report.region is None else _region(report.region),
        "crop": None if report.crop is None else _region(report.crop),
        "liked": list(report.liked),
        "disliked": list(report.disliked),
        "agreement": None if report.agreement is None else _number(report.agreement, "agreement"),
        "novelty": None if report.novelty is None else _number(report.novelty, "novelty"),
        "warnings": list(report.warnings),
        "matches": [_match(match, pixels=heatmaps) for match in report.matches],
        "explanations": [_explanation(each, pixels=heatmaps) for each in report.explanations],
        "shared_words": [_shared_word(each) for each in report.shared_words],
        "contour": None if report.contour is None else _contour(report.contour),
    }


def report_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) that every JSON report satisfies."""
    name = f"schema/report-{SCHEMA_VERSION}.schema.json"
    schema: dict[str, Any] = json.loads(resources.files("sonoseek.reports").joinpath(name).read_text("utf-8"))
    return schema


def decode_heatmap(heatmap: Mapping[str, Any]) -> NDArray[np.float32]:
    """Turn the `heatmap` of a JSON report back into float32 (H, W), exact to about 0.05 % of each value.

    Raises:
        InvalidValueError: it is not what `render_json(report, heatmaps=True)` writes.
    """
    try:
        encoding = heatmap["encoding"]
        height, width = (int(side) for side in heatmap["shape"])
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(heatmap["data"], validate=True), 2 * height * width + 1)
        flat = np.frombuffer(data, "<f2").reshape(height, width)
        pixels = flat.astype(np.float32) * np.float32(heatmap["scale"])
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise InvalidValueError(
            f"this is no heatmap of a JSON report ({error}); pass document['explanations'][i]['heatmap'] of a report "
            "written with heatmaps=True."
        ) from error
    if encoding != HEATMAP_ENCODING:
        raise InvalidValueError(f"encoding is {encoding!r}; this version reads {HEATMAP_ENCODING!r}. Update sonoseek.")
    return pixels


def decode_cells(cells: Mapping[str, Any]) -> NDArray[np.float32]:
    """Turn the `cells` of a JSON report back into float32 (h, w), exactly.

    Raises:
        InvalidValueError: it is not what `render_json` writes.
    """
    try:
        encoding = cells["encoding"]
        height, width = (int(side) for side in cells["shape"])
        data = zlib.decompressobj().decompress(base64.b64decode(cells["data"], validate=True), 4 * height * width + 1)
        numbers = np.frombuffer(data, "<f4").reshape(height, width).astype(np.float32)
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise InvalidValueError(
            f"these are no cells of a JSON report ({error}); pass document['explanations'][i]['cells']."
        ) from error
    if encoding != CELLS_ENCODING:
        raise InvalidValueError(f"encoding is {encoding!r}; this version reads {CELLS_ENCODING!r}. Update sonoseek.")
    return numbers


def _scan(scan: Scan) -> dict[str, Any]:
    height, width = scan.shape
    spacing = scan.spacing_mm
    return {
        "scan_id": scan.scan_id,
        "height": height,
        "width": width,
        "spacing_mm": None if spacing is None else [_number(side, "spacing_mm") for side in spacing],
        "laterality": scan.laterality,
        "patient_id": scan.patient_id,
        "source": scan.source,
    }


def _prediction(prediction: Prediction) -> dict[str, Any]:
    strange = prediction.unfamiliarity
    return {
        "label": prediction.label,
        "likeliest": likeliest(prediction),
        "probabilities": {name: _number(value, "probabilities") for name, value in prediction.probabilities.items()},
        "prediction_set": list(prediction.prediction_set),
        "entropy": _number(prediction.entropy, "entropy"),
        "unfamiliarity": None if strange is None else _number(strange, "unfamiliarity"),
    }


def _region(box: Box) -> dict[str, float]:
    return {name: _number(getattr(box, name), "region") for name in ("top", "left", "bottom", "right")}


def _shared_word(word: SharedWord) -> dict[str, Any]:
    return {
        "feature": word.feature,
        "word": word.word,
        "matches": word.matches,
        "described": word.described,
        "share": _number(word.share, "share"),
    }


def _contour(contour: Contour) -> dict[str, Any]:
    measures = ("longest_mm", "shortest_mm", "area_mm2", "depth_mm", "height_mm", "width_mm")
    told: dict[str, float | None] = {name: getattr(contour, name) for name in measures}
    return {
        "estimate": True,
        **{name: None if value is None else _number(value, name) for name, value in told.items()},
        "area_pixels": _number(contour.area_pixels, "area_pixels"),
        "taller_than_wide": contour.taller_than_wide,
        "level": _number(contour.level, "level"),
        "points": [
            [_number(round(row, 2), "points"), _number(round(column, 2), "points")]
            for row, column in contour.points.tolist()
        ],
    }


def _match(match: Match, *, pixels: bool) -> dict[str, Any]:
    similarity = _number(match.similarity, "similarity")
    return {
        "rank": match.rank,
        "case_id": match.case_id,
        "scan_id": match.scan_id,
        "dataset": match.dataset,
        "label": match.label,
        "similarity": similarity,
        "distance": 1.0 - similarity,
        "birads": match.birads,
        "histology": match.histology,
        "device": match.device,
        "patient_id": match.patient_id,
        "group": match.group,
        "folded": match.near_duplicates + match.same_patient,
        "descriptors": [{"feature": feature, "word": word} for feature, word in match.descriptors],
        "explanation": None if match.explanation is None else _explanation(match.explanation, pixels=pixels),
    }


def _explanation(explanation: Explanation, *, pixels: bool) -> dict[str, Any]:
    height, width = explanation.shape
    peak = explanation.peak
    rows, columns = explanation.cells.shape
    written: dict[str, Any] = {
        "target": explanation.target,
        "method": explanation.method,
        "exact": explanation.exact,
        "explained": _number(explanation.explained, "explained"),
        "bias": _number(explanation.bias, "bias"),
        "sum": _number(float(explanation.cells.sum(dtype=np.float64)), "heatmap"),
        "peak": _number(peak, "heatmap"),
        "shape": [height, width],
        "cells": {
            "encoding": CELLS_ENCODING,
            "shape": [rows, columns],
            "data": base64.b64encode(zlib.compress(explanation.cells.astype("<f4").tobytes(), 6)).decode("ascii"),
        },
    }
    if pixels:
        # Float16 holds nothing below 6e-8, and a pixel's share of a logit can be smaller: relative to the peak.
        scale = peak or 1.0
        packed = zlib.compress((explanation.heatmap / np.float32(scale)).astype("<f2").tobytes(), 6)
        written["heatmap"] = {
            "encoding": HEATMAP_ENCODING,
            "shape": [height, width],
            "scale": scale,
            "data": base64.b64encode(packed).decode("ascii"),
        }
    return written


def _number(value: float, name: str) -> float:
    """A plain finite float."""
    if not math.isfinite(value):
        raise InvalidValueError(
            f"{name} holds {value}; a report's numbers are finite. The bundle that spoke is damaged: export it again."
        )
    return float(value)
