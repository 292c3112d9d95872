"""`sonoseek export --ensemble`, and every verb that takes the bundle which it writes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sonoseek.encoder.bundle import FAST_BUNDLE, load_bundle

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network that ships under another name and temperature: another bundle, in no need of a training."""
    folder = tmp_path_factory.mktemp("bundles") / "other"
    shutil.copytree(FAST_BUNDLE, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest |= {"name": "other", "temperature": 2.0 * manifest["temperature"]}
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def ensemble(run, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensembles") / "both"
    done = run("export", "--ensemble", FAST_BUNDLE, "--ensemble", other, "--out", folder, "--name", "both")
    assert f"bundle: {folder}" in done.stdout
    assert "64 phantoms of seed 77" in done.stderr
    return folder


def test_norms_are_measured_on_phantoms_and_the_card_says_so(ensemble: Path) -> None:
    written = json.loads((ensemble / "ensemble.json").read_text())
    first, second = written["members"]
    assert first["norm"] == pytest.approx(second["norm"])  # the same network
    assert first["norm"] > 0.1
    assert "64 phantoms of seed 77" in (ensemble / "MODEL_CARD.md").read_text()


def test_it_serves_a_gallery_a_query_and_the_doctor(
    run, ensemble: Path, archive: Path, scan: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "gallery"
    run("index", "build", "--dataset", "folder", "--data", archive, "--gallery", gallery, "--bundle", ensemble)
    assert "512 numbers a scan" in run("index", "info", "--gallery", gallery).stdout
    out = tmp_path / "report.json"
    run("query", scan, "--gallery", gallery, "--bundle", ensemble, "-k", 3, "--format", "json", "--out", out)
    report = json.loads(out.read_text())
    assert report["bundle_id"].startswith("both-")
    assert len(report["matches"]) == 3
    assert report["explanations"][0]["sum"] + report["explanations"][0]["bias"] == pytest.approx(
        report["explanations"][0]["value"], abs=1e-4
    )
    run(
        "query", scan, "--gallery", gallery, "--bundle", ensemble, "--format", "html", "--out", tmp_path / "report.html"
    )
    assert "both-" in run("doctor", "--bundle", ensemble).stdout
    refused = run("query", scan, "--gallery", gallery, ok=False).stderr  # by one of its members alone
    assert "was filled by bundle 'both-" in refused


def test_weights_and_norms_may_be_given(run, other: Path, tmp_path: Path) -> None:
    out = tmp_path / "weighted"
    run(
        *("export", "--ensemble", FAST_BUNDLE, "--ensemble", other, "--out", out),
        *("--weights", "3,1", "--norms", "2,4.5"),
    )
    members = json.loads((out / "ensemble.json").read_text())["members"]
    assert [(m["weight"], m["norm"]) for m in members] == [(3.0, 2.0), (1.0, 4.5)]


def test_calibrated_on_what_a_system_predicted_in_hospitals_left_out(run, other: Path, tmp_path: Path) -> None:
    """docs/results has the rows of `b4-frozen`; which networks the members are does not matter here."""
    out = tmp_path / "calibrated"
    run(
        *("export", "--ensemble", FAST_BUNDLE, "--ensemble", other, "--out", out, "--norms", "1,1"),
        *("--results", RESULTS, "--calibrate-on", "leave-one-hospital-out", "--results-of", "b4-frozen"),
    )
    written = json.loads((out / "ensemble.json").read_text())
    assert "predictions of b4-frozen" in written["training"]["calibrated_on"]
    assert {*written["training"]["hospitals_left_out"]} == {"busi", "busbra", "bus-uc", "mean"}
    assert "Figures in hospitals left out" in (out / "MODEL_CARD.md").read_text()
    assert written["class_bias"][0] < 0 == written["class_bias"][1] == written["class_bias"][2]
    assert load_bundle(out).class_bias == tuple(written["class_bias"])
    assert "sensitivity_98" in written["operating_points"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["export"], "--out DIR"),
        (["export", "--out", "x"], "either a finished run"),
        (["export", "run", "--ensemble", "a", "--out", "x"], "either a finished run"),
        (["export", "--ensemble", FAST_BUNDLE, "--norms", "1", "--out", "x"], "at least 2"),
        (["export", "--ensemble", FAST_BUNDLE, "--norms", "one", "--out", "x"], "--norms is 'one'"),
        (["export", "--ensemble", "nowhere", "--out", "x"], "nowhere"),
        (["export", "--ensemble", FAST_BUNDLE, "--out", "x", "--results", RESULTS], "needs --calibrate-on"),
        (
            [
                *("export", "--ensemble", FAST_BUNDLE, "--out", "x", "--results", RESULTS),
                *("--calibrate-on", "leave-one-hospital-out", "--results-of", "nobody"),
            ],
            "no rows of a system called 'nobody'",
        ),
    ],
)
def test_what_cannot_be_done_is_said(run, arguments: list[object], said: str, tmp_path: Path) -> None:
    assert said in run(*arguments, ok=False, cwd=tmp_path).stderr
    assert list(tmp_path.iterdir()) == []
