"""Sentences of a report: the headline first."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from predictions import FITTED_ON, POINTS, predicted

from sonoseek.core import (
    ExcludedCounts,
    LabelCounts,
    Match,
    Prediction,
    Report,
)
from sonoseek.reports import (
    phrases,
    render,
    render_json,
    warnings,
)

Build = Callable[..., Report]


RULED_OUT = re.compile(r"exclu|ruled out|possible|verdict|proven\b|precedent|assessment", re.IGNORECASE)


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
                "Likelihood of malignancy 15 %, and this bundle has no threshold: malignancy is not ruled out.",
            ),
        ],
    )
    def test_the_likelihood_and_its_threshold_come_first(self, prediction: Prediction, headline: str) -> None:
        assert phrases.headline(prediction) == headline

    @pytest.mark.parametrize("share", [0.11, 0.12, 0.3, 0.49, 0.9, 1.0])
    def test_at_or_above_the_threshold_nothing_reads_as_ruled_out(self, build_report: Build, share: float) -> None:
        label = "malignant" if share > 0.5 else "benign"
        report = build_report(prediction=predicted(0.0, 1 - share, share, label=label))
        sentences = [phrases.headline(report.prediction), phrases.likeliest(report.prediction)]
        sentences += [phrases.prediction_set(report.prediction), phrases.thresholds(report.prediction)]
        for text in sentences:
            assert not RULED_OUT.search(text.replace("malignancy is not ruled out", "").replace("not ruled out", ""))
        assert ("malignancy is not ruled out" in sentences[0]) == (share < 0.5)
        assert phrases.display_class(report.prediction) != "benign"
        for name in ("text", "html"):
            first = re.search(r"Likelihood of malignancy|Likeliest class", render(report, name))
            assert first is not None
            assert first[0] == "Likelihood of malignancy"
        document = json.loads(render_json(report))
        assert document["headline"] == sentences[0]
        assert list(document)[:6] == ["schema", "schema_version", "disclaimer", "headline", "warnings", "prediction"]
        reached = [point["reached"] for point in document["prediction"]["operating_points"]]
        assert reached == [share >= point.threshold for point in POINTS]
        assert document["prediction"]["fitted_on"] == FITTED_ON

    @pytest.mark.parametrize(
        ("share", "compared"),
        [
            (0.10996, "10.996 %, below the 98 %-sensitivity threshold (11.000 %)"),
            (0.1101, "11.01 %, above the 98 %-sensitivity threshold (11.00 %)"),
            (0.11, "11 %, at the 98 %-sensitivity threshold (11 %)"),
        ],
    )
    def test_a_likelihood_near_the_threshold_never_looks_equal_to_it(self, share: float, compared: str) -> None:
        prediction = predicted(0.0, 1 - share, share)
        assert compared in phrases.headline(prediction)
        (near,) = warnings.prediction_warnings(prediction, abstain_below=0.5)
        assert (
            f"({compared.split(',')[0]}) lies near the 98 %-sensitivity threshold {compared[compared.index('(') :]}:"
            in near.text
        )

    def test_not_sure_and_a_table_name_malignancy_where_it_is_not_ruled_out(self) -> None:
        assert phrases.likeliest(predicted(0.25, 0.60, 0.15, label=None)) == (
            "Not sure: benign (60 %), normal (25 %) or malignant (15 %)."
        )
        assert phrases.likeliest(predicted(0.35, 0.60, 0.05, label=None)) == "Not sure: benign (60 %) or normal (35 %)."
        assert phrases.short_headline(predicted(0.05, 0.80, 0.15)) == "malignancy 15 %, not ruled out, likeliest benign"
        assert phrases.short_headline(predicted(0.05, 0.91, 0.04)) == "malignancy 4 %, likeliest benign"
        assert phrases.short_headline(predicted(0.3, 0.3, 0.4, label=None)) == "malignancy 40 %, not sure"

    def test_the_class_of_a_benign_scan_below_the_threshold(self) -> None:
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
            (20.0, "Typical of the archive"),
            (89.7, "Typical of the archive (novelty percentile 89)"),
            (95.0, "Unusual"),
            (98.6, "Unusual for the archive (novelty percentile 98)"),
            (99.0, "Unlike anything"),
        ],
    )
    def test_novelty(self, build_report: Build, novelty: float | None, part: str) -> None:
        assert part in phrases.novelty(build_report(novelty=novelty))

    def test_novelty_where_everything_is_left_out(self, build_report: Build) -> None:
        report = build_report(novelty=None, left_out=ExcludedCounts(same_scan=1, same_patient=599, scans=600))
        assert phrases.novelty(report) == "Not known: every scan of the archive was left out."
        assert phrases.left_out(report) == (
            "Left out of the search: 600 of the archive's 600 scans (this scan itself, 599 of the same patient)."
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
            == "No similar case was found or requested."
        )

    def test_scans_that_a_match_stands_for(self, build_match: Callable[..., Match]) -> None:
        assert phrases.grouped(build_match(1)) == ""
        assert phrases.grouped(build_match(1, near_duplicates=2)) == "2 near-duplicates"
        assert phrases.grouped(build_match(1, near_duplicates=1, same_patient=3)) == (
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
