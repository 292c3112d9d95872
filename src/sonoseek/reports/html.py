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

from sonoseek.core import Explanation, Match, Report, Scan, View
from sonoseek.reports import pictures, words
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
    top = words.likeliest(prediction)
    bars = [
        {"name": name, "top": name == top, "text": words.percent(value), "width": f"{value * 100:.2f}"}
        for name, value in prediction.probabilities.items()
    ]
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
            "verdict": words.verdict(prediction),
            "tone": prediction.label or "unsure",
            "not_excluded": words.not_excluded(prediction),
            "bars": bars,
            "neighbours": words.neighbours(report),
            "novelty": words.novelty(report),
            "size": words.size(report.scan),
            "matches": [_match(match, evidence) for match in report.matches],
            "shared_words": [words.shared_word(each) for each in report.shared_words],
            "region": None if report.region is None else _rectangle(report),
            "region_said": None if report.region is None else words.region(report.region),
            "crop_said": None if report.crop is None else words.crop(report.crop),
            "refined": words.refined(report) if report.liked or report.disliked else None,
            "views": [_view(view, number) for number, view in enumerate(report.views, start=2)],
            "outline": None if report.contour is None else _outline(report),
            "created": f"{report.created:%Y-%m-%d %H:%M:%S %Z}",
            "schema_version": SCHEMA_VERSION,
            "disclaimer": words.sentence(report.disclaimer),
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
        loader=jinja2.FunctionLoader(_template), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    code = "" if script is None else _template(script)
    digest = base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii")
    return environment.get_template(template).render(
        **values,
        style=Markup(_template("report.css")),  # noqa: S704  # our own file
        script=Markup(code),  # noqa: S704  # our own file
        script_hash=digest,
    )


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
        "similarity": words.signed(match.similarity, digits=3).lstrip("+"),
        "url": None if match.picture is None else pictures.picture_url(match.picture),
        "aspect": round(ratio, 5),
        "layers": None if told is None else pictures.draw_heatmap(told, longest=PAIR_SIDE, reference=reference),
        "place": f"{match.dataset} / {match.case_id}",
        "words": [f"{feature}: {word}" for feature, word in match.descriptors],
        "gallery": report.gallery_id,
    }


def _rectangle(report: Report) -> dict[str, float]:
    """The region, in percent of the scan's width and height."""
    height, width = report.scan.shape
    box = report.region
    assert box is not None  # noqa: S101  # for the type checker
    top, left = max(box.top, 0.0), max(box.left, 0.0)
    return {
        "x": round(100 * left / width, 3),
        "y": round(100 * top / height, 3),
        "width": round(100 * (min(box.right, width) - left) / width, 3),
        "height": round(100 * (min(box.bottom, height) - top) / height, 3),
    }


def _view(view: View, number: int) -> dict[str, Any]:
    """Another view of the lesion: its picture, its verdict's heatmap, and what it says alone."""
    return {
        "number": number,
        "url": pictures.scan_url(view.scan),
        "stage": stage(view.scan),
        "layers": pictures.draw_heatmap(view.explanations[0], longest=PAIR_SIDE) if view.explanations else None,
        "target": view.explanations[0].target if view.explanations else "",
        "verdict": words.verdict(view.prediction),
        "tone": view.prediction.label or "unsure",
        "said": ", ".join(f"{name} {words.percent(p)}" for name, p in view.prediction.probabilities.items()),
        "source": view.scan.source or "unnamed scan",
        "size": words.size(view.scan),
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
        "said": "" if report.contour is None else words.contour(report.contour),
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
    rows, columns = explanation.cells.shape
    digits = 2 if layers.reference < 10 else 1
    return {
        "title": words.evidence_title(explanation.method, explanation.target, report),
        "layers": layers,
        "empty": layers.peak < 0.1 * layers.reference,
        "unit": "cosine similarity" if ":" in explanation.target else f"logit of {explanation.target}",
        "short_unit": "cosine" if ":" in explanation.target else "logit",
        "exact": explanation.exact,
        "reference": f"{layers.reference:.{digits}f}",
        "lowest": words.signed(layers.lowest, digits=digits),
        "highest": words.signed(layers.highest, digits=digits),
        "floor": f"{pictures.floor(explanation):g}",
        "sum": words.signed(float(explanation.heatmap.sum(dtype=np.float64))),
        "bias": words.signed(explanation.bias),
        "explained": words.signed(explanation.explained),
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
        "birads": match.birads,
        "similarity": words.signed(match.similarity, digits=3).lstrip("+"),
        "distance": f"{1.0 - match.similarity:.3f}",
        "width": f"{max(match.similarity, 0.0) * 100:.1f}",
        "folded": match.near_duplicates + match.same_patient,
        "histology": match.histology,
        "device": match.device,
        "dataset": match.dataset,
        "case_id": match.case_id,
        "url": None if match.picture is None else pictures.picture_url(match.picture),
    }


def _template(name: str) -> str:
    return resources.files("sonoseek.reports").joinpath("templates", name).read_text("utf-8")
