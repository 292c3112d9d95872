"""Queries of a gallery: similar cases, disagreement, copies and what the report warns of."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from query_helpers import EVERY_SCAN, MakeScan, fill, said, top_and_other

from sonoseek.core import (
    PATHOLOGIES,
    Box,
    CaseRecord,
    Scan,
)
from sonoseek.encoder.seen import training_scans
from sonoseek.engine import SearchEngine
from sonoseek.gallery import Gallery
from sonoseek.indexing.build import make_entry


class TestSimilarCases:
    def test_an_empty_gallery(self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan) -> None:
        report = SearchEngine(encoder, empty_gallery).query(make_scan(1))
        assert (report.matches, report.agreement, report.novelty) == ((), None, None)
        assert len(report.explanations) == 1

    def test_unlike_anything_is_said(self, encoder: Any, gallery: Gallery) -> None:
        strange = np.zeros((200, 200), np.uint8)
        strange[::2, 60:90] = 255
        report = SearchEngine(encoder, gallery).query(Scan(pixels=strange))
        assert report.novelty is not None
        assert report.novelty >= 99.0
        assert said(report, "unlike anything in the archive")

    def test_a_filter_can_neither_make_nor_hide_a_disagreement(
        self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan
    ) -> None:
        top, other = top_and_other(encoder, make_scan(500))
        for against in (False, True):
            labels = [other if against else top] * 4 + [top if against else other] * 2
            empty_gallery.remove(cases=[("first", f"case {number}") for number in range(6)])
            fill(empty_gallery, encoder, [(make_scan(seed), label, None) for seed, label in enumerate(labels)])
            engine = SearchEngine(encoder, empty_gallery)
            for where in (None, f"label = '{other}'", f"label = '{top}'"):
                report = engine.query(make_scan(500), k=6, where=where)
                assert said(report, "disagree") is against
                assert report.agreement == pytest.approx((2 if against else 4) / 6)

    def test_neither_the_list_nor_what_moves_it_changes_the_count(
        self, encoder: Any, gallery: Gallery, make_scan: MakeScan
    ) -> None:
        engine = SearchEngine(encoder, gallery)
        base = engine.query(make_scan(900))
        other = next(match for match in reversed(base.matches) if match.label != base.matches[0].label)
        height, width = make_scan(900).shape
        for options in (
            {"k": 40, **EVERY_SCAN},
            {"liked": [other.scan_id]},
            {"disliked": [base.matches[0].scan_id]},
            {"region": Box(top=height / 2, left=0, bottom=height, right=width / 3)},
            {"region": Box(top=height / 2, left=0, bottom=height, right=width / 3), "where": "label = 'benign'"},
        ):
            report = engine.query(make_scan(900), **options)
            assert report.similar_cases == base.similar_cases, options
            assert said(report, "disagree") is said(base, "disagree")
        assert base.similar_cases.total == 10
        assert engine.query(make_scan(900), k=3).similar_cases.total == 3

    def test_a_longer_list_changes_no_count(self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan) -> None:
        fill(empty_gallery, encoder, [(make_scan(seed), PATHOLOGIES[seed % 3], None) for seed in range(15)])
        engine = SearchEngine(encoder, empty_gallery)
        ten, all_ = engine.query(make_scan(900)), engine.query(make_scan(900), k=15)
        assert (len(ten.matches), len(all_.matches)) == (10, 15)
        assert all_.similar_cases == ten.similar_cases
        hidden = engine.query(make_scan(900), k=15, where="label = 'benign'").hidden
        assert hidden is not None
        assert hidden.total == 10 - ten.similar_cases.labels["benign"]

    @pytest.mark.parametrize("where", [None, "label = 'malignant'"])
    def test_the_scan_itself_and_its_copy_are_no_similar_cases(
        self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan, where: str | None
    ) -> None:
        pixels = make_scan(1).pixels.copy()
        pixels[0, 0] ^= 1
        stored = [(make_scan(1), "benign", "G"), (make_scan(2), "benign", "G"), (make_scan(3), "malignant", None)]
        fill(empty_gallery, encoder, [*stored, (make_scan(4), "malignant", None)])
        engine = SearchEngine(encoder, empty_gallery)
        itself = engine.query(make_scan(1), include_same=True, where=where)
        copy = engine.query(Scan(pixels=pixels), where=where)
        for report in (itself, copy):
            assert ("benign" in {match.label for match in report.matches}) is (where is None)
            assert dict(report.similar_cases.labels) == {"malignant": 2}
            assert where is None or report.hidden is not None
            assert report.hidden is None or not report.hidden.total
        assert said(copy, "under another name")

    @pytest.mark.parametrize("kept", [True, False])
    def test_a_near_scan_is_a_copy_only_where_no_picture_denies_it(
        self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan, kept: bool
    ) -> None:
        entry = make_entry(make_scan(2), CaseRecord(case_id="c", dataset="d", pathology="benign"), encoder)
        empty_gallery.add([entry if kept else replace(entry, picture=None)])
        encoder._bundle = replace(encoder.bundle, duplicate_threshold=1e-6)
        report = SearchEngine(encoder, empty_gallery).query(make_scan(1))
        assert said(report, "under another name") is not kept
        assert dict(report.similar_cases.labels) == ({"benign": 1} if kept else {})

    @pytest.mark.parametrize("where", [None, "label = 'malignant'"])
    def test_a_copy_of_an_archived_training_scan_was_seen_in_training(
        self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan, where: str | None
    ) -> None:
        pixels = make_scan(1).pixels.copy()
        pixels[0, 0] ^= 1
        fill(empty_gallery, encoder, [(make_scan(1), "benign", None), (make_scan(3), "malignant", None)])
        learnt = training_scans([("d", make_scan(1).scan_id, b"")])  # no hash that would find the copy itself
        encoder._bundle = replace(encoder.bundle, training_scans=learnt)
        engine = SearchEngine(encoder, empty_gallery)
        assert said(engine.query(Scan(pixels=pixels), where=where), "was in the training data")
        assert not said(engine.query(make_scan(4), where=where), "was in the training data")

    @pytest.mark.parametrize("where", [None, "label = 'malignant'"])
    def test_one_patient_over_most_of_the_archive_is_said_to_any_scan(
        self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan, where: str | None
    ) -> None:
        for number in range(30):
            patient = "X17" if number % 6 else f"P{number}"
            record = CaseRecord(case_id=str(number), dataset="first", pathology="benign", patient_id=patient)
            empty_gallery.add([make_entry(make_scan(number), record, encoder)])
        report = SearchEngine(encoder, empty_gallery).query(make_scan(900), where=where)
        assert said(report, "One patient has 25 of the 30 cases of 'first' and counts as one similar case")
        assert report.warnings[0].severity == "high"
        assert report.similar_cases.total == 6

    @pytest.mark.parametrize("include_same", [False, True])
    def test_a_held_scan_without_patient_and_group_is_said_to_be_held(
        self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan, include_same: bool
    ) -> None:
        fill(empty_gallery, encoder, [(make_scan(seed), "benign", None) for seed in range(4)])
        engine = SearchEngine(encoder, empty_gallery)
        report = engine.query(make_scan(2), include_same=include_same)
        assert (make_scan(2).scan_id in {match.scan_id for match in report.matches}) is include_same
        assert said(report, "The archive contains this scan; it is among the matches.") is include_same
        assert said(report, "The archive contains this scan; it was left out of the matches.") is not include_same
        assert not said(engine.query(make_scan(99), include_same=include_same), "contains this scan;")

    def test_a_held_scan_that_the_filter_hides(self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan) -> None:
        fill(empty_gallery, encoder, [(make_scan(1), "benign", None), (make_scan(2), "malignant", None)])
        report = SearchEngine(encoder, empty_gallery).query(
            make_scan(1), where="label = 'malignant'", include_same=True
        )
        assert said(report, "The archive contains this scan; it is not among the matches.")
        assert not said(report, "under another name")

    @pytest.mark.parametrize(("k", "where"), [(3, None), (3, "label = 'malignant'"), (0, None)])
    def test_a_near_duplicate_is_pointed_at_only_where_it_is_listed(
        self,
        encoder: Any,
        empty_gallery: Gallery,
        make_scan: MakeScan,
        k: int,
        where: str | None,
    ) -> None:
        stripes = np.zeros((200, 200), np.uint8)
        stripes[::2, 60:90] = 255
        fill(empty_gallery, encoder, [(make_scan(1), "benign", None), (Scan(pixels=stripes), "malignant", None)])
        pixels = make_scan(1).pixels.copy()
        pixels[0, 0] ^= 1
        report = SearchEngine(encoder, empty_gallery).query(Scan(pixels=pixels), k=k, where=where)
        listed = make_scan(1).scan_id in {match.scan_id for match in report.matches}
        assert listed is (k > 0 and where is None)
        assert said(report, "under another name (similarity 1.000)")
        assert said(report, "match 1 is not an independent case and is not counted") is listed
        assert said(report, "it is not among the matches") is not listed

    @pytest.mark.parametrize("listed", [{}, {"per_patient": False, "deduplicate": False}])
    def test_a_group_is_one_case_however_it_is_listed(
        self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan, listed: dict[str, bool]
    ) -> None:
        top, other = top_and_other(encoder, make_scan(500))
        labels = [(other, "G2"), (other, "G2"), (other, "G2"), (top, None), (top, None)]
        fill(empty_gallery, encoder, [(make_scan(seed), *label) for seed, label in enumerate(labels)])
        report = SearchEngine(encoder, empty_gallery).query(make_scan(500), k=5, **listed)
        assert dict(report.similar_cases.labels) == {top: 2, other: 1}
        assert report.agreement == pytest.approx(2 / 3)
        assert not said(report, "disagree")
        assert len(report.matches) == (5 if listed else 3)
        assert said(report, "The 5 matches are of 3 patients, groups or cases.") is bool(listed)
        assert sorted(match.near_duplicates for match in report.matches) == ([0] * 5 if listed else [0, 0, 2])

    def test_disagreement_counts_each_group_of_each_dataset_once(
        self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan
    ) -> None:
        top, other = top_and_other(encoder, make_scan(500))
        labels = [(top, "G1"), (top, "G1"), (top, "G1"), (other, None), (other, "G2")]
        fill(empty_gallery, encoder, [(make_scan(seed), *label) for seed, label in enumerate(labels)])
        fill(empty_gallery, encoder, [(make_scan(9), other, "G1")], dataset="second")
        report = SearchEngine(encoder, empty_gallery).query(make_scan(500), k=6)
        assert said(report, f"3 of 4 independent similar cases are {other}")

    def test_copies_that_no_group_marks_are_one_case(
        self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan
    ) -> None:
        top, other = top_and_other(encoder, make_scan(500))
        copies = []
        for column in range(3):
            pixels = make_scan(1).pixels.copy()
            pixels[0, column] ^= 1
            copies.append((Scan(pixels=pixels), other, None))
        fill(empty_gallery, encoder, [*copies, (make_scan(2), top, None), (make_scan(3), top, None)])
        for where in (None, f"label = '{other}'"):
            report = SearchEngine(encoder, empty_gallery).query(make_scan(500), k=5, where=where)
            assert dict(report.similar_cases.labels) == {top: 2, other: 1}
            assert max(match.near_duplicates for match in report.matches) == 2

    def test_the_same_question_gets_the_same_answer_from_any_thread(
        self, encoder: Any, gallery: Gallery, make_scan: MakeScan
    ) -> None:
        engine, scans = SearchEngine(encoder, gallery), [make_scan(500 + i) for i in range(8)]
        expected = [engine.query(scan).matches for scan in scans]
        with ThreadPoolExecutor(4) as pool:
            assert [report.matches for report in pool.map(engine.query, scans * 3)] == expected * 3
