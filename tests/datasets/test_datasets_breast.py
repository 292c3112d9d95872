import logging

import fake_datasets
import numpy as np
import openpyxl
import pytest

from sonoseek.core import DatasetError
from sonoseek.datasets import open_dataset


def test_a_record_says_what_the_clinical_table_says(fake_roots):
    first, second, normal = open_dataset("breast", fake_roots["breast"]).records()
    assert (first.case_id, first.patient_id, first.group) == ("case001", "breast:1", "breast:1")
    assert (first.pathology, first.birads, first.histology, first.age_years) == ("benign", "4A", "cyst", 57.0)
    assert (second.pathology, second.birads, second.age_years) == ("malignant", "5", None)
    assert (normal.pathology, normal.birads, normal.histology, normal.age_years) == ("normal", "1", None, 41.0)


def test_pixel_size_is_in_centimetres_and_the_mask_is_the_tumour(fake_roots):
    dataset = open_dataset("breast", fake_roots["breast"])
    case = dataset.load("case001")
    assert case.scans[0].spacing_mm == pytest.approx((0.07, 0.07))
    np.testing.assert_array_equal(case.lesion_masks[0], fake_datasets.lesion() > 0)
    assert dataset.load("case045").lesion_masks == (None,)


def rewrite(root, change):
    path = next(root.glob("*.xlsx"))
    book = openpyxl.load_workbook(path)
    change(book.worksheets[0])
    book.save(path)


def test_a_pixel_size_in_another_unit_is_taken_as_unknown(make_fake, caplog):
    root = make_fake("breast")
    rewrite(root, lambda sheet: sheet.cell(2, 5, 7.0))
    with caplog.at_level(logging.WARNING):
        case = open_dataset("breast", root).load("case001")
    assert case.scans[0].spacing_mm is None
    assert "row 2" in caplog.text


def test_the_table_may_lie_among_the_pictures(make_fake):
    root = make_fake("breast")
    path = next(root.glob("*.xlsx"))
    path.rename(root / "BrEaST-Lesions_USG-images_and_masks" / path.name)
    (root / "other.xlsx").write_bytes(b"no workbook, and not asked for")
    assert len(open_dataset("breast", root).records()) == 3


def test_without_the_table_the_message_says_where_it_was_looked_for(make_fake):
    root = make_fake("breast")
    next(root.glob("*.xlsx")).unlink()
    with pytest.raises(DatasetError, match=r"clinical-data.*xlsx.*sonoseek data get breast"):
        open_dataset("breast", root)


def test_a_table_that_is_no_workbook_is_refused(make_fake):
    root = make_fake("breast")
    next(root.glob("*.xlsx")).write_bytes(b"<html>404</html>")
    with pytest.raises(DatasetError, match=r"does not read as .xlsx"):
        open_dataset("breast", root).records()


def test_a_workbook_without_the_columns_is_refused(make_fake):
    root = make_fake("breast")
    rewrite(root, lambda sheet: sheet.cell(1, 11, "Class"))
    with pytest.raises(DatasetError, match="Classification"):
        open_dataset("breast", root).records()


def test_a_wrong_class_names_its_row(make_fake):
    root = make_fake("breast")
    rewrite(root, lambda sheet: sheet.cell(3, 11, "unclear"))
    with pytest.raises(DatasetError, match=r"row 3 of BrEaST.*unclear"):
        open_dataset("breast", root).records()
