from collections import Counter

import pytest

from sonoseek.core import DatasetError, SplitError
from sonoseek.datasets import check_split, official_folds, open_dataset


def test_a_record_says_what_the_table_says(fake_roots):
    dataset = open_dataset("busbra", fake_roots["busbra"])
    record = next(r for r in dataset.records() if r.case_id == "bus_0003-l")
    assert record.patient_id == record.group == "busbra:3"
    assert (record.pathology, record.birads, record.histology) == ("malignant", "4", "fibroadenoma")
    assert record.device == "GE Logiq 7"


def test_side_is_the_view_and_not_the_breast(fake_roots):
    dataset = open_dataset("busbra", fake_roots["busbra"])
    scans = {name: dataset.load(name).scans[0] for name in ("bus_0003-l", "bus_0003-r", "bus_0001-s")}
    assert [scan.view for scan in scans.values()] == ["left", "right", "single"]
    assert {scan.laterality for scan in scans.values()} == {None}


def test_a_corrected_view_is_a_changed_case(make_fake):
    root = make_fake("busbra")
    table = root / "BUSBRA/bus_data.csv"
    before = open_dataset("busbra", root).fingerprint("bus_0003-l")
    table.write_text("\n".join(line.replace("left", "single") for line in table.read_text().splitlines()))
    assert open_dataset("busbra", root).fingerprint("bus_0003-l") != before


@pytest.mark.parametrize("folds", [5, 10])
def test_official_folds_keep_patients_together(fake_roots, folds):
    dataset = open_dataset("busbra", fake_roots["busbra"])
    made = official_folds(dataset, folds)
    assert len(made) == folds
    assert Counter(case_id for fold in made for case_id in fold.test) == Counter(r.case_id for r in dataset.records())
    assert all(len(fold.train) + len(fold.test) == len(dataset.records()) for fold in made)
    assert "bus_0001-s" in made[1].test  # patient 1 stands in published fold 1 % folds + 1 = 2


def test_other_numbers_of_folds_were_not_published(fake_roots):
    with pytest.raises(SplitError, match="5 and 10"):
        official_folds(open_dataset("busbra", fake_roots["busbra"]), 7)


def test_a_dataset_without_folds_says_so(fake_roots):
    with pytest.raises(SplitError, match="stratified_group_folds"):
        official_folds(open_dataset("busi", fake_roots["busi"]))


def test_official_folds_that_part_a_patient_are_refused(make_fake):
    root = make_fake("busbra")
    table = root / "BUSBRA/5-fold-cv.csv"
    table.write_text(table.read_text().replace("bus_0003-l,malignant,4", "bus_0003-l,malignant,1"))
    with pytest.raises(SplitError, match="busbra:3"):
        official_folds(open_dataset("busbra", root))


@pytest.mark.parametrize("wrong", ["0", "6", "x", "NaN"])
def test_an_official_fold_out_of_range_is_refused(make_fake, wrong):
    root = make_fake("busbra")
    table = root / "BUSBRA/5-fold-cv.csv"
    table.write_text(table.read_text().replace("bus_0003-l,malignant,4", f"bus_0003-l,malignant,{wrong}"))
    with pytest.raises(DatasetError, match=r"row 5 of 5-fold-cv.csv"):
        official_folds(open_dataset("busbra", root))


def test_a_case_without_a_fold_is_refused(make_fake):
    root = make_fake("busbra")
    table = root / "BUSBRA/5-fold-cv.csv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if "bus_0003-l" not in line))
    with pytest.raises(SplitError, match="bus_0003-l"):
        official_folds(open_dataset("busbra", root))


def test_a_table_with_a_wrong_cell_names_the_row(make_fake):
    root = make_fake("busbra")
    table = root / "BUSBRA/bus_data.csv"
    table.write_text(table.read_text().replace("malignant,4", "malignant,9", 1))
    with pytest.raises(DatasetError, match=r"row 5 of bus_data.csv: birads is '9'"):
        open_dataset("busbra", root).records()


def test_a_table_without_a_column_is_refused(make_fake):
    root = make_fake("busbra")
    table = root / "BUSBRA/bus_data.csv"
    table.write_text(table.read_text().replace("Histology", "Histologia", 1))
    with pytest.raises(DatasetError, match="lacks Histology"):
        open_dataset("busbra", root).records()


@pytest.mark.data
def test_real_busbra(real_data):
    dataset = open_dataset("busbra", real_data / "busbra")
    records = dataset.records()
    assert len(records) == 1875
    assert len({r.patient_id for r in records}) == 1064
    assert Counter(r.pathology for r in records) == {"benign": 1268, "malignant": 607}
    assert {r.birads for r in records} == {"2", "3", "4", "5"}
    assert Counter(r.device for r in records)["GE Logiq 7"] == 902
    assert all(len(dataset.files(r.case_id).masks) == 1 for r in records)
    for number in (5, 10):
        made = official_folds(dataset, number)
        assert sum(len(fold.test) for fold in made) == 1875
        for fold in made:
            check_split(records, fold)


@pytest.mark.data
def test_real_busbra_loads_its_known_defects_too(real_data):
    dataset = open_dataset("busbra", real_data / "busbra")
    assert set(dataset.known_defects) == {"bus_0845-s", "bus_0856-l", "bus_0857-r", "bus_0912-l", "bus_0990-l"}
    for case_id in dataset.known_defects:
        assert dataset.load(case_id).lesion_masks[0].any()
