"""The corridor: what a query says, what it leaves out, and what it warns of."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import run
from typing import Any

import cv2
import numpy as np
import pytest
from query_helpers import EVERY_SCAN, MakeScan, said

from sonoseek.core import (
    BundleMismatchError,
    InvalidValueError,
    NotFoundError,
    Scan,
)
from sonoseek.encoder import OODModel, load_bundle, open_encoder
from sonoseek.engine import SearchEngine, open_engine
from sonoseek.gallery import Gallery, create_gallery
from sonoseek.indexing.build import make_entry


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
