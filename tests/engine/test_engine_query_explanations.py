"""Queries of a gallery: what each match and each class rests on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from query_helpers import EVERY_SCAN, MakeScan

from sonoseek.core import (
    CaseRecord,
    InvalidValueError,
    NotFoundError,
)
from sonoseek.engine import SearchEngine
from sonoseek.explain import METHODS, PERTURBATION, pair_evidence
from sonoseek.gallery import Gallery
from sonoseek.indexing.build import make_entry


class TestExplanations:
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
        assert match.explanation.evidence_map == pytest.approx(
            whole.evidence_map, abs=0.02 * float(np.abs(whole.evidence_map).max())
        )

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
        assert told.bias + told.evidence_map.sum(dtype=np.float64) == pytest.approx(told.value, abs=1e-4)

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

    @pytest.mark.parametrize("method", PERTURBATION)
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
