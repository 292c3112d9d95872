import logging
import os
import sys
from pathlib import Path

import fake_datasets
import numpy as np
import pytest

from sonoseek.core import DatasetError
from sonoseek.datasets import open_dataset


def test_classes_in_any_case_of_letters_and_any_suffix(fake_roots):
    records = open_dataset("folder", fake_roots["folder"]).records()
    assert {(r.case_id, r.pathology) for r in records} == {
        ("Benign/a.png", "benign"),
        ("Benign/b.jpg", "benign"),
        ("MALIGNANT/c.tif", "malignant"),
        ("MALIGNANT/without_suffix", "malignant"),
    }
    assert all(r.patient_id is None and r.group is None for r in records)


def test_masks_are_masks_and_no_scans(fake_roots):
    dataset = open_dataset("folder", fake_roots["folder"])
    np.testing.assert_array_equal(dataset.load("Benign/a.png").lesion_masks[0], fake_datasets.lesion() > 0)
    assert dataset.load("Benign/b.jpg").lesion_masks == (None,)


def test_what_is_no_scan_is_left_out_and_said(fake_roots, caplog):
    with caplog.at_level(logging.WARNING):
        open_dataset("folder", fake_roots["folder"]).records()
    assert "Thumbs.db, notes" in caplog.text


def test_a_damaged_picture_is_listed_so_that_it_can_be_refused_by_name(make_fake):
    root = make_fake("folder")
    (root / "Benign/broken.png").write_bytes(b"")
    dataset = open_dataset("folder", root)
    assert "Benign/broken.png" in {r.case_id for r in dataset.records()}
    with pytest.raises(ValueError, match=r"Benign/broken.png"):
        dataset.load("Benign/broken.png")


def test_one_class_is_enough(tmp_path):
    fake_datasets.save(fake_datasets.picture(1), tmp_path / "normal/x.bmp")
    assert len(open_dataset("folder", tmp_path).records()) == 1


def test_empty_classes_hold_no_records(tmp_path):
    (tmp_path / "normal").mkdir()
    assert open_dataset("folder", tmp_path).records() == ()


def test_a_folder_of_loose_scans_is_refused(tmp_path):
    fake_datasets.save(fake_datasets.picture(1), tmp_path / "x.png")
    with pytest.raises(DatasetError, match="normal, benign, malignant"):
        open_dataset("folder", tmp_path)


def test_a_dicom_file_names_its_patient(tmp_path):
    fake_datasets.save_dicom(tmp_path / "benign/exam", [fake_datasets.picture(5)], patient="pseudonym-7")
    dataset = open_dataset("folder", tmp_path)
    assert [r.case_id for r in dataset.records()] == ["benign/exam"]
    case = dataset.load("benign/exam")
    assert case.patient_id == case.scans[0].patient_id
    assert case.patient_id is not None
    np.testing.assert_array_equal(case.scans[0].pixels, fake_datasets.picture(5))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep no such names")
def test_a_name_that_is_no_utf_8_is_said_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "benign").mkdir()
    (tmp_path / "benign" / os.fsdecode(b"f\xe4lle.png")).write_bytes(b"\x89PNG")
    with pytest.raises(DatasetError, match=r"no UTF-8.*\\udce4lle"):
        open_dataset("folder", tmp_path).records()
