"""Bundles of two classes, with and without "malignant", with and without operating points: every format holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from sonoseek.core import PATHOLOGIES
from sonoseek.engine import SearchEngine
from sonoseek.reports import phrases, render, report_schema, write_report

POINTS = {
    "sensitivity_98": {"threshold": 0.1, "sensitivity": 0.98, "specificity": 0.6},
    "specificity_90": {"threshold": 0.5, "sensitivity": 0.8, "specificity": 0.9},
}


@pytest.mark.parametrize(
    ("classes", "abstain_below", "points"),
    [
        (("benign", "malignant"), 0.0, POINTS),
        (("benign", "malignant"), 1.0, {}),
        (("normal", "malignant"), 0.0, POINTS),
        (("normal", "benign"), 0.0, {}),
        (("normal", "benign"), 1.0, {}),
    ],
)
def test_every_format_of_a_report_holds(
    classes, abstain_below, points, make_encoder, make_scan, gallery, tmp_path: Path
) -> None:
    encoder = make_encoder(abstain_below=abstain_below)
    rows = [PATHOLOGIES.index(name) for name in classes]
    whole = encoder.bundle
    encoder._bundle = replace(
        whole,
        classes=classes,
        head_weight=whole.head_weight[rows],
        head_bias=whole.head_bias[rows],
        operating_points=points,
    )
    report = SearchEngine(encoder, gallery).query([make_scan(1003), make_scan(7)], k=3)
    document = json.loads(render(report, "json"))
    Draft202012Validator(report_schema()).validate(document)
    for form in ("html", "pdf", "text"):
        assert write_report(report, tmp_path / f"report.{'txt' if form == 'text' else form}").stat().st_size
    headline = phrases.headline(report.prediction)
    assert document["headline"] == headline
    assert headline in render(report, "text")
    assert set(document["prediction"]["probabilities"]) == set(classes)
    page = render(report, "html")
    if "malignant" in classes:
        assert headline.startswith("Likelihood of malignancy")
        assert ("has no threshold" in headline) != bool(points)
        assert bool(document["prediction"]["operating_points"]) is bool(points)
        assert 'class="scale"' in page
    else:
        assert document["prediction"]["likelihood_of_malignancy"] is None
        assert document["prediction"]["operating_points"] == []
        assert headline.endswith("This bundle has no class malignant.")
        assert 'class="scale"' not in page
