"""A report for a reader: one dark HTML file that loads nothing and needs nothing.

Every text that comes from outside is escaped by the template engine; the page's content security policy allows data:
pictures, its own style and, by hash, its one script.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from sonoseek.core import Box, Explanation, Match, Prediction, Report, Scan, View
from sonoseek.reports import phrases, pictures, warnings
from sonoseek.reports.json import SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True)
class ScaleBar:
    """A length on the picture: its share of the picture's width in percent, and what it says."""

    percent: float
    label: str


def render_html(report: Report) -> str:
    """Write `report` as one self-contained HTML page."""
    evidence = _evidences(report)
    prediction = report.prediction
    top = prediction.likeliest
    bars = [
        {"name": name, "top": name == top, "text": phrases.percent(value), "width": f"{value * 100:.2f}"}
        for name, value in prediction.probabilities.items()
    ]
    heavy, lighter = warnings.leading(report.warnings)
    return render_page(
        "report.html.j2",
        script="report.js",
        values={
            "report": report,
            "scan_url": pictures.scan_url(report.scan),
            "stage": stage(report.scan),
            "scale_bar": scale_bar(report.scan),
            "evidence": evidence,
            "warm_gradient": pictures.css_gradient(pictures.WARM),
            "cool_gradient": pictures.css_gradient(pictures.COOL),
            "headline": phrases.headline(prediction),
            "tone": phrases.display_class(prediction),
            "heavy": heavy,
            "lighter": lighter,
            "scale": likelihood_scale(prediction),
            "likeliest": phrases.likeliest(prediction),
            "prediction_set": phrases.prediction_set(prediction),
            "thresholds": phrases.thresholds(prediction),
            "calibration": phrases.calibration(prediction.calibration),
            "bars": bars,
            "similar_cases": phrases.similar_cases(report),
            "filtered": phrases.filtered(report),
            "left_out": phrases.left_out(report),
            "no_matches": phrases.no_matches(report),
            "novelty": phrases.novelty(report),
            "name": phrases.name(report.scan),
            "size": phrases.details(report.scan),
            "matches": [_match(match, evidence) for match in report.matches],
            "shared_descriptors": [phrases.shared_descriptor(each) for each in report.shared_descriptors],
            "region": None if report.region is None else _rectangle(report.region, report.scan),
            "lesion": None if report.lesion is None else _rectangle(report.lesion, report.scan),
            "lesion_said": None if report.lesion is None else phrases.lesion(report.lesion),
            "region_said": None if report.region is None else phrases.region(report.region),
            "crop_said": None if report.crop is None else phrases.crop(report.crop),
            "refined": phrases.refined(report) if report.liked or report.disliked else None,
            "views": [_view(view, number) for number, view in enumerate(report.views, start=2)],
            "outline": None if report.contour is None else _outline(report),
            "created": f"{report.created:%Y-%m-%d %H:%M:%S %Z}",
            "schema_version": SCHEMA_VERSION,
            "disclaimer": phrases.sentence(report.disclaimer),
        },
    )


def render_page(template: str, *, values: dict[str, Any], script: str | None = None) -> str:
    """Fill a template of this folder; style and script go in whole, the script under its hash.

    Args:
        template: file in `templates`.
        values: for the template; every string among them is escaped.
        script: file in `templates`, or None.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        finalize=_unbroken,
    )
    code = "" if script is None else _template(script)
    digest = base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
    return environment.get_template(template).render(
        **values,
        style=Markup(_template("report.css")),  # noqa: S704  # our own file
        script=Markup(code),  # noqa: S704  # our own file
        script_hash=digest,
    )


def _unbroken(value: Any) -> Any:
    """A number and its percent sign stay on one line."""
    return value.replace(" %", "\u00a0%") if isinstance(value, str) and not isinstance(value, Markup) else value


def likelihood_scale(prediction: Prediction) -> dict[str, Any] | None:
    """The likelihood of malignancy on a scale with the operating points; places are percent of its length.

    None where there is no likelihood to show: the bundle has none, or the scan is unlike the training scans.
    """
    likelihood, point = prediction.likelihood_of_malignancy, prediction.rule_out
    if likelihood is None or prediction.out_of_distribution:
        return None
    return {
        "place": round(100 * likelihood, 2),
        "text": phrases.percent(likelihood),
        "said": phrases.thresholds(prediction),
        "rule_out": 0 if point is None else round(100 * point.threshold, 2),
        "points": [
            {
                "name": phrases.point_name(each).removesuffix(" threshold"),
                "place": round(100 * each.threshold, 2),
                "text": phrases.percent(each.threshold),
                "reached": likelihood >= each.threshold,
            }
            for each in prediction.operating_points
        ],
    }


def stage(scan: Scan) -> dict[str, float]:
    """Width, height and their ratio as the scan is shown: in millimetres where known, so that shapes are true."""
    height, width = scan.shape
    row_mm, column_mm = scan.spacing_mm or (1.0, 1.0)
    ratio = min(max(width * column_mm / (height * row_mm), 0.1), 10.0)  # a broken spacing must not break the page
    return {"width": round(ratio, 5), "height": 1.0, "aspect": round(ratio, 5)}


def scale_bar(scan: Scan) -> ScaleBar | None:
    """The longest round length that takes at most a third of the picture's width; None where spacing is not known."""
    if scan.spacing_mm is None:
        return None
    width_mm = scan.shape[1] * scan.spacing_mm[1]
    fitting = [mm for mm in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200) if mm <= width_mm / 3]
    if not fitting:
        return None
    return ScaleBar(percent=round(100 * fitting[-1] / width_mm, 3), label=f"{fitting[-1]:g} mm")


PAIR_SIDE = 320
"""Pixels of a pair map's layers: twenty of them must not make a heavy page."""
CORNERS = 240
"""Of an outline in the page, at most."""


def _evidences(report: Report) -> list[dict[str, Any]]:
    """Every heatmap on the scan; a match's with what lies on the match's own picture beside it, on one scale."""
    found = []
    for explanation in report.explanations:
        match = next((m for m in report.matches if explanation.target == f"match:{m.scan_id}"), None)
        if match is None:
            found.append({**_evidence(explanation, report), "match": None})
            continue
        both = [explanation, *([] if match.explanation is None else [match.explanation])]
        reference = max(pictures.reference_of(each) for each in both)
        told = _evidence(explanation, report, longest=PAIR_SIDE, reference=reference)
        found.append({**told, "match": _other_side(match, report, reference=reference)})
    return found


def _other_side(match: Match, report: Report, *, reference: float) -> dict[str, Any]:
    """The match's picture and, where the archive keeps its evidence, why it is like the scan."""
    told = match.explanation
    height, width = told.shape if told is not None else pictures.picture_shape(match.picture or b"") or (3, 4)
    ratio = min(max(width / height, 0.1), 10.0)
    return {
        "rank": match.rank,
        "label": match.label,
        "reference": phrases.reference(match.label, match.histology),
        "similarity": phrases.signed(match.similarity, digits=3).lstrip("+"),
        "url": None if match.picture is None else pictures.picture_url(match.picture),
        "aspect": round(ratio, 5),
        "layers": None if told is None else pictures.draw_heatmap(told, longest=PAIR_SIDE, reference=reference),
        "place": f"{match.dataset} / {match.case_id}",
        "words": [f"{feature}: {word}" for feature, word in match.descriptors],
        "gallery": report.gallery_id,
    }


def _rectangle(box: Box, scan: Scan) -> dict[str, float]:
    """A box on the scan, in percent of the scan's width and height."""
    height, width = scan.shape
    top, left = max(box.top, 0.0), max(box.left, 0.0)
    return {
        "x": round(100 * left / width, 3),
        "y": round(100 * top / height, 3),
        "width": round(100 * (min(box.right, width) - left) / width, 3),
        "height": round(100 * (min(box.bottom, height) - top) / height, 3),
    }


def _view(view: View, number: int) -> dict[str, Any]:
    """Another view of the lesion: its picture, its heatmap, and its own prediction."""
    return {
        "number": number,
        "url": pictures.scan_url(view.scan),
        "stage": stage(view.scan),
        "layers": pictures.draw_heatmap(view.explanations[0], longest=PAIR_SIDE) if view.explanations else None,
        "target": view.explanations[0].target if view.explanations else "",
        "headline": phrases.headline(view.prediction),
        "tone": phrases.display_class(view.prediction),
        "said": ", ".join(f"{name} {phrases.percent(p)}" for name, p in view.prediction.probabilities.items()),
        "lesion": None if view.lesion is None else _rectangle(view.lesion, view.scan),
        "lesion_said": None if view.lesion is None else phrases.lesion(view.lesion),
        "source": phrases.name(view.scan),
        "size": phrases.details(view.scan),
    }


def _outline(report: Report) -> dict[str, Any]:
    """The outline as an SVG polygon over the scan, and its measures in words."""
    height, width = report.scan.shape
    points = [] if report.contour is None else report.contour.points.tolist()
    every = max(1, -(-len(points) // CORNERS))
    return {
        "width": width,
        "height": height,
        "points": " ".join(f"{column:.1f},{row:.1f}" for row, column in points[::every]),
        "said": "" if report.contour is None else phrases.contour(report.contour),
    }


def _evidence(
    explanation: Explanation,
    report: Report,
    *,
    longest: int = pictures.HEATMAP_SIDE,
    reference: float | None = None,
) -> dict[str, Any]:
    """One heatmap's layers and the words of its legend."""
    layers = pictures.draw_heatmap(explanation, longest=longest, reference=reference)
    rows, columns = explanation.evidence_map.shape
    digits = 2 if layers.reference < 10 else 1
    return {
        "title": phrases.evidence_title(explanation.method, explanation.target, report),
        "layers": layers,
        "empty": layers.peak < 0.1 * layers.reference,
        "unit": "cosine similarity" if ":" in explanation.target else f"logit of {explanation.target}",
        "short_unit": "cosine" if ":" in explanation.target else "logit",
        "exact": explanation.exact,
        "reference": f"{layers.reference:.{digits}f}",
        "lowest": phrases.signed(layers.lowest, digits=digits),
        "highest": phrases.signed(layers.highest, digits=digits),
        "floor": f"{pictures.floor(explanation):g}",
        "sum": phrases.signed(float(explanation.heatmap.sum(dtype=np.float64))),
        "bias": phrases.signed(explanation.bias),
        "value": phrases.signed(explanation.value),
        "grid": f"{rows} × {columns} cells",
    }


def _match(match: Match, evidence: list[dict[str, Any]]) -> dict[str, Any]:
    """What a card shows."""
    shown = [number for number, each in enumerate(evidence) if each["match"] and each["match"]["rank"] == match.rank]
    return {
        "evidence": shown[0] if shown else None,
        "words": ", ".join(word for _, word in match.descriptors),
        "rank": match.rank,
        "label": match.label,
        "reference": phrases.reference(match.label, match.histology),
        "proven": match.histology is not None,
        "birads": match.birads,
        "similarity": phrases.signed(match.similarity, digits=3).lstrip("+"),
        "distance": f"{1.0 - match.similarity:.3f}",
        "width": f"{max(match.similarity, 0.0) * 100:.1f}",
        "behind": phrases.behind(match),
        "histology": match.histology,
        "device": match.device,
        "dataset": match.dataset,
        "case_id": match.case_id,
        "url": None if match.picture is None else pictures.picture_url(match.picture),
    }


def _template(name: str) -> str:
    return resources.files("sonoseek.reports").joinpath("templates", name).read_text("utf-8")
