"""The whole corridor on real scans, with the bundle that ships."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from jsonschema import Draft202012Validator

from sonoseek.core import Scan
from sonoseek.datasets import Dataset, Subset, open_dataset
from sonoseek.encoder import open_encoder
from sonoseek.engine import SearchEngine, open_engine
from sonoseek.gallery import create_gallery
from sonoseek.indexing.build import build_index
from sonoseek.io import read_scan
from sonoseek.reports import phrases, render, report_schema

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def busi(real_data: Path) -> Dataset:
    if not (real_data / "busi").is_dir():
        pytest.skip(f"no BUSI under {real_data}")
    whole = open_dataset("busi", real_data / "busi")
    records = whole.records()
    wanted = [record.case_id for record in records[::13]]
    group = next(record.group for record in records if record.case_id == "malignant (10)")
    wanted += [record.case_id for record in records if record.group == group]
    return Subset(whole, list(dict.fromkeys(wanted)))


@pytest.fixture(scope="module")
def engine(busi: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchEngine]:
    folder = tmp_path_factory.mktemp("gallery")
    encoder = open_encoder(threads=1)
    bundle = encoder.bundle
    with create_gallery(folder / "g", bundle_id=bundle.bundle_id, dimension=bundle.embedding_dim) as gallery:
        result = build_index(busi, gallery, encoder)
        assert (result.added, result.refused) == (len(busi.records()), ())
        assert gallery.verify() == ()
    with open_engine(folder / "g", threads=1) as opened:
        yield opened


def test_a_query_leaves_the_scan_and_its_group_out(engine: SearchEngine, busi: Dataset, real_data: Path) -> None:
    path = real_data / "busi" / "Dataset_BUSI_with_GT" / "malignant" / "malignant (10).png"
    report = engine.query(read_scan(path), k=5)
    document = json.loads(render(report, "json"))
    Draft202012Validator(report_schema()).validate(document)
    group = next(record.group for record in busi.records() if record.case_id == "malignant (10)")
    assert len(document["matches"]) == 5
    assert group not in {match["group"] for match in document["matches"]}
    assert document["scan"]["scan_id"] not in {match["scan_id"] for match in document["matches"]}


def test_no_cancer_reads_as_benign_without_the_threshold(engine: SearchEngine, real_data: Path) -> None:
    if not (real_data / "busbra").is_dir():
        pytest.skip(f"no BUS-BRA under {real_data}")
    busbra = open_dataset("busbra", real_data / "busbra")
    cancers = [record for record in busbra.records() if record.pathology == "malignant"][::12]
    discordant = 0
    for record in cancers:
        reading = engine.read(busbra.load(record.case_id, masks=False).scans[0])
        report = engine.query(reading, explain_matches=False)
        prediction, headline = report.prediction, phrases.headline(report.prediction)
        assert report.warnings[0].code in ("seen_in_training", "out_of_distribution")
        for name in ("benign", "malignant"):
            filtered = engine.query(reading, where=f"label = '{name}'", explain_matches=False)
            assert filtered.similar_cases == report.similar_cases
            assert {w.code for w in filtered.warnings} <= {w.code for w in report.warnings} | {"no_matches"}
        if prediction.out_of_distribution or prediction.likeliest == "malignant":
            continue
        discordant += 1
        assert headline.startswith("Likelihood of malignancy")
        assert "98 %-sensitivity threshold" in headline
        assert ("malignancy is not ruled out" in headline) == prediction.not_ruled_out
    assert discordant > 0


def test_copies_of_one_scan_are_one_match(engine: SearchEngine, busi: Dataset) -> None:
    record = next(record for record in busi.records() if record.case_id == "malignant (10)")
    members = [each for each in busi.records() if each.group == record.group]
    scan = busi.load(record.case_id).scans[0]
    listed = engine.query(scan, k=5, include_same=True, per_patient=False, deduplicate=False)
    deduplicated = engine.query(scan, k=5, include_same=True)
    assert sum(match.group == record.group for match in listed.matches) == min(len(members), 5) > 1
    assert [match.group for match in deduplicated.matches].count(record.group) == 1
    assert deduplicated.matches[0].near_duplicates == len(members) - 1
    assert sum(listed.similar_cases.labels.values()) == sum(deduplicated.similar_cases.labels.values()) == 5


@pytest.mark.parametrize("change", ["turned by 5 degrees", "mirrored", "saved as JPEG"])
def test_a_changed_scan_still_finds_itself(engine: SearchEngine, busi: Dataset, change: str) -> None:
    for record in busi.records()[::12]:
        pixels = busi.load(record.case_id).scans[0].pixels
        height, width = pixels.shape
        if change == "mirrored":
            changed = np.ascontiguousarray(pixels[:, ::-1])
        elif change == "saved as JPEG":
            changed = np.asarray(cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 0))
        else:
            turn = cv2.getRotationMatrix2D((width / 2, height / 2), 5.0, 1.0)
            changed = np.asarray(cv2.warpAffine(pixels, turn, (width, height)))
        best = engine.query(Scan(pixels=changed.astype(np.uint8)), k=1, include_same=True).matches[0]
        assert best.case_id == record.case_id or best.group == record.group
