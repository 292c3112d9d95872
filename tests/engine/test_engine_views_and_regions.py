"""Queries beyond one whole scan: several views, a region, liked and disliked matches, a case of the archive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sonoseek.core import Box, CaseRecord, GalleryError, InvalidValueError, NotFoundError, Report, Scan
from sonoseek.encoder import predict
from sonoseek.engine import SearchEngine
from sonoseek.gallery import Gallery
from sonoseek.indexing.build import make_entry
from sonoseek.indexing.recheck import recheck_embeddings
from sonoseek.reports import render

MakeScan = Callable[..., Scan]
EVERY_SCAN: dict[str, Any] = {"per_patient": False, "deduplicate": False}


@pytest.fixture
def engine(encoder: Any, gallery: Gallery) -> SearchEngine:
    return SearchEngine(encoder, gallery)


def sums_up(report: Report) -> None:
    """Every pair map of every view, and what it leaves over, is the match's similarity."""
    for explanations in (report.explanations, *(view.explanations for view in report.views)):
        pairs = [each for each in explanations if each.target.startswith("match:")]
        assert len(pairs) == len(report.matches)
        for each, match in zip(pairs, report.matches, strict=True):
            assert each.value == pytest.approx(match.similarity, abs=1e-4)
            assert each.heatmap.sum(dtype=np.float64) + each.bias == pytest.approx(match.similarity, abs=1e-4)
    for match in report.matches:
        assert match.explanation is not None
        assert match.explanation.heatmap.sum(dtype=np.float64) == pytest.approx(match.similarity, abs=1e-4)


def unit(vector: Any) -> Any:
    return np.asarray(vector, np.float64) / np.linalg.norm(vector)


# Views


def test_several_views_are_one_question(engine: SearchEngine, gallery: Gallery, make_scan: MakeScan) -> None:
    scans = [make_scan(900), make_scan(901), make_scan(902, shape=(130, 190))]
    report = engine.query(scans, k=8, **EVERY_SCAN)
    readings = [engine.read(scan) for scan in scans]
    asked = unit(sum(unit(reading.embedding) for reading in readings))
    expected = sorted(((float(asked @ unit(entry.embedding)), entry.scan_id) for entry in gallery), reverse=True)[:8]
    assert [match.scan_id for match in report.matches] == [scan_id for _, scan_id in expected]
    assert [match.similarity for match in report.matches] == pytest.approx([c for c, _ in expected], abs=1e-5)
    sums_up(report)
    together = predict(engine.bundle, np.mean([reading.logits for reading in readings], axis=0))
    assert dict(report.prediction.probabilities) == pytest.approx(dict(together.probabilities), abs=1e-5)
    assert [view.scan for view in report.views] == scans[1:]
    assert {report.explanations[0].target} == {view.explanations[0].target for view in report.views}
    assert any("3 views together" in warning.text for warning in report.warnings)
    # The parts of the cosine that the views carry are all of it.
    for number, match in enumerate(report.matches, start=1):
        parts = [report.explanations[number], *(view.explanations[number] for view in report.views)]
        carried = sum(float(part.evidence_map.sum(dtype=np.float64)) for part in parts)
        assert carried == pytest.approx(match.similarity, abs=1e-4)


def test_one_view_in_a_list_is_the_scan(engine: SearchEngine, make_scan: MakeScan) -> None:
    one, other = engine.query(make_scan(900)), engine.query([make_scan(900)])
    assert one.matches == other.matches
    assert other.views == ()
    with pytest.raises(InvalidValueError, match="no scan"):
        engine.query([])


def test_every_view_leaves_its_own_patient_out(engine: SearchEngine, dataset: Any) -> None:
    scans = [dataset.load(case_id).scans[0] for case_id in ("case 000", "case 020")]
    found = {match.group for match in engine.query(scans, k=40, **EVERY_SCAN).matches}
    assert found == {f"g{number}" for number in range(10)} - {"g0", "g5"}


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ({"patient_id": "a"}, {"patient_id": "b"}, "The scans name 2 patients"),
        ({"laterality": "left"}, {"laterality": "right"}, "The scans name both breasts"),
        ({"patient_id": "a", "laterality": "left"}, {}, None),
    ],
)
def test_scans_of_two_patients_or_breasts_are_no_views_of_one_lesion(
    engine: SearchEngine, make_scan: MakeScan, one: dict[str, Any], other: dict[str, Any], words: str | None
) -> None:
    scans = [replace(make_scan(900), **one), replace(make_scan(901), **other)]
    report = engine.query(scans)
    told = [each.text for each in report.warnings if each.code == "views_differ"]
    assert [text.startswith(str(words)) for text in told] == ([] if words is None else [True])
    assert words is None or report.warnings[0].severity == "high"


# One per patient, near-copies


def test_one_match_per_patient(engine: SearchEngine, make_scan: MakeScan) -> None:
    assert len(engine.query(make_scan(900), k=40, per_patient=False).matches) == 40
    report = engine.query(make_scan(900), k=40)
    # Two scans a patient, two patients a group: a group ties its patients.
    assert len(report.matches) == len({match.group for match in report.matches}) == 10
    assert [match.same_patient for match in report.matches] == [3] * 10
    sums_up(report)


def test_near_duplicates_stand_behind_the_better_match(
    encoder: Any, empty_gallery: Gallery, make_scan: MakeScan
) -> None:
    for number in range(6):
        scan = make_scan(number // 3)
        pixels = scan.pixels.copy()
        pixels[0, number] ^= 1
        record = CaseRecord(case_id=f"c{number}", dataset="d", pathology="benign")
        empty_gallery.add([make_entry(replace(scan, pixels=pixels), record, encoder)])
    encoder._bundle = replace(encoder.bundle, duplicate_threshold=0.9999)
    engine = SearchEngine(encoder, empty_gallery)
    assert len(engine.query(make_scan(7), deduplicate=False).matches) == 6
    report = engine.query(make_scan(7))
    assert [match.near_duplicates for match in report.matches] == [2, 2]
    assert "2 near-duplicates" in render(report, "html")
    assert "(2 near-duplicates)" in render(report, "text")


# Regions


def test_a_region_of_everything_is_the_scan(engine: SearchEngine, make_scan: MakeScan) -> None:
    scan = make_scan(900)
    height, width = scan.shape
    whole = engine.query(scan, k=10)
    framed = engine.query(scan, k=10, region=Box(top=-5, left=-5, bottom=height + 5, right=width + 5))
    assert [match.scan_id for match in framed.matches] == [match.scan_id for match in whole.matches]
    assert framed.novelty == pytest.approx(whole.novelty)
    assert dict(framed.prediction.probabilities) == dict(whole.prediction.probabilities)


def test_a_region_is_searched_with_its_evidence_alone(
    engine: SearchEngine, gallery: Gallery, make_scan: MakeScan
) -> None:
    scan = make_scan(900)
    region = Box(top=40, left=50, bottom=110, right=150)
    report = engine.query(scan, k=40, region=region)
    sums_up(report)
    assert report.region == region
    heat = report.explanations[1].heatmap
    outside = heat.copy()
    outside[15:135, 25:175] = 0  # cells are coarse, and spread smoothly: a margin
    assert np.abs(outside).sum() < 1e-6 * np.abs(heat).sum()
    assert [match.scan_id for match in report.matches] != [m.scan_id for m in engine.query(scan, k=40).matches]
    page = render(report, "html")
    assert 'class="region"' in page
    assert "rows 40 to 110, columns 50 to 150" in render(report, "text")


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (Box(top=-50, left=0, bottom=-10, right=20), "outside the scan"),
        (Box(top=0, left=500, bottom=10, right=600), "outside the scan of 160 × 220"),
    ],
)
def test_a_region_outside_the_scan_is_refused(
    engine: SearchEngine, make_scan: MakeScan, region: Box, said: str
) -> None:
    with pytest.raises(InvalidValueError, match=said):
        engine.query(make_scan(900), region=region)


def test_a_region_is_of_one_scan(engine: SearchEngine, make_scan: MakeScan) -> None:
    with pytest.raises(InvalidValueError, match="region and 2 views"):
        engine.query([make_scan(1), make_scan(2)], region=Box(top=0, left=0, bottom=9, right=9))


# Examples


def test_likes_and_dislikes_move_the_question(engine: SearchEngine, gallery: Gallery, make_scan: MakeScan) -> None:
    scan = make_scan(900)
    first = engine.query(scan, k=40, **EVERY_SCAN)
    liked, disliked = first.matches[9], first.matches[0]
    report = engine.query(scan, k=40, liked=[liked.scan_id], disliked=[f"fake/{disliked.case_id}"], **EVERY_SCAN)
    kept = {entry.scan_id: unit(entry.embedding) for entry in gallery}
    asked = unit(unit(engine.read(scan).embedding) + 0.75 * kept[liked.scan_id] - 0.15 * kept[disliked.scan_id])
    assert [match.similarity for match in report.matches] == pytest.approx(
        sorted((float(asked @ vector) for name, vector in kept.items() if name != disliked.scan_id), reverse=True),
        abs=1e-5,
    )
    sums_up(report)
    rank = {match.scan_id: match.rank for match in report.matches}
    assert rank[liked.scan_id] < liked.rank
    assert disliked.scan_id not in {match.scan_id for match in report.matches}
    assert (report.liked, report.disliked) == ((liked.scan_id,), (disliked.scan_id,))
    assert report.novelty == first.novelty
    assert "towards 1 liked, away from 1 disliked" in render(report, "text")


@pytest.mark.parametrize("name", ["f" * 64, "fake/nobody", "nowhere/case 001"])
def test_examples_must_be_in_the_gallery(engine: SearchEngine, make_scan: MakeScan, name: str) -> None:
    for given in ({"liked": [name]}, {"disliked": [name]}):
        with pytest.raises(NotFoundError, match=name):
            engine.query(make_scan(900), **given)


def test_examples_need_a_gallery(encoder: Any, make_scan: MakeScan) -> None:
    with pytest.raises(InvalidValueError, match="no gallery is open"):
        SearchEngine(encoder).query(make_scan(900), liked=["f" * 64])


# A case of the archive


def test_an_archived_case_asks_without_its_file_and_without_the_network(
    engine: SearchEngine, encoder: Any, dataset: Any
) -> None:
    scan = dataset.load("case 013").scans[0]
    by_file = engine.query(scan, k=12)
    encoder.calls = 0
    report = engine.query_case("fake", "case 013", k=12)
    assert encoder.calls == 0
    assert report.scan_id == scan.scan_id
    assert report.scan.shape == scan.shape
    assert [match.scan_id for match in report.matches] == [match.scan_id for match in by_file.matches]
    probabilities = dict(by_file.prediction.probabilities)
    assert dict(report.prediction.probabilities) == pytest.approx(probabilities, abs=0.01)
    sums_up(report)
    heat, other = report.explanations[0].heatmap, by_file.explanations[0].heatmap
    assert np.corrcoef(heat.ravel(), other.ravel())[0, 1] > 0.99
    assert any("left out of the matches" in warning.text for warning in report.warnings)
    assert render(report, "html")


def test_an_archived_case_with_several_scans_is_several_views(
    engine: SearchEngine, gallery: Gallery, encoder: Any, make_scan: MakeScan
) -> None:
    record = CaseRecord(case_id="two", dataset="mine", pathology="benign")
    entries = [make_entry(make_scan(number), record, encoder) for number in (800, 801)]
    gallery.add(entries)
    assert len(engine.query_case("mine", "two").views) == 1
    alone = engine.query_case(
        "mine", "two", scan_ids=[entries[1].scan_id], region=Box(top=0, left=0, bottom=99, right=99)
    )
    assert (alone.scan_id, alone.views) == (entries[1].scan_id, ())
    for missing in ({"case_id": "three"}, {"case_id": "two", "scan_ids": ["f" * 64]}):
        with pytest.raises(NotFoundError, match="holds no case"):
            engine.query_case("mine", **missing)


def test_a_case_without_kept_evidence_says_what_to_do(engine: SearchEngine, gallery: Gallery) -> None:
    entry = next(iter(gallery))
    gallery.add([replace(entry, evidence=None)])
    with pytest.raises(GalleryError, match=r"keeps no evidence.*build its case again"):
        engine.query_case("fake", entry.record.case_id)


def test_asking_methods_need_the_file(engine: SearchEngine, gallery: Gallery) -> None:
    from sonoseek.engine.encoded_scan import from_entry

    with pytest.raises(InvalidValueError, match="from its file"):
        engine.explain(from_entry(engine.bundle, next(iter(gallery))), method="occlusion")


# Embeddings, made again


def test_a_sample_is_embedded_again(gallery: Gallery, encoder: Any, dataset: Any) -> None:
    from_files = recheck_embeddings(gallery, encoder, sample=15, dataset=dataset)
    assert (from_files.from_files, from_files.from_pictures, from_files.problems) == (15, 0, ())
    assert recheck_embeddings(gallery, encoder, sample=99).from_pictures == 40
    one, other = list(gallery)[:2]
    gallery.add([replace(one, embedding=-other.embedding)])
    dataset.edited = {"case 007"}
    found = recheck_embeddings(gallery, encoder, sample=40, dataset=dataset).problems
    assert len(found) == 2
    assert "another embedding" in next(problem for problem in found if "case 000" in problem)
    assert "no file of its case has these pixels" in next(problem for problem in found if "case 007" in problem)
    assert len(recheck_embeddings(gallery, encoder, sample=40).problems) == 1
    with pytest.raises(InvalidValueError, match="sample"):
        recheck_embeddings(gallery, encoder, sample=0)


class TestReadings:
    def test_a_reading_stands_for_its_scan(self, engine: SearchEngine, make_scan: MakeScan) -> None:
        scans = [make_scan(900), make_scan(901)]
        readings = [engine.read(scan) for scan in scans]
        calls = engine.encoder.calls  # type: ignore[attr-defined]
        told = engine.query(readings, k=5)
        assert engine.encoder.calls == calls  # type: ignore[attr-defined]
        plain = engine.query(scans, k=5)
        assert [m.case_id for m in told.matches] == [m.case_id for m in plain.matches]
        assert told.prediction == plain.prediction
        one = engine.query(readings[0], k=5)
        assert [m.similarity for m in one.matches] == [m.similarity for m in engine.query(scans[0], k=5).matches]

    def test_an_archived_case_is_read_without_the_network(self, engine: SearchEngine, gallery: Gallery) -> None:
        record = next(iter(gallery)).record
        calls = engine.encoder.calls  # type: ignore[attr-defined]
        report = engine.query(engine.read_case(record.dataset, record.case_id), k=4)
        assert engine.encoder.calls == calls  # type: ignore[attr-defined]
        again = engine.query_case(record.dataset, record.case_id, k=4)
        assert [m.scan_id for m in report.matches] == [m.scan_id for m in again.matches]
        assert [engine.read_case("fake", f"case 00{n}")[0].scan.view for n in (0, 1)] == ["left", "right"]
        with pytest.raises(NotFoundError, match="holds no case"):
            engine.read_case("nowhere", "nothing")


class TestCrop:
    CROP = Box(top=10, left=20, bottom=150, right=200)

    def test_it_is_in_the_report_with_a_warning(self, engine: SearchEngine, make_scan: MakeScan) -> None:
        scan = make_scan(900)
        report = engine.query(engine.read(scan, crop=self.CROP), k=3)
        assert report.crop == self.CROP
        assert any("drawn by the reader" in warning.text for warning in report.warnings)
        assert "drawn by the reader: rows 10 to 150, columns 20 to 200" in render(report, "text")
        assert "drawn by the reader" in render(report, "html")
        assert '"crop": {' in render(report, "json")
        assert engine.query(scan, k=3).crop is None
        sums_up(report)

    def test_evidence_lies_inside_it_alone(self, engine: SearchEngine, make_scan: MakeScan) -> None:
        report = engine.query(engine.read(make_scan(900), crop=self.CROP), k=1)
        outside = report.explanations[0].heatmap.copy()
        outside[10:150, 20:200] = 0
        assert not outside.any()


def test_the_report_names_the_state_that_was_searched(
    engine: SearchEngine, gallery: Gallery, make_scan: MakeScan
) -> None:
    first = engine.query(make_scan(900), k=1)
    assert first.gallery_state == gallery.state()
    gallery.remove(scan_ids=[first.matches[0].scan_id])
    second = engine.query(make_scan(900), k=1)
    assert second.gallery_state not in (None, first.gallery_state)
    assert f'"gallery_state": "{second.gallery_state}"' in render(second, "json")
    assert SearchEngine(engine.encoder).query(make_scan(900)).gallery_state is None
