"""Every format, and the ways to write one."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from sonoseek.core import Explanation, InvalidValueError, Match, NotFoundError, Prediction, Report
from sonoseek.reports import (
    REPORTS,
    SUFFIXES,
    decode_evidence_map,
    decode_heatmap,
    render,
    render_json,
    report_schema,
    words,
    write_report,
)

Build = Callable[..., Report]


@pytest.mark.parametrize("name", REPORTS)
class TestEveryFormat:
    def test_it_says_the_verdict_the_precedents_and_what_it_is_not_for(self, name: str, build_report: Build) -> None:
        text = render(build_report(), name)
        for words_ in ("alignant", "case 3", "archive", "first-0123456789ab", "6a1f", "0.1.0", "painted over"):
            assert words_ in text
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
        with pytest.raises(InvalidValueError, match=r"\.json, \.html, \.txt, \.pdf"):
            write_report(build_report(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_there_whole_or_not_at_all(build_report: Build, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    broken = build_report(novelty=float("nan"))
    with pytest.raises(InvalidValueError, match="novelty holds nan"):
        write_report(broken, path)
    assert path.read_text() == "old"
    write_report(build_report(), str(path))
    assert json.loads(path.read_text("utf-8"))["schema_version"] == "2"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_folder_that_is_not_there(build_report: Build, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Make it first"):
        write_report(build_report(), tmp_path / "nowhere" / "report.html")


class TestJson:
    def test_the_schema_is_a_schema_and_strict(self) -> None:
        schema = report_schema()
        Draft202012Validator.check_schema(schema)

        def objects(part: object) -> list[dict[str, object]]:
            if isinstance(part, list):
                return [found for each in part for found in objects(each)]
            if not isinstance(part, dict):
                return []
            return ([part] if part.get("type") == "object" else []) + objects(list(part.values()))

        assert len(objects(schema)) == 14
        for part in objects(schema):
            assert part["additionalProperties"] is False or "minProperties" in part  # probabilities: any class names
            properties = part.get("properties", {})
            assert isinstance(properties, dict)
            # Only where asked for, or absent from earlier reports of this schema version.
            optional = {"heatmap", "ood_score", "views", "region", "crop", "liked", "disliked", "folded"}
            optional |= {"gallery_state"}
            assert set(properties) - set(part.get("required", ())) <= optional  # type: ignore[call-overload]

    @pytest.mark.parametrize("heatmaps", [False, True])
    def test_what_is_written_satisfies_it(
        self, build_report: Build, unsure_report: Report, hostile_report: Report, heatmaps: bool
    ) -> None:
        validator = Draft202012Validator(report_schema())
        for report in (build_report(), unsure_report, hostile_report):
            validator.validate(json.loads(render_json(report, heatmaps=heatmaps)))

    def test_the_numbers_are_the_reports(self, build_report: Build) -> None:
        report = build_report()
        document = json.loads(render(report, "json"))
        assert document["created"] == "2026-03-04T05:06:07.000Z"
        assert document["prediction"]["probabilities"] == dict(report.prediction.probabilities)
        assert document["prediction"]["likeliest"] == "malignant"
        assert document["scan"]["spacing_mm"] == [0.2, 0.2]
        assert [m["similarity"] for m in document["matches"]] == [m.similarity for m in report.matches]
        assert document["matches"][0]["distance"] == pytest.approx(0.05)
        assert "picture" not in document["matches"][0]
        explained, written = report.explanations[0], document["explanations"][0]
        assert "heatmap" not in written
        assert written["sum"] + written["bias"] == pytest.approx(explained.value, abs=1e-4)
        assert np.array_equal(decode_evidence_map(written["cells"]), explained.cells)
        assert written["exact"] is True
        assert written["peak"] == explained.peak
        assert document["shared_descriptors"] == [
            {"feature": "margin", "word": "spiculated", "matches": 2, "described": 2, "share": 0.12}
        ]
        assert document["contour"]["estimate"] is True
        assert document["contour"]["taller_than_wide"] is False
        assert document["contour"]["longest_mm"] == 11.7
        assert len(document["contour"]["points"]) == 4
        assert document["matches"][1]["descriptors"][0] == {"feature": "margin", "word": "spiculated"}
        assert document["matches"][0]["explanation"] is None

    @pytest.mark.parametrize("heatmaps", [False, True])
    def test_both_sides_of_a_pair(self, build_report: Build, build_pair: Callable[..., Report], heatmaps: bool) -> None:
        report = build_pair(build_report(), 2)
        document = json.loads(render_json(report, heatmaps=heatmaps))
        Draft202012Validator(report_schema()).validate(document)
        own, other = document["explanations"][1], document["matches"][1]["explanation"]
        assert own["target"] == f"match:{report.matches[1].scan_id}"
        assert (own["shape"], other["shape"]) == ([120, 160], [60, 90])
        told = report.matches[1].explanation
        assert told is not None
        assert np.array_equal(decode_evidence_map(other["cells"]), told.cells)
        assert ("heatmap" in other) is heatmaps

    def test_heatmaps_survive_the_way_there_and_back(self, build_report: Build, unsure_report: Report) -> None:
        for report in (build_report(), unsure_report):
            document = json.loads(render_json(report, heatmaps=True))
            heatmap = decode_heatmap(document["explanations"][0]["heatmap"])
            original = report.explanations[0].heatmap
            assert heatmap.dtype == np.float32
            assert heatmap == pytest.approx(original, rel=1e-3, abs=1e-6 * float(np.abs(original).max()))

    def test_an_empty_heatmap_survives_too(
        self, build_report: Build, build_on_pixels: Callable[..., Explanation]
    ) -> None:
        empty = build_on_pixels(np.zeros((120, 160)), target="benign")
        document = json.loads(render_json(build_report(explanations=(empty,)), heatmaps=True))
        assert not decode_heatmap(document["explanations"][0]["heatmap"]).any()

    def test_what_is_no_heatmap_is_refused(self, build_report: Build) -> None:
        good = json.loads(render_json(build_report(), heatmaps=True))["explanations"][0]["heatmap"]
        for change in (
            {"encoding": "base85"},
            {"shape": [3, 4]},
            {"shape": [-1, 4]},
            {"data": "nonsense!"},
            {"data": ""},
            {"scale": "x"},
        ):
            with pytest.raises(InvalidValueError):
                decode_heatmap(good | change)
        with pytest.raises(InvalidValueError):
            decode_heatmap({})

    def test_what_are_no_cells_is_refused(self, build_report: Build) -> None:
        good = json.loads(render_json(build_report()))["explanations"][0]["cells"]
        for change in (
            {"encoding": "base85"},
            {"shape": [3, 4]},
            {"shape": [-1, 4]},
            {"data": "nonsense!"},
            {"data": ""},
        ):
            with pytest.raises(InvalidValueError):
                decode_evidence_map(good | change)
        with pytest.raises(InvalidValueError):
            decode_evidence_map({})

    @pytest.mark.parametrize("field", ["similarity", "bias", "area"])
    def test_no_nan_ever(self, build_report: Build, field: str) -> None:
        explained = build_report().explanations[0]
        values = {name: getattr(explained, name) for name in Explanation.__dataclass_fields__}
        changes: dict[str, object] = {"bias": float("nan")} if field == "bias" else {}
        report = build_report(explanations=(Explanation(**(values | changes)),))
        if field == "area":
            object.__setattr__(report.contour, "area_mm2", float("nan"))
        if field == "similarity":
            object.__setattr__(report.matches[0], "similarity", float("nan"))
        with pytest.raises(InvalidValueError, match="finite"):
            render(report, "json")


class TestText:
    def test_the_table(self, build_report: Build) -> None:
        lines = render(build_report(), "text").splitlines()
        assert lines[0] == "Verdict    Malignant, 87 %   (normal 1 %, benign 12 %, malignant 87 %)"
        head = next(i for i, line in enumerate(lines) if line.startswith("rank"))
        assert lines[head].split() == ["rank", "similarity", "diagnosis", "BI-RADS", "device", "case"]
        assert lines[head + 2].split() == ["1", "0.950", "■", "benign", "3", "-", "archive/case", "1"]
        assert len({line.index("archive/") for line in lines[head + 2 : head + 7]}) == 1
        assert lines[-1] == "Research use only, not for diagnosis."

    def test_nothing_that_a_terminal_would_obey(self, hostile_report: Report) -> None:
        text = render(hostile_report, "text")
        assert all(letter == "\n" or letter.isprintable() for letter in text)

    def test_without_a_gallery(self, unsure_report: Report) -> None:
        text = render(unsure_report, "text")
        assert "Not sure: benign or malignant" in text
        assert "rank" not in text
        assert "gallery none" in text


class TestWords:
    def test_verdicts(self) -> None:
        def verdict(shares: tuple[float, ...], label: str | None, options: tuple[str, ...]) -> str:
            names = ("normal", "benign", "malignant")
            probabilities = dict(zip(names, shares, strict=True))
            return words.verdict(
                Prediction(probabilities=probabilities, label=label, prediction_set=options, entropy=0.5)
            )

        assert verdict((0.001, 0.0, 0.999), "malignant", ("malignant",)) == "Malignant, > 99 %"
        assert verdict((0.3, 0.4, 0.3), None, ("benign", "normal", "malignant")) == (
            "Not sure: benign, normal or malignant"
        )
        assert verdict((0.1, 0.5, 0.4), None, ("benign",)) == "Not sure: benign or malignant"

    def test_percentages_never_claim_certainty_by_rounding(self) -> None:
        assert [words.percent(p) for p in (0.0, 0.004, 0.126, 0.996, 1.0)] == [
            "0 %",
            "< 1 %",
            "13 %",
            "> 99 %",
            "100 %",
        ]

    @pytest.mark.parametrize(
        ("novelty", "part"), [(None, "Not known"), (20.0, "as its own"), (95.0, "Unusual"), (99.0, "Unlike anything")]
    )
    def test_novelty(self, build_report: Build, novelty: float | None, part: str) -> None:
        assert part in words.novelty(build_report(novelty=novelty))

    def test_neighbours(self, build_report: Build, build_match: Callable[..., Match]) -> None:
        assert words.neighbours(build_report()) == "2 of 5 similar cases are benign, 2 normal, 1 malignant."
        one = build_report(matches=(build_match(1, label="malignant"),))
        assert words.neighbours(one) == "The one similar case is malignant."
        assert words.neighbours(build_report(matches=())) == "No similar case was found or asked for."

    def test_numbers(self) -> None:
        assert [words.signed(x, digits=2) for x in (1.5, -0.25, -0.001, 0.0)] == ["+1.50", "−0.25", "0.00", "0.00"]


@pytest.mark.parametrize("name", ["html", "text"])
def test_without_spacing_nothing_is_said_in_millimetres(name: str, build_report: Build) -> None:
    report = build_report()
    lengths = ("longest_mm", "shortest_mm", "area_mm2", "depth_mm", "height_mm", "width_mm")
    assert report.contour is not None
    unknown = replace(report.contour, **dict.fromkeys(lengths))
    text = render(replace(report, scan=replace(report.scan, spacing_mm=None), contour=unknown), name)
    assert not re.search(r"\d mm", text)
    assert "taller than wide" not in text
    assert ("<polygon" in text) == (name == "html")  # the line itself needs no millimetres
    assert "nothing can be measured" in words.contour(unknown)


def test_a_stranger_is_told_in_every_format(build_report: Build) -> None:
    strange = Prediction(
        probabilities={"normal": 0.01, "benign": 0.01, "malignant": 0.98},
        label=None,
        prediction_set=("malignant", "normal", "benign"),
        entropy=0.1,
        ood_score=2.5,
    )
    report = build_report(prediction=strange)
    for name in ("text", "html"):
        assert "Not sure: unlike the scans of the training" in render(report, name)
    document = json.loads(render_json(report))
    Draft202012Validator(report_schema()).validate(document)
    assert document["prediction"]["ood_score"] == 2.5
    assert document["prediction"]["label"] is None
    plain = json.loads(render_json(build_report()))
    assert plain["prediction"]["ood_score"] is None
    del plain["prediction"]["ood_score"]  # as earlier versions wrote it
    Draft202012Validator(report_schema()).validate(plain)
