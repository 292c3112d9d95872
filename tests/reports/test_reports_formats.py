"""Every format, and the ways to write one."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from sonoseek.core import (
    InvalidValueError,
    Match,
    NotFoundError,
    Prediction,
    Report,
)
from sonoseek.reports import (
    REPORTS,
    SUFFIXES,
    phrases,
    render,
    render_json,
    report_schema,
    write_report,
)

Build = Callable[..., Report]


@pytest.mark.parametrize("name", REPORTS)
class TestEveryFormat:
    def test_it_has_prediction_similar_cases_and_disclaimer(self, name: str, build_report: Build) -> None:
        text = render(build_report(), name)
        for part in ("alignant", "case 3", "archive", "first-0123456789ab", "6a1f", "0.1.0", "painted over"):
            assert part in text
        assert re.search("research use only, not for diagnosis", text, re.IGNORECASE)
        assert text.endswith(("\n", "</html>"))

    def test_odd_reports_are_written(self, name: str, unsure_report: Report, hostile_report: Report) -> None:
        assert render(unsure_report, name)
        assert render(hostile_report, name)

    def test_the_same_report_gives_the_same_text(self, name: str, build_report: Build) -> None:
        assert render(build_report(), name) == render(build_report(), name)

    def test_a_suffix_leads_to_it(self, name: str, build_report: Build, tmp_path: Path) -> None:
        suffix = next(s for s, format_ in SUFFIXES.items() if format_ == name)
        path = write_report(build_report(), tmp_path / f"report{suffix.upper()}")
        assert path.read_text("utf-8") == render(build_report(), name)


def test_unknown_formats_list_the_known(build_report: Build, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="json, html, text"):
        render(build_report(), "docx")
    with pytest.raises(NotFoundError, match="call render_pdf"):
        render(build_report(), "pdf")
    for name in ("report.docx", "report", ".html"):
        with pytest.raises(InvalidValueError, match=r"\.json, \.html, \.txt, \.pdf, \.dcm"):
            write_report(build_report(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_atomically(build_report: Build, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    broken = build_report(novelty=float("nan"))
    with pytest.raises(InvalidValueError, match="novelty holds nan"):
        write_report(broken, path)
    assert path.read_text() == "old"
    write_report(build_report(), str(path))
    assert json.loads(path.read_text("utf-8"))["schema_version"] == "4"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    new = write_report(build_report(), tmp_path / "new.html")
    assert stat.S_IMODE(new.stat().st_mode) == 0o600  # it shows a patient's scan


def test_a_missing_folder(build_report: Build, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Make it first"):
        write_report(build_report(), tmp_path / "nowhere" / "report.html")


class TestText:
    def test_the_table(self, build_report: Build) -> None:
        lines = render(build_report(), "text").splitlines()
        assert lines[:3] == [
            "Prediction  Likelihood of malignancy 87 %, above the 90 %-specificity threshold (55 %).",
            "            Likeliest class: malignant, 87 %. (normal 1 %, benign 12 %, malignant 87 %)",
            "            Prediction set at 90 % coverage: malignant.",
        ]
        head = next(i for i, line in enumerate(lines) if line.startswith("rank"))
        assert lines[head].split() == ["rank", "similarity", "reference", "BI-RADS", "device", "case"]
        assert lines[head + 2].split() == ["1", "0.950", "■", "benign", "3", "-", "archive/case", "1"]
        assert len({line.index("archive/") for line in lines[head + 2 : head + 7]}) == 1
        assert lines[-1] == "Research use only, not for diagnosis."

    def test_no_control_characters(self, hostile_report: Report) -> None:
        text = render(hostile_report, "text")
        assert all(letter == "\n" or letter.isprintable() for letter in text)

    def test_without_a_gallery(self, unsure_report: Report) -> None:
        text = render(unsure_report, "text")
        assert "Not sure: benign (41 %) or malignant (39 %)." in text
        assert "rank" not in text
        assert "gallery none" in text


@pytest.mark.parametrize("name", ["html", "text"])
def test_without_spacing_there_are_no_millimetres(name: str, build_report: Build) -> None:
    report = build_report()
    lengths = ("longest_mm", "shortest_mm", "area_mm2", "depth_mm", "height_mm", "width_mm")
    assert report.contour is not None
    unknown = replace(report.contour, **dict.fromkeys(lengths))
    text = render(replace(report, scan=replace(report.scan, spacing_mm=None), contour=unknown), name)
    assert not re.search(r"\d mm", text)
    assert "taller than wide" not in text
    assert ("<polygon" in text) == (name == "html")  # the line itself needs no millimetres
    assert "nothing can be measured" in phrases.contour(unknown)


def test_out_of_distribution_in_every_format(build_report: Build) -> None:
    prediction = Prediction(
        probabilities={"normal": 0.01, "benign": 0.01, "malignant": 0.98},
        label=None,
        prediction_set=("malignant", "normal", "benign"),
        entropy=0.1,
        ood_score=2.5,
    )
    report = build_report(prediction=prediction)
    for name in ("text", "html"):
        assert "No prediction: this image is unlike the scans that the network was trained on." in render(report, name)
    document = json.loads(render_json(report))
    Draft202012Validator(report_schema()).validate(document)
    assert document["prediction"]["ood_score"] == 2.5
    assert document["prediction"]["label"] is None
    plain = json.loads(render_json(build_report()))
    assert plain["prediction"]["ood_score"] is None


@pytest.mark.parametrize("form", ["json", "html", "text"])
def test_no_answer_names_a_patient(build_report: Build, build_match: Callable[..., Match], form: str) -> None:
    pseudonyms = ["k-00000000000000aa", "k-00000000000000bb"]
    matches = tuple(build_match(rank, patient_id=each, group=each) for rank, each in enumerate(pseudonyms, start=1))
    report = build_report(matches=matches)
    report = replace(report, scan=replace(report.scan, patient_id=pseudonyms[0]))
    text = render(report, form)
    assert "case 2" in text
    assert not [each for each in pseudonyms if each in text]
    assert "patient_id" not in text
