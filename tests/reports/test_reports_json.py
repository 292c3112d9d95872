"""The JSON report: its schema, its numbers, its arrays."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from sonoseek.core import (
    Explanation,
    InvalidValueError,
    Report,
)
from sonoseek.reports import (
    decode_evidence_map,
    decode_heatmap,
    render,
    render_json,
    report_schema,
)

Build = Callable[..., Report]


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
    def test_reports_satisfy_the_schema(
        self, build_report: Build, unsure_report: Report, hostile_report: Report, heatmaps: bool
    ) -> None:
        validator = Draft202012Validator(report_schema())
        for report in (build_report(), unsure_report, hostile_report):
            validator.validate(json.loads(render_json(report, heatmaps=heatmaps)))

    def test_the_numbers_are_those_of_the_report(self, build_report: Build) -> None:
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
        explanation = report.matches[1].explanation
        assert explanation is not None
        assert np.array_equal(decode_evidence_map(other["evidence_map"]), explanation.evidence_map)
        assert ("heatmap" in other) is heatmaps

    def test_heatmaps_round_trip(self, build_report: Build, unsure_report: Report) -> None:
        for report in (build_report(), unsure_report):
            document = json.loads(render_json(report, heatmaps=True))
            heatmap = decode_heatmap(document["explanations"][0]["heatmap"])
            original = report.explanations[0].heatmap
            assert heatmap.dtype == np.float32
            assert heatmap == pytest.approx(original, rel=1e-3, abs=1e-6 * float(np.abs(original).max()))

    def test_an_empty_heatmap_round_trips(
        self, build_report: Build, build_on_pixels: Callable[..., Explanation]
    ) -> None:
        empty = build_on_pixels(np.zeros((120, 160)), target="benign")
        document = json.loads(render_json(build_report(explanations=(empty,)), heatmaps=True))
        assert not decode_heatmap(document["explanations"][0]["heatmap"]).any()

    def test_invalid_heatmaps_are_refused(self, build_report: Build) -> None:
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

    def test_invalid_evidence_maps_are_refused(self, build_report: Build) -> None:
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
