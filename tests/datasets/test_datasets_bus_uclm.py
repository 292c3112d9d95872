import fake_datasets
import numpy as np
import pytest

from sonoseek.core import DatasetError
from sonoseek.datasets import check_split, open_dataset
from sonoseek.datasets.splits import Fold


def test_the_patient_is_the_part_before_the_underscore(fake_roots):
    records = open_dataset("bus-uclm", fake_roots["bus-uclm"]).records()
    assert [(r.case_id, r.pathology, r.patient_id) for r in records[:4]] == [
        ("ALWI_000", "benign", "bus-uclm:ALWI"),
        ("ALWI_001", "normal", "bus-uclm:ALWI"),
        ("ALWI_002", "malignant", "bus-uclm:ALWI"),
        ("ANAT_000", "normal", "bus-uclm:ANAT"),
    ]
    with pytest.raises(ValueError, match="bus-uclm:ALWI"):
        check_split(records, Fold(train=("ALWI_000",), test=("ALWI_001", "ANAT_000")))


@pytest.mark.parametrize("case_id", ["ALWI_000", "ALWI_002"])
def test_green_and_red_are_the_lesion(fake_roots, case_id):
    mask = open_dataset("bus-uclm", fake_roots["bus-uclm"]).load(case_id).lesion_masks[0]
    np.testing.assert_array_equal(mask, fake_datasets.lesion() > 0)


def test_black_is_normal(fake_roots):
    mask = open_dataset("bus-uclm", fake_roots["bus-uclm"]).load("ANAT_000").lesion_masks[0]
    assert mask is not None
    assert not mask.any()


def test_the_known_mask_of_another_size_is_refused(fake_roots):
    dataset = open_dataset("bus-uclm", fake_roots["bus-uclm"])
    assert "HESN_002" in dataset.known_defects
    with pytest.raises(DatasetError, match=r"HESN_002.*36×56.*40×56"):
        dataset.load("HESN_002")
