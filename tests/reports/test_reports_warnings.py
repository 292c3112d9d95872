"""Warnings: severity, order and when they apply."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from predictions import predicted

from sonoseek.core import (
    SEVERITIES,
    ExcludedCounts,
    InvalidValueError,
    LabelCounts,
    Match,
    Report,
)
from sonoseek.reports import (
    render,
    render_json,
    warnings,
)

Build = Callable[..., Report]


class TestWarnings:
    def test_the_most_severe_comes_first_in_every_format(self, build_report: Build) -> None:
        ranked = warnings.ranked(
            [warnings.warning("no_spacing", "Light."), warnings.warning("seen_in_training", "Heavy.")]
        )
        assert [each.severity for each in ranked] == ["high", "low"]
        report = build_report(warnings=ranked)
        document = json.loads(render_json(report))
        assert document["warnings"][0] == {"severity": "high", "code": "seen_in_training", "text": "Heavy."}
        assert render(report, "text").splitlines()[1] == "            ! Heavy."
        html = render(report, "html")
        assert html.index("Heavy.") < html.index("Likeliest class") < html.index("Light.")
        with pytest.raises(InvalidValueError, match="most severe first"):
            replace(report, warnings=tuple(reversed(ranked)))

    def test_a_medium_one_comes_first_where_none_is_more_severe(self, build_report: Build) -> None:
        ranked = warnings.ranked(
            [warnings.warning(code, f"{code}.") for code in ("near_threshold", "small_scan", "no_spacing")]
        )
        report = build_report(warnings=ranked)
        assert render(report, "text").splitlines()[1] == "            ! near_threshold."
        html = render(report, "html")
        assert html.index("near_threshold.") < html.index("Likeliest class") < html.index("small_scan.")
        assert html.count("near_threshold.") == 1
        assert warnings.leading(ranked[2:]) == ([], ["no_spacing."])

    def test_misleading_is_more_severe_than_informing(self) -> None:
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
        (short,) = warnings.match_list_warnings([build_match(1)], k=3, filtered=False, independent=True, why_none=None)
        assert short.text == "The archive has 1 independent case to compare with; 3 were requested."

    def test_one_patient_over_most_of_the_archive(self) -> None:
        def codes(**counts: int) -> list[str]:
            out = ExcludedCounts(**counts)
            found = warnings.archive_warnings(
                predicted(0.05, 0.91, 0.04), LabelCounts(labels={}), novelty=None, left_out=out
            )
            return [each.code for each in found]

        assert codes(same_patient=301, scans=600) == ["one_patient"]
        assert codes(same_patient=299, scans=600) == ["left_out"]
        assert codes(same_scan=1, same_patient=300, scans=600) == ["one_patient"]  # this scan is archived, and counts
        assert codes(same_scan=1, same_group=299, scans=600) == ["left_out"]
        assert codes(same_scan=1, scans=600) == []
