"""An archive's calibration in the engine: predictions follow it, heatmaps do not, and every report names it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fake_encoder import FakeEncoder
from jsonschema import Draft202012Validator

from sonoseek.core import BundleMismatchError, Case, GalleryError, Scan
from sonoseek.encoder import ArchiveCalibration, calibrated, load_bundle
from sonoseek.encoder.archive_calibration import Figure
from sonoseek.encoder.bundle import DEFAULT_BUNDLE
from sonoseek.engine import SearchEngine, open_engine
from sonoseek.gallery import Gallery, create_gallery
from sonoseek.gallery.calibration_file import calibration_path, write_calibration
from sonoseek.indexing.build import make_entry
from sonoseek.reports import render, render_json, render_pdf, report_schema

NAMED = "Calibrated on 312 cases of this archive, 2026-11-28."
FIGURE = Figure(value=-0.1, low=-0.2, high=-0.05)
POINT = {"threshold": 0.25, "sensitivity": 0.97, "specificity": 0.5}


def fitted(bundle_id: str, *, gallery_id: str = "g", kept: tuple[str, ...] = ()) -> ArchiveCalibration:
    return ArchiveCalibration(
        sonoseek="0.1.0",
        bundle_id=bundle_id,
        gallery_id=gallery_id,
        gallery_state="1-a",
        created=datetime(2026, 11, 28, tzinfo=UTC),
        cases=312,
        scans=312,
        patients=300,
        class_cases={"benign": 200, "malignant": 112},
        left_out={},
        temperature=3.0,
        class_bias={"normal": 0.0, "benign": -0.7, "malignant": 0.7},
        abstain_below=0.99,
        conformal={"level": 0.8, "quantile": 1.0},
        operating_points={"sensitivity_98": POINT},
        bundle_points=list(kept),
        figures={},
        log_loss_change=FIGURE,
        improved_by="log_loss",
    )


@pytest.fixture
def engines(encoder: FakeEncoder, filled: Gallery) -> tuple[SearchEngine, SearchEngine]:
    """With the bundle's calibration, and with the archive's."""
    return SearchEngine(encoder, filled), SearchEngine(
        encoder, filled, calibration=fitted(encoder.bundle.bundle_id, kept=("sensitivity_98",))
    )


@pytest.fixture
def filled(encoder: FakeEncoder, tmp_path: Path, make_scan: Callable[..., Scan]) -> Gallery:
    gallery = create_gallery(tmp_path / "g", bundle_id=encoder.bundle.bundle_id, dimension=encoder.bundle.embedding_dim)
    for number in range(6):
        scan = make_scan(number)
        pathology = ("normal", "benign", "malignant")[number % 3]
        case = Case(case_id=f"c{number}", dataset="ours", pathology=pathology, scans=(scan,))
        gallery.add([make_entry(scan, case, encoder)])
    return gallery


def test_predictions_follow_it_and_nothing_else_does(
    engines: tuple[SearchEngine, SearchEngine], make_scan: Callable[..., Scan]
) -> None:
    before, after = (engine.query(make_scan(77), k=3) for engine in engines)
    logits = engines[0].read(make_scan(77)).logits.astype(np.float64)
    scores = np.exp(logits / 3.0 + np.array([0.0, -0.7, 0.7]))
    assert list(after.prediction.probabilities.values()) == pytest.approx(scores / scores.sum(), abs=1e-6)
    assert after.prediction.label is None  # below 0.99
    assert len(after.prediction.prediction_set) == 3
    assert after.prediction.coverage == 0.8
    assert after.prediction.rule_out.threshold == 0.25  # type: ignore[union-attr]
    assert [m.scan_id for m in after.matches] == [m.scan_id for m in before.matches]
    assert after.bundle_id == before.bundle_id
    assert engines[1].bundle.head_bias is engines[0].bundle.head_bias
    target = before.prediction.likeliest
    one, other = (engine.explain_class(engine.read(make_scan(77)), target) for engine in engines)
    assert np.array_equal(one.evidence_map, other.evidence_map)


def test_views_and_archived_cases_follow_it_too(
    engines: tuple[SearchEngine, SearchEngine], make_scan: Callable[..., Scan]
) -> None:
    report = engines[1].query([make_scan(77), make_scan(78)], k=1)
    assert {report.prediction.calibration.cases, report.views[0].prediction.calibration.cases} == {312}
    assert engines[1].query_case("ours", "c2", k=1).prediction.calibration.cases == 312
    assert engines[0].query_case("ours", "c2", k=1).prediction.calibration.cases is None


def test_every_format_names_it(engines: tuple[SearchEngine, SearchEngine], make_scan: Callable[..., Scan]) -> None:
    before, after = (engine.query(make_scan(77), k=2) for engine in engines)
    for form in ("text", "html"):
        plain = render(before, form).replace("\u00a0", " ")
        assert "Calibration of the bundle." in plain
        assert NAMED not in plain
        told = render(after, form).replace("\u00a0", " ")
        assert f"{NAMED} Too few cases for the 98 %-sensitivity threshold: it is the bundle's." in told.replace(
            "&#39;", "'"
        )
        assert "They were fitted on 312 cases of this archive (2026-11-28)" in told
        assert "Calibration of the bundle." not in told
    assert render_pdf(before) != render_pdf(after)
    document = json.loads(render_json(after))
    Draft202012Validator(report_schema()).validate(document)
    assert document["prediction"]["calibration"] == {
        "source": "archive",
        "cases": 312,
        "fitted": "2026-11-28",
        "bundle_points": ["sensitivity_98"],
        "text": f"{NAMED} Too few cases for the 98 %-sensitivity threshold: it is the bundle's.",
    }
    own = json.loads(render_json(before))["prediction"]["calibration"]
    assert own == {
        "source": "bundle",
        "cases": None,
        "fitted": None,
        "bundle_points": [],
        "text": "Calibration of the bundle.",
    }


def test_that_of_another_bundle_is_not_used_and_every_report_says_so(
    encoder: FakeEncoder, filled: Gallery, make_scan: Callable[..., Scan]
) -> None:
    engine = SearchEngine(encoder, filled, calibration=fitted("other-1"))
    report = engine.query(make_scan(77), k=1)
    assert report.prediction.calibration.cases is None
    (note,) = [each for each in report.warnings if each.code == "calibration_unused"]
    assert "other-1" in note.text
    assert "--remove" in note.text
    assert report.prediction.probabilities == SearchEngine(encoder).query(make_scan(77)).prediction.probabilities
    with pytest.raises(BundleMismatchError, match="other-1"):
        calibrated(encoder.bundle, fitted("other-1"))
    classes = msgspec.structs.replace(fitted(encoder.bundle.bundle_id), class_bias={"benign": 0.0, "malignant": 0.0})
    with pytest.raises(BundleMismatchError, match="classes"):
        calibrated(encoder.bundle, classes)


def test_an_engine_takes_what_lies_beside_the_gallery_up_by_itself(tmp_path: Path) -> None:
    bundle = load_bundle(DEFAULT_BUNDLE)
    folder = tmp_path / "g"
    with create_gallery(folder, bundle_id=bundle.bundle_id, dimension=bundle.embedding_dim) as gallery:
        calibration = fitted(bundle.bundle_id, gallery_id=gallery.gallery_id)
    write_calibration(folder, calibration)
    with open_engine(folder, bundle=DEFAULT_BUNDLE, threads=1) as engine:
        assert engine.bundle.temperature == 3.0
        assert engine.bundle.calibration.cases == 312
    with open_engine(folder, bundle=DEFAULT_BUNDLE, threads=1, calibration=False) as engine:
        assert engine.bundle.temperature == bundle.temperature
        assert math.isclose(engine.bundle.abstain_below, bundle.abstain_below)
    calibration_path(folder).write_text("{")
    with pytest.raises(GalleryError, match="--no-calibration"):
        open_engine(folder, bundle=DEFAULT_BUNDLE, threads=1)
