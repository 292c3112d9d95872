"""What holds for every dataset in the table: a new one is tested the moment that it is listed."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sonoseek.core import PATHOLOGIES, Case, CaseRecord, DatasetError, InvalidValueError, NotFoundError
from sonoseek.datasets import DATASETS, Dataset, check_split, describe, open_dataset, stratified_group_folds

ON_DISK = [name for name in DATASETS if name != "phantom"]


@pytest.fixture(params=list(DATASETS))
def dataset(request, fake_roots) -> Dataset:
    return open_dataset(request.param, fake_roots.get(request.param))


def broken_on_purpose(dataset: Dataset) -> set[str]:
    return set(getattr(dataset, "known_defects", {})) if dataset.name == "bus-uclm" else set()


def test_it_keeps_the_protocol(dataset):
    assert isinstance(dataset, Dataset)
    card = describe(dataset.name)
    assert card.name == dataset.name
    assert card.licence == dataset.licence != ""
    assert card.citation == dataset.citation
    assert set(card.classes) <= set(PATHOLOGIES)


def test_its_records_are_values_with_unique_ids_in_a_stable_order(dataset, fake_roots):
    records = dataset.records()
    assert records
    assert all(type(record) is CaseRecord for record in records)
    assert len({record.case_id for record in records}) == len(records)
    assert {record.dataset for record in records} == {dataset.name}
    assert {record.pathology for record in records} <= set(describe(dataset.name).classes)
    assert records == open_dataset(dataset.name, fake_roots.get(dataset.name)).records()


def test_each_case_loads_as_its_record_says(dataset):
    for record in dataset.records()[:12]:
        if record.case_id in broken_on_purpose(dataset):
            continue
        case = dataset.load(record.case_id)
        assert isinstance(case, Case)
        assert (case.case_id, case.pathology, case.group, case.birads, case.patient_id) == (
            record.case_id,
            record.pathology,
            record.group,
            record.birads,
            record.patient_id,
        )
        assert len(case.scans) == 1
        assert case.scans[0].patient_id == record.patient_id
        assert not Path(case.scans[0].source).is_absolute()
        mask = case.lesion_masks[0]
        if mask is not None:
            assert mask.any() == (record.pathology != "normal")


def test_loading_twice_gives_the_same_scan(dataset):
    case_id = dataset.records()[0].case_id
    first, second = dataset.load(case_id), dataset.load(case_id)
    assert first.scans == second.scans
    assert dataset.fingerprint(case_id) == dataset.fingerprint(case_id) != ""


def test_an_unknown_case_is_refused(dataset):
    for ask in (dataset.load, dataset.fingerprint):
        with pytest.raises(NotFoundError, match="no such case"):
            ask("no such case")


def test_its_cases_split_without_parting_a_group(dataset):
    records = dataset.records()
    for fold in stratified_group_folds(records, folds=2):
        check_split(records, fold)


@pytest.mark.parametrize("name", ON_DISK)
def test_its_folder_may_be_given_from_outside_or_itself(name, fake_roots):
    outside = open_dataset(name, fake_roots[name])
    itself = open_dataset(name, outside.root)
    assert itself.records() == outside.records()
    assert str(itself.root) == str(outside.root)


@pytest.mark.parametrize("name", ON_DISK)
def test_a_wrong_folder_names_what_was_looked_for_where_and_the_remedy(name, tmp_path):
    with pytest.raises(DatasetError, match=re.escape(str(tmp_path))) as caught:
        open_dataset(name, tmp_path)
    assert "looked for" in str(caught.value)
    if describe(name).sources:
        assert f"sonoseek data get {name}" in str(caught.value)


@pytest.mark.parametrize("name", ON_DISK)
def test_a_folder_that_is_not_there_is_refused(name, tmp_path):
    with pytest.raises(DatasetError):
        open_dataset(name, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ON_DISK)
def test_one_damaged_scan_stops_itself_alone(name, make_fake):
    dataset = open_dataset(name, make_fake(name))
    records = [r for r in dataset.records() if r.case_id not in broken_on_purpose(dataset)]
    bad, good = records[0].case_id, records[1].case_id
    scan = dataset.files(bad).scan
    before = dataset.fingerprint(bad)
    scan.write_bytes(scan.read_bytes()[:60])

    again = open_dataset(name, dataset.root)
    assert again.records() == dataset.records()
    with pytest.raises(ValueError, match=re.escape(repr(bad))):
        again.load(bad)
    assert again.load(good).scans
    assert again.fingerprint(bad) != before

    scan.unlink()
    if name not in ("busi", "bus-uc", "folder"):  # these list what is there
        with pytest.raises(DatasetError, match="is not there"):
            open_dataset(name, dataset.root).load(bad)


@pytest.mark.parametrize("name", ON_DISK)
def test_a_mask_of_another_size_is_refused_and_both_are_named(name, make_fake):
    import fake_datasets

    dataset = open_dataset(name, make_fake(name))
    record = next(r for r in dataset.records() if dataset.files(r.case_id).masks)
    files = dataset.files(record.case_id)
    mask = np.zeros((20, 28, 3), dtype=np.uint8) if name == "bus-uclm" else np.zeros((20, 28), dtype=np.uint8)
    fake_datasets.save(mask, files.masks[0])
    with pytest.raises(DatasetError, match="20×28") as caught:
        dataset.load(record.case_id)
    for part in (files.masks[0].name, files.scan.name, "40×56"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", ON_DISK)
def test_a_damaged_mask_is_refused_and_named(name, make_fake):
    dataset = open_dataset(name, make_fake(name))
    record = next(r for r in dataset.records() if dataset.files(r.case_id).masks)
    dataset.files(record.case_id).masks[0].write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=re.escape(dataset.files(record.case_id).masks[0].name)):
        dataset.load(record.case_id)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(NotFoundError, match="busi, busbra"):
        open_dataset("busy", ".")


def test_a_dataset_on_disk_needs_a_folder():
    with pytest.raises(InvalidValueError, match="busi"):
        open_dataset("busi")


def test_listing_and_describing_import_no_reader():
    code = (
        "import sys; from sonoseek.datasets import DATASETS, describe\n"
        "[describe(n) for n in DATASETS if n != 'phantom']\n"
        "heavy = {'cv2', 'pydicom', 'openpyxl', 'pooch', 'PIL', 'torch', 'sonoseek.io'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
