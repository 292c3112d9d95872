from datetime import date

import fake_datasets
import numpy as np
import pytest

from sonoseek.core import DatasetError
from sonoseek.datasets import open_dataset
from sonoseek.datasets.manifest import OPTIONAL


def write(tmp_path, *rows, **how):
    fake_datasets.save(fake_datasets.picture(1), tmp_path / "a.png")
    return fake_datasets.write_csv(tmp_path / "list.csv", rows, **how)


def test_a_german_table_with_a_bom(fake_roots):
    first, second, third = open_dataset("manifest", fake_roots["manifest"]).records()
    assert (first.case_id, first.pathology, first.birads, first.age_years) == ("scans/a.png", "benign", "4A", 57.5)
    assert (first.acquired, second.acquired) == (date(2024, 5, 31), date(2024, 6, 1))
    assert (first.patient_id, first.group, second.group) == ("p1", "p1", "p1")
    assert (third.patient_id, third.group, third.device) == (None, None, None)
    assert second.case_id == "scans/b.png"


def test_masks_side_view_and_spacing_reach_the_scan(fake_roots):
    dataset = open_dataset("manifest", fake_roots["manifest"] / "manifest.csv")
    first, second, third = (dataset.load(r.case_id) for r in dataset.records())
    expected = (fake_datasets.lesion() | fake_datasets.lesion(top=25, left=30)) > 0
    np.testing.assert_array_equal(first.lesion_masks[0], expected)
    assert [case.scans[0].laterality for case in (first, second, third)] == ["left", "right", None]
    assert [case.scans[0].view for case in (first, second, third)] == ["radial", "antiradial", None]
    assert [case.scans[0].spacing_mm for case in (first, second, third)] == [None, (0.08, 0.07), (0.07, 0.07)]


def test_group_overrides_patient_and_dataset_names_the_archive(tmp_path):
    path = write(
        tmp_path,
        ("file", "pathology", "patient", "group", "dataset", "case_id"),
        ("a.png", "normal", "p1", "lesion 3", "ward 7", "first"),
    )
    record = open_dataset("manifest", path).records()[0]
    assert (record.patient_id, record.group, record.dataset, record.case_id) == ("p1", "lesion 3", "ward 7", "first")


def test_a_placeholder_is_no_patient_and_no_group(tmp_path):
    rows = [("a.png", "normal", patient) for patient in ("ANONYMOUS", "0", "p1")]
    columns = ("file", "pathology", "patient", "case_id")
    path = write(tmp_path, columns, *((*row, str(number)) for number, row in enumerate(rows)))
    dataset = open_dataset("manifest", path)
    assert [(r.patient_id, r.group) for r in dataset.records()] == [(None, None), (None, None), ("p1", "p1")]
    loaded = [dataset.load(str(number)).scans[0] for number in range(3)]
    assert [scan.patient_placeholder for scan in loaded] == ["ANONYMOUS", "0", None]


def test_absolute_paths_are_taken_as_they_are(tmp_path):
    write(tmp_path)
    path = fake_datasets.write_csv(
        tmp_path / "lists" / "x.csv", [("file", "pathology", "case_id"), (tmp_path / "a.png", "normal", "first")]
    )
    case = open_dataset("manifest", path).load("first")
    assert case.scans[0].source == "manifest/a.png"  # not the machine's path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_any_usual_separator(tmp_path, delimiter):
    path = write(tmp_path, ("file", "pathology"), ("a.png", "normal"), delimiter=delimiter)
    assert len(open_dataset("manifest", path).records()) == 1


def test_windows_letters_are_read(tmp_path, caplog):
    path = write(tmp_path, ("file", "pathology", "device"), ("a.png", "normal", "Gerät"), encoding="cp1252")
    assert open_dataset("manifest", path).records()[0].device == "Gerät"
    assert "not UTF-8" in caplog.text


def test_an_unknown_column_lists_the_allowed_ones(tmp_path):
    path = write(tmp_path, ("file", "pathology", "name"), ("a.png", "normal", "Miller"))
    with pytest.raises(DatasetError, match="'name'") as caught:
        open_dataset("manifest", path).records()
    assert all(column in str(caught.value) for column in OPTIONAL)


@pytest.mark.parametrize("columns", [("file",), ("pathology",), ("File", "pathology"), ()])
def test_a_missing_column_is_refused(tmp_path, columns):
    path = write(tmp_path, columns)
    with pytest.raises(DatasetError, match="lacks"):
        open_dataset("manifest", path).records()


def test_a_column_named_twice_is_refused(tmp_path):
    path = write(tmp_path, ("file", "pathology", "device", "device"))
    with pytest.raises(DatasetError, match="twice: device"):
        open_dataset("manifest", path).records()


def test_a_case_that_stands_twice_names_both_rows(tmp_path):
    path = write(tmp_path, ("file", "pathology"), ("a.png", "normal"), ("b.png", "benign"), ("a.png", "benign"))
    with pytest.raises(DatasetError, match=r"row 2 of list.csv and in row 4 of list.csv"):
        open_dataset("manifest", path).records()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("pathology", "suspicious"),
        ("pathology", ""),
        ("file", ""),
        ("birads", "7"),
        ("birads", "4D"),
        ("age", "200"),
        ("age", "old"),
        ("acquired", "05/31/2024"),
        ("laterality", "both"),
        ("spacing_mm", "0"),
        ("spacing_mm", "1x2x3"),
        ("frame", "1.5"),
        ("frame", "-1"),
    ],
)
def test_a_wrong_cell_names_its_row_and_value(tmp_path, column, value):
    good = {"file": "a.png", "pathology": "normal"}
    columns = list(good) + ([column] if column not in good else [])
    rows = [
        [{**good, "file": "first.png"}.get(c, "") for c in columns],
        [{**good, column: value}.get(c) for c in columns],
    ]
    path = write(tmp_path, columns, *rows)
    with pytest.raises(DatasetError, match=r"row 3 of list.csv") as caught:
        open_dataset("manifest", path).records()
    assert column.partition("_")[0] in str(caught.value) or column == "acquired"
    assert value in str(caught.value)


def test_all_wrong_rows_are_told_at_once_but_not_a_thousand(tmp_path):
    path = write(tmp_path, ("file", "pathology"), *[(f"{i}.png", "?") for i in range(30)])
    with pytest.raises(DatasetError, match="30 wrong rows") as caught:
        open_dataset("manifest", path).records()
    assert "row 11 of" in str(caught.value)
    assert "row 12 of" not in str(caught.value)


def test_a_missing_file_is_refused_when_loaded_with_its_row(tmp_path):
    path = write(tmp_path, ("file", "pathology"), ("a.png", "normal"), ("gone.png", "benign"))
    dataset = open_dataset("manifest", path)
    assert len(dataset.records()) == 2
    assert dataset.load("a.png").scans
    with pytest.raises(DatasetError, match=r"row 3 of list.csv.*gone.png"):
        dataset.load("gone.png")


def test_a_row_that_is_longer_than_the_header_is_refused(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("file,pathology,histology\na.png,benign,cyst, simple\n")
    with pytest.raises(DatasetError, match=r"row 2.*quotes"):
        open_dataset("manifest", path).records()


def test_empty_lines_and_short_rows_are_fine(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("file;pathology;histology\n\na.png;benign\n;;\n")
    assert [r.histology for r in open_dataset("manifest", path).records()] == [None]


def test_two_tables_in_one_folder_need_a_choice(tmp_path):
    write(tmp_path, ("file", "pathology"))
    fake_datasets.write_csv(tmp_path / "other.csv", [("file", "pathology")])
    with pytest.raises(DatasetError, match="holds 2"):
        open_dataset("manifest", tmp_path)


def test_a_binary_file_is_no_table(tmp_path):
    path = fake_datasets.save(fake_datasets.picture(1), tmp_path / "a.png").rename(tmp_path / "a.csv")
    with pytest.raises(DatasetError):
        open_dataset("manifest", path).records()


def test_the_fingerprint_follows_the_row(tmp_path):
    path = write(tmp_path, ("file", "pathology"), ("a.png", "normal"))
    before = open_dataset("manifest", path).fingerprint("a.png")
    write(tmp_path, ("file", "pathology"), ("a.png", "benign"))
    assert open_dataset("manifest", path).fingerprint("a.png") != before


def test_frames_of_one_file_are_cases(tmp_path):
    frames = [fake_datasets.picture(i) for i in range(3)]
    fake_datasets.save_dicom(tmp_path / "loop.dcm", frames, patient="in-the-file")
    path = write(
        tmp_path,
        ("file", "pathology", "frame", "patient"),
        ("loop.dcm", "benign", 2, "in-the-table"),
        ("loop.dcm", "benign", 0, ""),
    )
    dataset = open_dataset("manifest", path)
    assert [r.case_id for r in dataset.records()] == ["loop.dcm#2", "loop.dcm#0"]
    case = dataset.load("loop.dcm#2")
    np.testing.assert_array_equal(case.scans[0].pixels, frames[2])
    assert case.patient_id == case.scans[0].patient_id == "in-the-table"
