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

from sonoseek.core import (
    SEVERITIES,
    ExcludedCounts,
    Explanation,
    InvalidValueError,
    LabelCounts,
    Match,
    NotFoundError,
    OperatingPoint,
    Prediction,
    Report,
)
from sonoseek.reports import (
    REPORTS,
    SUFFIXES,
    decode_evidence_map,
    decode_heatmap,
    phrases,
    render,
    render_json,
    report_schema,
    warnings,
    write_report,
)

Build = Callable[..., Report]
POINTS = (
    OperatingPoint(name="sensitivity_98", threshold=0.11, sensitivity=0.98, specificity=0.57),
    OperatingPoint(name="sensitivity_90", threshold=0.20, sensitivity=0.90, specificity=0.72),
    OperatingPoint(name="specificity_90", threshold=0.55, sensitivity=0.70, specificity=0.90),
)
FITTED_ON = "the validation part of busi and busbra: 332 scans, 102 malignant"


@pytest.mark.parametrize("name", REPORTS)
class TestEveryFormat:
    def test_it_gives_the_prediction_the_similar_cases_and_what_it_is_not_for(
        self, name: str, build_report: Build
    ) -> None:
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
    assert json.loads(path.read_text("utf-8"))["schema_version"] == "3"
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

        for part in objects(schema):
            named = "properties" in part
            assert part["additionalProperties"] is False if named else part["additionalProperties"]  # any class names
            properties = part.get("properties", {})
            assert isinstance(properties, dict)
            # Only where asked for.
            assert set(properties) - set(part.get("required", ())) <= {"heatmap"}  # type: ignore[call-overload]

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
        assert np.array_equal(decode_evidence_map(written["evidence_map"]), explained.evidence_map)
        assert written["exact"] is True
        assert written["peak"] == explained.peak
        assert document["shared_descriptors"] == [
            {"feature": "margin", "descriptor": "spiculated", "matches": 2, "described": 2, "share": 0.12}
        ]
        assert document["contour"]["estimate"] is True
        assert document["contour"]["taller_than_wide"] is False
        assert document["contour"]["longest_mm"] == 11.7
        assert len(document["contour"]["points"]) == 4
        assert document["matches"][1]["descriptors"][0] == {"feature": "margin", "descriptor": "spiculated"}
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
        assert np.array_equal(decode_evidence_map(other["evidence_map"]), told.evidence_map)
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
        good = json.loads(render_json(build_report()))["explanations"][0]["evidence_map"]
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

    def test_nothing_that_a_terminal_would_obey(self, hostile_report: Report) -> None:
        text = render(hostile_report, "text")
        assert all(letter == "\n" or letter.isprintable() for letter in text)

    def test_without_a_gallery(self, unsure_report: Report) -> None:
        text = render(unsure_report, "text")
        assert "Not sure: benign (41 %) or malignant (39 %)." in text
        assert "rank" not in text
        assert "gallery none" in text


NAMES = ("normal", "benign", "malignant")


def predicted(*shares: float, label: str | None = "benign", points: tuple[OperatingPoint, ...] = POINTS) -> Prediction:
    return Prediction(
        probabilities=dict(zip(NAMES, shares, strict=True)),
        label=label,
        prediction_set=("benign",),
        entropy=0.5,
        operating_points=points,
        fitted_on=FITTED_ON,
    )


RULED_OUT = re.compile(r"exclu|ruled out|possible|verdict|proven\b|precedent", re.IGNORECASE)


class TestHeadline:
    @pytest.mark.parametrize(
        ("prediction", "headline"),
        [
            (
                predicted(0.05, 0.80, 0.15),
                "Likelihood of malignancy 15 %, above the 98 %-sensitivity threshold (11 %): malignancy is not ruled "
                "out.",
            ),
            (predicted(0.05, 0.91, 0.04), "Likelihood of malignancy 4 %, below the 98 %-sensitivity threshold (11 %)."),
            (
                predicted(0.01, 0.12, 0.87, label="malignant"),
                "Likelihood of malignancy 87 %, above the 90 %-specificity threshold (55 %).",
            ),
            (
                predicted(0.3, 0.3, 0.4, label=None),
                "Likelihood of malignancy 40 %, above the 90 %-sensitivity threshold (20 %).",
            ),
            (
                predicted(0.0, 0.892, 0.108),
                "Likelihood of malignancy 10.8 %, below the 98 %-sensitivity threshold (11.0 %).",
            ),
            (
                predicted(0.05, 0.80, 0.15, points=()),
                "Likelihood of malignancy 15 %, and this bundle states no threshold: malignancy is not ruled out.",
            ),
        ],
    )
    def test_the_likelihood_against_the_threshold_comes_first(self, prediction: Prediction, headline: str) -> None:
        assert phrases.headline(prediction) == headline

    @pytest.mark.parametrize("share", [0.11, 0.12, 0.3, 0.49, 0.9, 1.0])
    def test_at_or_above_the_threshold_nothing_reads_as_ruled_out(self, build_report: Build, share: float) -> None:
        label = "malignant" if share > 0.5 else "benign"
        report = build_report(prediction=predicted(0.0, 1 - share, share, label=label))
        told = [phrases.headline(report.prediction), phrases.likeliest(report.prediction)]
        told += [phrases.prediction_set(report.prediction), phrases.thresholds(report.prediction)]
        for text in told:
            assert not RULED_OUT.search(text.replace("malignancy is not ruled out", "").replace("not ruled out", ""))
        assert ("malignancy is not ruled out" in told[0]) == (share < 0.5)
        assert phrases.display_class(report.prediction) != "benign"
        for name in ("text", "html"):
            first = re.search(r"Likelihood of malignancy|Likeliest class", render(report, name))
            assert first is not None
            assert first[0] == "Likelihood of malignancy"
        document = json.loads(render_json(report))
        assert document["headline"] == told[0]
        assert list(document)[:6] == ["schema", "schema_version", "disclaimer", "headline", "warnings", "prediction"]
        reached = [point["reached"] for point in document["prediction"]["operating_points"]]
        assert reached == [share >= point.threshold for point in POINTS]
        assert document["prediction"]["fitted_on"] == FITTED_ON

    @pytest.mark.parametrize(
        ("share", "said"),
        [
            (0.10996, "10.996 %, below the 98 %-sensitivity threshold (11.000 %)"),
            (0.1101, "11.01 %, above the 98 %-sensitivity threshold (11.00 %)"),
            (0.11, "11 %, at the 98 %-sensitivity threshold (11 %)"),
        ],
    )
    def test_what_is_near_the_threshold_never_reads_as_equal_to_it(self, share: float, said: str) -> None:
        prediction = predicted(0.0, 1 - share, share)
        assert said in phrases.headline(prediction)
        (near,) = warnings.prediction_warnings(prediction, abstain_below=0.5)
        assert (
            f"({said.split(',')[0]}) lies near the 98 %-sensitivity threshold {said[said.index('(') :]}:" in near.text
        )

    def test_not_sure_and_a_table_name_malignancy_where_it_is_not_ruled_out(self) -> None:
        assert phrases.likeliest(predicted(0.25, 0.60, 0.15, label=None)) == (
            "Not sure: benign (60 %), normal (25 %) or malignant (15 %)."
        )
        assert phrases.likeliest(predicted(0.35, 0.60, 0.05, label=None)) == "Not sure: benign (60 %) or normal (35 %)."
        assert phrases.short_headline(predicted(0.05, 0.80, 0.15)) == "malignancy 15 %, not ruled out, likeliest benign"
        assert phrases.short_headline(predicted(0.05, 0.91, 0.04)) == "malignancy 4 %, likeliest benign"
        assert phrases.short_headline(predicted(0.3, 0.3, 0.4, label=None)) == "malignancy 40 %, not sure"

    def test_the_class_of_a_benign_scan_below_the_threshold_is_said(self) -> None:
        assert phrases.likeliest(predicted(0.05, 0.91, 0.04)) == "Likeliest class: benign, 91 %."
        assert phrases.display_class(predicted(0.05, 0.91, 0.04)) == "benign"


class TestPhrases:
    def test_percentages_never_claim_certainty_by_rounding(self) -> None:
        assert [phrases.percent(p) for p in (0.0, 0.004, 0.126, 0.996, 1.0)] == [
            "0 %",
            "< 1 %",
            "13 %",
            "> 99 %",
            "100 %",
        ]

    @pytest.mark.parametrize(
        ("novelty", "part"),
        [
            (None, "Not known"),
            (20.0, "as its own"),
            (89.7, "one another (percentile 89)"),
            (95.0, "Unusual"),
            (98.6, "Unusual for the archive (percentile 98)"),
            (99.0, "Unlike anything"),
        ],
    )
    def test_novelty(self, build_report: Build, novelty: float | None, part: str) -> None:
        assert part in phrases.novelty(build_report(novelty=novelty))

    def test_novelty_where_everything_is_left_out(self, build_report: Build) -> None:
        report = build_report(novelty=None, left_out=ExcludedCounts(same_scan=1, same_patient=599, scans=600))
        assert phrases.novelty(report) == "Not known: every scan of the archive was left out."
        assert phrases.left_out(report) == (
            "Left out of the matches: 600 of the archive's 600 scans (this very scan, 599 of the same patient)."
        )

    def test_similar_cases_are_counted_whatever_the_list_shows(self, build_report: Build) -> None:
        counts = LabelCounts(labels={"malignant": 3, "benign": 7})
        report = build_report(similar_cases=counts, hidden=LabelCounts(labels={"benign": 7}))
        assert phrases.similar_cases(report) == "7 of 10 independent similar cases are benign, 3 malignant."
        assert phrases.filtered(report) == (
            "Filtered: 2 of 5 shown are benign. The filter hides 7 of the 10 most similar (7 benign)."
        )
        assert phrases.filtered(replace(report, where=None, hidden=None)) == ""
        one = build_report(similar_cases=LabelCounts(labels={"malignant": 1}))
        assert phrases.similar_cases(one) == "The one independent similar case is malignant."
        moved = replace(report, liked=("0" * 64,))
        assert phrases.similar_cases(moved) == (
            "7 of 10 independent similar cases of the whole scan are benign, 3 malignant."
        )
        two = build_report(similar_cases=LabelCounts(labels={"malignant": 1, "benign": 1}))
        assert phrases.similar_cases(two) == "1 of 2 independent similar cases is benign, 1 malignant."
        none = LabelCounts(labels={})
        assert phrases.similar_cases(build_report(similar_cases=none)).startswith("No independent similar case: ")
        assert (
            phrases.similar_cases(build_report(matches=(), similar_cases=none))
            == "No similar case was found or asked for."
        )

    def test_what_stands_behind_a_match(self, build_match: Callable[..., Match]) -> None:
        assert phrases.behind(build_match(1)) == ""
        assert phrases.behind(build_match(1, near_duplicates=2)) == "2 near-duplicates"
        assert phrases.behind(build_match(1, near_duplicates=1, same_patient=3)) == (
            "1 near-duplicate, 3 more of the patient"
        )

    def test_a_frame_is_named(self, build_report: Build) -> None:
        scan = replace(build_report().scan, source="cine.dcm", frame=11, frames=40)
        report = build_report(scan=scan)
        assert phrases.name(scan) == "cine.dcm, frame 12 of 40"
        for name in ("text", "html"):
            assert "frame 12 of 40" in render(report, name)
        assert json.loads(render_json(report))["scan"]["frame"] == 11

    def test_numbers(self) -> None:
        assert [phrases.signed(x, digits=2) for x in (1.5, -0.25, -0.001, 0.0)] == ["+1.50", "−0.25", "0.00", "0.00"]


class TestWarnings:
    def test_the_heaviest_comes_first_in_every_format(self, build_report: Build) -> None:
        told = warnings.ranked(
            [warnings.warning("no_spacing", "Light."), warnings.warning("seen_in_training", "Heavy.")]
        )
        assert [each.severity for each in told] == ["high", "low"]
        report = build_report(warnings=told)
        document = json.loads(render_json(report))
        assert document["warnings"][0] == {"severity": "high", "code": "seen_in_training", "text": "Heavy."}
        assert render(report, "text").splitlines()[1] == "            ! Heavy."
        html = render(report, "html")
        assert html.index("Heavy.") < html.index("Likeliest class") < html.index("Light.")
        with pytest.raises(InvalidValueError, match="most severe first"):
            replace(report, warnings=tuple(reversed(told)))

    def test_a_medium_one_comes_first_where_none_is_heavier(self, build_report: Build) -> None:
        told = warnings.ranked(
            [warnings.warning(code, f"{code}.") for code in ("near_threshold", "small_scan", "no_spacing")]
        )
        report = build_report(warnings=told)
        assert render(report, "text").splitlines()[1] == "            ! near_threshold."
        html = render(report, "html")
        assert html.index("near_threshold.") < html.index("Likeliest class") < html.index("small_scan.")
        assert html.count("near_threshold.") == 1
        assert warnings.leading(told[2:]) == ([], ["no_spacing."])

    def test_what_could_mislead_weighs_more_than_what_informs(self) -> None:
        order = list(warnings.CODES)
        assert [warnings.CODES[code] for code in order] == sorted(warnings.CODES.values(), key=SEVERITIES.index)
        misleading = ("seen_in_training", "out_of_distribution", "one_patient", "near_threshold", "small_scan")
        assert all(warnings.CODES[code] != "low" for code in misleading)
        assert all(warnings.CODES[code] == "low" for code in ("no_spacing", "annotations_removed", "region"))

    @pytest.mark.parametrize(
        ("share", "near"), [(0.11, True), (0.15, True), (0.08, True), (0.30, False), (0.02, False)]
    )
    def test_near_the_threshold(self, share: float, near: bool) -> None:
        prediction = predicted(0.0, 1 - share, share)
        codes = [each.code for each in warnings.prediction_warnings(prediction, abstain_below=0.5)]
        assert codes == (["near_threshold"] if near else [])

    def test_disagreement_is_over_independent_cases(self) -> None:
        prediction = predicted(0.05, 0.91, 0.04)

        def codes(**labels: int) -> list[str]:
            counts = LabelCounts(labels=labels)
            return [w.code for w in warnings.archive_warnings(prediction, counts, novelty=5.0, left_out=None)]

        assert codes(malignant=6, benign=4) == ["disagreement"]
        assert codes(malignant=5, benign=5) == []
        assert codes(malignant=2) == []  # two cases are no majority
        assert codes(benign=10) == []
        prediction = replace(prediction, label=None, ood_score=2.0)
        assert codes(malignant=6, benign=4) == []  # no prediction is given

    def test_a_short_list_of_one(self, build_match: Callable[..., Match]) -> None:
        (told,) = warnings.match_list_warnings([build_match(1)], k=3, filtered=False, independent=True, why_none=None)
        assert told.text == "The archive has 1 independent case to compare with; 3 were asked for."

    def test_one_patient_over_most_of_the_archive(self) -> None:
        def codes(**counts: int) -> list[str]:
            out = ExcludedCounts(**counts)
            told = warnings.archive_warnings(
                predicted(0.05, 0.91, 0.04), LabelCounts(labels={}), novelty=None, left_out=out
            )
            return [each.code for each in told]

        assert codes(same_patient=301, scans=600) == ["one_patient"]
        assert codes(same_patient=299, scans=600) == ["left_out"]
        assert codes(same_scan=1, same_patient=300, scans=600) == ["one_patient"]  # this scan is archived, and counts
        assert codes(same_scan=1, same_group=299, scans=600) == ["left_out"]
        assert codes(same_scan=1, scans=600) == []


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
    assert "nothing can be measured" in phrases.contour(unknown)


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
        assert "No prediction: this picture is unlike the scans that the network was trained on." in render(
            report, name
        )
    document = json.loads(render_json(report))
    Draft202012Validator(report_schema()).validate(document)
    assert document["prediction"]["ood_score"] == 2.5
    assert document["prediction"]["label"] is None
    plain = json.loads(render_json(build_report()))
    assert plain["prediction"]["ood_score"] is None
