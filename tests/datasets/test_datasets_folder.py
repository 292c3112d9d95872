import logging
import os
import sys
from pathlib import Path

import fake_datasets
import numpy as np
import pytest

from sonoseek.core import DatasetError
from sonoseek.datasets import check_dataset, open_dataset


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


@pytest.mark.parametrize(
    "mask",
    [
        *("a_mask", "a_Mask", "a_MASK", "a_mask_1", "a_mask_1_1", "a_mask (1)", "a_mask(2)", "a_mask - Copy", "a-mask"),
        *("a_mask - Copy (2)", "a_mask - Kopie", "a_mask copy", "a _mask", "a_mask ", "a_mask_01", "A_mask", "a mask"),
    ],
)
def test_a_mask_in_any_spelling_is_a_mask(tmp_path: Path, mask: str) -> None:
    for name in ("a", "masked", "b_masking", "unmask_me", mask):
        fake_datasets.save(fake_datasets.picture(1), tmp_path / f"benign/{name}.png")
    dataset = open_dataset("folder", tmp_path)
    ids = [record.case_id for record in dataset.records()]
    assert ids == [f"benign/{name}.png" for name in ("a", "b_masking", "masked", "unmask_me")]
    assert [path.stem for path in dataset.files("benign/a.png").masks] == [mask]


def test_two_scans_whose_names_differ_in_capitals_keep_their_masks(tmp_path: Path) -> None:
    for name in ("A", "a", "A_mask", "a_mask", "u\u0308_mask", "\u00fc"):
        fake_datasets.save(fake_datasets.picture(1), tmp_path / f"benign/{name}.png")
    fake_datasets.save(fake_datasets.picture(1), tmp_path / "benign/a.bmp")
    dataset = open_dataset("folder", tmp_path)
    found = {
        record.case_id: [path.stem for path in dataset.files(record.case_id).masks] for record in dataset.records()
    }
    assert found["benign/A.png"] == ["A_mask"]
    assert found["benign/a.png"] == found["benign/a.bmp"] == ["a_mask"]
    assert found["benign/\u00fc.png"] == ["u\u0308_mask"]


def test_system_files_are_nothing(tmp_path: Path, caplog) -> None:
    fake_datasets.save(fake_datasets.picture(1), tmp_path / "benign/a.png")
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX/._a.png", "__MACOSX/b.png"):
        for folder in (tmp_path, tmp_path / "benign"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes((tmp_path / "benign/a.png").read_bytes())
    dataset = open_dataset("folder", tmp_path)
    assert [record.case_id for record in dataset.records()] == ["benign/a.png"]
    assert dataset.left_out == {}


def test_scans_that_are_not_listed_are_said(tmp_path: Path) -> None:
    for name in ("benign/a", "Malignant /b", "bening/c", "Cysts/d", "normal/p1/e", "normal/p2/deep/f", "g"):
        path = tmp_path / f"{name}.png"
        fake_datasets.save(fake_datasets.picture(1), path)
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers/readme.txt").write_text("no scan")
    dataset = open_dataset("folder", tmp_path)
    assert {(r.case_id, r.pathology) for r in dataset.records()} == {
        ("benign/a.png", "benign"),
        ("Malignant /b.png", "malignant"),
    }
    assert set(dataset.left_out) == {"bening/", "Cysts/", "normal/p1/", "normal/p2/", "g.png"}
    assert "a folder deeper" in dataset.left_out["normal/p1/"]
    assert "names no class" in dataset.left_out["bening/"]
    assert check_dataset(dataset).left_out == dataset.left_out


def test_a_check_of_an_archive_that_is_not_wholly_listed_ends_with_2(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sonoseek.apps.cli.main import app

    def checked() -> tuple[int, str]:
        result = CliRunner().invoke(app, ["data", "check", "folder", "--data", str(tmp_path)])
        return result.exit_code, result.output

    (tmp_path / "benign").mkdir()
    code, said = checked()
    assert code == 2
    assert "no scan of folder is there" in said
    fake_datasets.save(fake_datasets.picture(1), tmp_path / "benign/a.png")
    assert checked()[0] == 0
    fake_datasets.save(fake_datasets.picture(2), tmp_path / "bening/b.png")
    code, said = checked()
    assert code == 2
    assert "bening/ is left out: 1 scans in a folder that names no class" in " ".join(said.split())
