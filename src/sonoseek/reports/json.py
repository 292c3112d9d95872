"""A report for programs: plain JSON under a published, versioned schema.

Within schema version "1" keys neither vanish nor change their meaning. Pictures of matches are left out: they belong to
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

from sonoseek.core import Explanation, InvalidValueError, Match, Report
from sonoseek.reports.words import likeliest

SCHEMA_VERSION = "1"
HEATMAP_ENCODING = "base64/zlib/float16-le"
"""Row-major little-endian float16 numbers, zlib, base64; times `scale` they are the heatmap."""


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
    height, width = report.scan.shape
    spacing = report.scan.spacing_mm
    prediction = report.prediction
    return {
        "schema": "sonoseek-report",
        "schema_version": SCHEMA_VERSION,
        "disclaimer": report.disclaimer,
        "version": report.version,
        "created": report.created.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "bundle_id": report.bundle_id,
        "gallery_id": report.gallery_id,
        "where": report.where,
        "scan": {
            "scan_id": report.scan_id,
            "height": height,
            "width": width,
            "spacing_mm": None if spacing is None else [_number(side, "spacing_mm") for side in spacing],
            "laterality": report.scan.laterality,
            "patient_id": report.scan.patient_id,
            "source": report.scan.source,
        },
        "prediction": {
            "label": prediction.label,
            "likeliest": likeliest(prediction),
            "probabilities": {
                name: _number(value, "probabilities") for name, value in prediction.probabilities.items()
            },
            "prediction_set": list(prediction.prediction_set),
            "entropy": _number(prediction.entropy, "entropy"),
            "unfamiliarity": (
                None if prediction.unfamiliarity is None else _number(prediction.unfamiliarity, "unfamiliarity")
            ),
        },
        "agreement": None if report.agreement is None else _number(report.agreement, "agreement"),
        "novelty": None if report.novelty is None else _number(report.novelty, "novelty"),
        "warnings": list(report.warnings),
        "matches": [_match(match) for match in report.matches],
        "explanations": [_explanation(each, pixels=heatmaps) for each in report.explanations],
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


def _match(match: Match) -> dict[str, Any]:
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
    }


def _explanation(explanation: Explanation, *, pixels: bool) -> dict[str, Any]:
    height, width = explanation.heatmap.shape
    written: dict[str, Any] = {
        "target": explanation.target,
        "method": explanation.method,
        "explained": _number(explanation.explained, "explained"),
        "bias": _number(explanation.bias, "bias"),
        "sum": _number(float(explanation.heatmap.sum(dtype=np.float64)), "heatmap"),
        "peak": _number(explanation.peak, "heatmap"),
        "shape": [height, width],
        "cells": [[_number(float(f"{value:.8g}"), "cells") for value in row] for row in explanation.cells.tolist()],
    }
    if pixels:
        # Float16 holds nothing below 6e-8, and a pixel's share of a logit can be smaller: relative to the peak.
        scale = explanation.peak or 1.0
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
