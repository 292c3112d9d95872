"""Queries of a gallery: matches, filters, options, and the scan itself left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from query_helpers import EVERY_SCAN, MakeScan, said

from sonoseek.core import (
    InvalidValueError,
    Scan,
    SearchOptions,
    WhereError,
)
from sonoseek.engine import SearchEngine
from sonoseek.gallery import Gallery
from sonoseek.reports import phrases


class TestMatches:
    def test_matches_are_ranked_and_counted(self, encoder: Any, gallery: Gallery, make_scan: MakeScan) -> None:
        report = SearchEngine(encoder, gallery).query(make_scan(500), k=7)
        assert [m.rank for m in report.matches] == list(range(1, 8))
        top = report.prediction.likeliest
        assert report.agreement == pytest.approx(sum(m.label == top for m in report.matches) / 7)
        assert len({m.group for m in report.matches}) == 7  # one match per patient or group
        assert report.gallery_id == gallery.gallery_id
        assert report.novelty is not None
        assert 0.0 <= report.novelty <= 100.0
        assert all(m.picture is not None for m in report.matches)

    @pytest.mark.parametrize("include_same", [False, True])
    def test_itself_its_patient_and_its_group_do_not_answer(
        self, encoder: Any, gallery: Gallery, dataset: Any, include_same: bool
    ) -> None:
        scan = dataset.load("case 006").scans[0]
        report = SearchEngine(encoder, gallery).query(scan, k=100, include_same=include_same, **EVERY_SCAN)
        groups = {m.group for m in report.matches}
        assert ("g1" in groups) is include_same
        assert len(report.matches) == (40 if include_same else 36)
        assert (report.matches[0].scan_id == scan.scan_id) is include_same
        assert report.novelty is not None
        assert report.novelty == SearchEngine(encoder, gallery).query(scan).novelty  # never of its own
        assert said(report, "is among the matches") is include_same
        assert said(report, "it was left out of the matches") is not include_same
        excluded = report.left_out
        assert excluded is not None
        counts = (excluded.scans, excluded.same_scan, excluded.same_patient, excluded.same_group)
        assert counts == ((40, 0, 0, 0) if include_same else (40, 1, 1, 2))
        assert said(report, "3 archived scans of the same patient or group were left out.") is not include_same

    def test_the_patient_that_the_scan_names_does_not_answer(
        self, encoder: Any, gallery: Gallery, make_scan: MakeScan
    ) -> None:
        scan = replace(make_scan(500), patient_id="p3")
        engine = SearchEngine(encoder, gallery)
        assert {m.patient_id for m in engine.query(scan, k=100, **EVERY_SCAN).matches} == {
            f"p{i}" for i in range(20)
        } - {"p3"}
        assert len(engine.query(scan, k=100, include_same=True, **EVERY_SCAN).matches) == 40

    @pytest.mark.parametrize("change", ["mirrored", "turned", "saved as JPEG"])
    def test_the_same_scan_under_another_name_is_found_and_named(
        self, encoder: Any, gallery: Gallery, dataset: Any, change: str
    ) -> None:
        pixels = dataset.load("case 009").scans[0].pixels
        if change == "mirrored":
            pixels = pixels[:, ::-1]
        elif change == "turned":
            matrix = cv2.getRotationMatrix2D((110, 80), 1.0, 1.0)
            pixels = cv2.warpAffine(pixels, matrix, (220, 160), borderMode=cv2.BORDER_REFLECT)
        else:
            pixels = cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])[1], 0)
        report = SearchEngine(encoder, gallery).query(Scan(pixels=np.ascontiguousarray(pixels)), include_same=True)
        assert report.matches[0].case_id == "case 009"
        if report.matches[0].similarity >= encoder.bundle.duplicate_threshold:
            assert said(report, "under another name")

    def test_where_filters_and_says_when_it_left_too_few(
        self, encoder: Any, gallery: Gallery, make_scan: MakeScan
    ) -> None:
        engine = SearchEngine(encoder, gallery)
        report = engine.query(make_scan(500), k=10, where="birads >= '4A' and device = 'GE Logiq 7'")
        assert report.where == "birads >= '4A' and device = 'GE Logiq 7'"
        assert 0 < len(report.matches) < 10
        assert {(m.birads, m.device) for m in report.matches} == {("5", "GE Logiq 7")}
        assert len(report.similar_cases.labels) > 1  # counted over what the filter hides, too
        assert report.similar_cases == engine.query(make_scan(500), k=10).similar_cases
        assert report.hidden is not None
        assert report.hidden.total > 0
        told = phrases.filtered(report)
        assert f"{len(report.matches)} of {len(report.matches)} shown" in told
        assert f"hides {report.hidden.total} of the 10 most similar" in told

    def test_a_filter_that_does_not_parse(self, encoder: Any, gallery: Gallery, make_scan: MakeScan) -> None:
        with pytest.raises(WhereError):
            SearchEngine(encoder, gallery).query(make_scan(500), where="birads >=; drop table scans")

    def test_k_of_zero_of_too_many_and_below_zero(self, encoder: Any, gallery: Gallery, make_scan: MakeScan) -> None:
        engine, scan = SearchEngine(encoder, gallery), make_scan(500)
        none = engine.query(scan, k=0)
        assert (none.matches, none.agreement) == ((), None)
        assert none.novelty is not None
        everything = engine.query(scan, k=1000, **EVERY_SCAN)
        assert len(everything.matches) == 40
        assert said(everything, "The archive has 40 scans to compare with; 1000 were requested.")
        assert said(everything, "The 40 matches are of 20 patients, groups or cases.")
        assert said(engine.query(scan, k=1000), "The archive has 10 independent cases to compare with")
        with pytest.raises(InvalidValueError, match="k is -1"):
            engine.query(scan, k=-1)

    def test_options_and_keywords_are_the_same_search(
        self, encoder: Any, gallery: Gallery, make_scan: MakeScan
    ) -> None:
        engine, scan = SearchEngine(encoder, gallery), make_scan(500)
        options = SearchOptions(k=6, where="birads >= '4A'", per_patient=False, explain_matches=False)
        by_keywords = engine.query(scan, k=6, where="birads >= '4A'", per_patient=False, explain_matches=False)
        by_options = engine.query(scan, options=options)
        assert by_options.matches == by_keywords.matches
        assert by_options.where == by_keywords.where == options.where
        assert len(engine.query(scan, options, k=2).matches) == 2
        kept = next(iter(gallery)).record
        by_case = engine.query_case(kept.dataset, kept.case_id, options=options)
        assert by_case.matches == engine.query_case(kept.dataset, kept.case_id, options, k=6).matches
        assert by_case.where == options.where
