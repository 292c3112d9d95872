"""The reader's mark: another reading of the scan, with every promise of a reading kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sonoseek.core import Box, InvalidValueError, Report, Scan
from sonoseek.encoder import Encoder, open_encoder
from sonoseek.engine import EncodedScan, SearchEngine
from sonoseek.gallery import Gallery, create_gallery
from sonoseek.indexing.build import make_entry
from sonoseek.reports import render, render_pdf

MakeScan = Callable[..., Scan]
MARK = Box(top=90, left=120, bottom=140, right=190)


@pytest.fixture(scope="module")
def reads(marking_bundle: Path) -> Encoder:
    return open_encoder(marking_bundle, threads=1)


@pytest.fixture
def engine(reads: Encoder, dataset: Any, tmp_path: Path) -> Iterator[SearchEngine]:
    with create_gallery(
        tmp_path / "marks", bundle_id=reads.bundle.bundle_id, dimension=reads.bundle.embedding_dim
    ) as gallery:
        gallery.add(make_entry(dataset.load(r.case_id).scans[0], r, reads) for r in dataset.records())
        yield SearchEngine(reads, gallery)


def holds(engine: SearchEngine, reading: EncodedScan, report: Report) -> None:
    """The embedding is the mean of the evidence; each map and its bias make the logit, or the cosine."""
    bundle = engine.bundle
    np.testing.assert_allclose(reading.evidence.mean(axis=(1, 2)), reading.embedding, rtol=0, atol=1e-5)
    logits = bundle.head_weight @ reading.embedding + bundle.head_bias
    np.testing.assert_allclose(logits, reading.logits, rtol=0, atol=1e-4)
    for index, name in enumerate(bundle.classes):
        heat = engine.explain_class(reading, name)
        assert heat.heatmap.sum(dtype=np.float64) + heat.bias == pytest.approx(float(reading.logits[index]), abs=1e-4)
    assert report.matches
    for each, match in zip(report.explanations[1:], report.matches, strict=True):
        assert each.heatmap.sum(dtype=np.float64) + each.bias == pytest.approx(match.similarity, abs=1e-4)
        assert match.explanation is not None
        assert match.explanation.heatmap.sum(dtype=np.float64) == pytest.approx(match.similarity, abs=1e-4)


@pytest.mark.parametrize("shape", [(160, 220), (90, 400), (300, 120)])
@pytest.mark.parametrize("mark", [None, (0.6, 0.6, 0.9, 0.95), (0.0, 0.0, 0.15, 0.2), (0.0, 0.0, 1.0, 1.0)])
def test_every_map_sums_up_with_and_without_a_mark(
    engine: SearchEngine, make_scan: MakeScan, shape: tuple[int, int], mark: tuple[float, ...] | None
) -> None:
    scan = make_scan(900, shape=shape)
    sides = (*shape, *shape)
    lesion = None if mark is None else Box(*(share * side for share, side in zip(mark, sides, strict=True)))
    for region in (None, Box(top=20, left=30, bottom=70, right=100)):
        holds(engine, engine.read(scan, lesion=lesion), engine.query(scan, k=4, lesion=lesion, region=region))


def test_a_mark_moves_the_evidence_and_is_in_the_report(engine: SearchEngine, make_scan: MakeScan) -> None:
    scan = make_scan(900)
    plain, marked = engine.query(scan, k=5), engine.query(scan, k=5, lesion=MARK)
    assert (plain.lesion, marked.lesion) == (None, MARK)
    assert dict(plain.prediction.probabilities) != dict(marked.prediction.probabilities)
    assert [match.similarity for match in plain.matches] != [match.similarity for match in marked.matches]
    inside = np.s_[80:, 110:200]

    def share(report: Report) -> float:
        heat = np.abs(report.explanations[0].heatmap)
        return float(heat[inside].sum() / heat.sum())

    assert share(marked) > share(plain) + 0.1
    codes = {warning.code: warning for warning in marked.warnings}
    assert codes["reader_mark"].severity == "low"
    assert "reader_mark" not in {warning.code for warning in plain.warnings}
    again = engine.query(engine.read(scan), k=5, lesion=MARK)  # a reading without a mark is read again
    assert [match.similarity for match in again.matches] == [match.similarity for match in marked.matches]
    assert again.prediction == marked.prediction == engine.query(engine.read(scan, lesion=MARK)).prediction


def test_every_report_says_that_a_mark_was_given(engine: SearchEngine, make_scan: MakeScan) -> None:
    words = "Read with the reader's mark: rows 90 to 140, columns 120 to 190 of the scan."
    marked, plain = engine.query(make_scan(900), k=2, lesion=MARK), engine.query(make_scan(900), k=2)
    text = render(marked, "text")
    assert text.splitlines()[1].strip() == words  # under the headline
    page = render(marked, "html").replace("&#39;", "'")
    assert page.count(f">{words}<") == 1
    assert 'class="region lesion"' in page
    assert '"lesion": {\n  "top": 90.0' in render(marked, "json")
    for form in ("text", "html", "json"):
        assert "Read with the reader" not in render(plain, form)
    assert '"lesion": null' in render(plain, "json")


def test_it_goes_together_with_a_crop_a_region_and_examples(engine: SearchEngine, make_scan: MakeScan) -> None:
    crop = Box(top=10, left=20, bottom=150, right=200)
    reading = engine.read(make_scan(900), crop=crop, lesion=MARK)
    first = engine.query(reading, k=6, per_patient=False)
    report = engine.query(
        engine.read(make_scan(900), crop=crop),
        k=4,
        lesion=MARK,
        region=MARK,
        liked=[first.matches[3].scan_id],
        disliked=[first.matches[0].scan_id],
        per_patient=False,
    )
    assert (report.crop, report.lesion, report.region) == (crop, MARK, MARK)
    holds(engine, reading, report)
    assert dict(report.prediction.probabilities) == dict(first.prediction.probabilities)
    page = render(report, "html")
    assert page.count('class="region') == 2
    assert render_pdf(report)


def test_a_mark_partly_outside_is_cut_off(engine: SearchEngine, make_scan: MakeScan) -> None:
    scan = make_scan(900)
    report = engine.query(scan, k=1, lesion=Box(top=100, left=-50, bottom=900, right=60))
    assert report.lesion == Box(top=100, left=0, bottom=160, right=60)
    crop = Box(top=10, left=20, bottom=150, right=200)
    cropped = engine.read(scan, crop=crop, lesion=Box(top=0, left=0, bottom=50, right=60))
    assert cropped.lesion == Box(top=10, left=20, bottom=50, right=60)


@pytest.mark.parametrize(
    ("lesion", "said"),
    [
        (Box(top=-50, left=0, bottom=-10, right=20), "does not cover a pixel of the scan of 160 × 220 pixels"),
        (Box(top=0, left=220, bottom=10, right=600), "does not cover a pixel of the scan of 160 × 220 pixels"),
        (Box(top=10, left=10, bottom=10.4, right=90), "does not cover a pixel"),
        (Box(top=0, left=0, bottom=9, right=220), "outside what the network sees of the scan, rows 10 to 150"),
        (Box(top=20, left=201, bottom=90, right=219), "correct the scan area with `crop`"),
    ],
)
def test_a_mark_of_nothing_is_refused(engine: SearchEngine, make_scan: MakeScan, lesion: Box, said: str) -> None:
    scan = engine.read(make_scan(900), crop=Box(top=10, left=20, bottom=150, right=200))
    with pytest.raises(InvalidValueError, match=rf"the lesion \(top {lesion.top:g}, .*{said}"):
        engine.query(scan, lesion=lesion)


def test_an_empty_box_is_no_mark() -> None:
    with pytest.raises(InvalidValueError, match="is empty"):
        Box(top=float("nan"), left=0, bottom=10, right=10)


def test_a_bundle_that_reads_no_marks_is_named(encoder: Any, gallery: Gallery, make_scan: MakeScan) -> None:
    with pytest.raises(InvalidValueError, match=r"bundle 'fake-0+' reads no marks.*Leave the mark out, or open"):
        SearchEngine(encoder, gallery).query(make_scan(900), lesion=MARK)


def test_an_archived_scan_is_not_marked(engine: SearchEngine) -> None:
    with pytest.raises(InvalidValueError, match=r"comes from the archive.*Query with the scan's file"):
        engine.query(engine.read_case("fake", "case 003"), lesion=MARK)


def test_several_views_have_each_their_own_mark(engine: SearchEngine, make_scan: MakeScan) -> None:
    scans = [make_scan(900), make_scan(901)]
    with pytest.raises(InvalidValueError, match=r"marked lesion and 2 views.*Read each view with its own"):
        engine.query(scans, lesion=MARK)
    other = Box(top=20, left=30, bottom=60, right=90)
    report = engine.query([engine.read(scans[0]), engine.read(scans[1], lesion=other)], k=3)
    assert (report.lesion, report.views[0].lesion) == (None, other)
    assert "reader_mark" in {warning.code for warning in report.warnings}
    assert "reader's mark: rows 20 to 60, columns 30 to 90" in render(report, "text")
    assert "mark: rows 20 to 60, columns 30 to 90" in render(report, "html")
    assert render_pdf(report)
    both = engine.query([engine.read(scans[0], lesion=MARK), engine.read(scans[1], lesion=other)], k=3)
    assert both.lesion == MARK
    assert dict(both.prediction.probabilities) != dict(report.prediction.probabilities)


def test_methods_that_ask_the_network_ask_it_under_the_mark(engine: SearchEngine, make_scan: MakeScan) -> None:
    reading = engine.read(make_scan(900), lesion=MARK)
    target = engine.bundle.classes[0]
    told = engine.explain(reading, method="occlusion", target=target)
    assert told.value == pytest.approx(float(reading.logits[0]), abs=1e-4)
    assert engine.read(make_scan(900)).logits[0] != pytest.approx(float(reading.logits[0]), abs=1e-4)
