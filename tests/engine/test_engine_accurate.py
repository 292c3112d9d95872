"""The default bundle through the engine: its two readings, a mark, and sums that hold."""

import numpy as np
import pytest

from sonoseek.core import Box
from sonoseek.datasets.phantom import PhantomDataset
from sonoseek.encoder import open_encoder, to_input
from sonoseek.engine import SearchEngine


@pytest.fixture(scope="module")
def engine():
    return SearchEngine(open_encoder("accurate", threads=2))


@pytest.fixture(scope="module")
def scan():
    source = PhantomDataset(count=6, seed=3)
    record = next(record for record in source.records() if record.pathology == "malignant")
    return source.load(record.case_id, masks=False).scans[0]


@pytest.mark.parametrize("lesion", [None, Box(top=60, left=60, bottom=150, right=160)])
def test_heatmap_and_bias_add_up_to_the_logit(engine, scan, lesion):
    report = engine.query(scan, lesion=lesion)
    reading = engine.read(scan, lesion=lesion)
    logits = dict(zip(engine.bundle.classes, reading.logits, strict=True))
    assert report.explanations
    for told in report.explanations:
        assert told.heatmap.sum(dtype=np.float64) + told.bias == pytest.approx(logits[told.target], abs=1e-4)


def test_a_mark_draws_the_evidence_into_its_box(engine, scan):
    box = Box(top=20, left=20, bottom=90, right=90)

    def share(reading):
        weight = np.abs(reading.evidence).sum(axis=0)
        side = reading.mapping.canvas_size / len(weight)
        on = reading.mapping.box_to_canvas(box)
        rows = slice(int(on.top // side), int(-(-on.bottom // side)))
        return weight[rows, int(on.left // side) : int(-(-on.right // side))].sum() / weight.sum()

    assert share(engine.read(scan, lesion=box)) > share(engine.read(scan)) + 0.1


def test_a_scan_is_read_alike_alone_and_in_a_batch(engine, scan):
    reading = engine.read(scan)
    canvas = to_input(reading.preprocessed)[np.newaxis]
    blank = np.full_like(canvas, 0.25)
    together = engine.encoder.encode(np.concatenate([blank, canvas]))
    np.testing.assert_allclose(together.embedding[1], reading.embedding, atol=1e-4)
