import logging
from collections import Counter

import fake_datasets
import numpy as np
import pytest

from sonoseek.core import DatasetError
from sonoseek.datasets import check_split, components, open_dataset, stratified_group_folds
from sonoseek.datasets.busi import known_groups


def test_known_groups_ship_for_the_whole_release():
    groups = known_groups()
    assert len(groups) == 780
    assert len({known.group for known in groups.values()}) == 574
    assert sum(known.cross_class for known in groups.values()) == 21
    assert sum(known.objection == "axilla" for known in groups.values()) == 70
    assert sum(known.objection == "needle" for known in groups.values()) == 7
    assert sum(known.annotation != "" for known in groups.values()) == 235


def test_ids_groups_and_natural_order(fake_roots):
    records = {record.case_id: record for record in open_dataset("busi", fake_roots["busi"]).records()}
    assert list(records)[:5] == ["benign (1)", "benign (2)", "benign (4)", "benign (10)", "benign (433)"]
    assert records["benign (1)"].group == "busi:G001"
    assert records["benign (433)"].group == records["malignant (145)"].group
    assert records["benign (1)"].patient_id is None


def test_the_lesion_is_the_union_of_the_masks(fake_roots):
    mask = open_dataset("busi", fake_roots["busi"]).load("benign (4)").lesion_masks[0]
    expected = (fake_datasets.lesion() | fake_datasets.lesion(top=25, left=30)) > 0
    assert mask is not None
    np.testing.assert_array_equal(mask, expected)


def test_one_picture_under_two_labels_has_one_scan_id(fake_roots):
    dataset = open_dataset("busi", fake_roots["busi"])
    benign, malignant = dataset.load("benign (433)"), dataset.load("malignant (145)")
    assert benign.scans[0].scan_id == malignant.scans[0].scan_id
    assert benign.scans[0].source == "busi/benign/benign (433).png"


def test_unknown_files_are_groups_of_their_own_with_a_warning(make_fake, caplog):
    root = make_fake("busi")
    for number in (9001, 9002):
        fake_datasets.save(
            fake_datasets.picture(number), root / "Dataset_BUSI_with_GT/normal" / f"normal ({number}).png"
        )
    with caplog.at_level(logging.WARNING):
        records = {r.case_id: r for r in open_dataset("busi", root).records()}
    assert records["normal (9001)"].group == "busi:normal (9001)"
    assert records["normal (9002)"].group != records["normal (9001)"].group
    assert "2 files" in caplog.text
    assert "normal (9001).png" in caplog.text


def test_a_scan_without_a_mask_and_a_mask_without_a_scan(make_fake):
    root = make_fake("busi")
    (root / "Dataset_BUSI_with_GT/benign/benign (1)_mask.png").unlink()
    (root / "Dataset_BUSI_with_GT/benign/benign (2).png").unlink()
    dataset = open_dataset("busi", root)
    assert dataset.load("benign (1)").lesion_masks == (None,)
    assert "benign (2)" not in {record.case_id for record in dataset.records()}


def test_a_class_that_is_missing_is_refused(make_fake):
    root = make_fake("busi")
    (root / "Dataset_BUSI_with_GT/normal").rename(root / "elsewhere")
    with pytest.raises(DatasetError, match="normal"):
        open_dataset("busi", root)


@pytest.mark.data
def test_real_busi(real_data):
    dataset = open_dataset("busi", real_data / "busi")
    records = dataset.records()
    assert len(records) == 780
    assert Counter(r.pathology for r in records) == {"benign": 437, "malignant": 210, "normal": 133}
    assert len({r.group for r in records}) == 574
    assert sum(len(dataset.files(r.case_id).masks) for r in records) == 798
    assert dataset.load("benign (433)").scans[0].scan_id == dataset.load("malignant (145)").scans[0].scan_id
    assert len(components(records)) == 574
    for fold in stratified_group_folds(records):
        check_split(records, fold)
        assert 152 <= len(fold.test) <= 160


@pytest.mark.data
def test_real_busi_masks_are_empty_exactly_for_normal(real_data):
    dataset = open_dataset("busi", real_data / "busi")
    for record in dataset.records()[::13]:
        mask = dataset.load(record.case_id).lesion_masks[0]
        assert mask is not None
        assert mask.any() == (record.pathology != "normal")
