"""BUS_UC: names, groups, what is left out, and the real release."""

import csv
import logging
from collections import Counter

import fake_datasets
import pytest

from sonoseek.datasets import check_dataset, components, describe, open_dataset
from sonoseek.datasets.bus_uc import CONFLICTS, OTHER_SIZE, known_groups


def test_case_ids_say_class_and_number_and_the_folder_all_is_not_read(fake_roots):
    records = open_dataset("bus-uc", fake_roots["bus-uc"]).records()
    assert [r.case_id for r in records] == ["benign-01", "benign-02", "benign-010", "benign-0319", "malignant-001"]


def test_scans_of_one_lesion_under_both_labels_are_left_out_and_said(fake_roots):
    dataset = open_dataset("bus-uc", fake_roots["bus-uc"])
    assert not set(CONFLICTS) & {r.case_id for r in dataset.records()}
    assert set(dataset.known_defects) == {*CONFLICTS, *OTHER_SIZE, "malignant-00476"}
    assert len(CONFLICTS) == 9


def test_a_mask_that_is_known_to_have_another_size_is_stretched_to_its_scan(fake_roots):
    case = open_dataset("bus-uc", fake_roots["bus-uc"]).load("benign-0319")
    assert case.lesion_masks[0].shape == case.scans[0].shape
    assert case.lesion_masks[0].sum() == fake_datasets.lesion().sum() / 255


def test_the_lost_aspect_is_said():
    assert "true ratio of width to height is not known" in describe("bus-uc").note


def test_an_unknown_scan_is_a_group_of_its_own_and_is_told(make_fake, caplog):
    root = make_fake("bus-uc")
    folder = root / "BUS_UC" / "Benign" / "images"
    (folder / "01.png").rename(folder / "0999.png")
    with caplog.at_level(logging.WARNING):
        records = {r.case_id: r.group for r in open_dataset("bus-uc", root).records()}
    assert records["benign-0999"] == "bus-uc:benign-0999"
    assert "benign-0999" in caplog.text
    assert "data audit" in caplog.text


def test_groups_are_runs_of_neighbouring_numbers_of_one_class():
    numbers: dict[str, list[tuple[str, int]]] = {}
    for case_id, group in known_groups().items():
        kind, number = case_id.split("-")
        numbers.setdefault(group, []).append((kind, int(number)))
    assert sum(map(len, numbers.values())) == 802
    order = {key: i for i, key in enumerate(sorted(key for keys in numbers.values() for key in keys))}
    for keys in numbers.values():
        assert len({kind for kind, _ in keys}) == 1
        assert len(keys) >= 6
        places = sorted(order[key] for key in keys)
        assert places == list(range(places[0], places[0] + len(places)))


@pytest.mark.data
def test_real_bus_uc(real_data):
    dataset = open_dataset("bus-uc", real_data / "bus_uc")
    records = dataset.records()
    assert Counter(r.pathology for r in records) == {"benign": 355, "malignant": 447}
    assert set(known_groups()) == {r.case_id for r in records}
    assert len(components(records)) == 82
    result = check_dataset(dataset)
    assert not result.refused
    assert result.without_mask == ("malignant-00476",)


@pytest.mark.data
@pytest.mark.parametrize("table", ["same_lesion_pairs_shift_tolerant.csv", "near_duplicates_computed.csv"])
def test_known_pairs_of_one_lesion_never_part(real_data, table):
    groups = known_groups()
    tied = 0
    for row in csv.DictReader((real_data / "bus_uc" / table).read_text().splitlines()):
        ids = [
            f"{part.split('/')[0].lower()}-{part.split('/')[-1].removesuffix('.png')}" for part in (row["a"], row["b"])
        ]
        if not set(ids) & set(CONFLICTS):
            assert groups[ids[0]] == groups[ids[1]], ids
            tied += 1
    assert tied >= 9
