"""The corridor: what a query says, what it leaves out, and what it warns of."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import run
from typing import Any

import cv2
import numpy as np
import pytest

from sonoseek.core import (
    PATHOLOGIES,
    Box,
    BundleMismatchError,
    CaseRecord,
    InvalidValueError,
    NotFoundError,
    Report,
    Scan,
    SearchOptions,
    WhereError,
)
from sonoseek.encoder import OODModel, load_bundle, open_encoder
from sonoseek.encoder.seen import training_scans
from sonoseek.engine import SearchEngine, open_engine
from sonoseek.explain import ASKED, METHODS, pair_evidence
from sonoseek.gallery import Gallery, create_gallery
from sonoseek.indexing.build import make_entry
from sonoseek.reports import phrases

MakeScan = Callable[..., Scan]
EVERY_SCAN: dict[str, Any] = {"per_patient": False, "deduplicate": False}


def said(report: Report, words: str) -> bool:
    return any(words in warning.text for warning in report.warnings)


def fill(gallery: Gallery, encoder: Any, rows: list[tuple[Scan, str, str | None]], *, dataset: str = "first") -> None:
    """Add one case per scan, label and group, of no known patient."""
    gallery.add(
        make_entry(scan, CaseRecord(case_id=f"case {i}", dataset=dataset, pathology=pathology, group=group), encoder)
        for i, (scan, pathology, group) in enumerate(rows)
    )


def top_and_other(encoder: Any, scan: Scan) -> tuple[str, str]:
    """The class that the network finds likeliest, and another one."""
    top = SearchEngine(encoder).query(scan).explanations[0].target
    return top, next(name for name in encoder.bundle.classes if name != top)


class TestWithoutGallery:
    def test_verdict_and_heatmap_alone(self, encoder: Any, make_scan: MakeScan) -> None:
        scan = make_scan(500)
        report = SearchEngine(encoder).query(scan)
        assert (report.matches, report.agreement, report.novelty, report.gallery_id) == ((), None, None, None)
        assert report.scan is scan
        assert report.bundle_id == encoder.bundle.bundle_id
        assert datetime.now(UTC) - report.created < timedelta(minutes=1)
        assert [e.method for e in report.explanations] == ["class_evidence"]
        assert not said(report, "archive")

    def test_the_heatmap_is_of_the_label(self, encoder: Any, make_scan: MakeScan) -> None:
        report = SearchEngine(encoder).query(make_scan(501))
        assert report.explanations[0].target == report.prediction.label

    def test_an_abstention_explains_the_likeliest(self, make_encoder: Any, make_scan: MakeScan) -> None:
        report = SearchEngine(make_encoder(abstain_below=1.0)).query(make_scan(501))
        assert report.prediction.label is None
        probabilities = report.prediction.probabilities
        assert probabilities[report.explanations[0].target] == max(probabilities.values())
        assert said(report, "No class is given")

    def test_a_picture_unlike_the_training_scans_gets_no_verdict_and_is_told_why(
        self, make_encoder: Any, make_scan: MakeScan
    ) -> None:
        scan = make_scan(501)
        embedding = SearchEngine(make_encoder()).read(scan).embedding
        centre = embedding / np.linalg.norm(embedding)
        for border, told in ((0.1, True), (10.0, False)):
            model = OODModel(
                mean=np.roll(centre, 1),
                components=np.eye(len(centre), dtype=np.float32)[:1],
                variances=np.ones(1),
                residual_variance=1.0,
                threshold=border,
                level=0.99,
            )
            report = SearchEngine(make_encoder(ood=model)).query(scan)
            assert said(report, "unlike anything the network was trained on") is told
            assert (report.prediction.label is None) is told
            assert len(report.prediction.prediction_set) == 3 or not told
            assert not said(report, "No class is given:")  # that is another reason
        assert report.novelty is None  # of the gallery, and there is none

    def test_every_class_sums_to_its_logit(self, encoder: Any, make_scan: MakeScan) -> None:
        engine = SearchEngine(encoder)
        for seed, shape in ((1, (160, 220)), (2, (90, 400)), (3, (700, 200)), (4, (40, 40))):
            reading = engine.read(make_scan(seed, shape=shape))
            for index, name in enumerate(engine.bundle.classes):
                explained = engine.explain_class(reading, name)
                total = explained.heatmap.sum(dtype=np.float64) + explained.bias
                assert total == pytest.approx(float(reading.logits[index]), abs=1e-4)
                assert explained.heatmap.shape == shape

    def test_a_class_that_is_not_there(self, encoder: Any, make_scan: MakeScan) -> None:
        engine = SearchEngine(encoder)
        with pytest.raises(InvalidValueError, match="normal, benign, malignant"):
            engine.explain_class(engine.read(make_scan(1)), "cyst")

    @pytest.mark.parametrize("level", [0, 128, 255])
    def test_a_constant_picture_gets_a_report(self, encoder: Any, level: int) -> None:
        report = SearchEngine(encoder).query(Scan(pixels=np.full((60, 80), level, np.uint8)))
        assert np.isfinite(report.explanations[0].heatmap).all()
        assert said(report, "small")


class TestWithGallery:
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
        assert said(everything, "The archive has 40 scans to compare with; 1000 were asked for.")
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

    def test_pair_evidence_explains_every_match(self, encoder: Any, gallery: Gallery, make_scan: MakeScan) -> None:
        report = SearchEngine(encoder, gallery).query(make_scan(500), k=4)
        assert [e.method for e in report.explanations] == ["class_evidence"] + ["pair_evidence"] * 4
        for match, explained in zip(report.matches, report.explanations[1:], strict=True):
            assert explained.target == f"match:{match.scan_id}"
            assert explained.heatmap.sum(dtype=np.float64) == pytest.approx(match.similarity, abs=1e-3)
            assert explained.value == pytest.approx(match.similarity, abs=1e-3)  # stored in half precision
            assert report.pair(match.rank) == (explained, match.explanation)
            entry = gallery.get(match.scan_id)
            assert entry is not None
            assert match.explanation is not None
            assert match.explanation.target == f"query:{report.scan_id}"
            assert match.explanation.shape == entry.scan_shape  # the match's own grid
            assert match.explanation.heatmap.sum(dtype=np.float64) == pytest.approx(match.similarity, abs=1e-4)

    def test_the_matchs_own_map_is_what_the_network_would_say_of_it(
        self, encoder: Any, gallery: Gallery, make_scan: MakeScan
    ) -> None:
        engine = SearchEngine(encoder, gallery)
        report = engine.query(make_scan(500), k=40, **EVERY_SCAN)
        scan = make_scan(3)
        match = next(match for match in report.matches if match.scan_id == scan.scan_id)
        reading, asked = engine.read(scan), engine.read(make_scan(500))
        whole = pair_evidence(
            reading.evidence, asked.embedding, mapping=reading.mapping, target="", within=reading.within
        )
        assert match.explanation is not None
        assert match.explanation.cells == pytest.approx(whole.cells, abs=0.02 * float(np.abs(whole.cells).max()))

    def test_a_gallery_without_evidence_still_answers(
        self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan
    ) -> None:
        record = CaseRecord(case_id="a", dataset="d", pathology="benign")
        empty_gallery.add([replace(make_entry(make_scan(1), record, encoder), evidence=None)])
        report = SearchEngine(encoder, empty_gallery).query(make_scan(2))
        assert report.matches[0].explanation is None
        pair = report.pair(1)
        assert pair is not None
        assert pair[1] is None

    @pytest.mark.parametrize("method", METHODS)
    def test_any_method_explains_a_class_or_a_match(
        self, encoder: Any, gallery: Gallery, make_scan: MakeScan, method: str
    ) -> None:
        engine = SearchEngine(encoder, gallery)
        reading = engine.read(make_scan(500))
        entry = next(iter(gallery))
        if method not in ("pair_evidence", "sbsm"):
            told = engine.explain(reading, method=method, target="benign")
            assert (told.method, told.target, told.shape) == (method, "benign", reading.scan.shape)
            assert told.value == pytest.approx(float(reading.logits[1]), abs=1e-4)
        if method != "class_evidence":
            told = engine.explain(reading, method=method, match=entry)
            own = reading.embedding / np.linalg.norm(reading.embedding)
            cosine = float(own @ entry.embedding / np.linalg.norm(entry.embedding))
            assert (told.method, told.target) == (method, f"match:{entry.scan_id}")
            assert told.value == pytest.approx(cosine, abs=1e-4)
        assert told.exact is (method in ("class_evidence", "pair_evidence"))
        assert told.bias + told.cells.sum(dtype=np.float64) == pytest.approx(told.value, abs=1e-4)

    def test_methods_and_targets_that_do_not_go_together(
        self, encoder: Any, gallery: Gallery, make_scan: MakeScan
    ) -> None:
        engine = SearchEngine(encoder, gallery)
        reading, entry = engine.read(make_scan(500)), next(iter(gallery))
        with pytest.raises(NotFoundError, match="class_evidence, pair_evidence, occlusion, rise, sbsm"):
            engine.explain(reading, method="gradcam")
        for method in ("pair_evidence", "sbsm"):
            with pytest.raises(InvalidValueError, match="none is given"):
                engine.explain(reading, method=method)
        with pytest.raises(InvalidValueError, match="one thing"):
            engine.explain(reading, match=entry)
        with pytest.raises(InvalidValueError, match="one thing"):
            engine.explain(reading, method="rise", target="benign", match=entry)
        with pytest.raises(InvalidValueError, match="classes are"):
            engine.explain(reading, method="rise", target="cyst")

    @pytest.mark.parametrize("method", [name for name in METHODS if name != "class_evidence"])
    def test_a_match_of_another_bundle_is_not_explained(
        self, encoder: Any, gallery: Gallery, make_scan: MakeScan, method: str
    ) -> None:
        engine = SearchEngine(encoder, gallery)
        entry = replace(next(iter(gallery)), embedding=np.ones(7, np.float32))
        with pytest.raises(InvalidValueError, match="bundle"):
            engine.explain(engine.read(make_scan(500)), method=method, match=entry)

    @pytest.mark.parametrize("method", ASKED)
    def test_asking_tells_how_far_it_is(self, encoder: Any, gallery: Gallery, make_scan: MakeScan, method: str) -> None:
        engine = SearchEngine(encoder, gallery)
        told: list[tuple[int, int]] = []
        engine.explain(
            engine.read(make_scan(500)),
            method=method,
            match=next(iter(gallery)),
            on_progress=lambda done, total: told.append((done, total)),
        )
        assert told
        assert told[-1][0] == told[-1][1]

    def test_matches_need_not_be_explained(self, encoder: Any, gallery: Gallery, make_scan: MakeScan) -> None:
        report = SearchEngine(encoder, gallery).query(make_scan(500), k=4, explain_matches=False)
        assert len(report.explanations) == 1
        assert report.pair(1) is None
        assert all(match.explanation is None for match in report.matches)

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
        assert said(report, "Patient 'X17' holds 25 of the 30 cases of 'first' and counts as one similar case")
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
        assert said(report, "The archive holds this very scan; it is among the matches.") is include_same
        assert said(report, "The archive holds this very scan; it was left out of the matches.") is not include_same
        assert not said(engine.query(make_scan(99), include_same=include_same), "holds this very scan;")

    def test_a_held_scan_that_the_filter_hides(self, encoder: Any, empty_gallery: Gallery, make_scan: MakeScan) -> None:
        fill(empty_gallery, encoder, [(make_scan(1), "benign", None), (make_scan(2), "malignant", None)])
        report = SearchEngine(encoder, empty_gallery).query(
            make_scan(1), where="label = 'malignant'", include_same=True
        )
        assert said(report, "The archive holds this very scan; it is not among the matches.")
        assert not said(report, "under another name")

    @pytest.mark.parametrize(("k", "where"), [(3, None), (3, "label = 'malignant'"), (0, None)])
    def test_a_near_copy_is_pointed_at_only_where_it_is_listed(
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
        assert said(report, "match 1 is no independent case, and is not counted") is listed
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


def test_a_gallery_of_another_bundle_is_refused(make_encoder: Any, empty_gallery: Gallery) -> None:
    with pytest.raises(BundleMismatchError, match=r"fake-000000000000.*other-1.*build the gallery again"):
        SearchEngine(make_encoder(bundle_id="other-1"), empty_gallery)


def test_without_spacing_and_with_it(encoder: Any, make_scan: MakeScan) -> None:
    scan = make_scan(1)
    engine = SearchEngine(encoder)
    assert said(engine.query(scan), "millimetres")
    assert not said(engine.query(replace(scan, spacing_mm=(0.1, 0.1))), "millimetres")


def test_painted_over_marks_are_said(encoder: Any, make_scan: MakeScan) -> None:
    pixels = make_scan(1, shape=(400, 500)).pixels.copy()
    cv2.putText(pixels, "LT BREAST 3:00", (30, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
    report = SearchEngine(encoder).query(Scan(pixels=pixels))
    assert said(report, "painted over")


class TestWithTheBundleThatShips:
    def test_every_class_sums_to_its_logit_through_onnx(self, make_scan: MakeScan) -> None:
        with open_engine(threads=1) as engine:
            for seed, shape in ((1, (160, 220)), (2, (300, 60)), (3, (40, 40))):
                reading = engine.read(make_scan(seed, shape=shape))
                for index, name in enumerate(engine.bundle.classes):
                    explained = engine.explain_class(reading, name)
                    total = explained.heatmap.sum(dtype=np.float64) + explained.bias
                    assert total == pytest.approx(float(reading.logits[index]), abs=1e-4)

    def test_open_engine_with_a_gallery(self, tmp_path: Path, make_scan: MakeScan, dataset: Any) -> None:
        encoder = open_encoder(threads=1)
        bundle = encoder.bundle
        with create_gallery(tmp_path / "g", bundle_id=bundle.bundle_id, dimension=bundle.embedding_dim) as gallery:
            gallery.add(make_entry(make_scan(i), dataset.records()[i], encoder) for i in range(3))
        with open_engine(tmp_path / "g", bundle=load_bundle(), threads=1) as engine:
            assert len(engine.query(make_scan(99), **EVERY_SCAN).matches) == 3
        with create_gallery(tmp_path / "other", bundle_id="other-1", dimension=4), pytest.raises(BundleMismatchError):
            open_engine(tmp_path / "other")

    def test_no_gallery_there(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError):
            open_engine(tmp_path / "nothing")

    def test_a_query_never_imports_torch(self, tmp_path: Path) -> None:
        code = (
            "import sys, numpy as np, sonoseek as ss; e = ss.open_engine(threads=1); "
            "r = e.query(ss.Scan(pixels=np.eye(64, dtype=np.uint8) * 200)); "
            "from sonoseek.reports import render; [render(r, f) for f in ('json', 'html', 'text')]; "
            "ss.write_report(r, sys.argv[1]); "
            "bad = {'torch', 'pandas', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules); assert not bad, bad"
        )
        run([sys.executable, "-c", code, str(tmp_path / "r.pdf")], check=True, timeout=60)


@pytest.mark.data
def test_every_class_sums_to_its_logit_on_real_scans(real_data: Path) -> None:
    from sonoseek.io import read_scan

    scans = sorted(real_data.glob("busi/Dataset_BUSI_with_GT/*/*[0-9]).png"))[::60]
    scans += sorted(real_data.glob("busbra/BUSBRA/Images/*.png"))[::400]
    if not scans:
        pytest.skip(f"no BUSI and no BUS-BRA under {real_data}")
    with open_engine(threads=1) as engine:
        for path in scans:
            reading = engine.read(read_scan(path))
            for index, name in enumerate(engine.bundle.classes):
                explained = engine.explain_class(reading, name)
                total = explained.heatmap.sum(dtype=np.float64) + explained.bias
                assert total == pytest.approx(float(reading.logits[index]), abs=1e-4), path.name
