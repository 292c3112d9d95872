"""A report for a reader: one self-contained HTML file, dark on the screen, light in print.

The template engine escapes every text; the content security policy allows data: images, the page's own style and, by
hash, its one script.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from sonoseek.core import Box, Explanation, Match, Prediction, Report, Scan, View
from sonoseek.reports import phrases, pictures, warnings
from sonoseek.reports.json import SCHEMA_VERSION


def render_html(report: Report) -> str:
    """Write `report` as one self-contained HTML page."""
    evidence = _heatmaps(report)
    prediction = report.prediction
    top = prediction.likeliest
    bars = [
        {"name": name, "top": name == top, "text": phrases.percent(value), "width": f"{value * 100:.2f}"}
        for name, value in prediction.probabilities.items()
    ]
    leading, others = warnings.leading(report.warnings)
    return render_page(
        "report.html.j2",
        script="report.js",
        values={
            **phrases.texts(report),
            "report": report,
            "scan_url": pictures.scan_url(report.scan),
            "aspect": _aspect(report.scan),
            "scale_bar": pictures.scale_bar(report.scan.shape[1], report.scan.spacing_mm),
            "evidence": evidence,
            "warm_gradient": pictures.css_gradient(pictures.WARM),
            "cool_gradient": pictures.css_gradient(pictures.COOL),
            "display_class": phrases.display_class(prediction),
            "leading": leading,
            "others": others,
            "scale": likelihood_scale(prediction),
            "bars": bars,
            "name": phrases.name(report.scan),
            "details": phrases.details(report.scan),
            "matches": [_match(match, evidence) for match in report.matches],
            "region_box": None if report.region is None else _rectangle(report.region, report.scan),
            "lesion_box": None if report.lesion is None else _rectangle(report.lesion, report.scan),
            "views": [_view(view, number) for number, view in enumerate(report.views, start=2)],
            "outline": None if report.contour is None else _outline(report),
            "created": f"{report.created:%Y-%m-%d %H:%M:%S %Z}",
            "schema_version": SCHEMA_VERSION,
            "disclaimer": phrases.sentence(report.disclaimer),
        },
    )


def render_page(template: str, *, values: dict[str, Any], script: str | None = None) -> str:
    """Fill a template with values, the style and the script, which the page's policy allows by its hash.

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
        finalize=_keep_percent_together,
    )
    code = "" if script is None else _template(script)
    digest = base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
    return environment.get_template(template).render(
        **values,
        style=Markup(_template("report.css")),  # noqa: S704  # our own file
        script=Markup(code),  # noqa: S704  # our own file
        script_hash=digest,
    )


def _keep_percent_together(value: Any) -> Any:
    """A number and its percent sign on one line."""
    return value.replace(" %", "\u00a0%") if isinstance(value, str) and not isinstance(value, Markup) else value


def likelihood_scale(prediction: Prediction) -> dict[str, Any] | None:
    """The likelihood of malignancy on a scale with the operating points; places are percent of its length.

    None where there is no likelihood: the bundle has no class malignant, or the scan is out of distribution.
    """
    likelihood, point = prediction.likelihood_of_malignancy, prediction.rule_out
    if likelihood is None or prediction.out_of_distribution:
        return None
    return {
        "place": round(100 * likelihood, 2),
        "text": phrases.percent(likelihood),
        "thresholds": phrases.thresholds(prediction),
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


def _aspect(scan: Scan) -> float:
    return round(pictures.display_aspect(scan.shape, scan.spacing_mm), 5)


PAIR_SIDE = 320
"""Pixels of the layers of a pair's heatmaps: a page may have twenty of them."""
CORNERS = 240
"""Most corners of an outline in the page."""


def _heatmaps(report: Report) -> list[dict[str, Any]]:
    """Every heatmap on all views; that of a match with the one on the match's own image. Each has one scale."""
    heatmaps = []
    for explanation in report.explanations:
        match = next((m for m in report.matches if explanation.target == f"match:{m.scan_id}"), None)
        reference = pictures.shared_reference(report, explanation)
        longest = pictures.HEATMAP_SIDE if match is None else PAIR_SIDE
        own = _evidence(explanation, report, longest=longest, reference=reference)
        image = None if match is None else _match_image(match, report, reference=reference)
        heatmaps.append({**own, "match": image, "views": _on_further_views(explanation, report, reference=reference)})
    return heatmaps


def _on_further_views(explanation: Explanation, report: Report, *, reference: float) -> dict[int, Any]:
    """View's number → the layers of the same explanation on it, and the sum of its pixels."""
    return {
        number: {
            "layers": pictures.draw_heatmap(each, longest=PAIR_SIDE, reference=reference),
            "sum": phrases.signed(float(each.heatmap.sum(dtype=np.float64))),
        }
        for number, _, each in pictures.on_all_views(report, explanation)[1:]
    }


def _match_image(match: Match, report: Report, *, reference: float) -> dict[str, Any]:
    """The match's image and, where the archive stores its evidence, the heatmap of its similarity to the scan."""
    explanation = match.explanation
    height, width = (
        explanation.shape if explanation is not None else pictures.picture_shape(match.picture or b"") or (3, 4)
    )
    ratio = min(max(width / height, 0.1), 10.0)
    return {
        "rank": match.rank,
        "label": match.label,
        "reference": phrases.reference(match.label, match.histology),
        "similarity": phrases.signed(match.similarity, digits=3).lstrip("+"),
        "url": None if match.picture is None else pictures.picture_url(match.picture),
        "aspect": round(ratio, 5),
        "layers": None
        if explanation is None
        else pictures.draw_heatmap(explanation, longest=PAIR_SIDE, reference=reference),
        "place": f"{match.dataset} / {match.case_id}",
        "descriptors": [f"{feature}: {descriptor}" for feature, descriptor in match.descriptors],
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
    """Another view of the lesion: its image, its heatmap, and its own prediction."""
    return {
        "number": number,
        "url": pictures.scan_url(view.scan),
        "aspect": _aspect(view.scan),
        "headline": phrases.headline(view.prediction),
        "display_class": phrases.display_class(view.prediction),
        "probabilities": ", ".join(f"{name} {phrases.percent(p)}" for name, p in view.prediction.probabilities.items()),
        "lesion": None if view.lesion is None else _rectangle(view.lesion, view.scan),
        "lesion_text": None if view.lesion is None else phrases.lesion(view.lesion),
        "source": phrases.name(view.scan),
        "details": phrases.details(view.scan),
    }


def _outline(report: Report) -> dict[str, Any]:
    """The outline as an SVG polygon over the scan, and its size as a sentence."""
    height, width = report.scan.shape
    points = [] if report.contour is None else report.contour.points.tolist()
    every = max(1, -(-len(points) // CORNERS))
    return {
        "width": width,
        "height": height,
        "points": " ".join(f"{column:.1f},{row:.1f}" for row, column in points[::every]),
        "text": "" if report.contour is None else phrases.contour(report.contour),
    }


def _evidence(
    explanation: Explanation,
    report: Report,
    *,
    longest: int,
    reference: float,
) -> dict[str, Any]:
    """One heatmap's layers and the texts of its legend."""
    layers = pictures.draw_heatmap(explanation, longest=longest, reference=reference)
    rows, columns = explanation.evidence_map.shape
    digits = 2 if layers.reference < 10 else 1
    return {
        "title": phrases.evidence_title(explanation.method, explanation.target, report),
        "layers": layers,
        "empty": layers.peak < 0.1 * layers.reference,
        "unit": phrases.unit(explanation.target),
        "short_unit": "cosine" if ":" in explanation.target else "logit",
        "exact": explanation.exact,
        "reference": f"{layers.reference:.{digits}f}",
        "lowest": phrases.signed(layers.lowest, digits=digits),
        "highest": phrases.signed(layers.highest, digits=digits),
        "scale": phrases.colour_scale(pictures.smallest_scale(explanation)),
        "sum": phrases.signed(float(explanation.heatmap.sum(dtype=np.float64))),
        "bias": phrases.signed(explanation.bias),
        "value": phrases.signed(explanation.value),
        "grid": f"{rows} × {columns} cells",
    }


def _match(match: Match, evidence: list[dict[str, Any]]) -> dict[str, Any]:
    """Content of a match's card."""
    shown = [number for number, each in enumerate(evidence) if each["match"] and each["match"]["rank"] == match.rank]
    return {
        "evidence": shown[0] if shown else None,
        "descriptors": ", ".join(descriptor for _, descriptor in match.descriptors),
        "rank": match.rank,
        "label": match.label,
        "reference": phrases.reference(match.label, match.histology),
        "pathology_proven": match.histology is not None,
        "birads": match.birads,
        "similarity": phrases.signed(match.similarity, digits=3).lstrip("+"),
        "distance": f"{1.0 - match.similarity:.3f}",
        "width": f"{max(match.similarity, 0.0) * 100:.1f}",
        "grouped": phrases.grouped(match),
        "histology": match.histology,
        "device": match.device,
        "dataset": match.dataset,
        "case_id": match.case_id,
        "url": None if match.picture is None else pictures.picture_url(match.picture),
    }


def _template(name: str) -> str:
    return resources.files("sonoseek.reports").joinpath("templates", name).read_text("utf-8")
