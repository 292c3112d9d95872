"""`sonoseek calibrate` and what follows from it, from the command line and over HTTP."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from sonoseek.apps.web.app import create_app
from sonoseek.apps.web.settings import WebSettings
from sonoseek.engine import open_engine
from sonoseek.evaluate import archive_fit

NAMED = "Calibrated on 30 cases of this archive, "


@pytest.fixture
def mine(gallery: Path, tmp_path: Path) -> Path:
    """A copy, to change."""
    copy = tmp_path / "mine"
    shutil.copytree(gallery, copy)
    return copy


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty cases are enough."""
    for name, least in (("FEWEST_CASES", 30), ("FEWEST_OF_KIND", 5), ("FEWEST_GROUPS_OF_KIND", 5)):
        monkeypatch.setattr(archive_fit, name, least)


def test_an_archive_of_thirty_is_refused_with_the_numbers(mine: Path, sonoseek_here) -> None:
    ended = sonoseek_here("calibrate", "--gallery", mine)
    assert ended.returncode == 2
    assert "30 cases can be used, 7 malignant and 23 not" in ended.stderr
    assert "it takes 100 cases, 30 malignant and 30 not" in ended.stderr
    assert not (mine / "gallery.db.calibration.json").exists()


@pytest.mark.usefixtures("few")
def test_from_the_fit_to_the_reports_and_back(mine: Path, scan: Path, sonoseek_here, tmp_path: Path) -> None:
    file = mine / "gallery.db.calibration.json"
    shown = sonoseek_here("calibrate", "-g", mine, "--dry-run")
    assert shown.returncode == 0
    for text in ("30 cases (4 normal, 19 benign, 7 malignant)", "log loss", "AUROC", "(the bundle's)", "temperature"):
        assert text in shown.stdout
    assert "nothing is stored (--dry-run); the bundle's calibration stays in use" in shown.stdout
    assert not file.exists()
    assert "stored: " in sonoseek_here("calibrate", "-g", mine, "--force").stdout
    document = json.loads(file.read_text())
    assert document["cases"] == 30
    assert sorted(document["bundle_points"]) == ["sensitivity_90", "sensitivity_95", "sensitivity_98"]

    assert "on 30 cases of 30 patients or groups" in sonoseek_here("index", "info", "-g", mine).stdout
    asked = sonoseek_here("query", scan, "-g", mine, "-k", 2).stdout
    assert NAMED in asked
    without = sonoseek_here("query", scan, "-g", mine, "-k", 2, "--no-calibration").stdout
    assert "Calibration of the bundle." in without
    assert NAMED not in without
    for name in ("report.html", "report.json"):
        sonoseek_here("query", scan, "-g", mine, "--out", tmp_path / name)
        assert NAMED in (tmp_path / name).read_text()
    assert sonoseek_here("explain", scan, "-g", mine, "--out", tmp_path / "e", "--no-calibration").returncode == 0

    sonoseek_here("index", "backup", "-g", mine, tmp_path / "copy")
    assert "on 30 cases" in sonoseek_here("index", "info", "-g", tmp_path / "copy").stdout
    sonoseek_here("index", "add", "-g", mine, "--pathology", "benign", "--patient", "p-1", scan)
    grown = sonoseek_here("index", "info", "-g", mine).stdout
    assert "the gallery has changed since, to 31 cases" in " ".join(grown.split())
    assert NAMED in sonoseek_here("query", scan, "-g", mine, "-k", 2).stdout

    assert "removed: " in sonoseek_here("calibrate", "-g", mine, "--remove").stdout
    assert "there is no calibration" in sonoseek_here("calibrate", "-g", mine, "--remove").stdout
    assert "Calibration of the bundle." in sonoseek_here("query", scan, "-g", mine, "-k", 2).stdout


@pytest.mark.usefixtures("few")
def test_what_is_no_better_is_stored_by_force_alone(mine: Path, sonoseek_here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_fit, "_improved_by", lambda *_: "")
    ended = sonoseek_here("calibrate", "-g", mine)
    assert ended.returncode == 0
    assert "beyond chance" in ended.stdout or "worse" in ended.stdout
    assert (
        "nothing is stored; the bundle's calibration stays in use. Store it nevertheless with --force" in ended.stdout
    )
    assert not (mine / "gallery.db.calibration.json").exists()
    sonoseek_here("calibrate", "-g", mine, "--force")
    assert "the calibration of " in sonoseek_here("calibrate", "-g", mine).stdout
    monkeypatch.setattr(archive_fit, "_improved_by", lambda *_: "log_loss")
    assert "stored: " in sonoseek_here("calibrate", "-g", mine).stdout


@pytest.mark.usefixtures("few")
def test_a_damaged_file_is_an_error_with_a_remedy_and_never_used(mine: Path, scan: Path, sonoseek_here) -> None:
    file = mine / "gallery.db.calibration.json"
    sonoseek_here("calibrate", "-g", mine, "--force")
    content = file.read_text()
    temperature = json.loads(content)["temperature"]
    file.write_text(content.replace(str(temperature), "1.0"))
    for verb in ("query", "explain"):
        ended = sonoseek_here(verb, scan, "-g", mine, *(("--out", mine / "e") if verb == "explain" else ()))
        assert ended.returncode == 2
        assert "is not what was written" in ended.stderr
        assert "--no-calibration" in ended.stderr
    assert "not usable" in sonoseek_here("index", "info", "-g", mine).stdout
    assert sonoseek_here("query", scan, "-g", mine, "--no-calibration").returncode == 0
    assert sonoseek_here("calibrate", "-g", mine, "--force").returncode == 0  # which mends it
    assert NAMED in sonoseek_here("query", scan, "-g", mine).stdout


def test_what_cannot_be_is_refused(mine: Path, sonoseek_here, tmp_path: Path) -> None:
    for arguments, told in (
        (("-g", "milvus://127.0.0.1:1/x"), "index copy"),
        (("-g", tmp_path / "nowhere"), "no gallery at"),
        (("-g", mine, "--remove", "--force"), "leave --dry-run and --force out"),
    ):
        ended = sonoseek_here("calibrate", *arguments)
        assert ended.returncode == 2
        assert told in ended.stderr


@pytest.mark.usefixtures("few")
def test_the_reading_room_names_it(mine: Path, scan: Path, sonoseek_here, tmp_path: Path) -> None:
    sonoseek_here("calibrate", "-g", mine, "--force")
    answers = []
    for number, calibration in enumerate((True, False)):
        settings = WebSettings(state=tmp_path / f"state-{number}")
        app = create_app(open_engine(mine, threads=1, calibration=calibration), settings)
        with TestClient(app, base_url="http://localhost") as client:
            told = client.get("/api/about").json()["calibration"]
            answer = client.post("/api/query", files=[("file", ("a.png", scan.read_bytes(), "image/png"))])
            place = answer.headers["content-location"]
            assert answer.json()["prediction"]["calibration"]["text"] == told
            assert client.get(f"{place}/text").json()["calibration"] == told
            page = client.get(f"{place}/report.html").text.replace("\u00a0", " ").replace("&#39;", "'")
            assert told in page
        answers.append((told, place))
    assert answers[0][0].startswith(NAMED)
    assert answers[1][0] == "Calibration of the bundle."
    assert answers[0][1] != answers[1][1]  # another answer has another address
